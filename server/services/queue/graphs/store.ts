/**
 * Storing a graph in one transaction, in company of everything else that happens. What was found when it was looked at (`look.ts`) is not locked; the
 * transaction holds it against the tables, and whatever is no longer so ends it: then the graph is looked at again.
 *
 *  - a task that has come into being meanwhile: its row cannot be inserted;
 *  - a group that was sealed, or made by another scheduler: seen on its locked row, or by the constraint when two make it at once;
 *  - a task that the graph needs and that was resolved: its state is read again under a lock that whoever resolves it needs, too. Who resolves it
 *    later waits for this transaction and then sees its edges; for who did before, the edges are satisfied here.
 *
 * Locks that others may need (tasks outside the graph, the group) are taken last and for a moment only, because calls on the hot path share one
 * transaction and would all wait. The many inserts before them concern nobody, unless somebody creates the same tasks: rows are inserted in the order of
 * ids, so that two submissions of a graph never wait for each other in a circle, and anything else gives way soon (`large-transaction.ts`).
 */
import type { Tx } from '../../../db/sql.ts';
import { notifyOutbox } from '../../../platform/events.ts';
import { LAST_MS } from '../../../platform/validate.ts';
import type { Ctx } from '../ctx.ts';
import type { NewTask } from '../definition.ts';
import { gaveWay, largeTx } from '../large-transaction.ts';
import { satisfies } from '../rules.ts';
import { releaseDependents } from '../transitions.ts';
import type { NewNode, Plan } from './look.ts';
import { insertStatement, shareStatement, takeSeqsStatement } from './store.db.ts';

/** Tasks per statement. */
const CHUNK = 500;
const HOUR_MS = 3_600_000;

/** The tables are not as they were when the graph was looked at. */
export class Outdated extends Error {}

/** Stores the tasks of a plan, all or none. Throws `Outdated` when it has to be made anew. Answers with the group's expiry. */
export const storeGraph = (ctx: Ctx, plan: Plan, pause: () => Promise<void>): Promise<Date> =>
  largeTx(ctx.platform.db, async tx => {
    const nowIso = ctx.platform.clock.now().toISOString();
    await insertAll(tx, plan, nowIso, pause);
    await settleRequired(tx, ctx, plan, nowIso);
    const expires = await enterGroup(tx, plan);
    tx.afterCommit(() => tell(ctx, plan.create));
    return expires;
  }).catch((error: unknown) => {
    throw isOutdated(error) ? new Outdated() : error;
  });

/** Unique violation, lock not available in time, two first tasks of a group. */
const isOutdated = (error: unknown): boolean => {
  const { code, constraint } = error as { code?: string; constraint?: string };
  return (code === '23505' && constraint === 'tasks_pkey') || gaveWay(error) || constraint === 'groups_open_to_scheduler';
};

const insertAll = async (tx: Tx, plan: Plan, nowIso: string, pause: () => Promise<void>): Promise<void> => {
  const pending = plan.create.filter(({ unmet }) => unmet === 0);
  const { rows } = pending.length === 0 ? { rows: [] } : await tx.run<{ seq: number }>(takeSeqsStatement(pending.length));
  // first come, first served: in the order of the request
  const seqs = new Map(rows.map(({ seq }, i) => [(pending[i] as NewNode).task.taskId, seq]));
  const sorted = plan.create.toSorted((a, b) => (a.task.taskId < b.task.taskId ? -1 : 1));
  // while Postgres works on one part, the next is made ready
  let underWay: Promise<unknown> = Promise.resolve();
  for (let from = 0; from < sorted.length; from += CHUNK) {
    const statement = insertStatement(sorted.slice(from, from + CHUNK), plan, seqs, nowIso);
    await underWay;
    underWay = tx.run(statement);
    underWay.catch(() => undefined); // it is awaited in the next round
    await pause();
  }
  await underWay;
};

const settleRequired = async (tx: Tx, ctx: Ctx, { required }: Plan, nowIso: string): Promise<void> => {
  if (required.length === 0) {
    return;
  }
  const { rows } = await tx.run<{ taskId: string; state: string }>(shareStatement(required.map(({ taskId }) => taskId)));
  if (rows.length < required.length) {
    throw new Outdated(); // one has expired
  }
  const before = new Map(required.map(({ taskId, state }) => [taskId, state]));
  const resolved = rows.filter(({ taskId, state }) => state !== before.get(taskId) && satisfies(state, true));
  if (resolved.length > 0) {
    await releaseDependents(tx, ctx, resolved, nowIso);
  }
};

/** Locks the group, or makes it, and counts the tasks in. */
const enterGroup = async (tx: Tx, { taskGroupId, schedulerId, create }: Plan): Promise<Date> => {
  const [group] = await tx<{ schedulerId: string; sealed: Date | null; expires: Date }>`
    select scheduler_id, sealed, expires from queue.groups where task_group_id = ${taskGroupId} for update`;
  if (group && (group.schedulerId !== schedulerId || group.sealed)) {
    throw new Outdated();
  }
  const expires = groupExpiry(
    group?.expires,
    create.map(({ task }) => task),
  );
  const count = create.length;
  // a group that comes into being at this moment is looked at again
  await tx`
    insert into queue.groups as g (task_group_id, scheduler_id, expires, unresolved) values (${taskGroupId}, ${schedulerId}, ${expires}, ${count})
    on conflict (task_group_id) do update set unresolved = case when ${group !== undefined}::bool then g.unresolved + ${count} else -1 end, expires = ${expires}`;
  return expires;
};

/** As if the tasks were created one after the other: a task that outlives its group prolongs it to an hour after its own end. */
export const groupExpiry = (expires: Date | undefined, tasks: readonly NewTask[]): Date => {
  let ms = expires?.getTime();
  for (const task of tasks) {
    if (ms === undefined || task.expiresMs > ms) {
      ms = Math.min(task.expiresMs + HOUR_MS, LAST_MS);
    }
  }
  return new Date(ms as number);
};

const tell = (ctx: Ctx, create: readonly NewNode[]): void => {
  const counts = new Map<string, number>();
  let deadlineMs = Number.POSITIVE_INFINITY;
  for (const { task, unmet } of create) {
    deadlineMs = Math.min(deadlineMs, task.deadlineMs);
    if (unmet === 0) {
      counts.set(task.taskQueueId, (counts.get(task.taskQueueId) ?? 0) + 1);
    }
  }
  ctx.wake.deadline(deadlineMs);
  for (const [taskQueueId, count] of counts) {
    ctx.wake.pending(taskQueueId, count);
  }
  notifyOutbox();
};
