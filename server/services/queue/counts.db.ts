/** What waits in a task queue and what its workers hold. */
import type { Query } from '../../db/sql.ts';
import { definitionText } from './definition.ts';
import { priorityName } from './rules.ts';

/** Runs that could be claimed now. */
export const countPending = async (db: Query, taskQueueId: string, now: Date): Promise<number> => {
  const [row] = await db<{ count: number }>`
    select count(*) as count from queue.pending where task_queue_id = ${taskQueueId} and deadline > ${now}`;
  return row?.count ?? 0;
};

/** Runs with a claim that is valid now. */
export const countClaimed = async (db: Query, taskQueueId: string, now: Date): Promise<number> => {
  const [row] = await db<{ count: number }>`
    select count(*) as count from queue.claims where task_queue_id = ${taskQueueId} and taken_until > ${now}`;
  return row?.count ?? 0;
};

interface Listed {
  readonly taskId: string;
  readonly runId: number;
  readonly priority: number;
  readonly definition: string;
}

export interface PendingRow extends Listed {
  readonly seq: number;
  readonly inserted: Date;
}

/** Pending runs, the oldest first whatever their priority: the lines of all priorities, each read by its index, merged. */
export const listPending = (db: Query, taskQueueId: string, after: number, limit: number, now: Date): Promise<PendingRow[]> =>
  db<PendingRow>`
    select p.task_id, p.run_id, p.seq, p.inserted, t.priority, t.definition
    from generate_series(1, 7) as rank
    cross join lateral (
      select p.task_id, p.run_id, p.seq, p.inserted from queue.pending p
      where p.task_queue_id = ${taskQueueId} and p.priority = rank and p.seq > ${after} and p.deadline > ${now}
      order by p.task_queue_id, p.priority, p.seq limit ${limit}) p
    join queue.tasks t on t.task_id = p.task_id
    order by p.seq limit ${limit}`;

export interface ClaimRow extends Listed {
  readonly workerGroup: string;
  readonly workerId: string;
  readonly claimed: Date;
}

/** Held runs in the order in which they were claimed or prolonged; one per task, its latest. */
export const listClaimed = (
  db: Query,
  taskQueueId: string,
  after: { readonly claimed: Date; readonly taskId: string },
  limit: number,
  now: Date,
): Promise<ClaimRow[]> =>
  db<ClaimRow>`
    select c.task_id, c.run_id, c.worker_group, c.worker_id, c.claimed, t.priority, t.definition
    from queue.claims c join queue.tasks t on t.task_id = c.task_id
    where c.task_queue_id = ${taskQueueId} and (c.claimed, c.task_id) > (${after.claimed}, ${after.taskId}) and c.taken_until > ${now}
      and not exists (
        select from queue.claims later
        where later.task_queue_id = c.task_queue_id and later.task_id = c.task_id and later.claimed > c.claimed and later.taken_until > ${now})
    order by c.task_queue_id, c.claimed, c.task_id limit ${limit}`;

/** The definition of a listed run. */
export const listedDefinition = (row: Listed): string => definitionText(priorityName(row.priority), row.definition);
