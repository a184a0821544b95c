/** The table of workers, by task queue, group and id. A worker is known while it has not expired, or while it is quarantined. */
import { textArray } from '../../db/arrays.ts';
import { json, type Query, sql, type Tx } from '../../db/sql.ts';

export interface WorkerRow {
  readonly taskQueueId: string;
  readonly workerGroup: string;
  readonly workerId: string;
  readonly expires: Date;
  readonly firstClaim: Date;
  readonly lastDateActive: Date;
  readonly quarantineUntil: Date;
  /** `taskId/runId`, the newest last. */
  readonly recentTasks: readonly string[];
}

export interface WorkerKey {
  readonly taskQueueId: string;
  readonly workerGroup: string;
  readonly workerId: string;
}

const RECENT_TASKS = 20;
const COLUMNS = sql`w.task_queue_id, w.worker_group, w.worker_id, w.expires, w.first_claim, w.last_date_active, w.quarantine_until, w.recent_tasks`;

/** A known worker of a known task queue. Primary keys. */
export const getWorkerRow = async (db: Query, key: WorkerKey, now: Date): Promise<WorkerRow | undefined> => {
  const [row] = await db<WorkerRow>`
    select ${COLUMNS} from queue.workers w
    where exists (select 1 from queue.task_queues q where q.task_queue_id = ${key.taskQueueId})
      and w.task_queue_id = ${key.taskQueueId} and w.worker_group = ${key.workerGroup} and w.worker_id = ${key.workerId}
      and (w.expires > ${now} or w.quarantine_until > ${now})`;
  return row;
};

/** Known workers of a task queue, by group and id. `quarantined` chooses. Primary key. */
export const listWorkerRows = async (
  db: Query,
  taskQueueId: string,
  options: {
    readonly now: Date;
    readonly quarantined: boolean | undefined;
    readonly after: readonly [string, string] | undefined;
    readonly limit: number;
  },
): Promise<WorkerRow[]> => {
  const { now, quarantined, after, limit } = options;
  const which =
    quarantined === undefined
      ? sql`(w.expires > ${now} or w.quarantine_until > ${now})`
      : quarantined
        ? sql`w.quarantine_until > ${now}`
        : sql`w.expires > ${now} and w.quarantine_until <= ${now}`;
  return db<WorkerRow>`
    select ${COLUMNS} from queue.workers w
    where w.task_queue_id = ${taskQueueId} and ${which}
      ${after === undefined ? sql`` : sql`and (w.worker_group, w.worker_id) > (${after[0]}, ${after[1]})`}
    order by w.task_queue_id, w.worker_group, w.worker_id limit ${limit}`;
};

/** What a worker showed of itself since the last time. */
export interface SeenWorker extends WorkerKey {
  /** `taskId/runId` that it claimed, the newest last. */
  readonly runs: readonly string[];
}

/**
 * Adds or renews workers. A new one starts with a quarantine that ended ten years ago, as clients expect. `expires` moves in steps, because it is
 * indexed: a worker that claims all the time would cost an index entry each time.
 */
export const upsertSeenWorkers = async (tx: Tx, workers: readonly SeenWorker[], now: Date, expires: Date): Promise<void> => {
  await tx`
    insert into queue.workers (task_queue_id, worker_group, worker_id, expires, first_claim, last_date_active, quarantine_until, recent_tasks)
    select x.task_queue_id, x.worker_group, x.worker_id, ${expires}::timestamptz, ${now}::timestamptz, ${now}::timestamptz,
           ${now}::timestamptz - interval '10 years', coalesce(string_to_array(nullif(x.runs, ''), ' '), '{}')
    from unnest(${textArray(workers.map(w => w.taskQueueId))}::text[], ${textArray(workers.map(w => w.workerGroup))}::text[],
                ${textArray(workers.map(w => w.workerId))}::text[], ${textArray(workers.map(w => w.runs.slice(-RECENT_TASKS).join(' ')))}::text[])
      as x(task_queue_id, worker_group, worker_id, runs)
    order by x.task_queue_id collate "C", x.worker_group collate "C", x.worker_id collate "C"
    on conflict (task_queue_id, worker_group, worker_id) do update set
      expires = case when excluded.expires > workers.expires + interval '30 minutes' then excluded.expires else workers.expires end,
      last_date_active = greatest(workers.last_date_active, excluded.last_date_active),
      recent_tasks = (workers.recent_tasks || excluded.recent_tasks)
        [greatest(cardinality(workers.recent_tasks) + cardinality(excluded.recent_tasks) - ${RECENT_TASKS - 1}::int, 1):]`;
};

/** Adds a worker, or keeps it for longer; it is active now. */
export const declareWorkerRow = async (tx: Tx, key: WorkerKey, now: Date, expires: Date): Promise<void> => {
  await tx`
    insert into queue.workers (task_queue_id, worker_group, worker_id, expires, first_claim, last_date_active, quarantine_until)
    values (${key.taskQueueId}, ${key.workerGroup}, ${key.workerId}, ${expires}, ${now}, ${now}, ${now}::timestamptz - interval '10 years')
    on conflict (task_queue_id, worker_group, worker_id) do update set
      expires = greatest(workers.expires, excluded.expires), last_date_active = excluded.last_date_active`;
};

/** A change of a worker's quarantine. */
export interface QuarantineChange {
  readonly clientId: string;
  readonly updatedAt: string;
  readonly quarantineUntil: string;
  readonly quarantineInfo: string;
}

/** Changes of one worker that are remembered; older ones are dropped. */
const MAX_CHANGES = 1_000;

/** Sets a worker's quarantine and notes who did it; the worker is kept at least until `keepUntil`. False when there is no such row. */
export const setQuarantine = async (tx: Tx, key: WorkerKey, until: Date, change: QuarantineChange, keepUntil: Date): Promise<boolean> => {
  const [row] = await tx<{ quarantineDetails: string }>`
    select quarantine_details from queue.workers
    where task_queue_id = ${key.taskQueueId} and worker_group = ${key.workerGroup} and worker_id = ${key.workerId} for update`;
  if (!row) {
    return false;
  }
  const changes = [...(JSON.parse(row.quarantineDetails) as QuarantineChange[]), change].slice(-MAX_CHANGES);
  await tx`
    update queue.workers set quarantine_until = ${until}, quarantine_details = ${json(changes)}, expires = greatest(expires, ${keepUntil}::timestamptz)
    where task_queue_id = ${key.taskQueueId} and worker_group = ${key.workerGroup} and worker_id = ${key.workerId}`;
  return true;
};

/** Every worker that gets no tasks now. Index on quarantine_until. */
export const listQuarantined = async (db: Query, now: Date): Promise<(WorkerKey & { readonly quarantineUntil: Date })[]> =>
  db`select task_queue_id, worker_group, worker_id, quarantine_until from queue.workers where quarantine_until > ${now}`;

/** Removes workers that expired before a time and are not quarantined; returns how many. Index on expires. */
export const deleteExpiredWorkers = async (db: Query, before: Date, now: Date, limit: number): Promise<number> => {
  const rows = await db`
    delete from queue.workers where ctid in (
      select ctid from queue.workers where expires < ${before} and quarantine_until < ${now} order by expires limit ${limit} for update skip locked)
    returning worker_id`;
  return rows.length;
};
