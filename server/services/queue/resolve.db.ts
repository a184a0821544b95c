/**
 * Ends of runs: reports of workers, claims that ran out, workers that went, cancellations and deadlines. Each is one set-based statement that changes
 * tasks, removes what is no longer pending or claimed, counts down the group and announces; `satisfyStatement` must follow in the same transaction,
 * for the tasks that wait for the resolved ones.
 *
 * Why two statements: two parts of one statement that update the same row lose one of the updates without an error (a task resolved and released
 * together), and only the second statement's snapshot sees the edges of a task created under a lock for which the first one waited.
 */
import { intArray, textArray, timestampArray } from '../../db/arrays.ts';
import type { Statement } from '../../db/sql.ts';
import { MAX_RUNS, retryReason } from './rules.ts';
import { claimsOf, EVENT_COLUMNS, eventSql, groupEventSql, isoSql, lastRunSql, placesOf, statusSql } from './sql-text.ts';

/** Edges of one task that are satisfied in the transaction that resolves it; tasks with more are left to the dependency loop. */
export const MAX_EDGES = 500;
/** The same for all tasks of one transaction. */
const MAX_EDGES_TOGETHER = 2_000;

/** Counts resolved tasks out of their groups; `resolved` is what has a row per resolution. */
const countOutSql = (resolved: string): string => `g as (
  update queue.groups g set unresolved = g.unresolved - r.first from
    (select r.task_group_id, count(*) filter (where r.times_resolved = 1) as first from ${resolved} r group by r.task_group_id order by r.task_group_id) r
  where g.task_group_id = r.task_group_id
  returning g.task_group_id, g.scheduler_id, g.expires, g.sealed, g.unresolved
)`;
/** Announces what the rows of `u` say, and then groups without any task left that was never resolved. */
const announceSql = (event: string): string => `o as (
  insert into platform.outbox (msg)
  select concat_ws(',', u.events, g.events) from (select string_agg(${event}, ',') as events from u) u
  cross join (select string_agg(${groupEventSql('taskGroupResolved', 'g')}, ',') as events from g where g.unresolved = 0) g
  where u.events is not null
)`;

const WORKER_EVENT = { t: 'u', status: 'u.status', runId: 'u.ended', workerGroup: 'u.worker_group', workerId: 'u.worker_id' } as const;

const OUTCOME_EXCHANGES = { completed: 'taskCompleted', failed: 'taskFailed', exception: 'taskException' } as const;

/**
 * Most ends are final, as what is reported as completed or failed: for them there is a statement without the parts for another try, which is set up in
 * a fifth less time.
 */
const endRuns = (mayRetry: boolean): string => {
  const retries = 'x.retry is not null and t.retries_left > 0';
  const resolution = `t.run || ',"reasonResolved":"' || x.reason || '","resolved":"' || $7::text || '"'`;
  const set = mayRetry
    ? `state = case when ${retries} then 'pending' else x.state end,
    retries_left = case when ${retries} then t.retries_left - 1 else t.retries_left end,
    run_id = case when ${retries} then t.run_id + 1 else t.run_id end,
    past = case when ${retries}
      then coalesce(t.past || ',', '') || '{"runId":' || t.run_id || ',"state":"' || x.state || '",' || t.run || ',"takenUntil":"' || ${isoSql('t.taken_until')}
        || '","reasonResolved":"' || x.reason || '","resolved":"' || $7::text || '"}'
      else t.past end,
    run = case when ${retries} then '"reasonCreated":"' || x.retry || '","scheduled":"' || $7::text || '"' else ${resolution} end,
    taken_until = case when ${retries} then null else t.taken_until end,
    claimed_directly = t.claimed_directly and not (${retries}),
    pending_seq = case when ${retries} then nextval('queue.pending_seq') else t.pending_seq end,
    times_resolved = case when ${retries} then t.times_resolved else t.times_resolved + 1 end`
    : `state = x.state, run = ${resolution}, times_resolved = t.times_resolved + 1`;
  const resolved = mayRetry ? `(select * from u where u.state <> 'pending')` : 'u';
  const ended = eventSql({ exchange: { of: 'u.outcome', cases: OUTCOME_EXCHANGES }, ...WORKER_EVENT });
  const triedAgain = ` || case when u.state = 'pending' then ',' || ${eventSql({ exchange: 'taskPending', t: 'u', status: 'u.status', runId: 'u.run_id' })} else '' end`;
  return `
with x as materialized (
  select * from unnest($1::text[], $2::int4[], $3::text[], $4::text[], $5::text[], $6::timestamptz[])
    as x(task_id, run_id, state, reason, retry, taken_until)
), u as (
  update queue.tasks t set
    ${set}
  from x
  where t.task_id = x.task_id and t.run_id = x.run_id and t.state = 'running'
    and (x.taken_until is null or (t.taken_until = x.taken_until and t.deadline > $7::text::timestamptz))
  returning ${EVENT_COLUMNS('t')}, t.state, t.run_id, x.run_id as ended, x.state as outcome, t.times_resolved, t.priority, t.pending_seq, t.deadline,
    t.taken_until, t.worker_group, t.worker_id, ${statusSql('t')} as status
), c as (
  delete from queue.claims c where ${claimsOf(resolved)}
)${
    mayRetry
      ? `, p as (
  insert into queue.pending (task_queue_id, priority, seq, task_id, run_id, deadline, inserted)
  select u.task_queue_id, u.priority, u.pending_seq, u.task_id, u.run_id, u.deadline, $7::text::timestamptz
  from u where u.state = 'pending' and u.deadline > $7::text::timestamptz
)`
      : ''
  }, ${countOutSql(resolved)}, ${announceSql(`${ended}${mayRetry ? triedAgain : ''}`)}
select task_id, task_queue_id, state, outcome, status from u`;
};
const END_RUNS = endRuns(false);
const END_OR_RETRY_RUNS = endRuns(true);

/** The end of a run that is running. */
export interface RunEnd {
  readonly taskId: string;
  readonly runId: number;
  readonly outcome: 'completed' | 'failed' | 'exception';
  readonly reason: string;
  /** Given: only if the claim still ends then, and the deadline is ahead (claim expiry). */
  readonly takenUntilMs?: number;
}

export interface EndedRow {
  readonly taskId: string;
  readonly taskQueueId: string;
  /** `pending` when it is tried again. */
  readonly state: string;
  readonly outcome: string;
  readonly status: string;
}

/**
 * Ends runs that are the last of their task and running; others are left alone and missing in the answer (`EndedRow`s). What may be tried again is
 * made pending again while there are retries left.
 */
export const endRunsStatement = (ends: readonly RunEnd[], nowIso: string): Statement => {
  const sorted = sortByTask(ends);
  const retry = sorted.map(end => retryReason(end.reason));
  return {
    text: retry.some(reason => reason !== undefined) ? END_OR_RETRY_RUNS : END_RUNS,
    values: [
      textArray(sorted.map(end => end.taskId)),
      intArray(sorted.map(end => end.runId)),
      textArray(sorted.map(end => end.outcome)),
      textArray(sorted.map(end => end.reason)),
      textArray(retry),
      timestampArray(sorted.map(end => end.takenUntilMs)),
      nowIso,
    ],
  };
};

const sortByTask = <T extends { readonly taskId: string }>(items: readonly T[]): T[] =>
  items.toSorted((a, b) => (a.taskId < b.taskId ? -1 : a.taskId > b.taskId ? 1 : 0));

const GIVE_UP = (withWorker: boolean): string => `
with u as (
  update queue.tasks t set
    state = 'exception', run_id = greatest(t.run_id, 0), times_resolved = t.times_resolved + 1,
    run = case when t.run_id < 0 then '"reasonCreated":"exception","scheduled":"' || $3::text || '"' else t.run end
      || ',"reasonResolved":"' || $2::text || '","resolved":"' || $3::text || '"',
    held = false
  where t.task_id = any($1::text[]) and t.state in ('unscheduled', 'pending', 'running')
  returning ${EVENT_COLUMNS('t')}, t.run_id, t.run_id as ended, t.times_resolved, t.priority, t.pending_seq, t.taken_until,
    case when t.taken_until is not null then t.worker_group end as worker_group, case when t.taken_until is not null then t.worker_id end as worker_id,
    ${statusSql('t')} as status
), c as (
  delete from queue.claims c where ${claimsOf('u')}
), p as (
  delete from queue.pending p where ${placesOf('u')}
), ${countOutSql('u')}, ${announceSql(
  eventSql({ exchange: 'taskException', ...(withWorker ? WORKER_EVENT : { t: 'u', status: 'u.status', runId: 'u.ended' }) }),
)}
select task_id, task_queue_id, status from u order by task_id collate platform.protocol_order`;
const CANCEL = GIVE_UP(true);
const EXCEED_DEADLINE = GIVE_UP(false);

/**
 * Resolves whatever is not resolved yet, for good: cancellation and deadline. A task without runs gets one to carry the outcome. Answers with
 * `{ taskId, taskQueueId, status }` of those that were changed.
 */
export const giveUpStatement = (taskIds: readonly string[], reason: 'canceled' | 'deadline-exceeded', nowIso: string): Statement => ({
  text: reason === 'canceled' ? CANCEL : EXCEED_DEADLINE,
  values: [textArray(taskIds.toSorted()), reason, nowIso],
});

/** Locks the pending rows of tasks, as claims do first: whoever locks tasks before would wait for a claim that waits for them. */
export const lockPendingStatement = (taskIds: readonly string[]): Statement => ({
  text: `with t as materialized (select t.task_queue_id, t.priority, t.pending_seq from queue.tasks t where t.task_id = any($1::text[]))
    select p.task_queue_id from queue.pending p where ${placesOf('t')} order by p.task_queue_id, p.priority, p.seq for update`,
  values: [textArray(taskIds)],
});

// ---- dependents ----

/**
 * From `e`, edges that were satisfied (`dependent`): counts dependents down, makes those with nothing left to wait for pending, announces them. One that
 * is held (`rerun-downstream.ts`) gets another run if it is resolved, and goes back into line if it is pending.
 */
const RELEASE = `n as materialized (
  select (e.dependent collate "C") as task_id, count(*)::int as satisfied from e group by 1 order by 1
), w as materialized (
  select n.task_id, n.satisfied, t.unmet, t.state, t.held, t.deadline from n
  cross join lateral (select t.unmet, t.state, t.held, t.deadline from queue.tasks t where t.task_id = n.task_id for update) t
), u as (
  update queue.tasks t set
    unmet = t.unmet - w.satisfied,
    state = case when w.released then 'pending' else t.state end,
    run_id = case when w.begins then t.run_id + 1 else t.run_id end,
    retries_left = case when w.begins and t.run_id >= 0 then least(t.retries, ${MAX_RUNS - 2} - t.run_id) else t.retries_left end,
    past = case when w.begins and t.run_id >= 0 then coalesce(t.past || ',', '') || ${lastRunSql('t')} else t.past end,
    run = case when w.begins then '"reasonCreated":"' || case when t.run_id < 0 then 'scheduled' else 'rerun' end || '","scheduled":"' || $3::text || '"'
      else t.run end,
    taken_until = case when w.begins then null else t.taken_until end,
    claimed_directly = t.claimed_directly and not w.begins,
    held = t.held and not w.released,
    pending_seq = case when w.released then nextval('queue.pending_seq') else t.pending_seq end
  from (
    select w.*, w.released and w.state <> 'pending' as begins from (
      select w.*, w.unmet = w.satisfied and (w.state = 'unscheduled' or w.held) and w.deadline > $3::text::timestamptz as released from w) w) w
  where t.task_id = w.task_id
  returning ${EVENT_COLUMNS('t')}, w.released, t.run_id, t.priority, t.pending_seq, t.deadline, ${statusSql('t')} as status
), p as (
  insert into queue.pending (task_queue_id, priority, seq, task_id, run_id, deadline, inserted)
  select u.task_queue_id, u.priority, u.pending_seq, u.task_id, u.run_id, u.deadline, $3::text::timestamptz from u where u.released
), o as (
  insert into platform.outbox (msg)
  select string_agg(${eventSql({ exchange: 'taskPending', t: 'u', status: 'u.status', runId: 'u.run_id' })}, ',') from u where u.released having count(*) > 0
)`;

const SATISFY = `
with x as materialized (
  select * from unnest($1::text[], $2::int4[]) as x(task_id, run_id)
), r as materialized (
  select t.task_id, t.state = 'completed' as completed from x join queue.tasks t on t.task_id = x.task_id
  where t.state in ('completed', 'failed', 'exception') and (x.run_id is null or t.run_id = x.run_id)
), f as materialized (
  select r.task_id, r.completed, c.edges <= ${MAX_EDGES} and sum(c.edges) over (order by c.edges, r.task_id) <= ${MAX_EDGES_TOGETHER} as now
  from r cross join lateral (
    select count(*) as edges from (
      select 1 from queue.deps d where d.required = r.task_id and not d.satisfied and (r.completed or d.any_outcome) limit ${MAX_EDGES + 1}) l) c
  where c.edges > 0
), e as (
  update queue.deps d set satisfied = true from f
  where f.now and d.required = f.task_id and not d.satisfied and (f.completed or d.any_outcome)
  returning d.dependent
), later as (
  insert into queue.fanouts as l (task_id, completed) select f.task_id, f.completed from f where not f.now
  on conflict (task_id) do update set completed = l.completed or excluded.completed
  returning 1
), ${RELEASE}
select task_queue_id, count(*)::int as pending, false as later from u where released group by task_queue_id
union all select null, count(*)::int, true from later having count(*) > 0`;

/** Dependents that became pending, by queue; `later` when a fan-out is left to the dependency loop. */
export interface ReleasedRow {
  readonly taskQueueId: string | null;
  readonly pending: number;
  readonly later: boolean;
}

/**
 * Satisfies the edges of tasks that are resolved now (and, with a run id, by that run), and releases those who waited for nothing else. Tasks that are
 * not resolved are left alone, so it may follow any attempt to resolve. Answers with `ReleasedRow`s.
 */
export const satisfyStatement = (tasks: readonly { readonly taskId: string; readonly runId?: number }[], nowIso: string): Statement => ({
  text: SATISFY,
  values: [textArray(tasks.map(t => t.taskId)), intArray(tasks.map(t => t.runId)), nowIso],
});

/** Whether any task still waits for one of these. */
export const IS_REQUIRED = `select 1 from unnest($1::text[]) as x(task_id)
  cross join lateral (select 1 from queue.deps d where d.required = x.task_id and not d.satisfied limit 1) d`;

/**
 * The same statement as a temporary function, for connections that resolve tasks all the time: where no task waits for the given ones, as is so for
 * most, it is not even set up, which takes ten times as long as the look at the edges (0.2 ms against 0.02). It is volatile, so that the look, too, has
 * a snapshot later than the ends of runs before it.
 */
export const SATISFY_FUNCTION = `
create or replace function pg_temp.satisfy(text[], int4[], text) returns table (task_queue_id text, pending int, later bool)
language plpgsql volatile as $body$
#variable_conflict use_column
begin
  if exists (${IS_REQUIRED}) then
    return query ${SATISFY};
  end if;
end $body$`;

/** `satisfyStatement` on a connection that has `SATISFY_FUNCTION`. */
export const satisfyIfRequiredStatement = (...given: Parameters<typeof satisfyStatement>): Statement => ({
  ...satisfyStatement(...given),
  text: 'select task_queue_id, pending, later from pg_temp.satisfy($1::text[], $2::int4[], $3::text)',
});

const SATISFY_PART = `
with k as materialized (
  select d.required, d.dependent from queue.deps d
  where d.required = $1::text and not d.satisfied and ($2::bool or d.any_outcome) order by d.required, d.dependent limit $4::int
), e as (
  update queue.deps d set satisfied = true from k where d.required = k.required and d.dependent = k.dependent and not d.satisfied returning d.dependent
), ${RELEASE}
select task_queue_id, count(*)::int as pending, false as later from u where released group by task_queue_id
union all select null, count(*)::int, true from e`;

/** The same for a part of one task's edges. The row with `later` counts the edges. */
export const satisfyPartStatement = (taskId: string, completed: boolean, nowIso: string, limit: number): Statement => ({
  text: SATISFY_PART,
  values: [taskId, completed, nowIso, limit],
});
