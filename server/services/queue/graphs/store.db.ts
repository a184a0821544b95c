/** The statements that store a graph. What every task's state is was decided before; `store.ts` tells why that is safe. */
import { bigintArray, boolArray, intArray, textArray, timestampArray } from '../../../db/arrays.ts';
import type { Statement } from '../../../db/sql.ts';
import { priorityRank } from '../rules.ts';
import { EVENT_COLUMNS, eventSql, pristineStatusSql, statusSql } from '../sql-text.ts';
import type { NewNode } from './look.ts';

/**
 * Tasks with their edges, places in line and events. A task that exists fails the statement (23505), and with it the graph: it was not there when the
 * graph was looked at.
 */
const INSERT = `
with x as materialized (
  select * from unnest($1::text[], $2::text[], $3::text[], $4::int4[], $5::int4[], $6::int4[], $7::int8[], $8::timestamptz[], $9::timestamptz[],
    $10::text[], $11::text[], $12::text[], $13::text[], $14::text[])
    as x(task_id, task_queue_id, project_id, priority, retries, unmet, pending_seq, deadline, expires, head, tags, cc, scopes, definition)
), t as (
  insert into queue.tasks (task_id, task_group_id, task_queue_id, scheduler_id, project_id, priority, retries, retries_left, state, run_id, unmet,
    pending_seq, deadline, expires, head, run, tags, cc, scopes, definition)
  select x.task_id, $15::text, x.task_queue_id, $16::text, x.project_id, x.priority, x.retries, x.retries,
    case when x.unmet = 0 then 'pending' else 'unscheduled' end, case when x.unmet = 0 then 0 else -1 end, x.unmet, x.pending_seq, x.deadline,
    x.expires, x.head, case when x.unmet = 0 then '"reasonCreated":"scheduled","scheduled":"' || $17::text || '"' else '' end, x.tags, x.cc, x.scopes,
    x.definition
  from x
  returning ${EVENT_COLUMNS('tasks')}, state, run_id, priority, pending_seq, deadline,
    case when state = 'pending' then ${statusSql('tasks')} end as status, ${pristineStatusSql('tasks')} as pristine
), p as (
  insert into queue.pending (task_queue_id, priority, seq, task_id, run_id, deadline, inserted)
  select t.task_queue_id, t.priority, t.pending_seq, t.task_id, 0, t.deadline, $17::text::timestamptz from t where t.state = 'pending'
), d as (
  insert into queue.deps (required, dependent, any_outcome, satisfied, expires)
  select * from unnest($18::text[], $19::text[], $20::bool[], $21::bool[], $22::timestamptz[])
), o as (
  insert into platform.outbox (msg)
  select string_agg(${eventSql({ exchange: 'taskDefined', t: 't', status: 't.pristine' })} || case when t.state = 'pending' then ',' || ${eventSql(
    { exchange: 'taskPending', t: 't', status: 't.status', runId: '0' },
  )} else '' end, ',') from t
)
select 1`;

/** Stores a part of a graph; `pendingSeqs` are places in line, for those that wait for nothing. */
export const insertStatement = (
  nodes: readonly NewNode[],
  group: { readonly taskGroupId: string; readonly schedulerId: string },
  pendingSeqs: ReadonlyMap<string, number>,
  nowIso: string,
): Statement => {
  const tasks = nodes.map(({ task }) => task);
  // in the order of the index, so that neighbours go into the same pages
  const edges = nodes
    .flatMap(({ task, edges: own }) => own.map(({ required, isSatisfied }) => ({ required, isSatisfied, task })))
    .sort((a, b) => (a.required < b.required ? -1 : 1));
  return {
    text: INSERT,
    values: [
      textArray(tasks.map(t => t.taskId)),
      textArray(tasks.map(t => t.taskQueueId)),
      textArray(tasks.map(t => t.projectId)),
      intArray(tasks.map(t => priorityRank(t.priority))),
      intArray(tasks.map(t => t.retries)),
      intArray(nodes.map(n => n.unmet)),
      bigintArray(tasks.map(t => pendingSeqs.get(t.taskId))),
      timestampArray(tasks.map(t => t.deadlineMs)),
      timestampArray(tasks.map(t => t.expiresMs)),
      textArray(tasks.map(t => t.head)),
      textArray(tasks.map(t => t.tags)),
      textArray(tasks.map(t => t.cc)),
      textArray(tasks.map(t => t.scopes)),
      textArray(tasks.map(t => t.definition)),
      group.taskGroupId,
      group.schedulerId,
      nowIso,
      textArray(edges.map(e => e.required)),
      textArray(edges.map(e => e.task.taskId)),
      boolArray(edges.map(e => e.task.anyOutcome)),
      boolArray(edges.map(e => e.isSatisfied)),
      timestampArray(edges.map(e => e.task.expiresMs)),
    ],
  };
};

/** Places in line, in order (`{ seq }`). */
export const takeSeqsStatement = (count: number): Statement => ({
  text: `select nextval('queue.pending_seq') as seq from generate_series(1, $1::int4)`,
  values: [count],
});

/** Keeps tasks in their state until the transaction ends, in the order of ids; answers with `{ taskId, state }`. */
export const shareStatement = (taskIds: readonly string[]): Statement => ({
  text: `select t.task_id, t.state from unnest($1::text[]) as x(task_id)
    cross join lateral (select t.task_id, t.state from queue.tasks t where t.task_id = x.task_id for share) t`,
  values: [textArray(taskIds.toSorted())],
});
