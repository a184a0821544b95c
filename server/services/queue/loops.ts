/** What the queue does by itself: claims that run out, deadlines, large fan-outs, and forgetting what has expired. */
import { textArray, timestampArray } from '../../db/arrays.ts';
import type { Tx } from '../../db/sql.ts';
import { notifyOutbox } from '../../platform/events.ts';
import { loop } from '../../platform/loop.ts';
import type { Ctx } from './ctx.ts';
import { deleteOldHistory } from './explain/history.db.ts';
import { countOutcome } from './outcomes.ts';
import {
  type EndedRow,
  MAX_EDGES,
  type ReleasedRow,
  type RunEnd,
  endRunsStatement,
  giveUpStatement,
  satisfyPartStatement,
} from './resolve.db.ts';
import { lockPending, releaseDependents, tellReleased } from './transitions.ts';

const HOUR_MS = 3_600_000;

export interface ClaimKey {
  readonly takenUntil: Date;
  readonly taskId: string;
  readonly runId: number;
}

/** Ends runs whose workers are gone, and forgets their claims; runs that went on meanwhile are left alone. */
export const endLostRuns = async (tx: Tx, ctx: Ctx, claims: readonly ClaimKey[], toEnd: (claim: ClaimKey) => RunEnd): Promise<void> => {
  const nowIso = ctx.platform.clock.now().toISOString();
  const { rows } = await tx.run<EndedRow>(endRunsStatement(claims.map(toEnd), nowIso));
  await releaseDependents(tx, ctx, claims, nowIso);
  await tx.run({
    text: 'delete from queue.claims where taken_until = any($1::timestamptz[]) and task_id = any($2::text[])',
    values: [timestampArray(claims.map(claim => claim.takenUntil.getTime())), textArray(claims.map(claim => claim.taskId))],
  });
  const reasons = new Map(claims.map(claim => [claim.taskId, toEnd(claim).reason]));
  tx.afterCommit(() => {
    for (const row of rows) {
      countOutcome(ctx, 'exception', reasons.get(row.taskId) ?? 'claim-expired', row.taskQueueId);
      if (row.state === 'pending') {
        ctx.wake.pending(row.taskQueueId, 1);
      }
    }
    notifyOutbox();
  });
};

/**
 * Runs whose claim was not prolonged in time. The claims are read without a lock: a report locks the task first and then its claim, the other way round
 * the two would wait for each other; what changed meanwhile is left alone.
 */
export const claimExpiry = loop<Ctx>({
  name: 'queue/claim-expiry',
  everyMs: 5_000,
  batch: 200,
  run: async (ctx, limit) => {
    const { db, clock } = ctx.platform;
    const claims = await db<ClaimKey>`
      select taken_until, task_id, run_id from queue.claims where taken_until <= ${clock.now()} order by taken_until, task_id, run_id limit ${limit}`;
    if (claims.length > 0) {
      await db.tx(tx =>
        endLostRuns(tx, ctx, claims, ({ taskId, runId, takenUntil }) => ({
          taskId,
          runId,
          outcome: 'exception',
          reason: 'claim-expired',
          takenUntilMs: takenUntil.getTime(),
        })),
      );
    }
    const [next] = await db<{ takenUntil: Date }>`select taken_until from queue.claims order by taken_until limit 1`;
    if (next) {
      ctx.claimsDue.at(next.takenUntil.getTime());
    }
    return claims.length;
  },
});

/** How far the deadlines were looked at. */
export interface DeadlineCursor {
  /** Undefined until it was read. */
  atMs: number | undefined;
  /** What is written down, to start from after a restart. */
  savedMs: number;
}

export const newDeadlineCursor = (): DeadlineCursor => ({ atMs: undefined, savedMs: 0 });

const DEADLINES = 'deadlines';
const SAVE_EVERY_MS = 60_000;
/** A task may be committed this long after its creation was checked; the cursor does not run ahead of that. */
const LATE_COMMIT_MS = 60_000;

const loadCursor = async ({ platform, deadlines: cursor }: Ctx): Promise<number> => {
  if (cursor.atMs === undefined) {
    const [row] = await platform.db<{ at: Date }>`select at from queue.progress where name = ${DEADLINES}`;
    cursor.savedMs = row?.at.getTime() ?? 0;
    cursor.atMs = cursor.savedMs;
  }
  return cursor.atMs;
};

const moveCursor = async ({ platform, deadlines: cursor }: Ctx, toMs: number): Promise<void> => {
  cursor.atMs = Math.max(cursor.atMs ?? 0, toMs);
  if (cursor.atMs - cursor.savedMs >= SAVE_EVERY_MS) {
    await platform.db`
      insert into queue.progress as p (name, at) values (${DEADLINES}, ${new Date(cursor.atMs)})
      on conflict (name) do update set at = greatest(p.at, excluded.at)`;
    cursor.savedMs = cursor.atMs;
  }
};

interface DeadlineRow {
  readonly taskId: string;
  readonly state: string;
  readonly deadline: Date;
}

const exceedDeadlines = (ctx: Ctx, rows: readonly DeadlineRow[]): Promise<number> =>
  ctx.platform.db.tx(async tx => {
    const nowIso = ctx.platform.clock.now().toISOString();
    const taskIds = rows.map(row => row.taskId);
    await lockPending(tx, ctx, taskIds);
    const { rows: ended } = await tx.run<{ taskId: string; taskQueueId: string }>(giveUpStatement(taskIds, 'deadline-exceeded', nowIso));
    await releaseDependents(tx, ctx, ended, nowIso);
    tx.afterCommit(() => ended.forEach(({ taskQueueId }) => countOutcome(ctx, 'exception', 'deadline-exceeded', taskQueueId)));
    return ended.length;
  });

/**
 * Tasks whose deadline passed some time ago and that are not resolved. Follows the index on deadlines, whatever became of the tasks: after its deadline
 * and the delay no task can become active again, so that what was passed never needs another look.
 */
export const deadlines = loop<Ctx>({
  name: 'queue/deadline',
  everyMs: 5_000,
  batch: 500,
  run: async (ctx, limit) => {
    const { db, clock } = ctx.platform;
    let atMs = await loadCursor(ctx);
    let taskId = '';
    const dueMs = clock.nowMs() - ctx.config.deadlineDelayMs;
    let ended = 0;
    for (;;) {
      const rows = await db<DeadlineRow>`
        select task_id, state, deadline from queue.tasks
        where (deadline, task_id) > (${new Date(atMs)}, ${taskId}) and deadline <= ${new Date(dueMs)}
        order by deadline, task_id limit ${limit}`;
      const late = rows.filter(row => row.state === 'unscheduled' || row.state === 'pending' || row.state === 'running');
      if (late.length > 0) {
        ended += await exceedDeadlines(ctx, late);
      }
      const last = rows.at(-1);
      if (!last || rows.length < limit) {
        break;
      }
      atMs = last.deadline.getTime();
      taskId = last.taskId;
    }
    await moveCursor(ctx, Math.min(dueMs, clock.nowMs() - LATE_COMMIT_MS));
    const [next] = await db<{ deadline: Date }>`
      select deadline from queue.tasks where deadline > ${new Date(dueMs)} order by deadline, task_id limit 1`;
    if (next) {
      ctx.deadlinesDue.at(next.deadline.getTime() + ctx.config.deadlineDelayMs);
    }
    return Math.min(ended, limit - 1); // everything due was seen
  },
});

/** Releases the dependents of tasks that have too many of them for one transaction. */
export const dependencies = loop<Ctx>({
  name: 'queue/dependencies',
  everyMs: 5_000,
  batch: MAX_EDGES,
  run: (ctx, limit) =>
    ctx.platform.db.tx(async tx => {
      const [fanout] = await tx<{ taskId: string; completed: boolean }>`
        select task_id, completed from queue.fanouts order by task_id limit 1 for update skip locked`;
      if (!fanout) {
        return 0;
      }
      const { taskId, completed } = fanout;
      const { rows } = await tx.run<ReleasedRow>(satisfyPartStatement(taskId, completed, ctx.platform.clock.now().toISOString(), limit));
      const edges = rows.find(row => row.later)?.pending ?? 0;
      if (edges < limit) {
        await tx`delete from queue.fanouts where task_id = ${taskId}`;
      }
      tellReleased(
        tx,
        ctx,
        rows.filter(row => !row.later),
      );
      return limit; // there may be more: look again at once
    }),
});

const expiredBefore = (ctx: Ctx): Date => new Date(ctx.platform.clock.nowMs() - ctx.config.expirationDelayMs);

export const expireTasks = loop<Ctx>({
  name: 'queue/expire-tasks',
  everyMs: HOUR_MS,
  batch: 1_000,
  run: async (ctx, limit) => {
    const { affected } = await ctx.platform.db.run({
      text: 'delete from queue.tasks where task_id in (select task_id from queue.tasks where expires < $1 order by expires limit $2)',
      values: [expiredBefore(ctx), limit],
    });
    return affected;
  },
});

export const expireGroups = loop<Ctx>({
  name: 'queue/expire-groups',
  everyMs: HOUR_MS,
  batch: 1_000,
  run: async (ctx, limit) => {
    const { affected } = await ctx.platform.db.run({
      text: 'delete from queue.groups where task_group_id in (select task_group_id from queue.groups where expires < $1 order by expires limit $2) and expires < $1',
      values: [expiredBefore(ctx), limit],
    });
    return affected;
  },
});

export const expireDependencies = loop<Ctx>({
  name: 'queue/expire-dependencies',
  everyMs: HOUR_MS,
  batch: 1_000,
  run: async (ctx, limit) => {
    const { affected } = await ctx.platform.db.run({
      text: 'delete from queue.deps where (required, dependent) in (select required, dependent from queue.deps where expires < $1 order by expires limit $2)',
      values: [expiredBefore(ctx), limit],
    });
    return affected;
  },
});

/** Forgets what explained moments that are too long ago. */
export const expireHistory = loop<Ctx>({
  name: 'queue/expire-history',
  everyMs: HOUR_MS,
  batch: 1_000,
  run: ({ platform: { db, clock }, config }, limit) => deleteOldHistory(db, clock.now(), new Date(clock.nowMs() - config.historyMs), limit),
});
