/** Tasks on the local worker of a real installation: what they can do, what they cannot, and what they survive. */
import fs from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { queueApi } from '@tscluster/api/queue/api.ts';
import { type Client, createClient } from '@tscluster/client/client.ts';
import { slugid, systemClock, systemRandom } from '@tscluster/client/clock.ts';
import { startInstallation } from './support/installation.ts';
import { until } from './support/processes.ts';

type Queue = Client<typeof queueApi>;
type TaskDefinition = Parameters<Queue['createTask']>[1];

const sh = (script: string): string[] => ['/bin/sh', '-ec', script];
const at = (ms: number): string => new Date(systemClock.nowMs() + ms).toISOString();

const aTask = (payload: Record<string, unknown>, definition: Partial<TaskDefinition> = {}): TaskDefinition => ({
  taskQueueId: 'local/process',
  created: at(0),
  deadline: at(3_600_000),
  metadata: { name: 'e2e', description: 'e2e', owner: 'e2e@example.com', source: 'https://example.com/e2e' },
  payload: { maxRunTime: 120, ...payload },
  ...definition,
});

const setUp = async () => {
  const installation = await startInstallation();
  const { rootUrl, credentials } = installation;
  const queue = createClient(queueApi, { rootUrl, credentials });
  const create = async (payload: Record<string, unknown>, definition: Partial<TaskDefinition> = {}): Promise<string> => {
    const taskId = slugid(systemRandom);
    await queue.createTask({ taskId }, aTask(payload, definition));
    return taskId;
  };
  const stateOf = async (taskId: string): Promise<string> => (await queue.status({ taskId })).status.state;
  const resolved = async (taskId: string) => {
    await until(async () => !['unscheduled', 'pending', 'running'].includes(await stateOf(taskId)));
    return (await queue.status({ taskId })).status;
  };
  const text = async (taskId: string, name: string): Promise<string> => {
    const url = await queue.buildSignedUrl('getLatestArtifact', { taskId, name });
    const response = await fetch(url);
    expect(response.status, name).toBe(200);
    return response.text();
  };
  const log = (taskId: string): Promise<string> => text(taskId, 'public/logs/live.log');
  return { installation, queue, create, stateOf, resolved, text, log };
};

test('a chain of tasks passes artifacts on, through mounts, caches and the proxy', async () => {
  const { create, resolved, text, log, queue } = await setUp();
  const first = await create({
    command: [sh('mkdir -p out/deep; echo one > out/one.txt; echo two > out/deep/two.txt; tar -czf all.tar.gz out')],
    artifacts: [
      { type: 'directory', path: 'out', name: 'public/out' },
      { type: 'file', path: 'all.tar.gz', name: 'private/all.tar.gz' },
    ],
  });
  const second = await create(
    {
      command: [sh('cat in/out/deep/two.txt one.txt; echo kept > cache/kept')],
      mounts: [
        { directory: 'in', format: 'tar.gz', content: { taskId: first, artifact: 'private/all.tar.gz' } },
        { file: 'one.txt', content: { taskId: first, artifact: 'public/out/one.txt' } },
        { directory: 'cache', cacheName: 'e2e' },
      ],
    },
    { dependencies: [first], scopes: ['queue:get-artifact:private/*', 'generic-worker:cache:e2e'] },
  );
  const third = await create(
    {
      command: [
        sh(
          `cat cache/kept
           curl -sf $TASKCLUSTER_PROXY_URL/api/queue/v1/task/$TASK_ID/status | head -c 20; echo
           curl -s -o /dev/null -w 'resolve: %{http_code}\\n' -X POST $TASKCLUSTER_PROXY_URL/api/queue/v1/task/$TASK_ID/runs/$RUN_ID/completed
           curl -sf -H 'content-type: application/json' -d "{\\"storageType\\":\\"link\\",\\"artifact\\":\\"x\\",\\"expires\\":\\"$EXPIRES\\"}" \\
             $TASKCLUSTER_PROXY_URL/api/queue/v1/task/$TASK_ID/runs/$RUN_ID/artifacts/public%2Flink`,
        ),
      ],
      env: { EXPIRES: at(3_000_000) },
      mounts: [{ directory: 'cache', cacheName: 'e2e' }],
      features: { taskclusterProxy: true },
    },
    { dependencies: [second], scopes: ['generic-worker:cache:e2e'] },
  );
  expect((await resolved(third)).state).toBe('completed');
  expect(await text(first, 'public/out/deep/two.txt')).toBe('two\n');
  expect(await log(second)).toContain('two\none\n');
  const lastLog = await log(third);
  expect(lastLog).toContain('kept\n{"status":');
  expect(lastLog).toContain('resolve: 403\n');
  const { artifacts } = await queue.listLatestArtifacts({ taskId: third });
  expect(artifacts.map(({ name, storageType }) => `${name} ${storageType}`)).toEqual([
    'public/link link',
    'public/logs/live_backing.log s3',
    'public/logs/live.log link',
  ]);
});

test('a task finds nothing of the installation', async () => {
  const { installation, create, resolved, log } = await setUp();
  const { dataDir, credentials } = installation;
  const task = await create({
    command: [
      [
        '/bin/sh',
        '-c',
        `cat ${dataDir}/env; find ${dataDir} | sed 's/^/found /'
         cat /proc/[0-9]*/environ | tr '\\0' '\\n' | grep -a ACCESS_TOKEN; tr '\\0' ' ' < /proc/1/cmdline; echo tried`,
      ],
    ],
  });
  expect((await resolved(task)).state).toBe('completed');
  const text = await log(task);
  expect(text).toContain('tried\n');
  expect(text).toContain(`${dataDir}/env: No such file or directory`);
  expect(text).not.toContain(credentials.accessToken);
  expect(text).not.toMatch(/\nfound .*(PGSQL|env|state)/);
  expect(text).not.toMatch(/\n.*ACCESS_TOKEN=/);
});

test('the live log is read while the task runs; a cancelled task ends and leaves nothing running', async () => {
  const { queue, create, stateOf } = await setUp();
  const words = `sleep 91234.${process.pid}`;
  const task = await create({ command: [sh(`echo early; setsid ${words} & ${words}`)], maxRunTime: 86_000 });
  await until(async () => (await queue.listLatestArtifacts({ taskId: task }).catch(() => ({ artifacts: [] }))).artifacts.length > 0);
  const live = await fetch(await queue.buildSignedUrl('getLatestArtifact', { taskId: task, name: 'public/logs/live.log' }));
  const reader = (live.body as ReadableStream<Uint8Array<ArrayBuffer>>).pipeThrough(new TextDecoderStream()).getReader();
  let seen = '';
  while (!seen.includes('early\n')) {
    seen += (await reader.read()).value ?? '';
  }
  await reader.cancel();
  expect(await stateOf(task)).toBe('running');
  await queue.cancelTask({ taskId: task });
  expect((await queue.status({ taskId: task })).status.runs[0]?.reasonResolved).toBe('canceled');
});

test('a worker that is killed again and again with tasks in hand loses none of them', async () => {
  const { installation, create, resolved } = await setUp();
  const tasks = await Promise.all(
    Array.from({ length: 24 }, (_, index) =>
      create({ command: [sh(`sleep 0.${index % 5}; echo done > f`)], artifacts: [{ type: 'file', path: 'f' }] }, { retries: 20 }),
    ),
  );
  const inHand = async (): Promise<number> => {
    const state = await fs.readFile(path.join(installation.dataDir, 'worker', 'state.json'), 'utf8').catch(() => '{"runs":[]}');
    return (JSON.parse(state) as { runs: unknown[] }).runs.length;
  };
  for (let kill = 0; kill < 5; kill++) {
    await installation.pid('worker');
    await until(async () => (await inHand()) > 0);
    await installation.kill('worker');
  }
  const statuses = await Promise.all(tasks.map(resolved));
  expect(statuses.map(({ state }) => state)).toEqual(tasks.map(() => 'completed'));
  const lost = statuses.flatMap(({ runs }) => runs).filter(run => run.state !== 'completed');
  expect(lost.length).toBeGreaterThan(0);
  expect(new Set(lost.map(run => run.reasonResolved))).toEqual(new Set(['worker-shutdown']));
});

test('killing everything a task started ends that task, and no other', async () => {
  const { create, resolved, log, queue } = await setUp();
  const words = `sleep 92345.${process.pid}`;
  const victim = await create({ command: [sh(`echo started; ${words}`)], maxRunTime: 86_000 });
  let pids: number[] = [];
  await until(async () => {
    pids = [];
    for (const pid of (await fs.readdir('/proc')).filter(name => /^\d+$/.test(name))) {
      const command = await fs.readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
      if (command.replaceAll('\0', ' ').startsWith(words)) {
        pids.push(Number(pid));
      }
    }
    return pids.length > 0;
  });
  pids.forEach(pid => process.kill(pid, 'SIGKILL'));
  expect((await resolved(victim)).state).toBe('failed');
  expect(await log(victim)).toContain('[taskcluster:error] Command 0 ended with exit code 137.');
  const next = await create({ command: [sh('true')] });
  expect((await resolved(next)).state).toBe('completed');
  expect((await queue.status({ taskId: next })).status.runs.length).toBe(1);
});
