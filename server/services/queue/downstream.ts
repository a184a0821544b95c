/**
 * Running a task again together with everything downstream: all tasks that depend on it, directly or through others, wait for their dependencies again and
 * then run again. One transaction; nothing is changed unless all of it is possible.
 *
 * What waits keeps its state, as only a run changes that: a task that never ran is unscheduled again; a resolved one keeps its outcome, and is marked as
 * held until it gets its next run; a pending one that ran before stays pending, held and out of line. What is released (`resolve.db.ts`) gets the run that
 * it waits for. Scheduling, rerunning or cancelling a held task by hand ends that.
 *
 * A task whose deadline is past cannot run again: it is left alone, and so is what depends on nothing but it.
 */
import type { ScopeExpression } from '@tscluster/api/scopes.ts';
import { renderTemplate, satisfies } from '@tscluster/api/scopes.ts';
import { taskChangeMethods } from '@tscluster/api/queue/tasks.ts';
import type { Tx } from '../../db/sql.ts';
import type { Held } from '../../platform/authorize.ts';
import { ApiError, conflict, tooLarge } from '../../platform/errors.ts';
import { howToGet } from '../../platform/missing-scopes.ts';
import type { Ctx } from './ctx.ts';
import {
  type DownstreamRow,
  type LockedRow,
  dropFanoutsStatement,
  findDownstream,
  holdStatement,
  leaveLineStatement,
  lockTasksStatement,
} from './downstream.db.ts';
import { type ChangedBy, noteChanges } from './explain/history.db.ts';
import { gaveWay, largeTx } from './large-transaction.ts';
import { MAX_RUNS } from './rules.ts';
import { lockPending, rerunLocked, unknownTask } from './transitions.ts';

/** Tasks that one call runs again. */
export const MAX_DOWNSTREAM = 10_000;
/** Tasks that an answer lists. */
export const MAX_LISTED = 1_000;
const MAX_NAMED = 20;
const MAX_TRIES = 20;

export interface Rerun {
  /** The status of the task itself, as JSON text. */
  readonly status: string;
  /** Those that wait again, by id. */
  readonly waiting: readonly string[];
  /** Those that are left alone, by id. */
  readonly late: readonly string[];
}

/** The graph downstream has changed while it was looked at. */
class Grown extends Error {}

/** Runs a task again, and lets everything downstream wait for it. `held` is what the caller holds. */
export const rerunDownstream = async (ctx: Ctx, taskId: string, held: Held, by: ChangedBy): Promise<Rerun> => {
  const { db, clock } = ctx.platform;
  for (let tries = 1; ; tries++) {
    const nowIso = clock.now().toISOString();
    const found = await largeTx(db, tx => findDownstream(tx, taskId, nowIso, MAX_DOWNSTREAM + 1));
    if (found.length === 0) {
      unknownTask(taskId);
    }
    checkScopes(
      held,
      found.filter(({ isLate }) => !isLate),
    );
    if (found.length > MAX_DOWNSTREAM) {
      tooLarge('More than {{max}} tasks depend on task `{{taskId}}`. Run parts of them again, each with what is downstream of it.', {
        max: MAX_DOWNSTREAM,
        taskId,
      });
    }
    try {
      return await largeTx(db, tx => rerunAll(tx, ctx, taskId, found, by, nowIso));
    } catch (error) {
      if (!(error instanceof Grown) && !gaveWay(error)) {
        throw error;
      }
      if (tries >= MAX_TRIES) {
        throw new Error(`What is downstream of task ${taskId} could not be locked`, { cause: error });
      }
    }
  }
};

const byId = (rows: readonly DownstreamRow[]): string[] => rows.map(row => row.taskId).toSorted();

/** Every task that is touched needs what `rerunTask` needs. */
const checkScopes = (held: Held, rows: readonly DownstreamRow[]): void => {
  const lacking = rows
    .map(({ taskId, taskGroupId, schedulerId, projectId }) => ({
      taskId,
      expression: renderTemplate(taskChangeMethods.rerunTask.scopes, { taskId, taskGroupId, schedulerId, projectId }) as ScopeExpression,
    }))
    .filter(({ expression }) => !satisfies(held.scopes, expression));
  if (lacking.length === 0) {
    return;
  }
  const named = lacking.slice(0, MAX_NAMED);
  const details = held.describe({ AllOf: named.map(({ expression }) => expression) });
  const more = lacking.length > named.length ? ` and ${lacking.length - named.length} more` : '';
  throw new ApiError(
    'InsufficientScopes',
    [
      `${lacking.length} of ${rows.length} tasks may not be run again by the caller: ${named.map(({ taskId }) => taskId).join(', ')}${more}.`,
      ...(details.grantTo ? howToGet(details) : ['The request carries no credentials.']),
    ].join('\n\n'),
    {},
    { ...details, taskIds: lacking.slice(0, MAX_LISTED).map(({ taskId }) => taskId), taskCount: lacking.length },
  );
};

const rerunAll = async (
  tx: Tx,
  ctx: Ctx,
  taskId: string,
  found: readonly DownstreamRow[],
  by: ChangedBy,
  nowIso: string,
): Promise<Rerun> => {
  const all = byId(found.filter(({ isLate }) => !isLate));
  const dependents = all.filter(id => id !== taskId);
  await lockAll(tx, ctx, taskId, all, nowIso);
  const status = await rerunLocked(tx, ctx, taskId, by);
  await tx.run(leaveLineStatement(dependents));
  const { rows: changed } = await tx.run<{ taskId: string }>(holdStatement({ root: taskId, required: all, dependents }, nowIso));
  await noteChanges(
    tx,
    changed.map(row => row.taskId),
    'rerun',
    by,
    nowIso,
  );
  return { status, waiting: dependents, late: byId(found.filter(({ isLate }) => isLate)) };
};

/** Locks everything, and makes sure that it is everything, and that all of it can run again. */
const lockAll = async (tx: Tx, ctx: Ctx, taskId: string, all: readonly string[], nowIso: string): Promise<void> => {
  await tx.run(dropFanoutsStatement(all));
  await lockPending(tx, ctx, all);
  const { rows } = await tx.run<LockedRow>(lockTasksStatement(all));
  const now = await findDownstream(tx, taskId, nowIso, MAX_DOWNSTREAM + 1);
  const known = new Set(all);
  if (now.some(row => !row.isLate && !known.has(row.taskId))) {
    throw new Grown();
  }
  const running = rows.filter(row => row.taskId !== taskId && row.state === 'running').map(row => row.taskId);
  if (running.length > 0) {
    refuse(running, 'are running', 'Cancel them, or wait until they are resolved.');
  }
  const ended = (row: LockedRow): boolean => row.state === 'completed' || row.state === 'failed' || row.state === 'exception';
  const full = rows.filter(row => row.taskId !== taskId && ended(row) && row.runId + 1 >= MAX_RUNS).map(row => row.taskId);
  if (full.length > 0) {
    refuse(full, `have ${MAX_RUNS} runs`, 'A task never has more.');
  }
};

const refuse = (taskIds: readonly string[], why: string, advice: string): never =>
  conflict('{{count}} of the tasks that depend on this one {{why}}: {{named}}. {{advice}} Nothing was changed.', {
    count: taskIds.length,
    why,
    named: `${taskIds.slice(0, MAX_NAMED).join(', ')}${taskIds.length > MAX_NAMED ? ` and ${taskIds.length - MAX_NAMED} more` : ''}`,
    advice,
  });
