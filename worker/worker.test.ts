/** A task's life, told from the queue's side. */
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { Monitor } from './monitor.ts';
import { silentMonitor } from './monitor.ts';
import { eventually, withWorker, type WorkerUnderTest } from './testing/with-worker.ts';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { FakeTask } from './testing/fake-queue.ts';

// processes start and end while the machine has other things to do
vi.setConfig({ testTimeout: 30_000 });

const sh = (script: string): string[] => ['/bin/sh', '-c', script];
const untilLetGo = sh('while [ ! -e go ]; do sleep 0.02; done');

/** Ends a task that waits for the file `go` in its folder. */
const letGo = async (t: WorkerUnderTest, task: FakeTask): Promise<void> => {
  const folder = join(t.config.tasksDir, `task_${task.taskId.slice(0, 10)}_0`);
  await eventually(() => writeFileSync(join(folder, 'go'), '')).toBe(undefined);
};

describe('a task', () => {
  let t: WorkerUnderTest;
  beforeAll(async () => {
    t = await withWorker();
  });
  afterAll(async () => t[Symbol.asyncDispose]());
  const run = async (payload: Record<string, unknown>, definition: Record<string, unknown> = {}): Promise<FakeTask> =>
    t.queue.resolved(t.queue.addTask({ maxRunTime: 60, ...payload }, definition));

  test('runs its commands in order, in one folder, and has both streams in its log', async () => {
    const task = await run({
      command: [sh('echo one > f; echo to-stdout; echo to-stderr >&2'), sh('cat f'), sh('echo >/dev/stdout reopened')],
    });
    expect(task.state).toBe('completed');
    const log = t.queue.log(task);
    expect(log).toMatch(/Executing command 0: .*\nto-stdout\nto-stderr\n\[taskcluster .*\] {3}Exit Code: 0\n/);
    expect(log).toMatch(/Executing command 1: .*\none\n/);
    expect(log).toContain('reopened\n');
    expect(log).toContain(`Task ID: ${task.taskId}`);
    expect(log).toMatch(/=== Task Starting ===\n[^]*=== Task Finished ===\n.*Task Duration: \d/);
  });

  test('stops at the first command that fails', async () => {
    const task = await run({ command: [sh('exit 3'), sh('echo second')] });
    expect(task.state).toBe('failed');
    expect(t.queue.log(task)).toContain('[taskcluster:error] Command 0 ended with exit code 3.');
    expect(t.queue.log(task)).not.toContain('Executing command 1');
  });

  test.each([
    ['is not there', ['/nonexistent/program']],
    ['is not executable', ['/etc/passwd']],
    ['has an equals sign in its name', ['a=b']],
  ])('fails when its program %s', async (_, command) => {
    const task = await run({ command: [command] });
    expect(task.state).toBe('failed');
  });

  test('is tried again when its exit code says so', async () => {
    const task = await run({ command: [sh('exit 75')], onExitStatus: { retry: [75] } });
    expect(task).toMatchObject({ state: 'exception', reason: 'intermittent-task' });
    expect(t.queue.log(task)).toContain('[taskcluster:error] intermittent-task: The exit code 75 is listed in payload.onExitStatus.retry');
  });

  test('is given who it is, and its own variables, and nothing of the worker', async () => {
    process.env['LEAKED'] = 'leaked';
    const task = await run({
      command: [['/usr/bin/env'], sh('pwd; echo "a=$1"')],
      env: { OWN: "it's $HOME\nsecond line", TASK_ID: 'pretended' },
    });
    const log = t.queue.log(task);
    expect(log).toContain("OWN=it's $HOME\nsecond line\n");
    expect(log).toContain(`TASK_ID=${task.taskId}\n`);
    expect(log).toContain(`TASK_GROUP_ID=${String(task.definition['taskGroupId'])}\n`);
    expect(log).toContain('RUN_ID=0\n');
    expect(log).toContain(`TASKCLUSTER_ROOT_URL=${t.queue.rootUrl}\n`);
    const [, folder] = /TASK_WORKDIR=(.*)\n/.exec(log) ?? [];
    expect(folder?.split('/').at(-1)).toBe(`task_${task.taskId.slice(0, 10)}_0`);
    expect(log).toContain(`\n${folder}\n`);
    expect(log).not.toContain('LEAKED');
    expect(log).not.toContain('pretended\n');
  });

  test('that is malformed has a log that says why, and no live log', async () => {
    const task = await run({ command: [], surprise: 1 });
    expect(task).toMatchObject({ state: 'exception', reason: 'malformed-payload' });
    expect([...task.artifacts.keys()]).toEqual(['public/logs/live_backing.log']);
    expect(t.queue.log(task)).toContain('payload must not have a property "surprise"');
  });

  test.each([
    [{ features: { interactive: true } }, 'payload.features.interactive'],
    [{ features: { loopbackVideo: true, loopbackAudio: true } }, 'payload.features.loopbackAudio, payload.features.loopbackVideo'],
    [{ features: { chainOfTrust: true } }, 'must not have a property "chainOfTrust"'],
    [{ osGroups: ['docker'] }, 'payload.osGroups is not supported'],
    [{ features: { taskclusterProxy: true }, taskclusterProxyInterface: 'docker-bridge' }, 'docker-bridge is not available'],
    [{ maxRunTime: 999_999 }, 'payload.maxRunTime is 999999 seconds; this worker allows at most 86400.'],
    [{ command: [['a\0b']] }, 'NUL character'],
    [{ env: { 'A=B': 'x' } }, '"A=B" cannot be an environment variable'],
  ])('with %j is malformed, and the log names the reason', async (payload, reason) => {
    const task = await run({ command: [sh('echo ran')], ...payload });
    expect(task).toMatchObject({ state: 'exception', reason: 'malformed-payload' });
    expect(t.queue.log(task)).toContain(reason);
    expect(t.queue.log(task)).not.toContain('\nran\n');
  });

  test('for a container is malformed, and told which engine there is', async () => {
    const task = await run({ image: 'ubuntu', command: ['true'] });
    expect(task).toMatchObject({ state: 'exception', reason: 'malformed-payload' });
    expect(t.queue.log(task)).toContain('the engine "process", which runs commands without containers');
  });

  test('has its logs under the names it wants, or none', async () => {
    const named = await run({ command: [sh('echo x')], logs: { live: 'private/l.log', backing: 'private/b.log' } });
    expect([...named.artifacts.keys()].sort()).toEqual(['private/b.log', 'private/l.log']);
    expect(named.artifacts.get('private/l.log')).toMatchObject({ storageType: 'link', artifact: 'private/b.log' });
    const silent = await run({ command: [sh('echo x')], features: { liveLog: false, backingLog: false } });
    expect([...silent.artifacts.keys()]).toEqual([]);
    expect(silent.state).toBe('completed');
  });

  test('is completed although its logs cannot be published', async () => {
    t.queue.intercept = ({ path }) => (path.includes('/logs/') ? { status: 400, body: { code: 'InputError', message: 'no' } } : undefined);
    const task = await run({ command: [sh('true')] });
    t.queue.intercept = () => undefined;
    expect(task.state).toBe('completed');
  });

  test('can be read while it runs', async () => {
    const task = t.queue.addTask({ command: [sh('echo early; while [ ! -e go ]; do sleep 0.02; done; echo late')], maxRunTime: 60 });
    const { url } = await t.queue.until(() => task.artifacts.get('public/logs/live.log'));
    const response = await fetch(String(url));
    expect(response.headers.get('content-type')).toBe('text/plain; charset=utf-8');
    expect(response.headers.get('access-control-allow-origin')).toBe('*');
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    let seen = '';
    while (!seen.includes('early\n')) {
      seen += (await reader.read()).value ?? '';
    }
    expect(task.state).toBe('running');
    await letGo(t, task);
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      seen += part.value;
    }
    await t.queue.resolved(task);
    expect(seen).toBe(t.queue.log(task));
    expect(task.artifacts.get('public/logs/live.log')).toMatchObject({ storageType: 'link', artifact: 'public/logs/live_backing.log' });
    expect((await fetch(String(url))).status).toBe(401);
    expect((await fetch(String(url).replace(/log\/.*/, 'log/wrong'))).status).toBe(401);
  });

  test('leaves nothing in the folders of the worker', async () => {
    await run({ command: [sh('mkdir locked; touch locked/f; chmod 000 locked')] });
    await eventually(() => readdirSync(t.config.tasksDir)).toEqual([]);
    await eventually(() => readdirSync(join(t.config.dataDir, 'logs'))).toEqual([]);
    await eventually(() => readdirSync(join(t.config.dataDir, 'uploads'))).toEqual([]);
  });

  test('prints more than a log may hold, and the log says so', async () => {
    await using small = await withWorker({ maxLogBytes: 100_000 });
    const task = small.queue.addTask({ command: [sh('yes | head -c 10000000; echo end')], maxRunTime: 60 });
    await small.queue.resolved(task);
    expect(task.state).toBe('completed');
    expect(small.queue.log(task).length).toBeLessThan(110_000);
    expect(small.queue.log(task)).toContain('The log has reached its limit of 100000 bytes: further output is dropped.');
  });
});

describe('a claim', () => {
  test('is renewed in time, and the new credentials are used and kept', async () => {
    const lines: string[] = [];
    const monitor: Monitor = { ...silentMonitor, info: (_, message) => lines.push(message) };
    await using t = await withWorker({}, { monitor });
    t.queue.claimSeconds = 1.2;
    const used = new Set<string>();
    t.queue.intercept = ({ headers, path }) => {
      if (path.includes('/runs/0/')) {
        used.add(/id="([^"]+)"/.exec(headers.authorization ?? '')?.[1] ?? '');
      }
      return undefined;
    };
    const task = t.queue.addTask({ command: [untilLetGo], maxRunTime: 60 });
    await t.queue.until(() => task.reclaims >= 2);
    const state = JSON.parse(readFileSync(join(t.config.dataDir, 'state.json'), 'utf8')) as { runs: { taskId: string }[] };
    expect(state.runs.map(run => run.taskId)).toEqual([task.taskId]);
    expect(statSync(join(t.config.dataDir, 'state.json')).mode & 0o777).toBe(0o600);
    await letGo(t, task);
    await t.queue.resolved(task);
    expect(task.state).toBe('completed');
    expect(used.size).toBeGreaterThanOrEqual(3);
    expect(lines).toContain('claim renewed');
  });

  test('that is lost ends the task, and nothing is published or reported', async () => {
    await using t = await withWorker();
    t.queue.claimSeconds = 0.6;
    const task = t.queue.addTask({
      command: [sh('echo out > out.txt; sleep 60')],
      maxRunTime: 60,
      artifacts: [{ type: 'file', path: 'out.txt' }],
    });
    await t.queue.until(() => task.artifacts.has('public/logs/live.log'));
    t.queue.cancel(task);
    t.queue.requests.length = 0;
    await t.queue.until(() => t.queue.requests.some(({ path }) => path.endsWith('/reclaim')));
    // the slot is free again: another task runs to its end
    const next = t.queue.addTask({ command: [sh('true')], maxRunTime: 60 });
    t.queue.claimSeconds = 1200;
    await t.queue.resolved(next);
    const about = t.queue.requests.filter(({ path }) => path.includes(task.taskId)).map(({ path }) => path.split('/').at(-1));
    expect(new Set(about)).toEqual(new Set(['reclaim']));
    expect([...task.artifacts.keys()]).toEqual(['public/logs/live.log']);
  });

  test('is kept through failures of the queue', async () => {
    await using t = await withWorker();
    t.queue.claimSeconds = 6;
    let refused = 0;
    t.queue.intercept = ({ path }) => {
      if (path.endsWith('/reclaim') && refused < 1) {
        refused++;
        return { status: 500, body: { code: 'InternalServerError', message: 'down' } };
      }
      return undefined;
    };
    const task = t.queue.addTask({ command: [untilLetGo], maxRunTime: 60 });
    await t.queue.until(() => task.reclaims >= 1);
    await letGo(t, task);
    await t.queue.resolved(task);
    expect(task.state).toBe('completed');
    expect(refused).toBe(1);
  }, 20_000);

  test('ends at the deadline of its task, without a word', async () => {
    await using t = await withWorker();
    const task = t.queue.addTask({ command: [sh('sleep 60')], maxRunTime: 60 }, { deadline: new Date(Date.now() + 700).toISOString() });
    await t.queue.until(() => task.artifacts.has('public/logs/live.log'));
    await eventually(() => readdirSync(t.config.tasksDir)).toEqual([]);
    expect(task.state).toBe('running');
    expect([...task.artifacts.keys()]).toEqual(['public/logs/live.log']);
  });
});

describe('a worker', () => {
  test('runs as many tasks at once as it has slots, and asks for more the moment one is free', async () => {
    await using t = await withWorker({ capacity: 2 });
    const tasks = [1, 2, 3].map(() => t.queue.addTask({ command: [untilLetGo], maxRunTime: 60 }));
    await t.queue.until(() => tasks.filter(({ state }) => state === 'running').length === 2);
    expect(tasks.map(({ state }) => state)).toEqual(['running', 'running', 'pending']);
    await letGo(t, tasks[0]!);
    await t.queue.until(() => tasks[2]?.state === 'running');
    await Promise.all([letGo(t, tasks[1]!), letGo(t, tasks[2]!)]);
    await Promise.all(tasks.map(task => t.queue.resolved(task)));
    expect(tasks.map(({ state }) => state)).toEqual(['completed', 'completed', 'completed']);
  });

  test('that is stopped at once gives its tasks back, with what they had printed', async () => {
    await using t = await withWorker();
    const task = t.queue.addTask({ command: [sh('echo printed; sleep 60')], maxRunTime: 60 });
    await t.queue.until(() => task.artifacts.has('public/logs/live.log'));
    await expect
      .poll(() => readFileSync(join(t.config.dataDir, 'logs', `task_${task.taskId.slice(0, 10)}_0.log`), 'utf8'))
      .toContain('printed\n');
    await t.worker.stop({ finishTasks: false });
    expect(task).toMatchObject({ state: 'exception', reason: 'worker-shutdown' });
    expect(t.queue.log(task)).toContain('printed\n');
    expect(t.queue.log(task)).toContain('[taskcluster:error] worker-shutdown: The worker was stopped before the task could finish.');
    expect(readFileSync(join(t.config.dataDir, 'state.json'), 'utf8')).toContain('"runs":[]');
  });

  test('that is stopped gently finishes its tasks and claims no more', async () => {
    await using t = await withWorker();
    const task = t.queue.addTask({ command: [untilLetGo], maxRunTime: 60 });
    await t.queue.until(() => task.artifacts.has('public/logs/live.log'));
    const stopped = t.worker.stop({ finishTasks: true });
    await eventually(() => t.queue.waitingClaims).toBe(0);
    const next = t.queue.addTask({ command: [sh('true')], maxRunTime: 60 });
    await letGo(t, task);
    await stopped;
    expect(task.state).toBe('completed');
    expect(next.state).toBe('pending');
  });

  test('asks again, less and less often, while the queue does not answer', async () => {
    const delays: number[] = [];
    const monitor: Monitor = {
      ...silentMonitor,
      warn: fields => typeof fields['retryInMs'] === 'number' && delays.push(fields['retryInMs']),
    };
    await using t = await withWorker({}, { monitor });
    let failures = 0;
    t.queue.intercept = ({ path }) => {
      if (path.includes('claim-work') && failures < 2) {
        failures++;
        return { status: 503, body: { code: 'Unavailable', message: 'later' } };
      }
      return undefined;
    };
    // the first request waits already; a task makes it return, and the next ones fail
    const first = t.queue.addTask({ command: [sh('true')], maxRunTime: 60 });
    await t.queue.resolved(first);
    const second = t.queue.addTask({ command: [sh('true')], maxRunTime: 60 });
    await t.queue.resolved(second);
    expect(failures).toBe(2);
    expect(delays.length).toBe(2);
    expect(delays[0]).toBeLessThanOrEqual(500);
    expect(delays[1]).toBeGreaterThanOrEqual(500);
  });

  test('refuses an engine that does not exist', async () => {
    await expect(withWorker({ engine: 'steam' })).rejects.toThrow('There is no engine "steam"; there are: process, fake.');
  });
});
