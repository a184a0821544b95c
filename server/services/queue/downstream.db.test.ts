import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { queueApi } from '@tscluster/api/queue/api.ts';
import { MAX_DOWNSTREAM } from './downstream.ts';
import { aGraph, schedulerOf } from './graphs/testing.ts';
import { claimExpiry, deadlines, dependencies } from './loops.ts';
import { type NewDefinition, type QueueServer, aWorker, findBreaches, forgetTasks, late, refusal, withTwoQueues } from './testing.ts';

let one: QueueServer;
let two: QueueServer;
beforeAll(async () => {
  [one, two] = await withTwoQueues();
});
beforeEach(() => forgetTasks(one));

const DAYS = 86_400_000;
/** Creates tasks that depend on each other by place; all with the same far deadline. Answers with their ids. */
const make = async (
  edges: readonly (readonly number[])[],
  fields: (i: number) => Partial<NewDefinition> = () => ({}),
): Promise<string[]> => {
  const deadline = new Date(one.clock.nowMs() + 4 * DAYS).toISOString();
  const tasks = aGraph(one, edges, i => ({ deadline, ...fields(i) }));
  for (const { taskId, task } of tasks) {
    await one.queue.createTask({ taskId }, task);
  }
  return tasks.map(({ taskId }) => taskId);
};
const run = async (taskId: string, outcome: 'completed' | 'failed' | 'worker-shutdown' = 'completed'): Promise<void> => {
  const { status } = await one.queue.status({ taskId });
  const which = { taskId, runId: String(status.runs.length - 1) };
  await one.queue.claimTask(which, aWorker());
  await (outcome === 'completed'
    ? one.queue.reportCompleted(which)
    : outcome === 'failed'
      ? one.queue.reportFailed(which)
      : one.queue.reportException(which, { reason: outcome }));
};
const statusOf = async (taskId: string) => (await one.queue.status({ taskId })).status;
const statesOf = (ids: readonly string[]): Promise<string[]> => Promise.all(ids.map(async id => (await statusOf(id)).state));
const inLine = async (): Promise<string[]> =>
  (await one.queue.listPendingTasks({ taskQueueId: 'prov/wt' })).tasks.map(({ taskId }) => taskId);
const eventsOf = async (ids: readonly string[]): Promise<string[]> =>
  (await one.drain()).map(({ exchange, payload }) => {
    const { status, runId } = payload as { status?: { taskId: string }; runId?: number };
    return `${exchange.split('/').at(-1)} ${status ? ids.indexOf(status.taskId) : '-'} ${runId ?? '-'}`;
  });

describe('a rerun with everything downstream', () => {
  test('runs resolved tasks again in the order of their dependencies', async () => {
    const ids = await make([[], [0], [0], [1, 2], []]);
    const [a, b, c, d, e] = ids as [string, string, string, string, string];
    for (const id of ids) {
      await run(id);
    }
    await one.drain();
    const answer = await one.queue.rerunDownstream({ taskId: a });
    expect(answer).toEqual({
      status: await statusOf(a),
      waiting: 3,
      taskIds: [b, c, d].toSorted((x, y) => (x < y ? -1 : 1)),
      late: 0,
      lateTaskIds: [],
    });
    expect(answer.status).toMatchObject({ state: 'pending', runs: [{ state: 'completed' }, { state: 'pending', reasonCreated: 'rerun' }] });
    expect(await eventsOf(ids)).toEqual(['task-pending 0 1']);
    expect(await statesOf(ids)).toEqual(['pending', 'completed', 'completed', 'completed', 'completed']);
    expect(await findBreaches(one)).toEqual([]);
    await run(a);
    expect(await statesOf(ids)).toEqual(['completed', 'pending', 'pending', 'completed', 'completed']);
    expect(await findBreaches(one)).toEqual([]);
    await run(b);
    expect(await statesOf([d])).toEqual(['completed']);
    await run(c);
    expect(await statusOf(d)).toMatchObject({
      state: 'pending',
      retriesLeft: 5,
      runs: [
        { runId: 0, state: 'completed' },
        { runId: 1, state: 'pending', reasonCreated: 'rerun' },
      ],
    });
    await run(d);
    expect((await statusOf(e)).runs.length).toBe(1);
    expect((await eventsOf(ids)).filter(event => event.startsWith('task-pending'))).toEqual([
      'task-pending 1 1',
      'task-pending 2 1',
      'task-pending 3 1',
    ]);
    expect(await findBreaches(one)).toEqual([]);
  });

  test('lets what never ran wait again', async () => {
    const ids = await make([[], [0], [1], [0]]);
    const [a, b, c, d] = ids as [string, string, string, string];
    await run(a);
    await run(b);
    expect(await statesOf(ids)).toEqual(['completed', 'completed', 'pending', 'pending']);
    await one.queue.rerunDownstream({ taskId: a });
    expect(await statesOf(ids)).toEqual(['pending', 'completed', 'unscheduled', 'unscheduled']);
    expect((await statusOf(c)).runs).toEqual([]);
    expect(await inLine()).toEqual([a]);
    expect(await findBreaches(one)).toEqual([]);
    await run(a);
    expect(await statesOf(ids)).toEqual(['completed', 'pending', 'unscheduled', 'pending']);
    await run(b);
    await run(c);
    await run(d);
    expect(await statesOf(ids)).toEqual(['completed', 'completed', 'completed', 'completed']);
    expect((await statusOf(c)).runs.length).toBe(1);
    expect(await findBreaches(one)).toEqual([]);
  });

  test('takes a pending task that ran before out of line, and puts it back', async () => {
    const ids = await make([[], [0], [1]], () => ({ retries: 2 }));
    const [a, b] = ids as [string, string];
    await run(a);
    await run(b, 'worker-shutdown');
    const before = await statusOf(b);
    expect(before).toMatchObject({
      state: 'pending',
      retriesLeft: 1,
      runs: [{ state: 'exception' }, { state: 'pending', reasonCreated: 'retry' }],
    });
    await one.queue.rerunDownstream({ taskId: a });
    expect(await statusOf(b)).toEqual(before);
    expect(await inLine()).toEqual([a]);
    expect(await findBreaches(one)).toEqual([]);
    await one.drain();
    await run(a);
    expect(await statusOf(b)).toEqual(before);
    expect(await inLine()).toEqual([b]);
    expect((await eventsOf(ids)).at(-1)).toBe('task-pending 1 1');
    await run(b);
    expect(await statesOf(ids)).toEqual(['completed', 'completed', 'pending']);
    expect(await findBreaches(one)).toEqual([]);
  });

  test('waits for what is not run again, too', async () => {
    const [a, other, d] = (await make([[], [], [0, 1]])) as [string, string, string];
    await run(a);
    await one.queue.rerunDownstream({ taskId: a });
    await run(other);
    expect(await statesOf([d])).toEqual(['unscheduled']);
    await run(a);
    expect(await statesOf([d])).toEqual(['pending']);
    expect(await findBreaches(one)).toEqual([]);
  });

  test('waits for a failed task to be run again once more, and with all-resolved not', async () => {
    const [a, b, c] = (await make([[], [0], [0]], i => (i === 2 ? { requires: 'all-resolved' } : {}))) as [string, string, string];
    await run(a);
    await run(b);
    await run(c);
    await one.queue.rerunDownstream({ taskId: a });
    await run(a, 'failed');
    expect(await statesOf([b, c])).toEqual(['completed', 'pending']);
    await one.queue.rerunTask({ taskId: a });
    await run(a);
    expect(await statesOf([b])).toEqual(['pending']);
    expect(await findBreaches(one)).toEqual([]);
  });

  test('keeps a gate shut until somebody opens it again', async () => {
    const [a, gate, behind] = (await make([[], [0, 1], [1]])) as [string, string, string];
    await run(a);
    await one.queue.scheduleTask({ taskId: gate });
    await run(gate);
    await run(behind);
    await one.queue.rerunDownstream({ taskId: a });
    await run(a);
    expect(await statesOf([gate, behind])).toEqual(['completed', 'completed']);
    expect(await inLine()).toEqual([]);
    await one.queue.rerunTask({ taskId: gate });
    await run(gate);
    expect(await statesOf([gate, behind])).toEqual(['completed', 'pending']);
    expect(await findBreaches(one)).toEqual([]);
  });

  test('runs an unscheduled task, and announces a pending one again, as a rerun does', async () => {
    const ids = await make([[], [0], [1]]);
    const [a, b] = ids as [string, string];
    await one.drain();
    expect((await one.queue.rerunDownstream({ taskId: b })).status).toMatchObject({ state: 'pending', runs: [{ reasonCreated: 'rerun' }] });
    expect(await one.queue.rerunDownstream({ taskId: a })).toMatchObject({ waiting: 2, status: { state: 'pending' } });
    expect(await eventsOf(ids)).toEqual(['task-pending 1 0', 'task-pending 0 0']);
    expect(await statesOf([b])).toEqual(['unscheduled']);
    expect(await findBreaches(one)).toEqual([]);
  });

  test('of a running task lets the others wait for that run', async () => {
    const [a, b] = (await make([[], [0]])) as [string, string];
    await run(a);
    await run(b);
    await one.queue.rerunTask({ taskId: a });
    await one.queue.claimTask({ taskId: a, runId: '1' }, aWorker());
    const before = await statusOf(a);
    await one.drain();
    expect(await one.queue.rerunDownstream({ taskId: a })).toMatchObject({ status: before, waiting: 1 });
    expect(await one.drain()).toEqual([]);
    await one.queue.reportCompleted({ taskId: a, runId: '1' });
    expect(await statesOf([b])).toEqual(['pending']);
  });

  test('is repeated without effect', async () => {
    const ids = await make([[], [0], [1], [1]]);
    await run(ids[0] as string);
    await run(ids[1] as string);
    await run(ids[2] as string);
    const first = await one.queue.rerunDownstream({ taskId: ids[0] as string });
    const before = await one.db`select * from queue.tasks order by task_id`;
    const changes = await one.db`select count(*) from queue.task_changes`;
    expect(await one.queue.rerunDownstream({ taskId: ids[0] as string })).toEqual(first);
    expect(await one.db`select * from queue.tasks order by task_id`).toEqual(before);
    expect(await one.db`select count(*) from queue.task_changes`).toEqual(changes);
    expect(await findBreaches(one)).toEqual([]);
  });

  test('leaves tasks past their deadline alone, and what depends on them alone', async () => {
    const soon = new Date(one.clock.nowMs() + 3_600_000).toISOString();
    const expires = new Date(one.clock.nowMs() + 5 * DAYS).toISOString();
    const ids = await make([[], [0], [1], [0], [2, 3]], i => (i === 1 ? { deadline: soon, expires } : { expires }));
    const [a, late, onlyLate, b, both] = ids as [string, string, string, string, string];
    for (const id of ids) {
      await run(id);
    }
    one.clock.advance({ hours: 2 });
    const answer = await one.queue.rerunDownstream({ taskId: a });
    expect(answer).toMatchObject({ waiting: 2, taskIds: [b, both].toSorted((x, y) => (x < y ? -1 : 1)), late: 1, lateTaskIds: [late] });
    await run(a);
    await run(b);
    expect((await statusOf(both)).runs.length).toBe(2);
    expect((await statusOf(onlyLate)).runs.length).toBe(1);
    expect(await findBreaches(one)).toEqual([]);
  });

  test('releases more dependents than one transaction takes', async () => {
    const ids = await make([[], ...Array.from({ length: 600 }, () => [0])]);
    const [a, ...others] = ids as [string, ...string[]];
    await run(a);
    await one.queue.rerunDownstream({ taskId: a }); // what its first run released was still to be worked off
    await one.runLoop({ ...dependencies, run: (ctx, limit) => dependencies.run(ctx, limit) });
    expect(new Set(await statesOf(others))).toEqual(new Set(['unscheduled']));
    await run(a);
    await one.runLoop(dependencies);
    expect(new Set(await statesOf(others))).toEqual(new Set(['pending']));
    expect(await findBreaches(one)).toEqual([]);
  });
});

describe('a task that is held', () => {
  const held = async (): Promise<[string, string, string]> => {
    const ids = (await make([[], [0], [1]])) as [string, string, string];
    for (const id of ids) {
      await run(id);
    }
    await one.queue.rerunDownstream({ taskId: ids[0] });
    return ids;
  };

  test('runs when it is rerun by itself', async () => {
    const [a, b, c] = await held();
    await one.queue.rerunTask({ taskId: b });
    expect(await statesOf([b])).toEqual(['pending']);
    await run(b);
    expect(await statesOf([c])).toEqual(['pending']);
    await run(a);
    expect((await statusOf(b)).runs.length).toBe(2);
    expect(await findBreaches(one)).toEqual([]);
  });

  test('that is pending goes back into line when it is rerun by itself, and can be claimed by name', async () => {
    const [a, b, c] = (await make([[], [0], [0]])) as [string, string, string];
    await run(a);
    await run(b, 'worker-shutdown');
    await run(c, 'worker-shutdown');
    await one.queue.rerunDownstream({ taskId: a });
    await one.drain();
    await one.queue.rerunTask({ taskId: b });
    expect(await eventsOf([a, b, c])).toEqual(['task-pending 1 1']);
    expect(await inLine()).toEqual([a, b]);
    await one.queue.claimTask({ taskId: c, runId: '1' }, aWorker());
    expect(await findBreaches(one)).toEqual([]);
    await run(a);
    expect(await statesOf([b, c])).toEqual(['pending', 'running']);
    expect(await findBreaches(one)).toEqual([]);
  });

  test('keeps its outcome when it is cancelled, and the others go on with that', async () => {
    const [a, b, c] = await held();
    const before = await statusOf(b);
    expect((await one.queue.cancelTask({ taskId: b })).status).toEqual(before);
    expect(await statesOf([c])).toEqual(['pending']);
    await run(a);
    expect(await statusOf(b)).toEqual(before);
    expect(await findBreaches(one)).toEqual([]);
  });

  test('keeps its outcome when its group is cancelled', async () => {
    const taskGroupId = one.newId();
    const ids = (await make([[], [0], [1]], () => ({ taskGroupId }))) as [string, string, string];
    for (const id of ids) {
      await run(id);
    }
    await one.queue.rerunDownstream({ taskId: ids[0] });
    await one.queue.sealTaskGroup({ taskGroupId });
    expect(await one.queue.cancelTaskGroup({ taskGroupId })).toMatchObject({ cancelledCount: 1, taskIds: [ids[0]] });
    expect(await statesOf(ids)).toEqual(['exception', 'completed', 'completed']);
    await one.queue.rerunTask({ taskId: ids[0] });
    await run(ids[0]);
    expect((await statusOf(ids[1])).runs.length).toBe(1);
    expect(await findBreaches(one)).toEqual([]);
  });

  test('is given up at its deadline if it is pending, and keeps its outcome if it is resolved', async () => {
    const ids = (await make([[], [0], [0]])) as [string, string, string];
    await run(ids[0]);
    await run(ids[1], 'worker-shutdown');
    await run(ids[2]);
    await one.queue.rerunDownstream({ taskId: ids[0] });
    one.clock.advance({ days: 4, minutes: 2 });
    await one.runLoop(deadlines);
    expect(await statesOf(ids)).toEqual(['exception', 'exception', 'completed']);
    expect(await findBreaches(one)).toEqual([]);
  });

  test('says so when it is asked why', async () => {
    const [, b] = await held();
    expect(await one.queue.explainTask({ taskId: b })).toMatchObject({
      state: 'completed',
      reasons: [
        { reason: 'completed' },
        { reason: 'runs-again-later', message: 'It runs again when the 1 task that it waits for is resolved.' },
      ],
      changes: [{ change: 'rerun' }],
    });
  });
});

describe('is refused', () => {
  test('for an unknown task, and past the deadline', async () => {
    expect(await refusal(one.queue.rerunDownstream({ taskId: one.newId() }))).toMatchObject({ statusCode: 404 });
    const [a] = (await make([[], [0]])) as [string, string];
    one.clock.advance({ days: 5 });
    expect(await refusal(one.queue.rerunDownstream({ taskId: a }))).toMatchObject({ statusCode: 409 });
  });

  test('when tasks downstream are running, which are named; nothing is changed', async () => {
    const ids = await make([[], [0], [0], [1]]);
    const [a, b, c] = ids as [string, string, string];
    await run(a);
    await run(c);
    await one.queue.claimTask({ taskId: b, runId: '0' }, aWorker());
    const before = await one.db`select * from queue.tasks order by task_id`;
    await one.drain();
    const refused = await refusal(one.queue.rerunDownstream({ taskId: a }));
    expect(refused).toMatchObject({ statusCode: 409, code: 'RequestConflict' });
    expect(refused.message).toContain(`1 of the tasks that depend on this one are running: ${b}.`);
    expect(await one.db`select * from queue.tasks order by task_id`).toEqual(before);
    expect(await one.drain()).toEqual([]);
    expect(await findBreaches(one)).toEqual([]);
  });

  test('when a task has as many runs as there can be', async () => {
    const [a, b] = (await make([[], [0]])) as [string, string];
    await run(a);
    await run(b);
    await one.db`update queue.tasks set run_id = 49 where task_id = ${b}`;
    const refused = await refusal(one.queue.rerunDownstream({ taskId: a }));
    expect(refused).toMatchObject({ statusCode: 409 });
    expect(refused.message).toContain(`have 50 runs: ${b}`);
    await one.db`update queue.tasks set run_id = 48 where task_id = ${b}`;
    await one.queue.rerunDownstream({ taskId: a });
    await run(a);
    expect(await one.db`select run_id, retries_left from queue.tasks where task_id = ${b}`).toEqual([{ runId: 49, retriesLeft: 0 }]);
  });

  test('unless the caller may rerun every task', async () => {
    const ids = await make([[], [0], [1]], i => ({ projectId: i === 2 ? 'theirs' : 'mine' }));
    const [a, b, c] = ids as [string, string, string];
    const as = (...scopes: string[]) => one.client(queueApi, { scopes });
    const refused = await refusal(as('queue:rerun-task-in-project:mine').rerunDownstream({ taskId: a }));
    expect(refused).toMatchObject({ statusCode: 403, code: 'InsufficientScopes' });
    expect(refused.message).toContain(`1 of 3 tasks may not be run again by the caller: ${c}.`);
    expect(refused.message).toContain(`The least that would do is \`queue:rerun-task:-/${c}/${c}\``);
    expect(await refusal(as().rerunDownstream({ taskId: a }))).toMatchObject({ statusCode: 403 });
    expect(await refusal(one.client(queueApi, { scopes: null }).rerunDownstream({ taskId: a }))).toMatchObject({ statusCode: 403 });
    expect(await as('queue:rerun-task-in-project:*').rerunDownstream({ taskId: a })).toMatchObject({ waiting: 2 });
    const mixed = ['queue:rerun-task-in-project:theirs', `queue:rerun-task:-/${a}/*`, 'queue:rerun-task', `assume:scheduler-id:-/${b}`];
    expect(await as(...mixed).rerunDownstream({ taskId: a })).toMatchObject({ waiting: 2 });
  });

  test('with more tasks than fit into one call', async () => {
    const root = await one.create();
    const half = MAX_DOWNSTREAM / 2;
    for (const _ of [1, 2]) {
      const tasks = aGraph(
        one,
        Array.from({ length: half }, () => []),
        () => ({ dependencies: [root] }),
      );
      await schedulerOf(one).submitGraph({ taskGroupId: one.newId() }, { tasks });
    }
    expect(await refusal(one.queue.rerunDownstream({ taskId: root }))).toMatchObject({ statusCode: 413, code: 'InputTooLarge' });
  });
});

describe('at the same time as', () => {
  test('the completion of its task: it runs once more, and what is downstream after it', async () => {
    for (let round = 0; round < 30; round++) {
      const [a, b] = (await make([[], [0]])) as [string, string];
      await run(a);
      await run(b);
      await one.queue.rerunTask({ taskId: a });
      await one.queue.claimTask({ taskId: a, runId: '1' }, aWorker());
      await Promise.all([
        late(round % 6).then(() => one.queue.reportCompleted({ taskId: a, runId: '1' })),
        late(Math.floor(round / 6) * 2).then(() => two.queue.rerunDownstream({ taskId: a })),
      ]);
      const status = await statusOf(a);
      // either it was still running, and what is downstream was released by its end, or it runs a third time
      expect([status.state, (await statusOf(b)).state]).toEqual(
        status.runs.length === 2 ? ['completed', 'pending'] : ['pending', 'completed'],
      );
      expect(await findBreaches(one)).toEqual([]);
      await one.queue.cancelTask({ taskId: status.runs.length === 2 ? b : a });
    }
  });

  test('a claim of a task downstream: it is refused, or the task waits', async () => {
    for (let round = 0; round < 30; round++) {
      const [a, b] = (await make([[], [0]], i => ({ taskQueueId: i === 0 ? 'prov/up' : 'prov/down' }))) as [string, string];
      await run(a);
      const [rerun] = await Promise.allSettled([
        late(round % 6).then(() => two.queue.rerunDownstream({ taskId: a })),
        late(Math.floor(round / 6) * 2).then(() =>
          Promise.race([
            one.queue.claimWork({ taskQueueId: 'prov/down' }, { workerGroup: 'g', workerId: `w${round}`, tasks: 1 }),
            late(200),
          ]),
        ),
      ]);
      expect(await statesOf([a, b])).toEqual(rerun.status === 'fulfilled' ? ['pending', 'unscheduled'] : ['completed', 'running']);
      expect(await findBreaches(one)).toEqual([]);
      await one.queue.cancelTask({ taskId: b });
      await one.queue.cancelTask({ taskId: a });
      await one.clock.tick({ seconds: 21 });
    }
  });

  test('the creation of a task downstream: it waits, or was there before and is run again', async () => {
    for (let round = 0; round < 30; round++) {
      const [a] = (await make([[]])) as [string];
      await run(a);
      const b = one.newId();
      await Promise.all([
        late(round % 6).then(() => two.queue.rerunDownstream({ taskId: a })),
        late(Math.floor(round / 6)).then(() => make1(b, a)),
      ]);
      expect(await statesOf([a, b])).toEqual(['pending', 'unscheduled']);
      expect(await findBreaches(one)).toEqual([]);
    }
  });

  const make1 = (taskId: string, required: string): Promise<unknown> =>
    one.queue.createTask(
      { taskId },
      {
        ...(aGraph(one, [[]])[0]?.task as NewDefinition),
        deadline: new Date(one.clock.nowMs() + DAYS).toISOString(),
        dependencies: [required],
      },
    );

  test('itself, for another task of the same graph', async () => {
    for (let round = 0; round < 20; round++) {
      const ids = await make([[], [], [0, 1], [2], [1], [3, 4]]);
      for (const id of ids) {
        await run(id);
      }
      await Promise.all([
        late(round % 4).then(() => one.queue.rerunDownstream({ taskId: ids[0] as string })),
        late(Math.floor(round / 4)).then(() => two.queue.rerunDownstream({ taskId: ids[1] as string })),
      ]);
      expect(await findBreaches(one)).toEqual([]);
      for (const id of ids) {
        expect((await statusOf(id)).state).toBe(id === ids[0] || id === ids[1] ? 'pending' : 'completed');
      }
      await run(ids[0] as string);
      expect((await statusOf(ids[2] as string)).state).toBe('completed');
      for (const id of ids.slice(1)) {
        await run(id);
      }
      expect(await Promise.all(ids.map(async id => (await statusOf(id)).runs.length))).toEqual([2, 2, 2, 2, 2, 2]);
    }
  });
});

test('anything at any time: the tables agree afterwards, and everything can be finished', async () => {
  const seed = Number(process.env['SEED'] ?? 11);
  const { seededRandom } = await import('../../testing/server.ts');
  const random = seededRandom(seed);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random.float() * list.length)] as T;
  const ids = await make(
    Array.from({ length: 40 }, (_, i) => [...new Set(Array.from({ length: Math.min(i, 3) }, () => Math.floor(random.float() * i)))]),
    i => ({ requires: i % 3 === 0 ? 'all-resolved' : 'all-completed', retries: 2 }),
  );
  const errors: string[] = [];
  const act = async (server: QueueServer): Promise<void> => {
    const kind = random.float();
    const taskId = pick(ids);
    if (kind < 0.5) {
      const { tasks } = await Promise.race([
        server.queue.claimWork({ taskQueueId: 'prov/wt' }, { workerGroup: 'wg', workerId: `w${Math.floor(random.float() * 3)}`, tasks: 3 }),
        late(30).then(() => ({ tasks: [] })),
      ]);
      for (const task of tasks) {
        const which = { taskId: task.status.taskId, runId: String(task.runId) };
        await pick([
          () => server.queue.reportCompleted(which),
          () => server.queue.reportCompleted(which),
          () => server.queue.reportFailed(which),
          () => server.queue.reportException(which, { reason: 'worker-shutdown' }),
        ])();
      }
    } else {
      await pick([
        () => server.queue.rerunDownstream({ taskId }),
        () => server.queue.rerunDownstream({ taskId }),
        () => server.queue.rerunTask({ taskId }),
        () => server.queue.cancelTask({ taskId }),
        () => server.queue.scheduleTask({ taskId }),
      ])();
    }
  };
  for (let round = 0; round < 50; round++) {
    const results = await Promise.allSettled(Array.from({ length: 8 }, (_, i) => act(i % 2 === 0 ? one : two)));
    for (const result of results) {
      if (result.status === 'rejected' && (result.reason as { code?: string }).code !== 'RequestConflict') {
        errors.push(String(result.reason));
      }
    }
    if (round % 10 === 9) {
      one.clock.advance({ minutes: 25 });
      await one.runLoop(claimExpiry);
    }
  }
  await one.clock.tick({ seconds: 25 });
  one.clock.advance({ minutes: 25 });
  await one.runLoop(claimExpiry);
  await one.runLoop(dependencies);
  expect(errors, `seed ${seed}`).toEqual([]);
  expect(await findBreaches(one), `seed ${seed}`).toEqual([]);

  // nobody waits for ever: with everything completing, and what failed run again, all is over some time
  for (let round = 0; round < 100; round++) {
    const open = await one.db<{ taskId: string; state: string; held: boolean }>`
      select task_id, state, held from queue.tasks where state <> 'completed' or held order by task_id`;
    if (open.length === 0) {
      break;
    }
    for (const { taskId, state, held } of open) {
      if (state === 'pending' && !held) {
        await run(taskId);
      } else if (state === 'failed' || state === 'exception') {
        await one.queue.rerunTask({ taskId });
      }
    }
  }
  expect(new Set(await statesOf(ids)), `seed ${seed}`).toEqual(new Set(['completed']));
  expect(await findBreaches(one), `seed ${seed}`).toEqual([]);
}, 120_000);
