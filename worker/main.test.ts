/** The worker as a process of its own: how it starts, and what its death costs. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { eventually } from './testing/with-worker.ts';
import { FakeQueue } from './testing/fake-queue.ts';

// processes start and end while the machine has other things to do
vi.setConfig({ testTimeout: 90_000 });

const MAIN = join(import.meta.dirname, 'main.ts');
let queue: FakeQueue;
let folder: string;
const children: ChildProcess[] = [];

beforeEach(async () => {
  queue = await FakeQueue.start();
  folder = mkdtempSync(join(tmpdir(), 'tscluster-main-'));
});
afterEach(async () => {
  children.splice(0).forEach(child => child.kill('SIGKILL'));
  await queue.close();
  rmSync(folder, { recursive: true, force: true });
});

const start = (config: Record<string, unknown> = {}): ChildProcess => {
  const child = spawn(process.execPath, [MAIN, '--config', '-'], { stdio: ['pipe', 'pipe', 'pipe'] });
  const complete = {
    rootUrl: queue.rootUrl,
    clientId: 'test/worker',
    accessToken: 'worker-token-that-is-long-enough',
    dataDir: join(folder, 'worker'),
    capacity: 2,
    requiredDiskSpaceMegabytes: 1,
    ...config,
  };
  child.stdin?.write(`${JSON.stringify(complete)}\n`);
  children.push(child);
  return child;
};

const sh = (script: string): string[] => ['/bin/sh', '-c', script];

const isRunning = (words: string): boolean =>
  readdirSync('/proc').some(pid => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').startsWith(words);
    } catch {
      return false;
    }
  });

test.each([
  ['in namespaces', 'auto', 70_001],
  ['without namespaces', 'none', 70_002],
])('a worker that is killed leaves no processes (%s), and its next life gives its tasks back at once', async (_, isolation, seconds) => {
  const words = `sleep ${seconds}.${process.pid}`;
  const first = start({ isolation });
  const tasks = [1, 2].map(() => queue.addTask({ command: [sh(`setsid ${words} & ${words}`)], maxRunTime: 90_000 - 4000 }));
  await queue.until(() => tasks.every(task => task.artifacts.has('public/logs/live.log')));
  await eventually(() => isRunning(words)).toBe(true);
  first.kill('SIGKILL');
  await once(first, 'exit');
  start({ isolation });
  await Promise.all(tasks.map(task => queue.resolved(task)));
  expect(tasks.map(({ state, reason }) => ({ state, reason }))).toEqual([
    { state: 'exception', reason: 'worker-shutdown' },
    { state: 'exception', reason: 'worker-shutdown' },
  ]);
  expect(isRunning(words)).toBe(false);
  const next = queue.addTask({ command: [sh('ls -A ..')], maxRunTime: 60 });
  await queue.resolved(next);
  expect(next.state).toBe('completed');
  expect(readdirSync(join(folder, 'worker', 'tasks')).length).toBeLessThanOrEqual(1);
});

test('a second worker on the same folder ends the first', async () => {
  const first = start();
  await eventually(() => queue.waitingClaims).toBeGreaterThan(0);
  start();
  expect(await once(first, 'exit')).toEqual([null, 'SIGKILL']);
  const task = queue.addTask({ command: [sh('true')], maxRunTime: 60 });
  await queue.resolved(task);
  expect(task.state).toBe('completed');
});

test.each([
  ['SIGTERM', (child: ChildProcess) => child.kill('SIGTERM')],
  ['the end of standard input', (child: ChildProcess) => child.stdin?.end()],
])('%s gives running tasks back', async (_, stop) => {
  const child = start({ stopOnStdinEnd: true });
  const task = queue.addTask({ command: [sh('sleep 60')], maxRunTime: 60 });
  await queue.until(() => task.artifacts.has('public/logs/live.log'));
  stop(child);
  expect(await once(child, 'exit')).toEqual([0, null]);
  expect(task).toMatchObject({ state: 'exception', reason: 'worker-shutdown' });
});

test('SIGINT lets running tasks finish', async () => {
  const child = start();
  const task = queue.addTask({ command: [sh('sleep 0.5')], maxRunTime: 60 });
  await queue.until(() => task.artifacts.has('public/logs/live.log'));
  child.kill('SIGINT');
  expect(await once(child, 'exit')).toEqual([0, null]);
  expect(task.state).toBe('completed');
});

test('every mistake in the configuration is told at once, secrets excepted', async () => {
  const child = start({ capacity: 0, workerId: 'not an id', surprise: 1, accessToken: 42 });
  const [text] = (await once(child.stderr!.setEncoding('utf8'), 'data')) as [string];
  expect(await once(child, 'exit')).toEqual([64, null]);
  expect(text).toContain('surprise: there is no such setting');
  expect(text).toContain('capacity (WORKER_CAPACITY) is 0: it must be a whole number from 1 to 255');
  expect(text).toContain('workerId (WORKER_ID) is "not an id"');
  expect(text).toContain('accessToken (TASKCLUSTER_ACCESS_TOKEN) is malformed');
});
