/** The services of one installation in many processes, with any number of each: what clients and workers see is the same. */
import { authApi } from '@tscluster/api/auth/api.ts';
import { queueApi } from '@tscluster/api/queue/api.ts';
import { type Client, createClient } from '@tscluster/client/client.ts';
import { beforeAll, describe, expect, test } from 'vitest';
import { audit } from './support/audit.ts';
import { type Cluster, type ServerProcess, pathsOf, startCluster } from './support/cluster.ts';
import { subscribeToEverything } from './support/events.ts';
import { type Structure, planFakeLoad } from './support/load.ts';
import { expectRefusal, officialClients, readArtifact } from './support/official.ts';
import { waitFor } from './support/processes.ts';
import { seeded } from './support/random.ts';
import { runRound } from './support/round.ts';
import { aTask, newId } from './support/tasks.ts';

const HOUR_MS = 3_600_000;
const FUTURE = '2100-01-01T00:00:00.000Z';
/** Services that only answer requests. */
const WEB = ['--loops', 'none', '--no-relay'];

let cluster: Cluster;
let auth: ServerProcess;
let queues: ServerProcess[];
let relays: ServerProcess[];

const startQueue = (name: string): Promise<ServerProcess> =>
  cluster.start(name, { args: ['--services', 'queue', ...WEB], paths: pathsOf('queue') });
const startRelay = (name: string): Promise<ServerProcess> =>
  cluster.start(name, { args: ['--services', 'auth', '--loops', 'none', '--relay'] });

beforeAll(async () => {
  cluster = await startCluster();
  auth = await cluster.start('auth', { args: ['--services', 'auth', ...WEB], paths: pathsOf('auth') });
  [queues, relays] = await Promise.all([
    Promise.all([startQueue('queue 1'), startQueue('queue 2')]),
    Promise.all([startRelay('relay 1'), startRelay('relay 2')]),
    cluster.start('object', { args: ['--services', 'object', ...WEB], paths: pathsOf('object') }),
    cluster.start('loops', { args: ['--services', 'auth,queue,object,built-in-workers', '--no-relay'] }),
  ]);
}, 240_000);

const sleep = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms));

/** The queue as one process has it, past the front. */
const queueAt = (process: ServerProcess | undefined): Client<typeof queueApi> =>
  createClient(queueApi, { rootUrl: `http://127.0.0.1:${process?.port}`, credentials: cluster.credentials, retries: 0 });

const countOutbox = async (): Promise<number> => {
  const database = await cluster.connectDatabase();
  try {
    return Number((await database.query<{ count: string }>('select count(*) from platform.outbox')).rows[0]?.count);
  } finally {
    await database.end();
  }
};

describe('unmodified clients', () => {
  test('create, claim and resolve, with the credentials of the claim', async () => {
    const { queue } = officialClients(cluster, cluster.credentials);
    const taskId = newId();
    await queue['createTask']!(taskId, aTask({ taskQueueId: 'e2e/many' }));
    const { tasks } = await queue['claimWork']!('e2e/many', { tasks: 1, workerGroup: 'g', workerId: 'w' });
    expect(tasks.length).toBe(1);
    await officialClients(cluster, tasks[0].credentials).queue['reportCompleted']!(taskId, 0);
    expect(await queue['status']!(taskId)).toMatchObject({ status: { state: 'completed' } });
    await expectRefusal(officialClients(cluster).queue['createTask']!(newId(), aTask()), 403, 'InsufficientScopes');
    const wrong = officialClients(cluster, { ...cluster.credentials, accessToken: 'x'.repeat(44) });
    await expectRefusal(wrong.queue['createTask']!(newId(), aTask()), 401, 'AuthenticationFailed', 'Bad mac');
  });

  test('store an artifact by one process and read it by others', async () => {
    const { queue } = officialClients(cluster, cluster.credentials);
    const taskId = newId();
    await queue['createTask']!(taskId, aTask({ taskQueueId: 'e2e/artifacts' }));
    const { tasks } = await queue['claimWork']!('e2e/artifacts', { tasks: 1, workerGroup: 'g', workerId: 'w' });
    const own = officialClients(cluster, tasks[0].credentials).queue;
    const expires = new Date(Date.now() + HOUR_MS).toISOString();
    const { putUrl } = await own['createArtifact']!(taskId, 0, 'public/x.txt', { storageType: 's3', contentType: 'text/plain', expires });
    expect((await fetch(putUrl, { method: 'PUT', body: 'hello', headers: { 'content-type': 'text/plain' } })).status).toBe(200);
    await own['reportCompleted']!(taskId, 0);
    expect(await readArtifact(queue, taskId, 'public/x.txt')).toBe('hello');
  });

  test('see tasks of the built-in queues end', async () => {
    const { queue } = officialClients(cluster, cluster.credentials);
    const taskId = newId();
    await queue['createTask']!(taskId, aTask({ taskQueueId: 'built-in/succeed' }));
    await waitFor('the built-in worker', 30_000, async () => (await queue['status']!(taskId)).status.state === 'completed');
  });
});

describe('several of one kind', () => {
  test('both answer', async () => {
    const queue = createClient(queueApi, cluster);
    await Promise.all(Array.from({ length: 20 }, () => queue.ping()));
    expect(queues.map(({ port }) => cluster.front.sent.get(port) ?? 0).every(count => count > 0)).toBe(true);
  });

  test('a worker that waits at one is handed what is created at the other', async () => {
    const [one, two] = queues;
    const tookMs: number[] = [];
    for (let i = 0; i < 20; i++) {
      const reply = queueAt(one).claimWork({ taskQueueId: 'e2e/hand-off' }, { workerGroup: 'g', workerId: 'w', tasks: 1 });
      await sleep(50);
      const taskId = newId();
      const startMs = performance.now();
      await queueAt(two).createTask({ taskId }, aTask({ taskQueueId: 'e2e/hand-off' }));
      const { tasks } = await reply;
      tookMs.push(performance.now() - startMs);
      expect(tasks.map(task => task.status.taskId)).toEqual([taskId]);
    }
    tookMs.sort((a, b) => a - b);
    console.log(`hand-off from one process to another: p50 ${tookMs[10]?.toFixed(1)} ms, p95 ${tookMs[18]?.toFixed(1)} ms`);
  });

  test('a claim whose process dies before it answers is handed to the same worker by another', async () => {
    const third = await startQueue('queue 3');
    const worker = { workerGroup: 'g', workerId: 'unlucky', tasks: 1 };
    const taskQueueId = 'e2e/unanswered';
    // the other process has seen this worker before
    const known = newId();
    await queueAt(queues[0]).createTask({ taskId: known }, aTask({ taskQueueId }));
    expect((await queueAt(queues[0]).claimWork({ taskQueueId }, worker)).tasks.length).toBe(1);
    // committed, and not answered: as if the process had died in between
    const lost = newId();
    await queueAt(queues[0]).createTask({ taskId: lost }, aTask({ taskQueueId }));
    const { tasks } = await queueAt(third).claimWork({ taskQueueId }, worker);
    expect(tasks.map(task => task.status.taskId)).toEqual([lost]);
    await third.kill();
    const database = await cluster.connectDatabase();
    await database.query('update queue.claims set answered = false where task_id = $1', [lost]);
    await database.end();
    const again = await waitFor('the claim', 60_000, async () => {
      const found = await queueAt(queues[0]).claimWork({ taskQueueId }, worker);
      return found.tasks.length > 0 && found;
    });
    expect(again.tasks.map(task => [task.status.taskId, task.runId])).toEqual([[lost, 0]]);
  });

  test('a client that is disabled is refused by all of them a second later', async () => {
    const api = createClient(authApi, cluster);
    const { accessToken } = await api.createClient({ clientId: 'e2e/passing' }, { expires: FUTURE, description: '', scopes: ['*'] });
    const credentials = { clientId: 'e2e/passing', accessToken: accessToken as string };
    const ask = (process: ServerProcess): Promise<number> =>
      createClient(queueApi, { rootUrl: `http://127.0.0.1:${process.port}`, credentials, retries: 0 })
        .pendingTasks({ taskQueueId: 'e2e/any' })
        .then(
          () => 200,
          (error: { statusCode: number }) => error.statusCode,
        );
    expect(await Promise.all(queues.map(ask))).toEqual([200, 200]);
    await api.disableClient({ clientId: 'e2e/passing' });
    await sleep(1_000);
    expect(await Promise.all(queues.map(ask))).toEqual([401, 401]);
  });
});

describe('when a process is gone', () => {
  test('requests wait for auth while it starts again', async () => {
    await auth.kill();
    const asked = queueAt(queues[0]).pendingTasks({ taskQueueId: 'e2e/any' });
    await sleep(500);
    await auth.start();
    expect(await asked).toMatchObject({ pendingTasks: 0 });
  });

  test('another relay takes over from one that is killed, and from one that stands still', async () => {
    const queue = createClient(queueApi, cluster);
    const createSome = () =>
      Promise.all(Array.from({ length: 5 }, () => queue.createTask({ taskId: newId() }, aTask({ taskQueueId: 'e2e/x' }))));
    const [one, two] = relays;
    await one?.kill();
    await createSome();
    await waitFor('the other relay', 60_000, async () => (await countOutbox()) === 0);
    await one?.start();
    two?.pause();
    try {
      await createSome();
      await waitFor('the first relay', 60_000, async () => (await countOutbox()) === 0);
    } finally {
      two?.resume();
    }
    await createSome();
    await waitFor('one of them', 60_000, async () => (await countOutbox()) === 0);
  });

  test('under load, while replicas come, are paused, and go, nothing is lost or done twice', async () => {
    await subscribeToEverything(cluster);
    let isOver = false;
    function* structures(): Generator<Structure> {
      for (const structure of planFakeLoad(seeded(7))) {
        if (isOver) {
          return;
        }
        yield structure;
      }
    }
    const accounts = await runRound(
      cluster,
      structures(),
      async () => {
        const [one, two] = queues;
        await sleep(1_000);
        const added = await startQueue('queue 4');
        await sleep(1_000);
        await one?.kill();
        await sleep(1_000);
        await one?.start();
        two?.pause();
        await sleep(12_000);
        two?.resume();
        await sleep(500);
        await added.stop();
        await sleep(500);
        isOver = true;
      },
      { pauseMs: 200 },
    );
    const { tasks, events, unanswered } = accounts;
    console.log(`${tasks.length} tasks, ${events.length} events, ${unanswered.length} calls repeated`);
    expect(audit(accounts)).toEqual([]);
  });
});

test('what is wrong with the settings is told at once, and the process does not start', async () => {
  const broken = cluster.start('broken', { args: ['--services', 'queue'], env: { TRUST_PROXY: 'perhaps', TASK_CLAIM_TIMEOUT: 'long' } });
  await expect(broken).rejects.toThrow(/The configuration has 2 mistakes:\n {2}\* TRUST_PROXY=perhaps .*\n {2}\* TASK_CLAIM_TIMEOUT=long/);
  const { host, port, user } = cluster.postgres.connection;
  const DATABASE_URL = `postgres://${user}@/nowhere?host=${encodeURIComponent(host)}&port=${port}`;
  const lost = cluster.start('lost', { args: ['--services', 'queue'], env: { DATABASE_URL } });
  await expect(lost).rejects.toThrow(/The database of DATABASE_URL cannot be used: database "nowhere" does not exist/);
}, 180_000);

test('every process stops in order', async () => {
  await Promise.all(cluster.processes.map(each => each.stop()));
}, 120_000);
