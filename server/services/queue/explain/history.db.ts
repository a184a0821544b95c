/** The tables that explain past moments: changes made by hand, quarantines, and when workers asked for work. Never written on the hot path. */
import { textArray, timestampArray } from '../../../db/arrays.ts';
import type { Query, Tx } from '../../../db/sql.ts';

export type ChangeKind = 'schedule' | 'rerun' | 'cancel' | 'priority';

export interface ChangeRow {
  readonly at: Date;
  readonly kind: ChangeKind;
  readonly ofGroup: boolean;
  readonly clientId: string;
  readonly oldPriority: number | null;
  readonly newPriority: number | null;
}

/** Who changes tasks, and whether all of a group at once. */
export interface ChangedBy {
  readonly clientId: string;
  readonly ofGroup: boolean;
}

/** Remembers what was done to tasks by hand. */
export const noteChanges = async (
  tx: Tx,
  taskIds: readonly string[],
  kind: Exclude<ChangeKind, 'priority'>,
  by: ChangedBy,
  atIso: string,
): Promise<void> => {
  await tx`
    insert into queue.task_changes (task_id, at, kind, of_group, client_id)
    select x.task_id, ${atIso}::text::timestamptz, ${kind}, ${by.ofGroup}, ${by.clientId} from unnest(${textArray(taskIds)}::text[]) as x(task_id)`;
};

/** Changes of one task that are read at most. */
const MAX_CHANGES = 200;

/** What was done to a task by hand, the latest first. Primary key. */
export const listChanges = (db: Query, taskId: string): Promise<ChangeRow[]> => db`
  select at, kind, of_group, client_id, old_priority, new_priority from queue.task_changes where task_id = ${taskId} order by seq desc limit ${MAX_CHANGES}`;

/** Remembers a change of a worker's quarantine for `keepMs` beyond its end; the one before ends with it. */
export const noteQuarantine = async (
  tx: Tx,
  worker: { readonly taskQueueId: string; readonly workerGroup: string; readonly workerId: string },
  until: Date,
  now: Date,
  keepMs: number,
): Promise<void> => {
  const { taskQueueId, workerGroup, workerId } = worker;
  const keepUntil = new Date(now.getTime() + keepMs);
  const keepThisUntil = new Date(Math.max(now.getTime(), until.getTime()) + keepMs);
  await tx`
    update queue.quarantines set keep_until = ${keepUntil}
    where task_queue_id = ${taskQueueId} and worker_group = ${workerGroup} and worker_id = ${workerId} and keep_until > ${keepUntil}`;
  await tx`
    insert into queue.quarantines (task_queue_id, worker_group, worker_id, changed, quarantine_until, keep_until)
    values (${taskQueueId}, ${workerGroup}, ${workerId}, ${now}, ${until}, ${keepThisUntil})
    on conflict (task_queue_id, worker_group, worker_id, changed) do update set quarantine_until = excluded.quarantine_until, keep_until = excluded.keep_until`;
};

/** Counts the workers of a task queue that were quarantined at a moment, up to `limit`. Primary key. */
export const countQuarantinedAt = async (db: Query, taskQueueId: string, at: Date, limit: number): Promise<number> => {
  const [row] = await db<{ count: number }>`
    select count(*)::int as count from (
      select l.quarantine_until from (
        select distinct on (worker_group, worker_id) quarantine_until from queue.quarantines
        where task_queue_id = ${taskQueueId} and changed <= ${at} order by worker_group, worker_id, changed desc) l
      where l.quarantine_until > ${at} limit ${limit}) q`;
  return row?.count ?? 0;
};

/** Workers ask again within this time while they have nothing to do; a longer silence ends a stretch. */
export const POLL_GAP_MS = 3 * 60_000;

export interface PollStretch {
  readonly taskQueueId: string;
  readonly firstMs: number;
  readonly lastMs: number;
}

/** Prolongs the last stretch of each task queue, or begins another after a silence. At most one per task queue. */
export const notePolls = async (db: Query, stretches: readonly PollStretch[]): Promise<void> => {
  await db`
    with x as materialized (
      select x.task_queue_id, x.first, x.last from unnest(${textArray(stretches.map(s => s.taskQueueId))}::text[],
        ${timestampArray(stretches.map(s => s.firstMs))}::timestamptz[], ${timestampArray(stretches.map(s => s.lastMs))}::timestamptz[]) as x(task_queue_id, first, last)
    ), u as (
      update queue.polls p set ended = greatest(p.ended, x.last)
      from x cross join lateral (
        select l.began, l.ended from queue.polls l where l.task_queue_id = x.task_queue_id order by l.task_queue_id, l.began desc limit 1) l
      where p.task_queue_id = x.task_queue_id and p.began = l.began and l.ended >= x.first - ${POLL_GAP_MS}::float8 * interval '1 millisecond'
      returning p.task_queue_id
    )
    insert into queue.polls (task_queue_id, began, ended)
    select x.task_queue_id, x.first, x.last from x where not exists (select from u where u.task_queue_id = x.task_queue_id)
    order by x.task_queue_id
    on conflict (task_queue_id, began) do update set ended = greatest(polls.ended, excluded.ended)`;
};

/** The stretch that had begun last at a moment. Primary key. */
export const getPolls = async (db: Query, taskQueueId: string, at: Date): Promise<{ began: Date; ended: Date } | undefined> => {
  const [row] = await db<{ began: Date; ended: Date }>`
    select began, ended from queue.polls where task_queue_id = ${taskQueueId} and began <= ${at} order by task_queue_id, began desc limit 1`;
  return row;
};

/** Forgets what is older than is kept; returns how many rows. By index. */
export const deleteOldHistory = async (db: Query, now: Date, keptSince: Date, limit: number): Promise<number> => {
  const changes = await db.run({
    text: 'delete from queue.task_changes where (task_id, seq) in (select task_id, seq from queue.task_changes where at < $1 order by at limit $2)',
    values: [keptSince, limit],
  });
  const quarantines = await db.run({
    text: `delete from queue.quarantines where ctid in (
      select ctid from queue.quarantines where keep_until < $1 order by keep_until limit $2 for update skip locked)`,
    values: [now, limit],
  });
  const polls = await db.run({
    text: `delete from queue.polls where (task_queue_id, began) in (
      select task_queue_id, began from queue.polls where began < $1 and ended < $1 order by began limit $2)`,
    values: [keptSince, limit],
  });
  return Math.max(changes.affected, quarantines.affected, polls.affected);
};
