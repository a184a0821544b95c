/** Two processes on one database, each with its own lane: what may happen at the same time does. */
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { seededRandom } from '../../testing/server.ts';
import { claimExpiry, dependencies } from './loops.ts';
import { type QueueServer, aTask, aWorker, findBreaches, forgetTasks, late, refusal, withTwoQueues } from './testing.ts';

let one: QueueServer;
let two: QueueServer;
beforeAll(async () => {
  [one, two] = await withTwoQueues();
});
beforeEach(() => forgetTasks(one));

/** A running task. */
const running = async (fields: Parameters<QueueServer['create']>[0] = {}): Promise<string> => {
  const taskId = await one.create(fields);
  expect(await one.claim()).toEqual([taskId]);
  return taskId;
};

const stateOf = async (taskId: string): Promise<string> => (await one.queue.status({ taskId })).status.state;

describe('two processes', () => {
  test('a task created while the one it needs completes is released by one of the two', async () => {
    for (let round = 0; round < 40; round++) {
      const required = await running();
      const dependent = one.newId();
      await Promise.all([
        late(round % 5).then(() => one.queue.reportCompleted({ taskId: required, runId: '0' })),
        late(Math.floor(round / 5) % 5).then(() =>
          two.queue.createTask({ taskId: dependent }, aTask(one.clock, { dependencies: [required], taskQueueId: 'prov/other' })),
        ),
      ]);
      expect(await stateOf(dependent)).toBe('pending');
    }
    expect(await findBreaches(one)).toEqual([]);
  });

  test('two parents that finish together release their child once', async () => {
    for (let round = 0; round < 40; round++) {
      const [a, b] = [await running(), await running()];
      const child = await one.create({ dependencies: [a, b], taskQueueId: 'prov/other' });
      await one.drain();
      await Promise.all([
        late(round % 4).then(() => one.queue.reportCompleted({ taskId: a, runId: '0' })),
        late(Math.floor(round / 4) % 4).then(() => two.queue.reportCompleted({ taskId: b, runId: '0' })),
      ]);
      expect((await one.queue.status({ taskId: child })).status).toMatchObject({
        state: 'pending',
        runs: [{ runId: 0, state: 'pending' }],
      });
      const lines = await one.db<{ count: number }>`select count(*) as count from queue.pending where task_id = ${child}`;
      expect(lines[0]?.count).toBe(1);
    }
    expect(await findBreaches(one)).toEqual([]);
  });

  test('a run is claimed by one of many workers', async () => {
    const ids = new Set<string>();
    for (let i = 0; i < 20; i++) {
      ids.add(await one.create());
    }
    const replies = await Promise.all(
      [one, two, one, two].map((server, i) =>
        server.queue.claimWork({ taskQueueId: 'prov/wt' }, { workerGroup: 'wg', workerId: `w${i}`, tasks: 5 }),
      ),
    );
    const claimed = replies.flatMap(reply => reply.tasks.map(task => task.status.taskId));
    expect(claimed.length).toBe(20);
    expect(new Set(claimed)).toEqual(ids);
    expect(await findBreaches(one)).toEqual([]);
  });

  test('a run ends once: report against cancellation', async () => {
    for (let round = 0; round < 30; round++) {
      const taskId = await running();
      const [reported, cancelled] = await Promise.allSettled([
        late(round % 5).then(() => one.queue.reportCompleted({ taskId, runId: '0' })),
        late(Math.floor(round / 5)).then(() => two.queue.cancelTask({ taskId })),
      ]);
      const { status } = await one.queue.status({ taskId });
      expect(cancelled.status).toBe('fulfilled');
      expect(status.runs.length).toBe(1);
      expect([status.state, reported.status]).toEqual(
        status.state === 'completed' ? ['completed', 'fulfilled'] : ['exception', 'rejected'],
      );
    }
    expect(await findBreaches(one)).toEqual([]);
  });

  test('a claim and a cancellation of the same pending run', async () => {
    for (let round = 0; round < 30; round++) {
      const taskId = await one.create();
      const waiting = late(round % 5).then(() => one.queue.claimTask({ taskId, runId: '0' }, aWorker()));
      const [claimed] = await Promise.allSettled([waiting, late(Math.floor(round / 5)).then(() => two.queue.cancelTask({ taskId }))]);
      const { status } = await one.queue.status({ taskId });
      expect(status.state).toBe('exception');
      expect(status.runs[0]?.workerId).toBe(claimed.status === 'fulfilled' ? 'worker-a' : undefined);
    }
    expect(await findBreaches(one)).toEqual([]);
  });

  test('a run that is moved behind another one is not handed out at its former place', async () => {
    for (let round = 0; round < 500; round++) {
      const taskQueueId = `prov/moved-${round}`;
      const moved = await one.create({ taskQueueId, priority: 'low' });
      const other = await one.create({ taskQueueId, priority: 'very-low' });
      const [, { tasks }] = await Promise.all([
        one.queue.changeTaskPriority({ taskId: moved }, { newPriority: 'lowest' }),
        late(round % 12).then(() => one.queue.claimWork({ taskQueueId }, { ...aWorker(), tasks: 1 })),
      ]);
      const claimed = tasks.map(({ status }) => [status.taskId, status.priority]);
      expect([[[moved, 'low']], [[other, 'very-low']]]).toContainEqual(claimed);
    }
    expect(await findBreaches(one)).toEqual([]);
  });

  test('the first tasks of a group, by two schedulers: one of them has it', async () => {
    for (let round = 0; round < 30; round++) {
      const taskGroupId = one.newId();
      const [a, b] = [one.newId(), one.newId()];
      const results = await Promise.allSettled([
        one.queue.createTask({ taskId: a }, aTask(one.clock, { taskGroupId, schedulerId: 's1' })),
        two.queue.createTask({ taskId: b }, aTask(one.clock, { taskGroupId, schedulerId: 's2' })),
      ]);
      expect(results.filter(result => result.status === 'fulfilled').length).toBe(1);
      const { schedulerId } = await one.queue.getTaskGroup({ taskGroupId });
      expect(schedulerId).toBe(results[0].status === 'fulfilled' ? 's1' : 's2');
    }
    expect(await findBreaches(one)).toEqual([]);
  });

  test('nothing enters a group while it is sealed', async () => {
    for (let round = 0; round < 30; round++) {
      const taskGroupId = one.newId();
      await one.create({ taskGroupId });
      const taskId = one.newId();
      const [created] = await Promise.allSettled([
        late(round % 4).then(() => one.queue.createTask({ taskId }, aTask(one.clock, { taskGroupId }))),
        late(Math.floor(round / 4) % 4).then(() => two.queue.sealTaskGroup({ taskGroupId })),
      ]);
      const { tasks } = await one.queue.listTaskGroup({ taskGroupId });
      expect(tasks.length).toBe(created.status === 'fulfilled' ? 2 : 1);
      expect(await refusal(one.queue.createTask({ taskId: one.newId() }, aTask(one.clock, { taskGroupId })))).toMatchObject({
        code: 'RequestConflict',
      });
    }
    expect(await findBreaches(one)).toEqual([]);
  });

  test('the same task created twice at once, the same and different', async () => {
    for (let round = 0; round < 20; round++) {
      const taskId = one.newId();
      const definition = aTask(one.clock);
      const same = await Promise.allSettled([one, two].map(server => server.queue.createTask({ taskId }, definition)));
      expect(same.map(result => result.status)).toEqual(['fulfilled', 'fulfilled']);
      const other = one.newId();
      const different = await Promise.allSettled([
        one.queue.createTask({ taskId: other }, definition),
        two.queue.createTask({ taskId: other }, { ...definition, retries: 1 }),
      ]);
      expect(different.filter(result => result.status === 'fulfilled').length).toBe(1);
    }
    expect(await findBreaches(one)).toEqual([]);
  });
});

test('anything at any time: the tables agree afterwards', async () => {
  const seed = Number(process.env['SEED'] ?? 7);
  const random = seededRandom(seed);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random.float() * list.length)] as T;
  const ids: string[] = [];
  const groups = [one.newId(), one.newId(), one.newId()];
  const act = async (server: QueueServer): Promise<void> => {
    const { queue } = server;
    const kind = random.float();
    if (kind < 0.35 || ids.length === 0) {
      const taskId = one.newId();
      const dependencies = [
        ...new Set(Array.from({ length: Math.floor(random.float() * 4) }, () => (ids.length > 0 ? pick(ids) : taskId))),
      ];
      const requires = random.float() < 0.5 ? 'all-completed' : 'all-resolved';
      const retries = Math.floor(random.float() * 3);
      const deadline = new Date(one.clock.nowMs() + 4 * 86_400_000).toISOString();
      ids.push(taskId);
      await queue.createTask({ taskId }, aTask(one.clock, { dependencies, requires, retries, deadline, taskGroupId: pick(groups) }));
    } else if (kind < 0.6) {
      const { tasks } = await Promise.race([
        queue.claimWork({ taskQueueId: 'prov/wt' }, { workerGroup: 'wg', workerId: `w${Math.floor(random.float() * 4)}`, tasks: 2 }),
        late(30).then(() => ({ tasks: [] })),
      ]);
      for (const task of tasks) {
        const run = { taskId: task.status.taskId, runId: String(task.runId) };
        await pick([
          () => queue.reportCompleted(run),
          () => queue.reportFailed(run),
          () => queue.reportException(run, { reason: pick(['worker-shutdown', 'internal-error', 'intermittent-task']) }),
          () => queue.reclaimTask(run),
        ])();
      }
    } else {
      const taskId = pick(ids);
      await pick([
        () => queue.cancelTask({ taskId }),
        () => queue.rerunTask({ taskId }),
        () => queue.scheduleTask({ taskId }),
        () => queue.changeTaskPriority({ taskId }, { newPriority: pick(['high', 'low', 'lowest']) }),
        () => queue.reportCompleted({ taskId, runId: '0' }),
        () => queue.changeTaskGroupPriority({ taskGroupId: pick(groups) }, { newPriority: pick(['high', 'low', 'lowest']) }),
        () => one.runLoop(claimExpiry),
      ])();
    }
  };
  const errors: string[] = [];
  for (let round = 0; round < 60; round++) {
    const results = await Promise.allSettled(Array.from({ length: 12 }, (_, i) => act(i % 2 === 0 ? one : two)));
    for (const result of results) {
      const code = (result as { reason?: { code?: string } }).reason?.code;
      if (result.status === 'rejected' && code !== 'RequestConflict' && code !== 'InputError' && code !== 'ResourceNotFound') {
        errors.push(String(result.reason));
      }
    }
    if (round % 20 === 19) {
      one.clock.advance({ minutes: 25 }); // what is still claimed runs out
      await one.runLoop(claimExpiry);
    }
  }
  await one.clock.tick({ seconds: 25 }); // long polls end
  await one.runLoop(dependencies);
  expect(errors, `seed ${seed}`).toEqual([]);
  expect(await findBreaches(one), `seed ${seed}`).toEqual([]);
}, 60_000);
