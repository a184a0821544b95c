/** Tasks that index themselves, and the history of a path: the queue and the index together. */
import { indexApi } from '@tscluster/api/index/api.ts';
import type { Client } from '@tscluster/client/client.ts';
import { beforeAll, describe, expect, test } from 'vitest';
import type { Subscription } from '../../platform/bus/bus.ts';
import type { BusEvent } from '../../platform/events.ts';
import { openPostgresBus } from '../../platform/bus/postgres.ts';
import { silentLog } from '../../platform/log.ts';
import { makeMetrics } from '../../platform/metrics.ts';
import { aWorker, claimNow, type NewDefinition, type QueueServer, withQueue } from '../queue/testing.ts';
import { makeFastClock } from '../../testing/clock.ts';
import { historyExpiry } from './expiry.ts';
import { endedRuns, type IndexingCtx, retryLoop } from './indexing.ts';
import { indexService } from './service.ts';

let server: QueueServer;
let index: Client<typeof indexApi>;
beforeAll(async () => {
  server = await withQueue({ more: [indexService] });
  index = server.client(indexApi);
});

type Report = 'completed' | 'failed' | 'malformed-payload' | 'worker-shutdown';
const refused = (code: string, statusCode: number) => expect.objectContaining({ code, statusCode }) as unknown;
let queues = 0;

/** Claims the task's pending run and reports how it ended. */
const finish = async (taskQueueId: string, report: Report): Promise<void> => {
  const { tasks } = await claimNow(server.ctx, server.clock, server.queue, taskQueueId, { ...aWorker(), tasks: 1 });
  const run = { taskId: tasks[0]?.status.taskId ?? '', runId: String(tasks[0]?.runId) };
  if (report === 'completed') {
    await server.queue.reportCompleted(run);
  } else if (report === 'failed') {
    await server.queue.reportFailed(run);
  } else {
    await server.queue.reportException(run, { reason: report });
  }
};
/** A task that was run, once for each report. */
const ran = async (paths: readonly string[], fields: Partial<NewDefinition> = {}, ...reports: Report[]): Promise<string> => {
  const { taskQueueId = `prov/index-${queues++}` } = fields;
  const taskId = await server.create({ ...fields, taskQueueId, routes: paths.map(path => `index.${path}`) });
  for (const report of reports.length === 0 ? (['completed'] as const) : reports) {
    await finish(taskQueueId, report);
    server.clock.advance({ seconds: 1 });
  }
  await server.drain();
  return taskId;
};
const find = (path: string) => index.findTask({ indexPath: path });
const history = async (path: string) => (await index.listHistory({ indexPath: path })).runs;
/** The index's own way of handling events, in the test's hand. */
const indexingCtx = (): IndexingCtx => ({ db: server.db, clock: server.clock, log: silentLog, queue: server.queue });
const subscriptionOf = (): Subscription => endedRuns(indexingCtx());
const inHours = (hours: number): string => new Date(server.clock.nowMs() + hours * 3_600_000).toISOString();

describe('a task with routes', () => {
  test('is indexed when it completes, at every path, with defaults', async () => {
    const expires = inHours(50);
    const taskId = await ran(['auto.a', 'auto.b.c', 'root'], { expires });
    for (const namespace of ['auto.a', 'auto.b.c', 'root']) {
      expect(await find(namespace)).toEqual({ namespace, taskId, rank: 0, data: {}, expires });
    }
    expect((await index.listNamespaces({ namespace: 'auto' })).namespaces).toMatchObject([{ namespace: 'auto.b' }]);
  });

  test('says rank, data and expiry itself', async () => {
    const extra = { index: { rank: 7, data: { product: 'x' }, expires: inHours(1_000) } };
    const taskId = await ran(['own.words'], { extra });
    expect(await find('own.words')).toEqual({ namespace: 'own.words', taskId, ...extra.index });
  });

  test.each([
    ['a text as rank', { rank: '7' }],
    ['null as data', { data: null }],
    ['a list as data', { data: [] }],
    ['no date', { expires: 'never' }],
  ])('is not indexed with %s, but others are', async (name, wrong) => {
    const path = `wrong.${name.replaceAll(' ', '-')}`;
    await ran([path], { extra: { index: wrong } });
    await expect(find(path)).rejects.toEqual(refused('ResourceNotFound', 404));
    await ran([path]);
    await find(path);
  });

  test('routes that are no paths are left out', async () => {
    const taskId = await ran(['a bad name', 'fine.name', 'x..y', 'index.z']);
    expect(await find('fine.name')).toMatchObject({ taskId });
    expect(await find('index.z')).toMatchObject({ taskId });
    expect((await server.db`select name from index.tasks where name like '%bad%'`).length).toBe(0);
  });

  test.each(['failed', 'malformed-payload'] as const)('is not indexed when it ends as %s', async report => {
    await ran([`ended.${report}`], {}, report);
    await expect(find(`ended.${report}`)).rejects.toEqual(refused('ResourceNotFound', 404));
  });

  test('is not indexed before it is completed', async () => {
    const taskQueueId = 'prov/index-slow';
    await server.create({ taskQueueId, routes: ['index.slow'] });
    await server.claim(1, taskQueueId);
    await server.drain();
    await expect(find('slow')).rejects.toEqual(refused('ResourceNotFound', 404));
  });

  test('of several, the one with the highest rank is found, whichever ran last', async () => {
    const ids = [];
    for (const rank of [3, 9, 5]) {
      ids.push(await ran(['ranked'], { extra: { index: { rank } } }));
    }
    expect(await find('ranked')).toMatchObject({ taskId: ids[1], rank: 9 });
    const newest = await ran(['ranked'], { extra: { index: { rank: 9 } } });
    expect(await find('ranked')).toMatchObject({ taskId: newest });
  });

  test('that is run again and completes is indexed again', async () => {
    const taskQueueId = 'prov/index-rerun';
    const first = await ran(['again'], { taskQueueId });
    await ran(['again']);
    await server.queue.rerunTask({ taskId: first });
    await finish(taskQueueId, 'completed');
    await server.drain();
    expect(await find('again')).toMatchObject({ taskId: first });
    expect((await history('again')).map(run => [run.taskId === first, run.runId])).toEqual([
      [true, 1],
      [false, 0],
      [true, 0],
    ]);
  });
});

describe('events', () => {
  test('that come again or in another order change nothing', async () => {
    const handled = subscriptionOf();
    await ran(['order.x'], { extra: { index: { rank: 1 } } });
    const rest = await ran(['order.x'], { extra: { index: { rank: 1 } } });
    const events = server.events.filter(event => event.cc.includes('route.index.order.x') && event.exchange.endsWith('task-completed'));
    expect(events).toHaveLength(2);
    const wanted = await find('order.x');
    expect(wanted).toMatchObject({ taskId: rest });
    const before = await history('order.x');
    const orders: BusEvent[][] = [[...events], events.toReversed(), [...events, ...events], [events[0] as BusEvent]];
    for (const order of orders) {
      await server.db.tx(tx => handled.handleMany?.(order, tx) ?? Promise.resolve());
      for (const event of order) {
        await server.db.tx(tx => handled.handle(event, tx));
      }
      expect(await find('order.x')).toEqual(wanted);
    }
    // the same from nothing
    for (const order of [events, events.toReversed()]) {
      await index.deleteTask({ namespace: 'order.x' });
      for (const event of order) {
        await server.db.tx(tx => handled.handle(event, tx));
      }
      expect(await find('order.x')).toEqual(wanted);
    }
    expect(await history('order.x')).toEqual(before);
  });

  test('do not undo what was inserted by hand later', async () => {
    await ran(['by.hand']);
    const [event] = server.events.filter(each => each.cc.includes('route.index.by.hand') && each.exchange.endsWith('task-completed'));
    const taskId = server.newId();
    await index.insertTask({ namespace: 'by.hand' }, { taskId, rank: 0, data: {}, expires: inHours(1) });
    await server.db.tx(tx => subscriptionOf().handle(event as BusEvent, tx));
    expect(await find('by.hand')).toMatchObject({ taskId });
  });

  test('about tasks that the queue does not know any more are passed over', async () => {
    await ran(['forgotten']);
    const event = server.events.find(
      each => each.cc.includes('route.index.forgotten') && each.exchange.endsWith('task-completed'),
    ) as BusEvent;
    const text = JSON.stringify(event).replaceAll((event.payload as { status: { taskId: string } }).status.taskId, server.newId());
    await index.deleteTask({ namespace: 'forgotten' });
    await server.db.tx(tx => subscriptionOf().handle(JSON.parse(text) as BusEvent, tx));
    await expect(find('forgotten')).rejects.toEqual(refused('ResourceNotFound', 404));
  });

  test('wait while the queue does not answer, and are worked off when it does', async () => {
    const down: IndexingCtx = { ...indexingCtx(), queue: { tasks: () => Promise.reject(new Error('no answer')) } };
    const taskId = await ran(['patient', 'patient.too']);
    const event = server.events.find(
      each => each.cc.includes('route.index.patient') && each.exchange.endsWith('task-completed'),
    ) as BusEvent;
    await index.deleteTask({ namespace: 'patient' });
    await index.deleteTask({ namespace: 'patient.too' });
    await server.db.tx(tx => endedRuns(down).handle(event, tx));
    await server.db.tx(tx => endedRuns(down).handle(event, tx));
    await expect(find('patient')).rejects.toEqual(refused('ResourceNotFound', 404));
    expect(await history('patient')).toHaveLength(1);
    await expect(retryLoop.run(down, 100)).rejects.toThrow('no answer');
    expect(await retryLoop.run(indexingCtx(), 100)).toBe(1);
    expect(await find('patient')).toMatchObject({ taskId });
    expect(await find('patient.too')).toMatchObject({ taskId });
    expect(await retryLoop.run(indexingCtx(), 100)).toBe(0);
  });

  test('are handled together by the bus on Postgres, and one by one when one of them is bad', async () => {
    await ran(['together.a']);
    await ran(['together.b']);
    const events = server.events.filter(
      each => each.cc.some(key => key.startsWith('route.index.together')) && each.exchange.endsWith('task-completed'),
    );
    await index.deleteTask({ namespace: 'together.a' });
    await index.deleteTask({ namespace: 'together.b' });
    const bus = openPostgresBus({
      db: server.db,
      clock: makeFastClock(100),
      log: silentLog,
      metrics: makeMetrics(),
      abandonedMs: 1e9,
    });
    const own = subscriptionOf();
    let batches = 0;
    let done = (): void => undefined;
    const finished = new Promise<void>(resolve => (done = resolve));
    const bad: BusEvent = { ...(events[0] as BusEvent), id: 'bad', payload: null };
    await server.db`insert into platform.subscriptions (name, bindings) values ('index/test', '[]')`;
    for (const event of [events[0], bad, events[1]]) {
      await server.db`insert into platform.deliveries (subscription, event_id, event) values ('index/test', ${(event as BusEvent).id}, ${JSON.stringify(event)})`;
    }
    await bus.subscribe({
      ...own,
      name: 'index/test',
      handleMany: async (several, tx) => {
        batches++;
        await own.handleMany?.(several, tx);
        if (several.some(event => event.id === events[1]?.id)) {
          done();
        }
      },
    });
    await finished;
    await bus.close();
    expect(batches).toBeGreaterThan(3);
    await find('together.a');
    await find('together.b');
    expect(await server.db`select event_id from platform.deliveries where subscription = 'index/test'`).toEqual([]);
  });
});

describe('history', () => {
  test('tells every run that ended, the newest first', async () => {
    const taskQueueId = 'prov/index-history';
    const failed = await ran(['past'], { taskQueueId, retries: 1 }, 'worker-shutdown', 'failed');
    const completed = await ran(['past']);
    const canceled = await server.create({ taskQueueId: 'prov/nobody', routes: ['index.past'] });
    await server.queue.cancelTask({ taskId: canceled });
    await server.drain();
    const runs = await history('past');
    expect(runs.map(({ taskId, runId, state, reasonResolved }) => [taskId, runId, state, reasonResolved])).toEqual([
      [canceled, 0, 'exception', 'canceled'],
      [completed, 0, 'completed', 'completed'],
      [failed, 1, 'failed', 'failed'],
      [failed, 0, 'exception', 'worker-shutdown'],
    ]);
    const { status } = await server.queue.status({ taskId: failed });
    expect(runs[2]).toEqual({
      taskId: failed,
      runId: 1,
      taskGroupId: status.taskGroupId,
      state: 'failed',
      reasonResolved: 'failed',
      scheduled: status.runs[1]?.scheduled,
      started: status.runs[1]?.started,
      resolved: status.runs[1]?.resolved,
      workerGroup: 'wg1',
      workerId: 'worker-a',
      expires: status.expires,
    });
    expect(runs[0]).not.toHaveProperty('started');
    expect(runs[0]).not.toHaveProperty('workerId');
    expect(await find('past')).toMatchObject({ taskId: completed });
  });

  test('is empty where nothing ran, and what was inserted by hand does not appear', async () => {
    await index.insertTask({ namespace: 'no.runs' }, { taskId: server.newId(), rank: 0, data: {}, expires: inHours(1) });
    expect(await index.listHistory({ indexPath: 'no.runs' })).toEqual({ runs: [] });
  });

  test('is paged, while new runs end', async () => {
    const ids = [];
    for (let i = 0; i < 5; i++) {
      ids.push(await ran(['long.past'], {}, i % 2 === 0 ? 'failed' : 'completed'));
    }
    const seen: string[] = [];
    let continuationToken: string | undefined;
    do {
      const page = await index.listHistory({ indexPath: 'long.past' }, { limit: '2', continuationToken });
      seen.push(...page.runs.map(run => run.taskId));
      ({ continuationToken } = page);
      await ran(['long.past']);
    } while (continuationToken !== undefined);
    expect(seen).toEqual(ids.toReversed());
    expect(await index.listHistory({ indexPath: 'long.past' }, { limit: '0' })).toEqual({ runs: [] });
    await expect(index.listHistory({ indexPath: 'long.past' }, { continuationToken: '!' })).rejects.toEqual(refused('InputError', 400));
  });

  test('is kept as long as the task', async () => {
    await ran(['short.past'], { expires: inHours(2) }, 'failed');
    expect(await history('short.past')).toHaveLength(1);
    server.clock.advance({ hours: 2, ms: 1 });
    expect(await history('short.past')).toEqual([]);
    while ((await historyExpiry.run({ db: server.db, clock: server.clock }, 2)) > 0) {
      // until nothing is left
    }
    expect(await server.db`select path from index.history where path = 'short.past'`).toEqual([]);
  });
});
