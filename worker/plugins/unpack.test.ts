import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readFile, readdir, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { unpackArchive } from './unpack.ts';

let folder: string;
let into: string;
const { signal } = new AbortController();

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'unpack-'));
  into = join(folder, 'into');
  await mkdir(into);
  await mkdir(join(folder, 'from'));
});
afterEach(() => rm(folder, { recursive: true }));

const pack = (...names: string[]): string => {
  const path = join(folder, 'a.tar');
  execFileSync('tar', ['-cf', path, '-C', join(folder, 'from'), ...names]);
  return path;
};

test('links may point behind other links, as those of npm workspaces do', async () => {
  const from = join(folder, 'from');
  await mkdir(join(from, 'cli'));
  await writeFile(join(from, 'cli', 'program'), 'works');
  await mkdir(join(from, 'modules', 'bin'), { recursive: true });
  await symlink('../cli', join(from, 'modules', 'cli'));
  await symlink('../cli/program', join(from, 'modules', 'bin', 'program'));
  await symlink('nowhere', join(from, 'broken'));
  await unpackArchive(pack('.'), 'tar', into, signal);
  expect(await readFile(join(into, 'modules', 'bin', 'program'), 'utf8')).toBe('works');
  expect(await readlink(join(into, 'modules', 'cli'))).toBe('../cli');
  expect(await readlink(join(into, 'broken'))).toBe('nowhere');
});

test('nothing is written behind a link of the archive', async () => {
  const outside = join(folder, 'outside');
  await mkdir(outside);
  await writeFile(join(outside, 'kept'), 'kept');
  const from = join(folder, 'from');
  await symlink(outside, join(from, 'a'));
  const path = pack('a');
  await rm(join(from, 'a'));
  await mkdir(join(from, 'a'));
  await writeFile(join(from, 'a', 'file'), 'file');
  await symlink('target', join(from, 'a', 'kept'));
  execFileSync('tar', ['-rf', path, '-C', from, 'a/file', 'a/kept']);
  await expect(unpackArchive(path, 'tar', into, signal)).rejects.toThrow();
  expect(await readdir(outside)).toEqual(['kept']);
  expect(await readFile(join(outside, 'kept'), 'utf8')).toBe('kept');

  execFileSync('tar', ['--delete', '-f', path, 'a/file']);
  await rm(into, { recursive: true });
  await mkdir(into);
  await expect(unpackArchive(path, 'tar', into, signal)).rejects.toThrow();
  expect(await readFile(join(outside, 'kept'), 'utf8')).toBe('kept');
});
