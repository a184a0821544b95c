/** Changes of single tasks outside the hot path: each a transaction of its own, made of the same statements. */
import type { TaskStatus } from '@tscluster/api/queue/tasks.ts';
import type { Priority } from '@tscluster/api/types.ts';
import type { Tx } from '../../db/sql.ts';
import { conflict, notFound } from '../../platform/errors.ts';
import { notifyOutbox } from '../../platform/events.ts';
import { announce, groupEvent, taskEvent } from './announce.ts';
import type { Ctx } from './ctx.ts';
import { releaseHeld, returnToLineStatement } from './downstream.db.ts';
import { type ChangedBy, noteChanges } from './explain/history.db.ts';
import { getGroup } from './groups.db.ts';
import { countOutcome } from './outcomes.ts';
import { type ReleasedRow, type RunEnd, giveUpStatement, lockPendingStatement, satisfyStatement } from './resolve.db.ts';
import { MAX_RUNS, judgeReport, priorityName, priorityRank, retriesAfterRerun } from './rules.ts';
import { type TaskRow, addRun, changePriorities, getTask, lockTask } from './tasks.db.ts';

export const requireTask = async (ctx: Ctx, taskId: string): Promise<TaskRow> =>
  (await getTask(ctx.platform.db, taskId)) ?? unknownTask(taskId);

export const unknownTask = (taskId: string): never => notFound('There is no task `{{taskId}}`.', { taskId });

/**
 * Locks the pending rows of tasks. Workers who ask meanwhile pass them over (`skip locked`), so that they are woken when the transaction ends, however
 * it does.
 */
export const lockPending = async (tx: Tx, ctx: Ctx, taskIds: readonly string[]): Promise<void> => {
  const { rows } = await tx.run<{ taskQueueId: string }>(lockPendingStatement(taskIds));
  const byQueue = Map.groupBy(rows, row => row.taskQueueId);
  tx.afterEnd(() => byQueue.forEach((list, taskQueueId) => ctx.wake.pending(taskQueueId, list.length)));
};

const requireLocked = async (tx: Tx, ctx: Ctx, taskId: string): Promise<TaskRow> => {
  await lockPending(tx, ctx, [taskId]);
  return (await lockTask(tx, taskId)) ?? unknownTask(taskId);
};

/** Refuses what comes after the deadline. */
const refuseLate = (ctx: Ctx, { taskId, deadline }: TaskRow, verb: string): void => {
  if (deadline.getTime() < ctx.platform.clock.nowMs()) {
    conflict('Task `{{taskId}}` cannot be {{verb}}: its deadline ({{deadline}}) is past.', {
      taskId,
      verb,
      deadline: deadline.toISOString(),
    });
  }
};

/** Tells of what became pending, once the transaction has committed. */
export const tellReleased = (tx: Tx, ctx: Ctx, rows: readonly ReleasedRow[]): void => {
  tx.afterCommit(() => {
    for (const row of rows) {
      if (row.later) {
        ctx.wake.fanouts();
      } else if (row.taskQueueId !== null) {
        ctx.wake.pending(row.taskQueueId, row.pending);
      }
    }
    notifyOutbox();
  });
};

/** Releases those who wait for tasks that were just resolved. */
export const releaseDependents = async (
  tx: Tx,
  ctx: Ctx,
  tasks: readonly { readonly taskId: string; readonly runId?: number }[],
  nowIso: string,
): Promise<void> => {
  const { rows } = await tx.run<ReleasedRow>(satisfyStatement(tasks, nowIso));
  tellReleased(tx, ctx, rows);
};

/** Cancels tasks that are not resolved; answers with the ids of those it changed, by id. */
export const cancelAll = async (
  tx: Tx,
  ctx: Ctx,
  taskIds: readonly string[],
  by: ChangedBy,
): Promise<{ taskId: string; status: string }[]> => {
  const nowIso = ctx.platform.clock.now().toISOString();
  await lockPending(tx, ctx, taskIds);
  const { rows } = await tx.run<{ taskId: string; taskQueueId: string; status: string }>(giveUpStatement(taskIds, 'canceled', nowIso));
  tx.afterCommit(() => rows.forEach(({ taskQueueId }) => countOutcome(ctx, 'exception', 'canceled', taskQueueId)));
  await releaseDependents(tx, ctx, rows, nowIso);
  await noteChanges(
    tx,
    rows.map(row => row.taskId),
    'cancel',
    by,
    nowIso,
  );
  return rows;
};

/** Resolved tasks that were to run again keep the outcome that they have, and those that wait for them go on with it. */
export const callOffReruns = async (tx: Tx, ctx: Ctx, taskIds: readonly string[], by: ChangedBy): Promise<void> => {
  const nowIso = ctx.platform.clock.now().toISOString();
  const released = await releaseHeld(tx, taskIds);
  await releaseDependents(tx, ctx, released, nowIso);
  await noteChanges(
    tx,
    released.map(row => row.taskId),
    'cancel',
    by,
    nowIso,
  );
};

/** Makes an unscheduled task pending; one with runs is left alone. Answers with the status as JSON text. */
export const scheduleTask = (ctx: Ctx, taskId: string, by: ChangedBy): Promise<string> =>
  ctx.platform.db.tx(async tx => {
    const task = await requireLocked(tx, ctx, taskId);
    refuseLate(ctx, task, 'scheduled');
    return task.state === 'unscheduled' ? startRun(tx, ctx, task, 'scheduled', task.retriesLeft, by) : task.status;
  });

const startRun = async (
  tx: Tx,
  ctx: Ctx,
  task: TaskRow,
  reason: 'scheduled' | 'rerun',
  retriesLeft: number,
  by: ChangedBy,
): Promise<string> => {
  const nowIso = ctx.platform.clock.now().toISOString();
  const status = await addRun(tx, task.taskId, reason, retriesLeft, nowIso);
  await noteChanges(tx, [task.taskId], reason === 'rerun' ? 'rerun' : 'schedule', by, nowIso);
  tx.afterCommit(() => {
    ctx.wake.pending(task.taskQueueId, 1);
    notifyOutbox();
  });
  return status;
};

/** Gives a task that does not run another run. A pending one is announced again. */
export const rerunTask = (ctx: Ctx, taskId: string, by: ChangedBy): Promise<string> =>
  ctx.platform.db.tx(tx => rerunLocked(tx, ctx, taskId, by));

/** The same within a transaction. */
export const rerunLocked = async (tx: Tx, ctx: Ctx, taskId: string, by: ChangedBy): Promise<string> => {
  const task = await requireLocked(tx, ctx, taskId);
  refuseLate(ctx, task, 'rerun');
  if (task.state === 'running') {
    return task.status;
  }
  if (task.state === 'pending') {
    if (task.held) {
      await tx.run(returnToLineStatement(taskId, ctx.platform.clock.now().toISOString()));
      tx.afterCommit(() => ctx.wake.pending(task.taskQueueId, 1));
    }
    await announce(tx, [taskEvent('taskPending', task, JSON.parse(task.status) as TaskStatus, { runId: task.runId })]);
    return task.status;
  }
  const runs = task.runId + 1;
  if (runs >= MAX_RUNS) {
    conflict('Task `{{taskId}}` has {{runs}} runs, and a task never has more.', { taskId, runs });
  }
  return startRun(tx, ctx, task, 'rerun', retriesAfterRerun(task.retries, runs), by);
};

/** Announces once more that a group has no task left that was never resolved, if that is so. */
const groupEvents = async (tx: Tx, taskGroupId: string): Promise<ReturnType<typeof groupEvent>[]> => {
  const group = await getGroup(tx, taskGroupId);
  return group?.unresolved === 0 ? [groupEvent('taskGroupResolved', group)] : [];
};

/** Cancels a task that is not resolved. One that is cancelled already is announced again. */
export const cancelTask = (ctx: Ctx, taskId: string, by: ChangedBy): Promise<string> =>
  ctx.platform.db.tx(async tx => {
    const task = await requireLocked(tx, ctx, taskId);
    refuseLate(ctx, task, 'cancelled');
    const [cancelled] = await cancelAll(tx, ctx, [taskId], by);
    if (cancelled) {
      return cancelled.status;
    }
    if (task.held) {
      await callOffReruns(tx, ctx, [taskId], by);
      return task.status;
    }
    const status = JSON.parse(task.status) as TaskStatus;
    const run = status.runs.at(-1);
    if (run?.reasonResolved === 'canceled') {
      const { runId, workerGroup, workerId } = run;
      await announce(tx, [
        taskEvent('taskException', task, status, present({ runId, workerGroup, workerId })),
        ...(await groupEvents(tx, task.taskGroupId)),
      ]);
    }
    return task.status;
  });

const present = <T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as { [K in keyof T]?: Exclude<T[K], undefined> };

/** Moves a task that was never resolved to another priority. */
export const changePriority = (ctx: Ctx, taskId: string, newPriority: Priority, by: ChangedBy): Promise<string> =>
  ctx.platform.db.tx(async tx => {
    const task = await requireLocked(tx, ctx, taskId);
    const now = ctx.platform.clock.now();
    const oldPriority = priorityName(task.priority);
    if (task.deadline <= now) {
      conflict('Task `{{taskId}}` keeps its priority: its deadline ({{deadline}}) is past.', {
        taskId,
        deadline: task.deadline.toISOString(),
      });
    }
    if (task.timesResolved > 0) {
      conflict('Task `{{taskId}}` keeps its priority: it was resolved before.', { taskId });
    }
    if (oldPriority === newPriority) {
      conflict('Task `{{taskId}}` has priority `{{newPriority}}` already.', { taskId, newPriority });
    }
    await changePriorities(tx, [taskId], priorityRank(newPriority), by, now.toISOString());
    const changed = (await getTask(tx, taskId)) as TaskRow;
    await announce(tx, [
      taskEvent('taskPriorityChanged', changed, JSON.parse(changed.status) as TaskStatus, {}, { oldPriority, newPriority }),
    ]);
    return changed.status;
  });

const EXCHANGES = { completed: 'taskCompleted', failed: 'taskFailed', exception: 'taskException' } as const;

/**
 * A report that did not find its run running as the last one: a repeat is announced again, anything else refused. Undefined: the run is running after
 * all, so that the report is worth another try.
 */
export const repeatReport = (ctx: Ctx, { taskId, runId, outcome, reason }: RunEnd): Promise<string | undefined> =>
  ctx.platform.db.tx(async tx => {
    const task = (await lockTask(tx, taskId)) ?? unknownTask(taskId);
    const status = JSON.parse(task.status) as TaskStatus;
    const run = status.runs[runId];
    switch (judgeReport(status.runs, runId, outcome, reason)) {
      case 'unknown':
        return unknownRun(taskId, runId);
      case 'running':
        return undefined;
      case 'conflict':
        return conflict(
          'Run {{runId}} of task `{{taskId}}` cannot be resolved as {{outcome}} ({{reason}}): it is {{state}}{{because}}, and the task has {{runs}} runs.',
          {
            taskId,
            runId,
            outcome,
            reason,
            state: run?.state,
            because: run?.reasonResolved === undefined ? '' : ` (${run.reasonResolved})`,
            runs: status.runs.length,
          },
        );
      case 'repeat':
    }
    const next = status.runs[runId + 1];
    await announce(tx, [
      taskEvent(EXCHANGES[outcome], task, status, present({ runId, workerGroup: run?.workerGroup, workerId: run?.workerId })),
      ...(next?.state === 'pending' ? [taskEvent('taskPending', task, status, { runId: next.runId })] : []),
      ...(next ? [] : await groupEvents(tx, task.taskGroupId)),
    ]);
    return task.status;
  });

export const unknownRun = (taskId: string, runId: number): never => notFound('Task `{{taskId}}` has no run {{runId}}.', { taskId, runId });
