/** Exactly at a deadline, an expiry, the limit of a date: on which side each is. */
import { queueApi } from '@tscluster/api/queue/api.ts';
import { beforeAll, describe, expect, test } from 'vitest';
import { deadlines, expireGroups, expireTasks } from './loops.ts';
import { type QueueServer, aTask, aWorker, claimNow, refusal, withQueue } from './testing.ts';

const MINUTE = 60_000;
const DAY = 86_400_000;
const iso = (ms: number): string => new Date(ms).toISOString();

let server: QueueServer;
beforeAll(async () => {
  server = await withQueue();
});
const now = (): number => server.clock.nowMs();
const outcome = (call: Promise<unknown>) =>
  call.then(
    () => 'done',
    (error: { statusCode: number; code: string }) => `${error.statusCode} ${error.code}`,
  );
const CONFLICT = '409 RequestConflict';
const INPUT = '400 InputError';

describe('the dates of a definition', () => {
  const create = (fields: object) => outcome(server.queue.createTask({ taskId: server.newId() }, { ...aTask(server.clock), ...fields }));

  test('created lies within fifteen minutes, both ends included', async () => {
    const later = iso(now() + 3_600_000);
    for (const sign of [-1, 1]) {
      expect(await create({ created: iso(now() + sign * 15 * MINUTE), deadline: later })).toBe('done');
      expect(await create({ created: iso(now() + sign * (15 * MINUTE + 1)), deadline: later })).toBe(INPUT);
    }
  });

  test('the deadline lies from now to five days and fifteen minutes ahead, not before created', async () => {
    expect(await create({ deadline: iso(now()) })).toBe('done');
    expect(await create({ created: iso(now() - 2), deadline: iso(now() - 1) })).toBe(INPUT);
    expect(await create({ deadline: iso(now() + 5 * DAY + 15 * MINUTE) })).toBe('done');
    expect(await create({ deadline: iso(now() + 5 * DAY + 15 * MINUTE + 1) })).toBe(INPUT);
    expect(await create({ created: iso(now() + MINUTE), deadline: iso(now() + MINUTE) })).toBe('done');
    expect(await create({ created: iso(now() + MINUTE), deadline: iso(now() + MINUTE - 1) })).toBe(INPUT);
  });

  test('expires is not before the deadline', async () => {
    const deadline = now() + MINUTE;
    expect(await create({ deadline: iso(deadline), expires: iso(deadline) })).toBe('done');
    expect(await create({ deadline: iso(deadline), expires: iso(deadline - 1) })).toBe(INPUT);
  });

  test('a dependency may expire at the deadline, not before', async () => {
    const expires = now() + 2 * MINUTE;
    const required = await server.create({ deadline: iso(now() + MINUTE), expires: iso(expires) });
    expect(await create({ dependencies: [required], deadline: iso(expires) })).toBe('done');
    expect(await create({ dependencies: [required], deadline: iso(expires + 1) })).toBe(INPUT);
  });

  test('are checked after the scopes and before the form of scopes and the group', async () => {
    const { taskGroupId, ...bad } = {
      taskGroupId: await server.create({ schedulerId: 's1' }),
      scopes: ['a:**'],
      created: iso(now() - 16 * MINUTE),
    };
    const put = (fields: object, scopes = ['*']) =>
      refusal(server.client(queueApi, { scopes }).createTask({ taskId: server.newId() }, { ...aTask(server.clock), ...fields }));
    expect(await put({ ...bad, taskGroupId, schedulerId: 's2' }, [])).toMatchObject({ code: 'InsufficientScopes' });
    expect(await put({ ...bad, taskGroupId, schedulerId: 's2' })).toMatchObject({
      code: 'InputError',
      message: expect.stringContaining('created') as string,
    });
    expect(await put({ scopes: bad.scopes, taskGroupId, schedulerId: 's2' })).toMatchObject({
      code: 'InputError',
      message: expect.stringContaining('`a:**`') as string,
    });
    expect(await put({ taskGroupId, schedulerId: 's2' })).toMatchObject({ code: 'RequestConflict' });
  });
});

describe('at its deadline', () => {
  test.each([
    ['scheduled', 'done', CONFLICT, (taskId: string) => server.queue.scheduleTask({ taskId })],
    ['rerun', 'done', CONFLICT, (taskId: string) => server.queue.rerunTask({ taskId })],
    ['cancelled', 'done', CONFLICT, (taskId: string) => server.queue.cancelTask({ taskId })],
    ['moved', CONFLICT, CONFLICT, (taskId: string) => server.queue.changeTaskPriority({ taskId }, { newPriority: 'high' })],
    ['claimed by its name', CONFLICT, CONFLICT, (taskId: string) => server.queue.claimTask({ taskId, runId: '0' }, aWorker())],
  ] as const)('a task is %s: %s, and a moment later: %s', async (_verb, atDeadline, after, call) => {
    const deadline = iso(now() + MINUTE);
    const [first, second] = [
      await server.create({ deadline, taskQueueId: 'prov/at' }),
      await server.create({ deadline, taskQueueId: 'prov/at' }),
    ];
    server.clock.advance({ minutes: 1 });
    expect(await outcome(call(first))).toBe(atDeadline);
    server.clock.advance({ ms: 1 });
    expect(await outcome(call(second))).toBe(after);
  });

  test('a task is not handed out, its claim not renewed; it may be reported until it is given up', async () => {
    const deadline = iso(now() + MINUTE);
    const fields = { deadline, taskQueueId: 'prov/held' };
    const held = await server.create(fields);
    expect(await server.claim(1, 'prov/held')).toEqual([held]);
    const waiting = await server.create(fields);
    server.clock.advance({ ms: Date.parse(deadline) - now() - 1 });
    expect(await outcome(server.queue.reclaimTask({ taskId: held, runId: '0' }))).toBe('done');
    server.clock.advance({ ms: 1 });
    expect(await outcome(server.queue.reclaimTask({ taskId: held, runId: '0' }))).toBe(CONFLICT);
    const body = { ...aWorker(), tasks: 1 };
    expect((await claimNow(server.ctx, server.clock, server.queue, 'prov/held', body)).tasks).toEqual([]);
    expect(await server.queue.taskQueueCounts({ taskQueueId: 'prov/held' })).toMatchObject({ pendingTasks: 0, claimedTasks: 1 });
    expect((await server.queue.listPendingTasks({ taskQueueId: 'prov/held' })).tasks).toEqual([]);
    expect(await outcome(server.queue.reportCompleted({ taskId: held, runId: '0' }))).toBe('done');
    expect((await server.queue.status({ taskId: waiting })).status.state).toBe('pending');
  });

  test('a group takes priorities and cancellations for those of its tasks whose deadline is ahead', async () => {
    const deadline = now() + MINUTE;
    const taskGroupId = server.newId();
    const make = (ms: number) => server.create({ taskGroupId, deadline: iso(ms), dependencies: [], taskQueueId: 'prov/group' });
    const [at, ahead] = [await make(deadline), await make(deadline + 1)];
    await server.queue.sealTaskGroup({ taskGroupId });
    server.clock.advance({ minutes: 1 });
    expect((await server.queue.changeTaskGroupPriority({ taskGroupId }, { newPriority: 'high' })).taskIds).toEqual([ahead]);
    expect(await server.queue.cancelTaskGroup({ taskGroupId })).toEqual({
      taskGroupId,
      taskGroupSize: 2,
      cancelledCount: 2,
      taskIds: [at, ahead].toSorted((a, b) => a.localeCompare(b, 'en', { ignorePunctuation: true })),
    });
  });

  test('a task of a group that is forgotten already is given up like any other', async () => {
    const fields = { deadline: iso(now() + MINUTE), expires: iso(now() + 5 * MINUTE), taskQueueId: 'prov/late' };
    const [late, waits] = [server.newId(), server.newId()];
    await server.create(fields, late);
    await server.create({ ...fields, dependencies: [late], requires: 'all-resolved', deadline: iso(now() + 4 * MINUTE) }, waits);
    await server.db`update queue.groups set expires = ${new Date(now() - DAY)}`;
    await server.runLoop(expireGroups);
    expect(await server.db`select 1 from queue.groups where task_group_id = ${late}`).toEqual([]);
    server.clock.advance({ minutes: 2 });
    await server.runLoop(deadlines);
    expect((await server.queue.status({ taskId: late })).status.state).toBe('exception');
    expect((await server.queue.status({ taskId: waits })).status.state).toBe('pending');
    server.clock.advance({ minutes: 40 });
    await server.runLoop(deadlines);
    await server.runLoop(expireTasks);
    expect(await outcome(server.queue.status({ taskId: waits }))).toBe('404 ResourceNotFound');
  });
});

describe('a claim', () => {
  test('is renewed twice in the same millisecond', async () => {
    const taskId = await server.create({ taskQueueId: 'prov/twice' });
    await server.claim(1, 'prov/twice');
    const renew = () => server.queue.reclaimTask({ taskId, runId: '0' });
    const answers = await Promise.all([renew(), renew(), renew()]);
    expect(new Set(answers.map(({ takenUntil }) => takenUntil))).toEqual(new Set([iso(now() + 1_200_000)]));
    await renew();
    expect(await server.queue.taskQueueCounts({ taskQueueId: 'prov/twice' })).toMatchObject({ pendingTasks: 0, claimedTasks: 1 });
    await server.queue.reportCompleted({ taskId, runId: '0' });
    expect(await server.db`select 1 from queue.claims where task_id = ${taskId}`).toEqual([]);
  });

  test('leaves no record when a later run ends for good', async () => {
    const taskId = await server.create({ taskQueueId: 'prov/later', retries: 3 });
    for (const [runId, reason] of [
      ['0', 'worker-shutdown'],
      ['1', 'malformed-payload'],
    ] as const) {
      await server.claim(1, 'prov/later');
      await server.queue.reportException({ taskId, runId }, { reason });
    }
    expect(await server.db`select run_id from queue.claims where task_id = ${taskId} and run_id = 1`).toEqual([]);
  });

  test('has credentials that end with it, and begin with the run’s own scopes', async () => {
    await server.create({ taskQueueId: 'prov/cred', scopes: ['b', 'a:*', 'b'] });
    const { tasks } = await claimNow(server.ctx, server.clock, server.queue, 'prov/cred', { ...aWorker(), tasks: 1 });
    const [claim] = tasks;
    const { credentials, takenUntil, status, runId } = claim ?? expect.unreachable();
    const certificate = JSON.parse(credentials.certificate) as { scopes: string[]; start: number; expiry: number };
    expect(takenUntil).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    expect(certificate.expiry).toBe(Date.parse(takenUntil));
    expect(certificate.start).toBe(now());
    const of = `${status.taskId}/${runId}`;
    expect(certificate.scopes).toEqual([
      `queue:reclaim-task:${of}`,
      `queue:resolve-task:${of}`,
      `queue:create-artifact:${of}`,
      'b',
      'a:*',
      'b',
    ]);
    expect(credentials.clientId).toBe(`task-client/${of}/on/wg1/worker-a/until/${Date.parse(takenUntil) / 1000}`);
    const announced = (await server.drain()).filter(({ exchange }) => exchange.endsWith('/task-running')).at(-1);
    expect(announced?.payload).toMatchObject({ takenUntil });
  });
});
