/** The statements of a rerun with everything downstream (`downstream.ts`). */
import { textArray } from '../../db/arrays.ts';
import type { Query, Statement, Tx } from '../../db/sql.ts';
import { placesOf } from './sql-text.ts';

/** A task downstream, and what decides who may rerun it. */
export interface DownstreamRow {
  readonly taskId: string;
  readonly taskGroupId: string;
  readonly schedulerId: string;
  readonly projectId: string;
  /** Its deadline is past, so that it cannot run again. What depends on it is not looked at. */
  readonly isLate: boolean;
}

/** Reads a task and everything that depends on it (`DownstreamRow`s). */
export const downstreamStatement = (taskId: string, nowIso: string, limit: number): Statement => ({
  text: DOWNSTREAM,
  values: [taskId, nowIso, limit],
});

const DOWNSTREAM = `
with recursive d(task_id, is_late) as (
  select $1::text collate "C", false
  union
  select t.task_id, t.deadline < $2::text::timestamptz
  from d join queue.deps e on e.required = d.task_id join queue.tasks t on t.task_id = (e.dependent collate "C")
  where not d.is_late
)
select t.task_id, t.task_group_id, t.scheduler_id, t.project_id, d.is_late
from (select * from d limit $3::int4) d join queue.tasks t on t.task_id = d.task_id`;

/** A task and everything that depends on it, directly or through others; `limit` at most. The walk ends with the limit. */
export const findDownstream = async (tx: Tx, taskId: string, nowIso: string, limit: number): Promise<DownstreamRow[]> =>
  (await tx.run<DownstreamRow>(downstreamStatement(taskId, nowIso, limit))).rows;

/** Fan-outs of what these tasks did before, still to be worked off: their edges wait for the coming runs. */
export const dropFanoutsStatement = (taskIds: readonly string[]): Statement => ({
  text: 'delete from queue.fanouts f where f.task_id = any($1::text[])',
  values: [textArray(taskIds)],
});

export interface LockedRow {
  readonly taskId: string;
  readonly state: string;
  readonly runId: number;
}

/** Locks tasks in the order of ids. */
export const lockTasksStatement = (taskIds: readonly string[]): Statement => ({
  text: `select x.task_id, t.state, t.run_id from unnest($1::text[]) as x(task_id)
    cross join lateral (select t.state, t.run_id from queue.tasks t where t.task_id = x.task_id for update) t`,
  values: [textArray(taskIds.toSorted())],
});

const LEAVE_LINE = `
with t as materialized (
  select t.task_queue_id, t.priority, t.pending_seq from queue.tasks t where t.task_id = any($1::text[]) and t.state = 'pending'
)
delete from queue.pending p where ${placesOf('t')}`;

/** Takes pending tasks out of line. */
export const leaveLineStatement = (taskIds: readonly string[]): Statement => ({ text: LEAVE_LINE, values: [textArray(taskIds)] });

const HOLD = `
with e as (
  update queue.deps d set satisfied = false from unnest($1::text[]) as x(task_id)
  where d.required = x.task_id and d.satisfied and (d.dependent collate "C") <> $3::text
    and exists (select from queue.tasks t where t.task_id = (d.dependent collate "C") and t.deadline >= $4::text::timestamptz)
  returning d.dependent
), n as materialized (
  select (e.dependent collate "C") as task_id, count(*)::int as edges from e group by 1
)
update queue.tasks t set
  unmet = t.unmet + coalesce(n.edges, 0),
  state = case when t.state = 'pending' and t.run_id = 0 then 'unscheduled' else t.state end,
  run_id = case when t.state = 'pending' and t.run_id = 0 then -1 else t.run_id end,
  run = case when t.state = 'pending' and t.run_id = 0 then '' else t.run end,
  held = not (t.state = 'unscheduled' or (t.state = 'pending' and t.run_id = 0))
from unnest($2::text[]) as x(task_id) left join n on n.task_id = x.task_id
where t.task_id = x.task_id and (n.edges > 0 or (t.state <> 'unscheduled' and not t.held))
returning t.task_id`;

/**
 * Lets tasks wait for `required` again; they are locked, none is running, and none is in line. What never ran is unscheduled then. Answers with those
 * that it changed (`{ taskId }`). `root` is the task that is run again itself.
 */
export const holdStatement = (
  of: { readonly root: string; readonly required: readonly string[]; readonly dependents: readonly string[] },
  nowIso: string,
): Statement => ({ text: HOLD, values: [textArray(of.required), textArray(of.dependents), of.root, nowIso] });

/** Puts a pending task that was held back into line, whatever it waits for. */
export const returnToLineStatement = (taskId: string, nowIso: string): Statement => ({
  text: `with u as (
      update queue.tasks t set held = false, pending_seq = nextval('queue.pending_seq') where t.task_id = $1::text
      returning t.task_queue_id, t.priority, t.pending_seq, t.task_id, t.run_id, t.deadline
    )
    insert into queue.pending (task_queue_id, priority, seq, task_id, run_id, deadline, inserted)
    select u.task_queue_id, u.priority, u.pending_seq, u.task_id, u.run_id, u.deadline, $2::text::timestamptz from u`,
  values: [taskId, nowIso],
});

/** Tasks of a group that are resolved and held; in pages by id. */
export const listHeld = async (db: Query, taskGroupId: string, after: string, limit: number): Promise<string[]> =>
  (
    await db<{ taskId: string }>`
      select task_id from queue.tasks t
      where t.task_group_id = ${taskGroupId} and t.task_id collate platform.protocol_order > ${after}
        and t.held and t.state in ('completed', 'failed', 'exception')
      order by t.task_group_id, t.task_id collate platform.protocol_order limit ${limit}`
  ).map(row => row.taskId);

/** Lets resolved tasks keep the outcome that they have; answers with those that were held. */
export const releaseHeld = async (tx: Tx, taskIds: readonly string[]): Promise<{ taskId: string }[]> =>
  (
    await tx.run<{ taskId: string }>({
      text: `update queue.tasks t set held = false from unnest($1::text[]) as x(task_id)
        where t.task_id = x.task_id and t.held and t.state in ('completed', 'failed', 'exception') returning t.task_id`,
      values: [textArray(taskIds.toSorted())],
    })
  ).rows;
