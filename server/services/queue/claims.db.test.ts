/** Long polls, hand-off, claims that never arrived, and batches in which one call is bad. */
import http from 'node:http';
import { queueApi } from '@tscluster/api/queue/api.ts';
import { createClient } from '@tscluster/client/client.ts';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { testDatabase } from '../../testing/template.ts';
import { type QueueServer, aTask, aWorker, findBreaches, forgetTasks, refusal, withQueue } from './testing.ts';

let server: QueueServer;
beforeAll(async () => {
  server = await withQueue();
});
beforeEach(() => forgetTasks(server));

const settled = async (promise: Promise<unknown>): Promise<boolean> => {
  const state = { done: false };
  void promise.then(
    () => (state.done = true),
    () => (state.done = true),
  );
  await server.ctx.hot.drain();
  for (let i = 0; i < 20; i++) {
    await new Promise<void>(resolve => {
      setImmediate(resolve);
    });
  }
  return state.done;
};

/** Waits until so many workers are in line and none of them is being looked at. */
const waiting = async (count: number, of = server): Promise<void> => {
  while (of.ctx.waiters.size !== count || of.ctx.waiters.asking !== 0) {
    await new Promise<void>(resolve => {
      setImmediate(resolve);
    });
  }
};

const claim = (workerId: string, tasks = 1, taskQueueId = 'prov/wt') =>
  server.queue.claimWork({ taskQueueId }, { workerGroup: 'wg1', workerId, tasks });

describe('a worker that waits', () => {
  test('gets a task in the transaction that creates it', async () => {
    const reply = claim('w1');
    await waiting(1);
    const taskId = await server.create();
    expect((await reply).tasks.map(task => task.status.taskId)).toEqual([taskId]);
    const [row] = await server.db<{ same: boolean }>`
      select t.xmin::text = c.xmin::text as same from queue.tasks t join queue.claims c on c.task_id = t.task_id`;
    expect(row?.same).toBe(true);
  });

  test('gets a dependent as soon as it is released', async () => {
    const parent = await server.create();
    const child = await server.create({ dependencies: [parent], taskQueueId: 'prov/other' });
    await server.claim();
    const reply = claim('w1', 1, 'prov/other');
    await waiting(1);
    await server.queue.reportCompleted({ taskId: parent, runId: '0' });
    expect((await reply).tasks.map(task => task.status.taskId)).toEqual([child]);
  });

  test.for(['retry', 'rerun', 'schedule'])('gets what a %s makes pending', async how => {
    const self = server.newId();
    const taskId = await server.create(how === 'schedule' ? { dependencies: [self] } : {}, self);
    if (how !== 'schedule') {
      await server.claim();
      await (how === 'retry' ? Promise.resolve() : server.queue.reportFailed({ taskId, runId: '0' }));
    }
    const reply = claim('w1');
    await waiting(1);
    if (how === 'retry') {
      await server.queue.reportException({ taskId, runId: '0' }, { reason: 'worker-shutdown' });
    } else {
      await (how === 'rerun' ? server.queue.rerunTask({ taskId }) : server.queue.scheduleTask({ taskId }));
    }
    expect((await reply).tasks.map(task => task.status.taskId)).toEqual([taskId]);
  });

  test('waits 20 seconds and no longer', async () => {
    const reply = claim('w1');
    await waiting(1);
    await server.clock.tick({ ms: 19_999 });
    expect(await settled(reply)).toBe(false);
    await server.clock.tick({ ms: 1 });
    expect(await reply).toEqual({ tasks: [] });
    expect(server.ctx.waiters.size).toBe(0);
  });

  test('stands in line: who came first is served first, and many are served at once', async () => {
    const replies = ['w1', 'w2', 'w3'].map(async workerId => {
      const { tasks } = await claim(workerId, 2);
      return tasks.length;
    });
    await waiting(3);
    await server.create();
    expect(await replies[0]).toBe(1);
    await waiting(2);
    await Promise.all(Array.from({ length: 3 }, () => server.create()));
    await waiting(0);
    const counts = await Promise.all(replies);
    expect(counts[0]).toBe(1);
    expect((counts[1] ?? 0) + (counts[2] ?? 0)).toBeGreaterThanOrEqual(2);
    expect(await findBreaches(server)).toEqual([]);
  });

  test('gets nothing while it is quarantined, and others do', async () => {
    const worker = { provisionerId: 'prov', workerType: 'wt', ...aWorker('bad') };
    const expires = new Date(server.clock.nowMs() + 86_400_000).toISOString();
    await server.queue.declareWorker(worker, { expires });
    await server.queue.quarantineWorker(worker, { quarantineUntil: expires });
    const bad = claim('bad');
    await waiting(1);
    const good = claim('good');
    await waiting(2);
    await server.create();
    expect((await good).tasks.length).toBe(1);
    expect(await settled(bad)).toBe(false);
    await server.clock.tick({ seconds: 20 });
    expect(await bad).toEqual({ tasks: [] });
  });

  test('is woken by the safety net when a wake-up was lost', async () => {
    const reply = claim('w1');
    await waiting(1);
    const other = await withQueue({ db: server.db, clock: server.clock }); // does not notify: it believes to be alone
    const taskId = await other.create();
    expect(await settled(reply)).toBe(false);
    await server.clock.tick({ seconds: 2 });
    expect((await reply).tasks.map(task => task.status.taskId)).toEqual([taskId]);
    await other.close();
  });
});

describe('a claim that could not be answered', () => {
  let port: number;
  const sockets = new http.Agent({ keepAlive: false });
  beforeAll(async () => {
    await server.server.app.listen({ port: 0, host: '127.0.0.1' });
    port = (server.server.app.server.address() as { port: number }).port;
  });
  afterAll(() => sockets.destroy());

  /** A claim whose connection is closed when `close` resolves. */
  const brokenClaim = async (workerId: string, close: Promise<unknown>): Promise<void> => {
    const client = createClient(queueApi, {
      rootUrl: server.rootUrl,
      credentials: { clientId: 'static/taskcluster/x', accessToken: 'a-token-that-nobody-checks' },
      retries: 0,
      fetch: async (_url, init) => {
        const headers = Object.fromEntries(new Headers(init?.headers).entries());
        const request = http.request({
          port,
          host: '127.0.0.1',
          agent: sockets,
          method: 'POST',
          path: '/api/queue/v1/claim-work/prov/wt',
          headers,
        });
        const answer = new Promise<never>((_resolve, reject) => {
          request.on('error', reject);
        });
        request.end(init?.body);
        await Promise.race([answer, close]);
        request.destroy(new Error('closed by the test'));
        return answer;
      },
    });
    await client.claimWork({ taskQueueId: 'prov/wt' }, { workerGroup: 'wg1', workerId, tasks: 1 }).catch(() => undefined);
  };

  test('a closed connection leaves the line', async () => {
    const close = waiting(1);
    await brokenClaim('gone', close);
    await waiting(0);
    const taskId = await server.create();
    expect((await claim('w1')).tasks.map(task => task.status.taskId)).toEqual([taskId]);
  });

  test('is handed again to the same worker, and to nobody else', async () => {
    const taskId = await server.create();
    await server.claim();
    // as if the answer had been lost
    server.ctx.unanswered.lost({ taskQueueId: 'prov/wt', ...aWorker() }, [{ taskId, runId: 0 }]);
    const other = claim('worker-b');
    await waiting(1);
    expect(await settled(other)).toBe(false);
    const again = await server.queue.claimWork({ taskQueueId: 'prov/wt' }, { ...aWorker(), tasks: 1 });
    expect(again.tasks.map(task => [task.status.taskId, task.runId, task.status.state])).toEqual([[taskId, 0, 'running']]);
    expect(again.tasks[0]?.credentials.clientId).toContain(`task-client/${taskId}/0/on/wg1/worker-a/until/`);
    await server.queue.reportCompleted({ taskId, runId: '0' });
    await server.clock.tick({ seconds: 20 });
    expect(await other).toEqual({ tasks: [] });
  });

  test('is not handed again once the worker has received it', async () => {
    const taskId = await server.create();
    expect(await server.claim()).toEqual([taskId]);
    await server.clock.tick({ ms: 250 });
    await server.ctx.hot.drain();
    const [row] = await server.db<{ answered: boolean }>`select answered from queue.claims`;
    expect(row?.answered).toBe(true);
    server.ctx.unanswered.suspect({ taskQueueId: 'prov/wt', ...aWorker() });
    expect(await server.claim()).toEqual([]);
  });

  test('is found by another process, when the worker comes there for the first time', async () => {
    const { db } = await testDatabase();
    const first = await withQueue({ db, clock: server.clock });
    const taskId = await first.create();
    expect(await first.claim()).toEqual([taskId]);
    await first.close(); // before anybody noted that the worker has it
    const second = await withQueue({ db, clock: server.clock });
    const again = second.queue.claimWork({ taskQueueId: 'prov/wt' }, { ...aWorker(), tasks: 1 });
    await waiting(1, second);
    await server.clock.tick({ ms: 4_900 });
    expect(await settled(again)).toBe(false); // too young: it may be on its way
    await server.clock.tick({ ms: 100 });
    expect((await again).tasks.map(task => task.status.taskId)).toEqual([taskId]);
    await second.close();
  });
});

describe('a batch', () => {
  test('one bad call does not fail its neighbours', async () => {
    const existing = await server.create();
    const sealed = server.newId();
    await server.create({ taskGroupId: sealed });
    await server.queue.sealTaskGroup({ taskGroupId: sealed });
    const good = Array.from({ length: 6 }, () => server.newId());
    const create = (taskId: string, fields: Parameters<typeof aTask>[1] = {}) =>
      server.queue.createTask({ taskId }, aTask(server.clock, fields));
    const calls = await Promise.allSettled([
      create(good[0] as string),
      create(existing, { retries: 3 }),
      create(good[1] as string),
      create(server.newId(), { taskGroupId: sealed }),
      create(good[2] as string),
      create(server.newId(), { dependencies: [server.newId()] }),
      create(good[3] as string, { taskGroupId: good[4] as string, schedulerId: 's1' }),
      create(good[5] as string, { taskGroupId: good[4] as string, schedulerId: 's2' }),
      server.queue.reportCompleted({ taskId: existing, runId: '0' }),
      server.queue.reclaimTask({ taskId: server.newId(), runId: '0' }),
    ]);
    const outcome = calls.map(call => (call.status === 'fulfilled' ? 'ok' : (call.reason as { code: string }).code));
    expect(outcome).toEqual([
      'ok',
      'RequestConflict',
      'ok',
      'RequestConflict',
      'ok',
      'InputError',
      'ok',
      'RequestConflict',
      'RequestConflict',
      'ResourceNotFound',
    ]);
    expect(await findBreaches(server)).toEqual([]);
  });

  test('a task and the one it needs may be sent at the same time', async () => {
    const [parent, child] = [server.newId(), server.newId()];
    await Promise.all([
      server.queue.createTask({ taskId: parent }, aTask(server.clock)),
      server.queue.createTask({ taskId: child }, aTask(server.clock, { dependencies: [parent] })),
    ]);
    expect((await server.queue.status({ taskId: child })).status.state).toBe('unscheduled');
    expect(await findBreaches(server)).toEqual([]);
  });

  test('definitions and dependencies that are too large for it go alone', async () => {
    const many = await Promise.all(Array.from({ length: 150 }, () => server.create({ taskQueueId: 'prov/other' })));
    const [large, wide] = await Promise.all([
      server.create({ extra: { text: 'x'.repeat(300_000) } }),
      server.create({ dependencies: many }),
    ]);
    expect((await server.queue.task({ taskId: large })).extra).toEqual({ text: 'x'.repeat(300_000) });
    expect((await server.queue.status({ taskId: wide })).status.state).toBe('unscheduled');
    expect(await findBreaches(server)).toEqual([]);
  });

  test('run ids that no task has are answered, however long', async () => {
    const taskId = await server.create();
    expect(await refusal(server.queue.reportCompleted({ taskId, runId: '99999999999999999999' }))).toMatchObject({
      code: 'ResourceNotFound',
    });
    expect(await refusal(server.queue.reclaimTask({ taskId, runId: '4294967296' }))).toMatchObject({ code: 'ResourceNotFound' });
    expect(await server.claim()).toEqual([taskId]);
    expect((await server.queue.reportCompleted({ taskId, runId: '00' })).status.state).toBe('completed');
  });

  test('text of any kind survives', async () => {
    const odd = { __proto__x: 'a"b\\c', emoji: '🦊', control: '\u0001\n\t', line: '\u2028' };
    const taskId = await server.create({ payload: odd, tags: odd, routes: ['a."quoted".\\route'] });
    expect((await server.queue.task({ taskId })).payload).toEqual(odd);
    const events = (await server.drain()).filter(event => event.routingKey.includes(taskId));
    expect(events.map(event => event.cc)).toEqual([['route.a."quoted".\\route'], ['route.a."quoted".\\route']]);
    expect(events[0]?.payload).toMatchObject({ task: { tags: odd } });
  });
});
