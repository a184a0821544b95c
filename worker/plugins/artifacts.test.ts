import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { withWorker, type WorkerUnderTest } from '../testing/with-worker.ts';

// processes start and end while the machine has other things to do
vi.setConfig({ testTimeout: 30_000 });

const sh = (script: string): string[] => ['/bin/sh', '-ec', script];

let t: WorkerUnderTest;
let outside: string;

beforeAll(async () => {
  t = await withWorker();
  outside = mkdtempSync(join(tmpdir(), 'tscluster-outside-'));
  writeFileSync(join(outside, 'secret.txt'), 'secret of the worker');
});
afterAll(async () => {
  await t[Symbol.asyncDispose]();
  rmSync(outside, { recursive: true, force: true });
});

const run = async (script: string, artifacts: unknown[], definition: Record<string, unknown> = {}) =>
  t.queue.resolved(t.queue.addTask({ command: [sh(script)], maxRunTime: 60, artifacts }, definition));

test('a file is published under its path or its name, with the type and encoding its extension tells', async () => {
  const task = await run('mkdir out; echo text > out/a.txt; echo log > b.log; echo {} > c.jsonl; echo zip > d.zip; printf x > e', [
    { type: 'file', path: 'out/a.txt' },
    { type: 'file', path: 'b.log', name: 'public/b.log' },
    { type: 'file', path: 'c.jsonl' },
    { type: 'file', path: 'd.zip' },
    { type: 'file', path: 'e', contentType: 'x/y', contentEncoding: 'identity' },
  ]);
  expect(task.state).toBe('completed');
  const told = (name: string) => {
    const artifact = task.artifacts.get(name);
    return {
      contentType: artifact?.contentType,
      contentEncoding: artifact?.contentEncoding,
      text: t.queue.text(task, name),
      expires: artifact?.expires,
    };
  };
  const { expires } = task.definition;
  expect(told('out/a.txt')).toEqual({ contentType: 'text/plain', contentEncoding: 'gzip', text: 'text\n', expires });
  expect(told('public/b.log')).toEqual({ contentType: 'text/plain', contentEncoding: 'gzip', text: 'log\n', expires });
  expect(told('c.jsonl')).toEqual({ contentType: 'application/jsonl', contentEncoding: 'gzip', text: '{}\n', expires });
  expect(told('d.zip')).toEqual({ contentType: 'application/zip', contentEncoding: undefined, text: 'zip\n', expires });
  expect(told('e')).toEqual({ contentType: 'x/y', contentEncoding: undefined, text: 'x', expires });
});

test('a folder is published with everything below it, empty files included', async () => {
  const task = await run('mkdir -p out/deep; echo a > out/a.txt; echo b > out/deep/b.txt; : > out/empty', [
    { type: 'directory', path: 'out', name: 'public' },
  ]);
  expect(task.state).toBe('completed');
  expect([...task.artifacts.keys()].filter(name => !name.includes('logs')).sort()).toEqual([
    'public/a.txt',
    'public/deep/b.txt',
    'public/empty',
  ]);
  expect(t.queue.text(task, 'public/deep/b.txt')).toBe('b\n');
  expect(t.queue.text(task, 'public/empty')).toBe('');
});

test.each([
  ['missing', { type: 'file', path: 'absent' }, 'file-missing-on-worker', 'absent does not exist'],
  ['a folder where a file is wanted', { type: 'file', path: 'out' }, 'invalid-resource-on-worker', 'out is not a file'],
  ['a file where a folder is wanted', { type: 'directory', path: 'out/f' }, 'invalid-resource-on-worker', 'out/f is not a folder'],
  ['a named pipe', { type: 'file', path: 'pipe' }, 'invalid-resource-on-worker', 'pipe is not a file'],
])('%s becomes an error artifact and fails the task', async (_, artifact, reason, message) => {
  const task = await run('mkdir out; echo f > out/f; mkfifo pipe', [artifact]);
  expect(task.state).toBe('failed');
  expect(task.artifacts.get(artifact.path)).toMatchObject({ storageType: 'error', reason, message: expect.stringContaining(message) });
  expect(t.queue.log(task)).toContain(`[taskcluster:error] The artifact ${artifact.path} has no content: `);
});

test('an optional one that is missing neither fails the task nor leaves anything', async () => {
  const task = await run('true', [
    { type: 'file', path: 'absent', optional: true },
    { type: 'directory', path: 'gone', optional: true },
  ]);
  expect(task.state).toBe('completed');
  expect([...task.artifacts.keys()].sort()).toEqual(['public/logs/live.log', 'public/logs/live_backing.log']);
});

test('nothing outside the folder of the task is published, whatever link leads there', async () => {
  const task = await run(
    `ln -s ${outside}/secret.txt link; ln -s ${outside} folder; mkdir out; ln -s ${outside}/secret.txt out/link; ln -s ${outside} out/folder; echo fine > out/fine; ln -s fine out/inner`,
    [
      { type: 'file', path: 'link' },
      { type: 'file', path: 'folder/secret.txt' },
      { type: 'directory', path: 'folder' },
      { type: 'directory', path: 'out' },
      { type: 'file', path: `${outside}/secret.txt`, name: 'absolute' },
      { type: 'file', path: '../../../../../../../../etc/passwd', name: 'upwards' },
    ],
  );
  expect(task.state).toBe('failed');
  for (const name of ['link', 'folder/secret.txt', 'folder', 'out/link', 'absolute', 'upwards']) {
    expect(task.artifacts.get(name), name).toMatchObject({ storageType: 'error', reason: 'invalid-resource-on-worker' });
  }
  expect(t.queue.text(task, 'out/inner')).toBe('fine\n');
  expect([...task.artifacts.values()].some(({ content }) => content?.includes('secret of the worker'))).toBe(false);
});

test('artifacts are published when the commands failed', async () => {
  const task = await run('echo report > report.txt; exit 1', [{ type: 'file', path: 'report.txt' }]);
  expect(task.state).toBe('failed');
  expect(t.queue.text(task, 'report.txt')).toBe('report\n');
});

test.each([
  ['before the deadline', 1],
  ['after the task expires', 30 * 86_400_000],
])('an expiry %s is malformed, before anything runs', async (_, ms) => {
  const task = await run('echo ran', [{ type: 'file', path: 'x', expires: new Date(Date.now() + ms).toISOString() }]);
  expect(task).toMatchObject({ state: 'exception', reason: 'malformed-payload' });
  expect(t.queue.log(task)).not.toContain('Executing command');
});

test('an expiry between is kept', async () => {
  const expires = new Date(Date.now() + 2 * 3_600_000 - 60_000).toISOString();
  const task = await run('echo x > x', [{ type: 'file', path: 'x', expires }]);
  expect(task.artifacts.get('x')?.expires).toBe(expires);
});

test('the name of a log is not given to another artifact', async () => {
  const task = await run('echo x > x', [{ type: 'file', path: 'x', name: 'public/logs/live_backing.log' }]);
  expect(task.state).toBe('completed');
  expect(t.queue.log(task)).toContain('The artifact public/logs/live_backing.log is not published: the task log has this name.');
});

test.each([
  [409, { state: 'exception', reason: 'malformed-payload' }],
  [503, { state: 'exception', reason: 'resource-unavailable' }],
])(
  'a refusal with status %i means something',
  async (status, outcome) => {
    t.queue.intercept = ({ path, method }) =>
      path.endsWith('/artifacts/refused') && method === 'POST' ? { status, body: { code: 'Refused', message: 'refused' } } : undefined;
    const task = await run('echo x > refused; echo x > other', [
      { type: 'file', path: 'refused' },
      { type: 'file', path: 'other' },
    ]);
    t.queue.intercept = () => undefined;
    expect(task).toMatchObject(outcome);
    expect(t.queue.text(task, 'other')).toBe('x\n');
  },
  30_000,
);

test('a large file is published from disk', async () => {
  const task = await run('head -c 30000000 /dev/zero > big.zip', [{ type: 'file', path: 'big.zip' }]);
  expect(task.artifacts.get('big.zip')?.content?.length).toBe(30_000_000);
});
