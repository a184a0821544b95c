/**
 * Storing new tasks, many at once, in one statement: group checked and locked, task, edges, pending row, group counter, events.
 *
 * The group is decided on its locked row. Where it does not exist yet, two transactions may make it at the same time; the one that comes second finds
 * it on the conflict, and if that makes its tasks wrong (sealed, another scheduler) it sets the counter to -1, which undoes the whole transaction:
 * run again, it sees the group.
 *
 * Required tasks are locked `for share`, so that none can be resolved between the look at its state and the commit that shows the edge to whoever
 * resolves it. `for key share` would not do: an ordinary update does not conflict with it.
 */
import { boolArray, intArray, textArray, timestampArray } from '../../db/arrays.ts';
import type { Statement } from '../../db/sql.ts';
import { LAST_TIME } from '../../platform/validate.ts';
import type { NewTask } from './definition.ts';
import { priorityRank } from './rules.ts';
import { EVENT_COLUMNS, eventSql, pristineStatusSql, statusSql } from './sql-text.ts';

/** A task that was stored; those that are missing were refused or existed. */
export interface CreatedRow {
  readonly taskId: string;
  readonly state: 'pending' | 'unscheduled';
}

const NEW_RUN = `'"reasonCreated":"scheduled","scheduled":"' || $15::text || '"'`;

const text = (withDependencies: boolean): string => `
with x as materialized (
  select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int4[], $7::int4[], $8::timestamptz[], $9::timestamptz[],
    $10::text[], $11::text[], $12::text[], $13::text[], $14::text[])
    as x(task_id, task_group_id, task_queue_id, scheduler_id, project_id, priority, retries, deadline, expires, head, tags, cc, scopes, definition)
)${
  withDependencies
    ? `, e as materialized (
  select e.dependent, e.required, e.any_outcome, r.expires,
    r.state is null and e.required <> e.dependent as missing,
    coalesce(r.state = 'completed' or (e.any_outcome and r.state in ('failed', 'exception')), false) as satisfied
  from unnest($16::text[], $17::text[], $18::bool[]) as e(dependent, required, any_outcome)
  left join lateral (select t.state, t.expires from queue.tasks t where t.task_id = e.required for share) r on true
), n as materialized (
  select dependent, bool_or(missing) as missing, min(expires) as first_expires, count(*) filter (where not satisfied) as unmet,
    bool_or(any_outcome) as any_outcome, array_agg(required) as required, array_agg(satisfied) as satisfied
  from e group by dependent
)`
    : ''
}, t as (
  insert into queue.tasks (task_id, task_group_id, task_queue_id, scheduler_id, project_id, priority, retries, retries_left, state, run_id, unmet,
    pending_seq, deadline, expires, head, run, tags, cc, scopes, definition)
  select x.task_id, x.task_group_id, x.task_queue_id, x.scheduler_id, x.project_id, x.priority, x.retries, x.retries,
    ${
      withDependencies
        ? `case when coalesce(n.unmet, 0) = 0 then 'pending' else 'unscheduled' end, case when coalesce(n.unmet, 0) = 0 then 0 else -1 end, coalesce(n.unmet, 0),
    case when coalesce(n.unmet, 0) = 0 then nextval('queue.pending_seq') end, x.deadline, x.expires, x.head,
    case when coalesce(n.unmet, 0) = 0 then ${NEW_RUN} else '' end`
        : `'pending', 0, 0, nextval('queue.pending_seq'), x.deadline, x.expires, x.head, ${NEW_RUN}`
    }, x.tags, x.cc, x.scopes, x.definition
  from x
  left join lateral (select g.scheduler_id, g.sealed from queue.groups g where g.task_group_id = x.task_group_id for update) g on true
  ${withDependencies ? 'left join n on n.dependent = x.task_id' : ''}
  where (g.scheduler_id is null or (g.scheduler_id = x.scheduler_id and g.sealed is null))
    ${withDependencies ? 'and not coalesce(n.missing, false) and not coalesce(n.first_expires < x.deadline, false)' : ''}
  on conflict (task_id) do nothing
  returning ${EVENT_COLUMNS('tasks')}, state, run_id, priority, pending_seq, deadline, expires, ${statusSql('tasks')} as status, ${pristineStatusSql('tasks')} as pristine
), g as (
  insert into queue.groups as g (task_group_id, scheduler_id, expires, unresolved)
  select t.task_group_id, min(t.scheduler_id), least(max(t.expires) + interval '1 hour', timestamptz '${LAST_TIME}'), count(*) from t group by t.task_group_id order by t.task_group_id
  on conflict (task_group_id) do update set
    unresolved = case when g.sealed is null and g.scheduler_id = excluded.scheduler_id then g.unresolved + excluded.unresolved else -1 end,
    expires = case when g.expires < excluded.expires - interval '1 hour' then excluded.expires else g.expires end
), p as (
  insert into queue.pending (task_queue_id, priority, seq, task_id, run_id, deadline, inserted)
  select t.task_queue_id, t.priority, t.pending_seq, t.task_id, 0, t.deadline, $15::text::timestamptz from t where t.state = 'pending'
)${
  withDependencies
    ? `, d as (
  insert into queue.deps (required, dependent, any_outcome, satisfied, expires)
  select r.required, t.task_id, n.any_outcome, r.satisfied, t.expires
  from t join n on n.dependent = t.task_id cross join lateral unnest(n.required, n.satisfied) as r(required, satisfied)
)`
    : ''
}, o as (
  insert into platform.outbox (msg)
  select string_agg(${eventSql({ exchange: 'taskDefined', t: 't', status: 't.pristine' })} || case when t.state = 'pending' then ',' || ${eventSql(
    {
      exchange: 'taskPending',
      t: 't',
      status: 't.status',
      runId: '0',
    },
  )} else '' end, ',') from t having count(*) > 0
)
select task_id, state from t`;

const CREATE = text(false);
const CREATE_WITH_DEPENDENCIES = text(true);

/** Stores tasks and announces them; at most one per task id, groups with one scheduler each. Answers with `CreatedRow`s. */
export const createStatement = (tasks: readonly NewTask[], nowIso: string): Statement => {
  const values: unknown[] = [
    textArray(tasks.map(t => t.taskId)),
    textArray(tasks.map(t => t.taskGroupId)),
    textArray(tasks.map(t => t.taskQueueId)),
    textArray(tasks.map(t => t.schedulerId)),
    textArray(tasks.map(t => t.projectId)),
    intArray(tasks.map(t => priorityRank(t.priority))),
    intArray(tasks.map(t => t.retries)),
    timestampArray(tasks.map(t => t.deadlineMs)),
    timestampArray(tasks.map(t => t.expiresMs)),
    textArray(tasks.map(t => t.head)),
    textArray(tasks.map(t => t.tags)),
    textArray(tasks.map(t => t.cc)),
    textArray(tasks.map(t => t.scopes)),
    textArray(tasks.map(t => t.definition)),
    nowIso,
  ];
  if (!tasks.some(task => task.dependencies.length > 0)) {
    return { text: CREATE, values };
  }
  const edges = tasks
    .flatMap(task => task.dependencies.map(required => ({ dependent: task.taskId, required, anyOutcome: task.anyOutcome })))
    .sort((a, b) => (a.required < b.required ? -1 : a.required > b.required ? 1 : 0)); // locks are taken in the order of ids
  values.push(textArray(edges.map(e => e.dependent)), textArray(edges.map(e => e.required)), boolArray(edges.map(e => e.anyOutcome)));
  return { text: CREATE_WITH_DEPENDENCIES, values };
};
