/**
 * Handing runs to workers. One statement serves all workers that wait, of all queues: places in line are dealt to workers beforehand, then the first
 * pending rows of each queue are taken (`skip locked`, so that processes never wait for each other), moved to running, recorded and announced.
 */
import { intArray, textArray, timestampArray } from '../../db/arrays.ts';
import type { Statement } from '../../db/sql.ts';
import { claimsOf, EVENT_COLUMNS, eventSql, statusSql } from './sql-text.ts';

const CLAIM = `
with k as materialized (
  select p.place, p.priority, p.seq, p.task_id, p.run_id, ($4::int4[])[q.dealt + p.slot] as request
  from unnest($1::text[], $2::int4[], $3::int4[]) as q(task_queue_id, slots, dealt) cross join lateral (
    select p.*, row_number() over (order by p.priority, p.seq)::int as slot from (
      select p.ctid as place, p.priority, p.seq, p.task_id, p.run_id from queue.pending p
      where p.task_queue_id = q.task_queue_id and p.deadline > $7::text::timestamptz
      order by p.task_queue_id, p.priority, p.seq limit q.slots for update skip locked) p) p
), d as (
  delete from queue.pending p where p.ctid = any(array(select k.place from k))
), u as (
  update queue.tasks t set
    state = 'running', taken_until = $8::text::timestamptz, claimed_directly = false,
    worker_group = ($5::text[])[k.request], worker_id = ($6::text[])[k.request],
    run = t.run || ',"workerGroup":"' || ($5::text[])[k.request] || '","workerId":"' || ($6::text[])[k.request] || '","started":"' || $7::text || '"'
  from k
  where t.task_id = k.task_id and t.state = 'pending' and t.run_id = k.run_id
  returning ${EVENT_COLUMNS('t')}, t.run_id, t.worker_group, t.worker_id, t.taken_until, t.priority, t.scopes, t.definition, k.seq, k.request,
    ${statusSql('t')} as status
), c as (
  insert into queue.claims (taken_until, task_id, run_id, task_queue_id, worker_group, worker_id, claimed)
  select u.taken_until, u.task_id, u.run_id, u.task_queue_id, u.worker_group, u.worker_id, $7::text::timestamptz from u
), o as (
  insert into platform.outbox (msg)
  select string_agg(${eventSql({
    exchange: 'taskRunning',
    t: 'u',
    status: 'u.status',
    runId: 'u.run_id',
    workerGroup: 'u.worker_group',
    workerId: 'u.worker_id',
    more: `',"takenUntil":"' || $8::text || '"'`,
  })}, ',') from u having count(*) > 0
)
select u.request, u.task_id, u.run_id, u.priority, u.scopes, u.definition, u.status from u order by u.request, u.priority, u.seq`;

/** A worker that asks for work. */
export interface ClaimRequest {
  readonly taskQueueId: string;
  readonly workerGroup: string;
  readonly workerId: string;
}

/** The first runs of a queue, by the requests that they go to (counted from 1), in the order of the line. */
export interface Places {
  readonly taskQueueId: string;
  readonly requests: readonly number[];
}

export interface ClaimedRow {
  /** Place of the request, counted from 1. */
  readonly request: number;
  readonly taskId: string;
  readonly runId: number;
  readonly priority: number;
  readonly scopes: string;
  readonly definition: string;
  readonly status: string;
}

/** Claims up to one run per place, until `takenUntilIso`. Answers with `ClaimedRow`s, the most urgent first within each request. */
export const claimStatement = (
  requests: readonly ClaimRequest[],
  places: readonly Places[],
  nowIso: string,
  takenUntilIso: string,
): Statement => {
  const dealtBefore: number[] = [];
  let dealt = 0;
  for (const { requests: own } of places) {
    dealtBefore.push(dealt);
    dealt += own.length;
  }
  return {
    text: CLAIM,
    values: [
      textArray(places.map(p => p.taskQueueId)),
      intArray(places.map(p => p.requests.length)),
      intArray(dealtBefore),
      intArray(places.flatMap(p => p.requests)),
      textArray(requests.map(r => r.workerGroup)),
      textArray(requests.map(r => r.workerId)),
      nowIso,
      takenUntilIso,
    ],
  };
};

const RECLAIM = `
with x as materialized (
  select * from unnest($1::text[], $2::int4[]) as x(task_id, run_id)
), w as materialized (
  select x.task_id, x.run_id, t.taken_until from x cross join lateral (
    select t.taken_until from queue.tasks t
    where t.task_id = x.task_id and t.run_id = x.run_id and t.state = 'running' and t.deadline > $3::text::timestamptz for update) t
), u as (
  update queue.tasks t set taken_until = $4::text::timestamptz from w where t.task_id = w.task_id
  returning t.task_id, t.task_queue_id, t.run_id, t.worker_group, t.worker_id, t.scopes, ${statusSql('t')} as status
), d as (
  delete from queue.claims c where ${claimsOf('(select * from w where w.taken_until <> $4::text::timestamptz)')}
), c as (
  insert into queue.claims (taken_until, task_id, run_id, task_queue_id, worker_group, worker_id, claimed, answered)
  select $4::text::timestamptz, u.task_id, u.run_id, u.task_queue_id, u.worker_group, u.worker_id, $3::text::timestamptz, true from u
  on conflict (taken_until, task_id, run_id) do nothing
)
select task_id, task_queue_id, run_id, worker_group, worker_id, scopes, status from u`;

export interface ReclaimedRow {
  readonly taskId: string;
  readonly taskQueueId: string;
  readonly runId: number;
  readonly workerGroup: string;
  readonly workerId: string;
  readonly scopes: string;
  readonly status: string;
}

/** Prolongs claims of runs that are last, running and before their deadline. Answers with `ReclaimedRow`s. */
export const reclaimStatement = (
  runs: readonly { readonly taskId: string; readonly runId: number }[],
  nowIso: string,
  takenUntilIso: string,
): Statement => {
  const sorted = runs.toSorted((a, b) => (a.taskId < b.taskId ? -1 : 1));
  return {
    text: RECLAIM,
    values: [textArray(sorted.map(run => run.taskId)), intArray(sorted.map(run => run.runId)), nowIso, takenUntilIso],
  };
};

const ANSWERED = `
update queue.claims c set answered = true where c.taken_until = any($1::timestamptz[]) and c.task_id = any($2::text[])`;

/** Notes that workers have received their claims. */
export const answeredStatement = (claims: readonly { readonly takenUntilMs: number; readonly taskId: string }[]): Statement => ({
  text: ANSWERED,
  values: [timestampArray(claims.map(c => c.takenUntilMs)), textArray(claims.map(c => c.taskId))],
});

const UNANSWERED = `
select c.task_id, c.run_id, c.taken_until, t.priority, t.scopes, t.definition, ${statusSql('t')} as status
from queue.claims c join queue.tasks t on t.task_id = c.task_id
where c.task_queue_id = $1::text and c.claimed >= $4::text::timestamptz and c.worker_group = $2::text and c.worker_id = $3::text and not c.answered
  and c.taken_until > $5::text::timestamptz and t.state = 'running' and t.run_id = c.run_id and t.taken_until = c.taken_until
order by c.task_queue_id, c.claimed, c.task_id limit 32`;

/** A run that a worker holds without knowing. */
export interface UnansweredRow extends Omit<ClaimedRow, 'request'> {
  readonly takenUntil: Date;
}

/** Runs that a worker claimed since then, and never received. Answers with `UnansweredRow`s. */
export const unansweredStatement = (worker: ClaimRequest, sinceIso: string, nowIso: string): Statement => ({
  text: UNANSWERED,
  values: [worker.taskQueueId, worker.workerGroup, worker.workerId, sinceIso, nowIso],
});
