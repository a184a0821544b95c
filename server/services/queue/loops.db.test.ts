/** What happens by itself, and when. */
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { claimExpiry, deadlines, dependencies, expireDependencies, expireGroups, expireTasks } from './loops.ts';
import { MAX_EDGES } from './resolve.db.ts';
import { type QueueServer, aTask, findBreaches, refusal, withQueue } from './testing.ts';

const CLEAN = 'truncate queue.tasks, queue.pending, queue.claims, queue.deps, queue.groups, queue.fanouts, queue.progress';
const iso = (ms: number): string => new Date(ms).toISOString();
const names = (events: readonly { exchange: string }[]): string[] => events.map(event => event.exchange.split('/').at(-1) as string);

describe('loops that run by themselves', () => {
  let server: QueueServer;
  beforeAll(async () => {
    server = await withQueue({ loops: true, environment: { TASK_CLAIM_TIMEOUT: '600' } });
  });

  const stateOf = async (taskId: string): Promise<string> => (await server.queue.status({ taskId })).status.state;
  /** Real time passes while a loop works; the clock of the installation stands still. */
  const until = async (taskId: string, state: string): Promise<void> => {
    while ((await stateOf(taskId)) !== state) {
      await new Promise<void>(resolve => {
        setTimeout(resolve, 5);
      });
    }
  };

  test('a claim that runs out is noticed when it does, not at the next look', async () => {
    const taskId = await server.create();
    await server.clock.tick({ ms: 2_500 }); // so that the loops' own looks fall elsewhere
    expect(await server.claim()).toEqual([taskId]);
    await server.clock.tick({ ms: 599_999 });
    expect(await stateOf(taskId)).toBe('running');
    await server.clock.tick({ ms: 1 });
    await until(taskId, 'pending');
  });

  test('a deadline is noticed a minute after it has passed', async () => {
    const deadlineMs = server.clock.nowMs() + 100_000;
    const taskId = await server.create({ deadline: iso(deadlineMs) });
    await server.clock.tick({ ms: 159_999 });
    expect(await stateOf(taskId)).toBe('pending');
    await server.clock.tick({ ms: 1 });
    await until(taskId, 'exception');
  });

  test('a large fan-out is worked off at once', async () => {
    const parent = await server.create();
    const count = MAX_EDGES + 20;
    const children = await Promise.all(
      Array.from({ length: count }, () => server.create({ dependencies: [parent], taskQueueId: 'prov/many' })),
    );
    for (let claimed: string[] = []; !claimed.includes(parent);) {
      claimed = await server.claim(32);
    }
    await server.queue.reportCompleted({ taskId: parent, runId: '0' });
    for (const child of children) {
      await until(child, 'pending');
    }
    expect(await server.db`select 1 from queue.fanouts`).toEqual([]);
    expect(await findBreaches(server)).toEqual([]);
  });
});

describe('loops called by the test', () => {
  let server: QueueServer;
  beforeAll(async () => {
    server = await withQueue();
  });
  beforeEach(async () => {
    await server.db.run({ text: CLEAN, values: [] });
    await server.drain();
  });

  test('after hours of downtime every deadline and claim is found, in batches', async () => {
    const ids = await Promise.all(Array.from({ length: 25 }, () => server.create({ retries: 0 })));
    const claimed = await server.claim(10);
    server.clock.advance({ minutes: 30 });
    await server.drain();
    const { ctx } = server;
    expect(await claimExpiry.run(ctx, 4)).toBe(4);
    await server.runLoop(claimExpiry);
    expect(names(await server.drain()).filter(name => name === 'task-exception').length).toBe(10);
    server.clock.advance({ hours: 9 });
    await deadlines.run(ctx, 4); // pages of four
    const events = await server.drain();
    expect(names(events).filter(name => name === 'task-exception').length).toBe(15);
    const statuses = await Promise.all(ids.map(async taskId => (await server.queue.status({ taskId })).status));
    expect(statuses.map(status => status.runs[0]?.reasonResolved)).toEqual(
      ids.map(id => (claimed.includes(id) ? 'claim-expired' : 'deadline-exceeded')),
    );
    expect(await deadlines.run(ctx, 4)).toBe(0);
    expect(await findBreaches(server)).toEqual([]);
  });

  test('another process continues where deadlines were followed', async () => {
    const first = await server.create({ deadline: iso(server.clock.nowMs() + 60_000) });
    server.clock.advance({ hours: 1 });
    await server.runLoop(deadlines);
    const second = await withQueue({ db: server.db, clock: server.clock });
    const late = await server.create({ deadline: iso(server.clock.nowMs() + 60_000) });
    server.clock.advance({ hours: 1 });
    await second.runLoop(deadlines);
    const states = await Promise.all([first, late].map(async taskId => (await server.queue.status({ taskId })).status.state));
    expect(states).toEqual(['exception', 'exception']);
    await second.close();
  });

  test('a claim that was prolonged is left alone when its first end comes', async () => {
    const taskId = await server.create();
    await server.claim();
    server.clock.advance({ minutes: 19 });
    await server.queue.reclaimTask({ taskId, runId: '0' });
    server.clock.advance({ minutes: 10 });
    await server.runLoop(claimExpiry);
    expect((await server.queue.status({ taskId })).status.state).toBe('running');
    server.clock.advance({ minutes: 10 });
    await server.runLoop(claimExpiry);
    expect((await server.queue.status({ taskId })).status).toMatchObject({
      state: 'pending',
      runs: [
        { state: 'exception', reasonResolved: 'claim-expired' },
        { state: 'pending', reasonCreated: 'retry' },
      ],
    });
  });

  test('a large fan-out counts every edge once, and those of all-completed only after success', async () => {
    const parent = await server.create();
    const count = MAX_EDGES + 1;
    const half = Math.floor(count / 2);
    await Promise.all(
      Array.from({ length: count }, (_, i) =>
        server.create({ dependencies: [parent], requires: i < half ? 'all-resolved' : 'all-completed', taskQueueId: 'prov/many' }),
      ),
    );
    expect(await server.claim(1)).toEqual([parent]);
    await server.queue.reportFailed({ taskId: parent, runId: '0' });
    await server.runLoop(dependencies);
    const pending = async (): Promise<number> => (await server.queue.pendingTasks({ taskQueueId: 'prov/many' })).pendingTasks;
    expect(await pending()).toBe(half);
    await server.queue.rerunTask({ taskId: parent });
    await server.claim(1);
    await server.queue.reportCompleted({ taskId: parent, runId: '1' });
    await server.runLoop(dependencies);
    expect(await pending()).toBe(count);
    expect(await findBreaches(server)).toEqual([]);
  });

  test('what has expired is forgotten half an hour later: tasks, their edges, then groups', async () => {
    const nowMs = server.clock.nowMs();
    const taskGroupId = server.newId();
    const parent = await server.create({ taskGroupId, expires: iso(nowMs + 3 * 3_600_000) });
    const child = await server.create({ taskGroupId, dependencies: [parent], expires: iso(nowMs + 2 * 3_600_000) });
    server.clock.advance({ hours: 2, minutes: 29 });
    await server.runLoop(expireTasks);
    expect((await server.queue.listDependentTasks({ taskId: parent })).tasks).toEqual([]); // past their expiry they are not shown
    expect((await server.queue.task({ taskId: child })).dependencies).toEqual([parent]);
    server.clock.advance({ minutes: 2 });
    await server.runLoop(expireTasks);
    await server.runLoop(expireDependencies);
    await server.runLoop(expireGroups);
    expect(await refusal(server.queue.task({ taskId: child }))).toMatchObject({ statusCode: 404, code: 'ResourceNotFound' });
    expect((await server.queue.task({ taskId: parent })).dependencies).toEqual([]);
    expect(await server.db`select 1 from queue.deps`).toEqual([]);
    expect((await server.queue.getTaskGroup({ taskGroupId })).expires).toBe(iso(nowMs + 4 * 3_600_000));
    server.clock.advance({ hours: 2 });
    await server.runLoop(expireTasks);
    await server.runLoop(expireGroups);
    expect(await refusal(server.queue.getTaskGroup({ taskGroupId }))).toMatchObject({ code: 'ResourceNotFound' });
    expect(await server.db`select 1 from queue.tasks`).toEqual([]);
  });

  test('lists go on from a key while tasks come and go', async () => {
    const taskGroupId = server.newId();
    const create = (count: number) => Promise.all(Array.from({ length: count }, () => server.create({ taskGroupId })));
    const stable = await create(25);
    const seen: string[] = [];
    for (let continuationToken: string | undefined; ;) {
      const page = await server.queue.listTaskGroup({ taskGroupId }, { limit: '4', continuationToken });
      seen.push(...page.tasks.map(task => task.status.taskId));
      await create(3);
      const [removed] = page.tasks;
      if (removed) {
        await server.db`delete from queue.tasks where task_id = ${removed.status.taskId}`;
      }
      continuationToken = page.continuationToken;
      if (continuationToken === undefined || seen.length > 200) {
        break;
      }
    }
    expect(new Set(seen).size).toBe(seen.length);
    expect(stable.filter(taskId => !seen.includes(taskId))).toEqual([]);
  });

  test('pending tasks are listed by age, claimed ones by their last claim; both in pages', async () => {
    const ids = [];
    for (const priority of ['low', 'high', 'lowest', 'high'] as const) {
      ids.push(await server.create({ priority }));
      server.clock.advance({ seconds: 1 });
    }
    const pages: string[][] = [];
    for (let continuationToken: string | undefined; pages.length < 10;) {
      const page = await server.queue.listPendingTasks({ taskQueueId: 'prov/wt' }, { limit: '2', continuationToken });
      pages.push(page.tasks.map(task => task.taskId));
      continuationToken = page.continuationToken;
      if (continuationToken === undefined) {
        break;
      }
    }
    expect(pages).toEqual([ids.slice(0, 2), ids.slice(2)]);
    expect(await server.claim(4)).toEqual([ids[1], ids[3], ids[0], ids[2]]);
    server.clock.advance({ seconds: 1 });
    await server.queue.reclaimTask({ taskId: ids[1] as string, runId: '0' });
    const first = await server.queue.listClaimedTasks({ taskQueueId: 'prov/wt' }, { limit: '3' });
    const second = await server.queue.listClaimedTasks(
      { taskQueueId: 'prov/wt' },
      { limit: '3', continuationToken: first.continuationToken },
    );
    const listed = [...first.tasks, ...second.tasks].map(task => task.taskId);
    expect(new Set(listed.slice(0, 3))).toEqual(new Set([ids[0], ids[2], ids[3]])); // claimed at the same moment
    expect(listed[3]).toBe(ids[1]);
    expect(second.continuationToken).toBeUndefined();
  });

  test('a whole group moves to another priority, and is cancelled, in chunks', async () => {
    const taskGroupId = server.newId();
    const definition = aTask(server.clock, { taskGroupId });
    await Promise.all(Array.from({ length: 1_100 }, () => server.queue.createTask({ taskId: server.newId() }, definition)));
    const moved = await server.queue.changeTaskGroupPriority({ taskGroupId }, { newPriority: 'high' });
    expect([moved.tasksAffected, new Set(moved.taskIds).size]).toEqual([1_100, 1_100]);
    await server.queue.sealTaskGroup({ taskGroupId });
    const cancelled = await server.queue.cancelTaskGroup({ taskGroupId });
    expect([cancelled.taskGroupSize, cancelled.cancelledCount, new Set(cancelled.taskIds).size]).toEqual([1_100, 1_100, 1_100]);
    const sent = names(await server.drain());
    expect(sent.filter(name => name === 'task-exception').length).toBe(1_100);
    expect(sent.filter(name => name === 'task-group-resolved').length).toBe(1);
    expect(sent.filter(name => name === 'task-group-priority-changed').length).toBe(1);
    expect(await findBreaches(server)).toEqual([]);
  });
});

test('gauges count what waits and what is held, by queue', async () => {
  const server = await withQueue();
  await Promise.all([server.create(), server.create(), server.create({ taskQueueId: 'prov/other' })]);
  await server.claim();
  await server.ctx.seen.flush();
  const text = await server.platform.metrics.registry.metrics();
  const lines = text.split('\n').filter(line => /^queue_\w+\{/.test(line) && !line.includes('prov/other'));
  const queue = 'provisionerId="prov",workerType="wt"';
  expect(lines.toSorted((a, b) => (a < b ? -1 : 1))).toEqual([
    `queue_claimed_tasks{${queue}} 1`,
    `queue_idle_workers{${queue}} 0`,
    `queue_pending_tasks{${queue}} 1`,
    `queue_quarantined_workers{${queue}} 0`,
    `queue_running_workers{${queue}} 1`,
    `queue_workers_total{${queue}} 1`,
  ]);
});

test('ten thousand dependencies, and a crowd of tasks with a hundred each', async () => {
  const server = await withQueue();
  const required: string[] = [];
  for (let i = 0; i < 50; i++) {
    required.push(...(await Promise.all(Array.from({ length: 200 }, () => server.create({ taskQueueId: 'prov/many' })))));
  }
  const wide = await server.create({ dependencies: required });
  const crowd = await Promise.all(
    Array.from({ length: 40 }, (_, i) => server.create({ dependencies: required.slice(i * 100, i * 100 + 100) })),
  );
  const states = await Promise.all([wide, ...crowd].map(async taskId => (await server.queue.status({ taskId })).status.state));
  expect(new Set(states)).toEqual(new Set(['unscheduled']));
  expect(await server.db`select unmet, count(*) as tasks from queue.tasks where unmet > 0 group by unmet order by unmet`).toEqual([
    { unmet: 100, tasks: 40 },
    { unmet: 10_000, tasks: 1 },
  ]);
  expect(await findBreaches(server)).toEqual([]);
});
