/** The table of task queues that somebody has used lately, and what it says of provisioners: the first halves of their ids. */
import { textArray, timestampArray } from '../../db/arrays.ts';
import { type Query, sql, type Tx } from '../../db/sql.ts';

export interface TaskQueueRow {
  readonly taskQueueId: string;
  readonly expires: Date;
  readonly lastDateActive: Date;
}

export interface ProvisionerRow {
  readonly provisionerId: string;
  readonly expires: Date;
  readonly lastDateActive: Date;
}

/** An unexpired task queue. Primary key. */
export const getTaskQueueRow = async (db: Query, taskQueueId: string, now: Date): Promise<TaskQueueRow | undefined> => {
  const [row] = await db<TaskQueueRow>`
    select task_queue_id, expires, last_date_active from queue.task_queues where task_queue_id = ${taskQueueId} and expires > ${now}`;
  return row;
};

/** Unexpired task queues by id. Primary key. */
export const listTaskQueueRows = async (db: Query, now: Date, after: string | undefined, limit: number): Promise<TaskQueueRow[]> => db`
  select task_queue_id, expires, last_date_active from queue.task_queues
  where expires > ${now} ${after === undefined ? sql`` : sql`and task_queue_id > ${after}`}
  order by task_queue_id limit ${limit}`;

/** Unexpired task queues of a provisioner by id. Index on provisioner and id. */
export const listTaskQueuesOf = async (
  db: Query,
  provisionerId: string,
  now: Date,
  after: string | undefined,
  limit: number,
): Promise<TaskQueueRow[]> => db`
  select task_queue_id, expires, last_date_active from queue.task_queues
  where provisioner_id = ${provisionerId} and expires > ${now} ${after === undefined ? sql`` : sql`and task_queue_id > ${after}`}
  order by provisioner_id, task_queue_id limit ${limit}`;

/** What the unexpired task queues of a provisioner are together. */
export const getProvisionerRow = async (db: Query, provisionerId: string, now: Date): Promise<ProvisionerRow | undefined> => {
  const [row] = await db<ProvisionerRow>`
    select provisioner_id, max(expires) as expires, max(last_date_active) as last_date_active from queue.task_queues
    where provisioner_id = ${provisionerId} and expires > ${now} group by provisioner_id`;
  return row;
};

/** Provisioners by id. Index on provisioner and id. */
export const listProvisionerRows = async (db: Query, now: Date, after: string | undefined, limit: number): Promise<ProvisionerRow[]> => db`
  select provisioner_id, max(expires) as expires, max(last_date_active) as last_date_active from queue.task_queues
  where expires > ${now} ${after === undefined ? sql`` : sql`and provisioner_id > ${after}`}
  group by provisioner_id order by provisioner_id limit ${limit}`;

/** Adds task queues, or keeps them for longer; they are active now. */
export const upsertTaskQueues = async (
  tx: Tx,
  queues: readonly { readonly taskQueueId: string; readonly expiresMs: number }[],
  now: Date,
): Promise<void> => {
  await tx`
    insert into queue.task_queues (task_queue_id, provisioner_id, expires, last_date_active)
    select x.task_queue_id, split_part(x.task_queue_id, '/', 1), x.expires, ${now}::timestamptz
    from unnest(${textArray(queues.map(q => q.taskQueueId))}::text[], ${timestampArray(queues.map(q => q.expiresMs))}::timestamptz[])
      as x(task_queue_id, expires)
    order by x.task_queue_id collate "C"
    on conflict (task_queue_id) do update set
      expires = greatest(task_queues.expires, excluded.expires),
      last_date_active = greatest(task_queues.last_date_active, excluded.last_date_active)`;
};

/** Removes task queues that expired before a time; returns how many. Index on expires. */
export const deleteExpiredTaskQueues = async (db: Query, before: Date, limit: number): Promise<number> => {
  const rows = await db`
    delete from queue.task_queues where ctid in (
      select ctid from queue.task_queues where expires < ${before} order by expires limit ${limit} for update skip locked)
    returning task_queue_id`;
  return rows.length;
};
