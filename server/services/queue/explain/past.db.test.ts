/** Why a task was in its state at a past moment, and what is remembered for that. */
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { seededRandom } from '../../../testing/server.ts';
import { claimExpiry, deadlines, expireHistory } from '../loops.ts';
import { type QueueServer, TASK_QUEUE, aWorker, refusal, withQueue } from '../testing.ts';

const iso = (ms: number): string => new Date(ms).toISOString();
const WORKER = { provisionerId: 'prov', workerType: 'wt', ...aWorker() };

let server: QueueServer;
const explainAt = (taskId: string, atMs: number) => server.queue.explainTask({ taskId }, { at: iso(atMs) });

describe('a past moment', () => {
  beforeAll(async () => {
    server = await withQueue({ environment: { TASK_CLAIM_TIMEOUT: '600' } });
  });

  /** Whatever happens to a task, each moment is told afterwards as it was then. */
  test.each([1, 2, 3, 4, 5, 6])('is told as it was: story %i', async seed => {
    const { queue, clock } = server;
    const random = seededRandom(seed);
    const pick = <T>(of: readonly T[]): T => of[Math.floor(random.float() * of.length)] as T;
    const build = await server.create({ retries: 2, taskQueueId: `prov/story-${seed}` });
    const taskQueueId = `prov/other-${seed}`;
    const taskId = await server.create({ retries: 2, dependencies: [build], priority: 'low', taskQueueId });
    const ids = [build, taskId] as const;
    const seen: { atMs: number; is: object }[] = [];
    const look = async (): Promise<void> => {
      for (const id of ids) {
        const { status } = await queue.status({ taskId: id });
        const { state, retriesLeft, runs, priority } = status;
        const unmet = id === taskId ? (await queue.explainTask({ taskId })).waitsFor?.blockers.map(b => [b.taskId, b.state]) : undefined;
        seen.push({ atMs: clock.nowMs(), is: { id, state, retriesLeft, runs: runs.length, priority, unmet } });
      }
    };
    const isRunning = async (id: string): Promise<string | undefined> => {
      const { status } = await queue.status({ taskId: id });
      return status.state === 'running' ? String(status.runs.length - 1) : undefined;
    };
    const step = async (): Promise<void> => {
      const id = pick(ids);
      const runId = await isRunning(id);
      switch (pick(['claim', 'claim', 'report', 'report', 'exception', 'expire', 'cancel', 'rerun', 'schedule', 'priority'])) {
        case 'claim': {
          const { status } = await queue.status({ taskId: id });
          if (status.state === 'pending') {
            await server.claim(1, status.taskQueueId);
          }
          return;
        }
        case 'report':
          if (runId !== undefined) {
            await (random.float() < 0.5 ? queue.reportFailed({ taskId: id, runId }) : queue.reportCompleted({ taskId: id, runId }));
          }
          return;
        case 'exception':
          if (runId !== undefined) {
            await queue.reportException(
              { taskId: id, runId },
              { reason: pick(['worker-shutdown', 'intermittent-task', 'internal-error']) },
            );
          }
          return;
        case 'expire':
          await clock.tick({ minutes: 10 });
          await server.runLoop(claimExpiry);
          return;
        case 'cancel':
          await queue.cancelTask({ taskId: id });
          return;
        case 'rerun':
          await queue.rerunTask({ taskId: id });
          return;
        case 'schedule':
          await queue.scheduleTask({ taskId: id });
          return;
        default:
          await refusal(queue.changeTaskPriority({ taskId: id }, { newPriority: pick(['low', 'high', 'highest']) })).catch(() => undefined);
      }
    };
    await look();
    // within the hour before the deadline
    for (let i = 0; i < 24 && clock.nowMs() < (seen[0]?.atMs ?? 0) + 2_700_000; i++) {
      await clock.tick({ seconds: 30 });
      await step();
      await look();
    }
    await clock.tick({ minutes: 1 });
    for (const { atMs, is } of seen) {
      const { id } = is as { id: string };
      const told = await explainAt(id, atMs);
      const { state, task, waitsFor } = told;
      const { retriesLeft, runs, priority } = task;
      const unmet = id === taskId ? waitsFor?.blockers.map(b => [b.taskId, b.state]) : undefined;
      expect({ seed, at: iso(atMs), id, state, retriesLeft, runs, priority, unmet }).toEqual({ seed, at: iso(atMs), ...is });
      expect(told).toMatchObject({ isPast: true, actions: [] });
    }
  });

  test('says what it was waiting for then, and what is not known any more', async () => {
    const { queue, clock } = server;
    const build = await server.create({ taskQueueId: 'prov/then' });
    const taskId = await server.create({ dependencies: [build], taskQueueId: 'prov/then' });
    const startMs = clock.nowMs();
    await clock.tick({ minutes: 5 });
    await server.claim(1, 'prov/then');
    await clock.tick({ minutes: 5 });
    await queue.reportCompleted({ taskId: build, runId: '0' });
    await clock.tick({ minutes: 5 });

    expect(await explainAt(taskId, startMs + 240_000)).toMatchObject({
      at: iso(startMs + 240_000),
      summary: `Unscheduled for 4 minutes: it waits for \`n\` (${build}), which has been pending for 4 minutes in prov/then, where no worker is known to have asked for work in 30 days.`,
      taskQueues: [{ polls: { isPolled: false }, quarantined: 0 }],
    });
    expect(await explainAt(taskId, startMs + 420_000)).toMatchObject({
      summary: `Unscheduled for 7 minutes: it waits for \`n\` (${build}), which has been running for 2 minutes on wg1/worker-a.`,
    });
    expect(await explainAt(build, startMs + 360_000)).toMatchObject({
      summary: 'Running for 60 seconds on wg1/worker-a (run 0).',
      unknown: ['Until when the claim lasted at that moment.'],
    });
    expect((await explainAt(build, startMs + 360_000)).run).toEqual({
      runId: 0,
      workerGroup: 'wg1',
      workerId: 'worker-a',
      scheduled: iso(startMs),
      started: iso(startMs + 300_000),
    });
    const later = await explainAt(taskId, startMs + 720_000);
    expect(later).toMatchObject({ state: 'pending', unknown: ['The place in line.', 'How many workers were known, and what they held.'] });
    expect(later.line).toBeUndefined();
    expect(later.taskQueues[0]?.workers).toBeUndefined();
    expect(later.taskQueues).toMatchObject([{ polls: { isPolled: false, lastPolled: iso(startMs + 300_000) } }]);
    expect(await explainAt(taskId, startMs + 310_000)).toMatchObject({ state: 'unscheduled' });
  });

  test('of which the cause is gone says so', async () => {
    const { clock, db } = server;
    const build = await server.create({ taskQueueId: 'prov/gone' });
    const taskId = await server.create({ dependencies: [build], taskQueueId: 'prov/gone' });
    const startMs = clock.nowMs();
    await clock.tick({ minutes: 1 });
    await server.claim(1, 'prov/gone');
    await server.queue.reportCompleted({ taskId: build, runId: '0' });
    await db`delete from queue.tasks where task_id = ${build}`;
    expect(await explainAt(taskId, startMs)).toMatchObject({
      state: 'unscheduled',
      unknown: ['Whether 1 task that is gone now kept it waiting.'],
    });
  });

  test('remembers quarantines after their workers are forgotten', async () => {
    const { queue, clock, db } = server;
    await server.claim(1);
    const taskId = await server.create({ deadline: iso(clock.nowMs() + 86_400_000) });
    const times: number[] = [];
    for (const days of [2, -1, 1]) {
      await clock.tick({ minutes: 10 });
      await queue.quarantineWorker(WORKER, { quarantineUntil: iso(clock.nowMs() + days * 86_400_000) });
      times.push(clock.nowMs());
    }
    await clock.tick({ minutes: 10 });
    await db`delete from queue.workers`;
    const quarantinedAt = async (ms: number) => (await explainAt(taskId, ms)).taskQueues[0]?.quarantined;
    const [first, second, third] = times as [number, number, number];
    expect([await quarantinedAt(first - 1), await quarantinedAt(first), await quarantinedAt(second), await quarantinedAt(third)]).toEqual([
      0, 1, 0, 1,
    ]);
  });

  test('has bounds', async () => {
    const { clock } = server;
    const createdMs = clock.nowMs();
    const taskId = await server.create({ deadline: iso(createdMs + 4 * 86_400_000), retries: 0 });
    await clock.tick({ seconds: 1 });
    const at = (text: string) => refusal(server.queue.explainTask({ taskId }, { at: text }));
    await expect(explainAt(taskId, createdMs)).resolves.toMatchObject({ state: 'pending' });
    expect(await at(iso(createdMs - 1))).toMatchObject({
      statusCode: 400,
      code: 'InputError',
      message: expect.stringContaining('There was no such task at') as string,
    });
    expect(await at(iso(clock.nowMs() + 1))).toMatchObject({
      statusCode: 400,
      message: expect.stringContaining('is in the future') as string,
    });
    await expect(explainAt(taskId, clock.nowMs())).resolves.toMatchObject({ isPast: true });
    for (const text of ['yesterday', '2026-02-30T00:00:00Z', '2026-01-01', '2026-01-01T25:00:00Z', '', '1e999']) {
      expect(await at(text)).toMatchObject({ statusCode: 400 });
    }
    const zoned = new Date(createdMs + 3_600_000).toISOString().replace('Z', '+01:00');
    await expect(server.queue.explainTask({ taskId }, { at: zoned })).resolves.toMatchObject({ at: iso(createdMs) });
    clock.advance({ days: 5 });
    await server.runLoop(deadlines);
    clock.advance({ days: 25 });
    expect(await at(iso(createdMs))).toMatchObject({
      statusCode: 400,
      code: 'InputError',
      message: expect.stringContaining('is too long ago: what explains past moments is kept for 30 days') as string,
    });
    await expect(explainAt(taskId, createdMs + 1_000)).resolves.toMatchObject({ state: 'pending' });
  });
});

describe('what is remembered', () => {
  beforeEach(async () => {
    server = await withQueue({ environment: { QUEUE_HISTORY_DAYS: '2' } });
  });
  const counts = async () => {
    const [row] = await server.db<{ changes: number; quarantines: number; polls: number }>`
      select (select count(*) from queue.task_changes) as changes, (select count(*) from queue.quarantines) as quarantines, (select count(*) from queue.polls) as polls`;
    return row;
  };

  test('costs the hot path nothing', async () => {
    const { queue } = server;
    const build = await server.create();
    await server.create({ dependencies: [build] });
    await server.claim();
    await queue.reclaimTask({ taskId: build, runId: '0' });
    await queue.reportCompleted({ taskId: build, runId: '0' });
    expect(await counts()).toEqual({ changes: 0, quarantines: 0, polls: 0 });
  });

  test('is written with the change, and not when it is refused or changes nothing', async () => {
    const { queue, db } = server;
    const build = await server.create();
    const taskId = await server.create({ dependencies: [build], priority: 'low' });
    await queue.changeTaskPriority({ taskId }, { newPriority: 'high' });
    await refusal(queue.changeTaskPriority({ taskId }, { newPriority: 'high' }));
    await queue.changeTaskGroupPriority({ taskGroupId: taskId }, { newPriority: 'medium' });
    await queue.changeTaskGroupPriority({ taskGroupId: taskId }, { newPriority: 'medium' });
    await queue.scheduleTask({ taskId });
    await queue.scheduleTask({ taskId });
    await queue.rerunTask({ taskId });
    await queue.cancelTask({ taskId });
    await queue.cancelTask({ taskId });
    await queue.rerunTask({ taskId });
    await server.clock.tick({ hours: 2 });
    await refusal(queue.rerunTask({ taskId }));
    const rows = await db`select kind, of_group, old_priority, new_priority from queue.task_changes where task_id = ${taskId} order by seq`;
    expect(rows).toEqual([
      { kind: 'priority', ofGroup: false, oldPriority: 5, newPriority: 3 },
      { kind: 'priority', ofGroup: true, oldPriority: 3, newPriority: 4 },
      { kind: 'schedule', ofGroup: false, oldPriority: null, newPriority: null },
      { kind: 'cancel', ofGroup: false, oldPriority: null, newPriority: null },
      { kind: 'rerun', ofGroup: false, oldPriority: null, newPriority: null },
    ]);
    expect((await queue.explainTask({ taskId })).changes.map(({ message }) => message.replace(/ by caller.*/, ''))).toEqual([
      '2 hours before, the task was run again',
      '2 hours before, the task was cancelled',
      '2 hours before, the task was scheduled',
      '2 hours before, with its group it was moved from priority high to medium',
      '2 hours before, the task was moved from priority low to high',
    ]);
    await refusal(queue.quarantineWorker(WORKER, { quarantineUntil: iso(server.clock.nowMs()) }));
    expect(await counts()).toMatchObject({ quarantines: 0 });
  });

  test('are stretches of asking, written once a minute', async () => {
    const { clock, ctx, db } = server;
    const startMs = clock.nowMs();
    const poll = (): void => ctx.polls.polled(TASK_QUEUE);
    const stretches = async () =>
      (await db<{ began: Date; ended: Date }>`select began, ended from queue.polls order by began`).map(({ began, ended }) => [
        (began.getTime() - startMs) / 1000,
        (ended.getTime() - startMs) / 1000,
      ]);
    poll();
    await clock.tick({ seconds: 20 });
    poll();
    expect(await stretches()).toEqual([]);
    await clock.tick({ seconds: 40 });
    await ctx.polls.flush();
    expect(await stretches()).toEqual([[0, 20]]);
    await clock.tick({ seconds: 100 });
    poll();
    await ctx.polls.flush();
    expect(await stretches()).toEqual([[0, 160]]);
    const other = await withQueue({ db, clock });
    await clock.tick({ seconds: 60 });
    other.ctx.polls.polled(TASK_QUEUE);
    poll();
    await Promise.all([other.ctx.polls.flush(), ctx.polls.flush()]);
    expect(await stretches()).toEqual([[0, 220]]);
    await clock.tick({ seconds: 200 });
    poll();
    await ctx.polls.flush();
    expect(await stretches()).toEqual([
      [0, 220],
      [420, 420],
    ]);
    const taskId = await server.create();
    await clock.tick({ seconds: 1 });
    expect((await explainAt(taskId, clock.nowMs())).taskQueues).toMatchObject([
      { polls: { isPolled: true, lastPolled: iso(startMs + 420_000) } },
    ]);
  });

  test('is forgotten in time, and not before', async () => {
    const { clock, queue, ctx } = server;
    await server.claim(1);
    const taskId = await server.create();
    await queue.cancelTask({ taskId });
    await queue.quarantineWorker(WORKER, { quarantineUntil: iso(clock.nowMs() + 3 * 86_400_000) });
    await ctx.polls.flush();
    expect(await counts()).toEqual({ changes: 1, quarantines: 1, polls: 1 });
    clock.advance({ days: 2, seconds: -20 });
    await server.runLoop(expireHistory);
    expect(await counts()).toEqual({ changes: 1, quarantines: 1, polls: 1 });
    clock.advance({ hours: 1 });
    await server.runLoop(expireHistory);
    expect(await counts()).toEqual({ changes: 0, quarantines: 1, polls: 0 });
    // lifting it ends what has to be remembered
    await queue.quarantineWorker(WORKER, { quarantineUntil: iso(clock.nowMs()) });
    clock.advance({ days: 2, hours: 1 });
    await server.runLoop(expireHistory);
    expect(await counts()).toEqual({ changes: 0, quarantines: 0, polls: 0 });
  });
});
