import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { findConnection, findEnvFile, parseEnvFile, requireRootUrl } from './connection.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'connection-'));
  await mkdir(join(folder, '.taskcluster'));
  await mkdir(join(folder, 'a', 'b'), { recursive: true });
  const text = `# local\nexport TASKCLUSTER_ROOT_URL='http://localhost:8080'\nexport TASKCLUSTER_CLIENT_ID=root\nexport TASKCLUSTER_ACCESS_TOKEN="no-secret"\nunset TASKCLUSTER_CERTIFICATE\n`;
  await writeFile(join(folder, '.taskcluster', 'env'), text, { mode: 0o600 });
});
afterAll(() => rm(folder, { recursive: true }));

test('assignments of a shell file are read with their quotes undone', () => {
  expect(parseEnvFile(`export A='it'\\''s'\nB="say \\"\\$x\\""\n  export C=plain\nunset D\n# E=1\necho F=1`)).toEqual({
    A: "it's",
    B: 'say "$x"',
    C: 'plain',
  });
});

test('the environment comes first, then the nearest file of a local installation', () => {
  const inside = join(folder, 'a', 'b');
  expect(findConnection({}, [inside])).toEqual({
    rootUrl: 'http://localhost:8080',
    credentials: { clientId: 'root', accessToken: 'no-secret' },
    source: 'file',
    file: join(folder, '.taskcluster', 'env'),
  });
  expect(findConnection({ TASKCLUSTER_ROOT_URL: 'https://tc.example.net/' }, [inside])).toMatchObject({
    rootUrl: 'https://tc.example.net/',
    credentials: undefined,
    source: 'environment',
  });
  expect(() => findConnection({ TASKCLUSTER_CLIENT_ID: 'me' }, [inside])).toThrow('TASKCLUSTER_ACCESS_TOKEN is not');
});

test('a file that others could have written does not count', async () => {
  const path = join(folder, '.taskcluster', 'env');
  expect(findEnvFile(folder, (process.getuid?.() ?? 0) + 1)).toBeUndefined();
  await chmod(path, 0o644);
  expect(findEnvFile(folder)).toBeUndefined();
  await chmod(path, 0o600);
  expect(findEnvFile(folder)).toBe(path);
  await mkdir(join(folder, 'a', '.taskcluster'));
  await symlink(path, join(folder, 'a', '.taskcluster', 'env'));
  expect(findEnvFile(join(folder, 'a'))).toBe(path);
});

test('a root URL is required, and must be one', () => {
  expect(() => requireRootUrl({ rootUrl: undefined, credentials: undefined, source: 'nowhere' })).toThrow(
    'TASKCLUSTER_ROOT_URL is not set',
  );
  expect(() => requireRootUrl({ rootUrl: 'tc.example.org', credentials: undefined, source: 'environment' })).toThrow(
    'must be scheme and host',
  );
  expect(() => requireRootUrl({ rootUrl: 'https://x.org/path', credentials: undefined, source: 'environment' })).toThrow('scheme and host');
  expect(requireRootUrl({ rootUrl: 'https://x.org//', credentials: undefined, source: 'environment' })).toBe('https://x.org');
});
