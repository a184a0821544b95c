/** Whether costs stay flat: with many tasks that wait, with many that are stored, and while expired ones are removed. */
import type pg from 'pg';
import { settle, storeTasks, TASKS_PER_GROUP } from './history.ts';
import type { Installation } from './installation.ts';
import { type Measured, type Percentiles, percentiles } from './measure.ts';
import { claimWork, complete, create, creates, lifecycles, reads, type Target, withConnections } from './suites.ts';

const CALLS = ['create', 'claim', 'complete'] as const;
type Call = (typeof CALLS)[number];
type Times = Record<Call, number[]>;
export type CallTimes = Record<Call, Percentiles>;

const noTimes = (): Times => ({ create: [], claim: [], complete: [] });
const summary = (times: Times): CallTimes => ({
  create: percentiles(times.create),
  claim: percentiles(times.claim),
  complete: percentiles(times.complete),
});

/** A task's three calls, one after the other, on one connection each. */
const timeLifecycle = async (
  target: Target,
  [creator, worker]: readonly Parameters<typeof create>[0][],
  taskQueueId: string,
  times: Times,
): Promise<void> => {
  const timed = async <T>(call: Call, run: () => Promise<T>): Promise<T> => {
    const startedMs = performance.now();
    const result = await run();
    times[call].push(performance.now() - startedMs);
    return result;
  };
  type Connection = Parameters<typeof create>[0];
  await timed('create', () => create(creator as Connection, target, taskQueueId));
  const claim = await timed('claim', () => claimWork(worker as Connection, target, taskQueueId, 0));
  if (!claim) {
    throw new Error(`${taskQueueId} has no task to give`);
  }
  await timed('complete', () => complete(worker as Connection, claim));
};

/** Single calls on queues with few and with many pending tasks, in turn. */
export const pendingDepths = async (
  { target, connect }: Installation,
  depths: readonly number[],
  count: number,
): Promise<{ depth: number; times: CallTimes }[]> => {
  const queueOf = (depth: number): string => `bench/pending-${depth}`;
  const client = await connect();
  for (const depth of depths) {
    await storeTasks(client, queueOf(depth), { count: depth, taskQueueId: queueOf(depth), state: 'pending' });
  }
  await settle(client);
  await client.end();
  return withConnections(target, 2, async connections => {
    const all = depths.map(noTimes);
    for (let i = 0; i < count; i++) {
      for (const [n, depth] of depths.entries()) {
        await timeLifecycle(target, connections, queueOf(depth), all[n] as Times);
      }
    }
    return depths.map((depth, n) => ({ depth, times: summary(all[n] as Times) }));
  });
};

export interface WithHistory {
  readonly stored: number;
  readonly times: CallTimes;
  readonly lifecycles: Measured;
  readonly creates: Measured;
  readonly status: Measured;
  /** One page of a group of 100. */
  readonly list: Percentiles;
}

const HISTORY_QUEUE = 'bench/history';

const listGroup = (target: Target, taskGroupId: string, count: number): Promise<Percentiles> =>
  withConnections(target, 1, async ([connection]) => {
    const times: number[] = [];
    for (let i = 0; i < count; i++) {
      const startedMs = performance.now();
      const page = await (connection as Parameters<typeof create>[0]).call<{ tasks: unknown[] }>(
        'GET',
        `/api/queue/v1/task-group/${taskGroupId}/list`,
        target.credentials,
      );
      times.push(performance.now() - startedMs);
      if (page.tasks.length !== TASKS_PER_GROUP) {
        throw new Error(`The group lists ${page.tasks.length} tasks`);
      }
    }
    return percentiles(times);
  });

const timeLifecycles = (target: Target, count: number): Promise<CallTimes> =>
  withConnections(target, 2, async connections => {
    const times = noTimes();
    for (let i = 0; i < count; i++) {
      await timeLifecycle(target, connections, 'bench/flat', times);
    }
    return summary(times);
  });

const measureHistory = async (target: Target, client: pg.Client, times: (count: number) => number): Promise<WithHistory> => {
  const stored = Number((await client.query('select count(*) as n from queue.tasks')).rows[0].n);
  const [{ id }] = (
    await client.query(
      'select task_group_id as id from queue.tasks where task_queue_id = $1 group by task_group_id having count(*) = $2 limit 1',
      [HISTORY_QUEUE, TASKS_PER_GROUP],
    )
  ).rows as [{ id: string }];
  return {
    stored,
    times: await timeLifecycles(target, times(500)),
    lifecycles: await lifecycles(target, times(5_000)),
    creates: await creates(target, times(10_000)),
    status: await reads(target, times(20_000), 'status'),
    list: await listGroup(target, id, times(200)),
  };
};

/** The same calls with 10,000 stored tasks and with `many`. A quarter of the latter has expired, and is there still. */
export const storedTasks = async (
  { target, connect }: Installation,
  many: number,
  times: (count: number) => number,
): Promise<WithHistory[]> => {
  const few = 10_000;
  const client = await connect();
  await lifecycles(target, times(4_000));
  await storeTasks(client, 'few', { count: few, taskQueueId: HISTORY_QUEUE, state: 'completed' });
  await settle(client);
  const before = await measureHistory(target, client, times);
  await storeTasks(client, 'many', { count: Math.round(many * 0.75) - few, taskQueueId: HISTORY_QUEUE, state: 'completed' });
  await storeTasks(client, 'expired', { count: Math.round(many * 0.25), taskQueueId: HISTORY_QUEUE, state: 'completed', expired: true });
  await settle(client);
  const after = await measureHistory(target, client, times);
  await client.end();
  return [before, after];
};

export interface WhileExpiring {
  readonly during: CallTimes;
  readonly afterwards: CallTimes;
  readonly expiredPerSecond: number;
  /** Single lifecycles done meanwhile. */
  readonly lifecycles: number;
}

const EXPIRED = `select count(*) as n from queue.tasks where expires < now() - interval '1 day'`;

/**
 * Single calls of an installation that was just started, while it removes what has expired, and then without that. Undefined when there was so little that
 * it had gone before the server was warm.
 */
export const whileExpiring = ({ target, connect }: Installation): Promise<WhileExpiring | undefined> =>
  withConnections(target, 2, async connections => {
    const client = await connect();
    const left = async (): Promise<number> => Number((await client.query(EXPIRED)).rows[0].n);
    await lifecycles(target, 100);
    const times = noTimes();
    const [startedMs, atFirst] = [performance.now(), await left()];
    let remaining = atFirst;
    while (remaining > 0) {
      for (let i = 0; i < 100; i++) {
        await timeLifecycle(target, connections, 'bench/flat', times);
      }
      remaining = await left();
    }
    const tookSeconds = (performance.now() - startedMs) / 1_000;
    await client.end();
    const done = times.create.length;
    if (done === 0) {
      return undefined;
    }
    return {
      during: summary(times),
      afterwards: await timeLifecycles(target, done),
      expiredPerSecond: atFirst / tookSeconds,
      lifecycles: done,
    };
  });
