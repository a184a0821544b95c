/**
 * The guide to adding a service, followed by a machine: its files go into a copy of the repository, its lines into the two lists, and then what the guide
 * says to run is run. The copy shares the installed packages, but not this project's own.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readCodeBlocks } from '../server/testing/docs.ts';
import { ROOT } from './support/installation.ts';

const blocks = readCodeBlocks('docs/developers/new-service.md').flatMap(({ language, file, text }) =>
  file === undefined ? [] : { language, file, text },
);
type Block = (typeof blocks)[number];
const isTest = ({ file }: Block): boolean => file.endsWith('.test.ts');
/** What somebody has to write: every line of a file, blank ones too, and those that are added to a list. */
const writtenLines = ({ language, text }: Block): number =>
  text.split('\n').filter((line, i, all) => (language === 'diff' ? line.startsWith('+') : i < all.length - 1)).length;

let copy: string;
/** As in a terminal, not as in a test. */
const ENV = {
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(VITEST|NODE_ENV$|NODE_OPTIONS$)/.test(name))),
  NO_COLOR: '1',
};

const program = (name: string): string => path.join(copy, 'node_modules', '.bin', name);
const run = (command: string, ...args: string[]): string => {
  try {
    return execFileSync(command, args, { cwd: copy, env: ENV, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], maxBuffer: 1 << 26 });
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string };
    throw new Error(`${command} ${args.join(' ')} failed:\n${stdout}\n${stderr}`, { cause: error });
  }
};

/** Clones what is here now, committed or not, with links to the packages of others. */
const makeCopy = async (): Promise<string> => {
  const folder = await fs.realpath(await fs.mkdtemp(path.join(os.tmpdir(), 'taskcluster-guide-')));
  const list = execFileSync('git', ['-c', `safe.directory=${ROOT}`, 'ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    cwd: ROOT,
    encoding: 'utf8',
  });
  for (const file of list.split('\0').filter(Boolean)) {
    await fs.cp(path.join(ROOT, file), path.join(folder, file)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') {
        throw error; // one that was removed is still listed
      }
    });
  }
  const modules = path.join(ROOT, 'node_modules');
  for (const name of (await fs.readdir(modules)).filter(each => each !== '@tscluster' && each !== '.cache')) {
    await fs.mkdir(path.join(folder, 'node_modules'), { recursive: true });
    await fs.symlink(path.join(modules, name), path.join(folder, 'node_modules', name));
  }
  await fs.mkdir(path.join(folder, 'node_modules', '@tscluster'));
  for (const name of await fs.readdir(path.join(modules, '@tscluster'))) {
    await fs.symlink(path.join('..', '..', name), path.join(folder, 'node_modules', '@tscluster', name));
    // packages that only one of ours has
    const own = path.join(ROOT, name, 'node_modules');
    await fs.symlink(own, path.join(folder, name, 'node_modules')).catch(() => undefined);
  }
  return folder;
};

/** `+` lines without a `-` line before them go below the last import; with one, they take its place wherever it stands, whatever its line breaks. */
const applyDiff = (text: string, diff: string): string => {
  let changed = text;
  let old: RegExp | undefined;
  for (const line of diff.split('\n').filter(Boolean)) {
    const content = line.slice(1);
    if (line.startsWith('-')) {
      old = new RegExp(
        content
          .split(/(?<=\[)|\s+/)
          .map(part => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
          .join('\\s*'),
      );
      expect(changed, content).toMatch(old);
    } else if (old) {
      changed = changed.replace(old, content);
      old = undefined;
    } else {
      changed = changed.replace(/(^import [^;]*;\n)(?!import )/m, `$1${content}\n`);
    }
  }
  return changed;
};

beforeAll(async () => {
  copy = await makeCopy();
  for (const { language, file, text } of blocks) {
    const target = path.join(copy, file);
    await fs.mkdir(path.dirname(target), { recursive: true });
    await fs.writeFile(target, language === 'diff' ? applyDiff(await fs.readFile(target, 'utf8'), text) : text);
  }
  // the two lists may have become longer than a line
  run(program('oxfmt'), '--write', 'api/all.ts', 'server/services/all.ts');
  run('git', 'init', '--quiet');
}, 120_000);

afterAll(async () => {
  await fs.rm(copy, { recursive: true, force: true });
});

test('it has fewer than a hundred lines, all parts included', () => {
  const parts = blocks.filter(block => !isTest(block));
  expect(parts.map(({ file }) => file)).toEqual([
    'api/notices/api.ts',
    expect.stringMatching(/^server\/db\/migrations\/\d{4}-notices\.sql$/),
    'server/services/notices/service.ts',
    'api/all.ts',
    'server/services/all.ts',
    'server/services/notices/README.md',
  ]);
  expect(parts.reduce((sum, block) => sum + writtenLines(block), 0)).toBeLessThan(100);
});

test('what is derived is derived, all checks pass, and so does its test', async () => {
  const node = program('node');
  run(node, 'scripts/gen.mjs');
  expect(await fs.readFile(path.join(copy, 'docs', 'reference', 'notices.md'), 'utf8')).toMatch(
    /PUT \/api\/notices\/v1\/notice\/<noticeId>[^]*Scopes: `notices:put:<noticeId>`[^]*exchange\/taskcluster-notices\/v1\/notice-put/,
  );
  expect(await fs.readFile(path.join(copy, 'server', 'db', 'schema.sql'), 'utf8')).toContain('create table notices.notices (');
  expect(run(node, 'scripts/check.mjs')).toContain('All checks passed.');
  const tested = run(node, 'node_modules/vitest/vitest.mjs', 'run', '--project', 'db', 'server/services/notices');
  expect(tested).toMatch(/Tests +2 passed \(2\)/);
}, 600_000);
