/** Reading tasks, and changing single ones. */
import { textArray } from '../../db/arrays.ts';
import type { Query, Statement, Tx } from '../../db/sql.ts';
import type { ChangedBy } from './explain/history.db.ts';
import { EVENT_COLUMNS, eventSql, lastRunSql, placesOf, statusSql } from './sql-text.ts';

const STATUSES = `select t.task_id, ${statusSql('t')} as status from queue.tasks t where t.task_id = any($1::text[])`;
const DEFINITIONS = `select t.task_id, t.priority, t.definition from queue.tasks t where t.task_id = any($1::text[])`;

export interface StatusRow {
  readonly taskId: string;
  readonly status: string;
}
export interface DefinitionRow {
  readonly taskId: string;
  readonly priority: number;
  readonly definition: string;
}

/** Statuses of distinct tasks (`StatusRow`s); unknown ones are missing. */
export const statusesStatement = (taskIds: readonly string[]): Statement => ({ text: STATUSES, values: [textArray(taskIds)] });
/** Definitions of distinct tasks (`DefinitionRow`s); unknown ones are missing. */
export const definitionsStatement = (taskIds: readonly string[]): Statement => ({ text: DEFINITIONS, values: [textArray(taskIds)] });

/** A task without its long texts, for decisions. */
export interface TaskRow {
  readonly taskId: string;
  readonly taskGroupId: string;
  readonly taskQueueId: string;
  readonly schedulerId: string;
  readonly projectId: string;
  readonly priority: number;
  readonly retries: number;
  readonly retriesLeft: number;
  readonly state: string;
  readonly runId: number;
  /** Dependencies that are not satisfied. */
  readonly unmet: number;
  readonly timesResolved: number;
  readonly claimedDirectly: boolean;
  /** It has runs and waits for its dependencies again: for another run if it is resolved, for a place in line if it is pending. */
  readonly held: boolean;
  readonly pendingSeq: number | null;
  readonly takenUntil: Date | null;
  readonly workerGroup: string | null;
  readonly workerId: string | null;
  readonly deadline: Date;
  readonly expires: Date;
  readonly scopes: string;
  readonly tags: string;
  readonly cc: string;
  readonly status: string;
}

const TASK_COLUMNS = `t.task_id, t.task_group_id, t.task_queue_id, t.scheduler_id, t.project_id, t.priority, t.retries, t.retries_left, t.state, t.run_id, t.unmet,
  t.times_resolved, t.claimed_directly, t.held, t.pending_seq, t.taken_until, t.worker_group, t.worker_id, t.deadline, t.expires, t.scopes,
  t.tags, t.cc`;
const TASK = `select ${TASK_COLUMNS}, ${statusSql('t')} as status from queue.tasks t where t.task_id = $1`;

export const getTask = async (db: Query, taskId: string): Promise<TaskRow | undefined> =>
  (await db.run<TaskRow>({ text: TASK, values: [taskId] })).rows[0];

/** Reads a task and keeps it as it is until the transaction ends. */
export const lockTask = async (tx: Tx, taskId: string): Promise<TaskRow | undefined> =>
  (await tx.run<TaskRow>({ text: `${TASK} for update`, values: [taskId] })).rows[0];

/** Reads a task whose state nobody changes until the transaction ends; others may read it in the same way. */
export const shareTask = async (tx: Tx, taskId: string): Promise<TaskRow | undefined> =>
  (await tx.run<TaskRow>({ text: `${TASK} for share`, values: [taskId] })).rows[0];

/** The definition as stored (without `{` and priority) and the priority's rank. */
export const getDefinition = async (db: Query, taskId: string): Promise<DefinitionRow | undefined> =>
  (await db.run<DefinitionRow>(definitionsStatement([taskId]))).rows[0];

const ADD_RUN = `
with u as (
  update queue.tasks t set
    state = 'pending', run_id = t.run_id + 1, retries_left = $3::int, taken_until = null, claimed_directly = false, held = false,
    pending_seq = nextval('queue.pending_seq'),
    past = case when t.run_id < 0 then null else coalesce(t.past || ',', '') || ${lastRunSql('t')} end,
    run = '"reasonCreated":"' || $2::text || '","scheduled":"' || $4::text || '"'
  where t.task_id = $1::text
  returning ${EVENT_COLUMNS('t')}, t.run_id, t.priority, t.pending_seq, t.deadline, ${statusSql('t')} as status
), p as (
  insert into queue.pending (task_queue_id, priority, seq, task_id, run_id, deadline, inserted)
  select u.task_queue_id, u.priority, u.pending_seq, u.task_id, u.run_id, u.deadline, $4::text::timestamptz from u
), o as (
  insert into platform.outbox (msg) select ${eventSql({ exchange: 'taskPending', t: 'u', status: 'u.status', runId: 'u.run_id' })} from u
)
select status from u`;

/** Gives a locked task another pending run, and announces it. Answers with the status as JSON text. */
export const addRun = async (
  tx: Tx,
  taskId: string,
  reasonCreated: 'scheduled' | 'rerun',
  retriesLeft: number,
  nowIso: string,
): Promise<string> => {
  const { rows } = await tx.run<{ status: string }>({ text: ADD_RUN, values: [taskId, reasonCreated, retriesLeft, nowIso] });
  return (rows[0] as { status: string }).status;
};

const CLAIM_ONE = `
with u as (
  update queue.tasks t set
    state = 'running', taken_until = $5::text::timestamptz, claimed_directly = true, held = false, worker_group = $2::text, worker_id = $3::text,
    run = t.run || ',"workerGroup":"' || $2::text || '","workerId":"' || $3::text || '","started":"' || $4::text || '"'
  where t.task_id = $1::text
  returning ${EVENT_COLUMNS('t')}, t.run_id, t.worker_group, t.worker_id, t.taken_until, t.priority, t.pending_seq, t.scopes, t.definition, ${statusSql('t')} as status
), d as (
  delete from queue.pending p where ${placesOf('u')}
), c as (
  insert into queue.claims (taken_until, task_id, run_id, task_queue_id, worker_group, worker_id, claimed, answered)
  select u.taken_until, u.task_id, u.run_id, u.task_queue_id, u.worker_group, u.worker_id, $4::text::timestamptz, true from u
), o as (
  insert into platform.outbox (msg) select ${eventSql({
    exchange: 'taskRunning',
    t: 'u',
    status: 'u.status',
    runId: 'u.run_id',
    workerGroup: 'u.worker_group',
    workerId: 'u.worker_id',
    more: `',"takenUntil":"' || $5::text || '"'`,
  })} from u
)
select status from u`;

/** Gives the pending run of a locked task to a worker that named it, and announces it. Answers with the status as JSON text. */
export const claimOne = async (
  tx: Tx,
  taskId: string,
  worker: { readonly workerGroup: string; readonly workerId: string },
  nowIso: string,
  takenUntilIso: string,
): Promise<string> => {
  const values = [taskId, worker.workerGroup, worker.workerId, nowIso, takenUntilIso];
  const { rows } = await tx.run<{ status: string }>({ text: CLAIM_ONE, values });
  return (rows[0] as { status: string }).status;
};

/**
 * The place in line is taken away and made anew: workers who look meanwhile pass the run over. Were it updated, one whose look at the line began before
 * the commit would be handed the run at its former place.
 */
const CHANGE_PRIORITIES = `
with w as materialized (
  select i.task_id, t.priority from unnest($1::text[]) as i(task_id) cross join lateral (
    select t.priority from queue.tasks t
    where t.task_id = i.task_id and t.priority <> $2::int2 and t.times_resolved = 0 and t.deadline > $3::text::timestamptz for update) t
), u as (
  update queue.tasks t set priority = $2::int2 from w where t.task_id = w.task_id
  returning t.task_id, t.task_queue_id, t.pending_seq, w.priority
), d as (
  delete from queue.pending p where ${placesOf('u')}
  returning p.task_queue_id, p.seq, p.task_id, p.run_id, p.deadline, p.inserted
), p as (
  insert into queue.pending (task_queue_id, priority, seq, task_id, run_id, deadline, inserted)
  select d.task_queue_id, $2::int2, d.seq, d.task_id, d.run_id, d.deadline, d.inserted from d
), h as (
  insert into queue.task_changes (task_id, at, kind, of_group, client_id, old_priority, new_priority)
  select u.task_id, $3::text::timestamptz, 'priority', $4::bool, $5::text, u.priority, $2::int2 from u
)
select task_id from u order by task_id collate platform.protocol_order`;

/** Moves tasks that were never resolved and are before their deadline to another priority; answers with those that had another, by id. */
export const changePriorities = async (
  tx: Tx,
  taskIds: readonly string[],
  rank: number,
  by: ChangedBy,
  nowIso: string,
): Promise<string[]> => {
  const values = [textArray(taskIds), rank, nowIso, by.ofGroup, by.clientId];
  return (await tx.run<{ taskId: string }>({ text: CHANGE_PRIORITIES, values })).rows.map(row => row.taskId);
};
