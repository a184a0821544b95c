/** Tasks written straight into the tables, as the server would have left them: millions of calls would take hours. */
import type pg from 'pg';

export interface Stored {
  readonly count: number;
  readonly taskQueueId: string;
  /** Long done, or waiting for a worker. */
  readonly state: 'completed' | 'pending';
  /** Expired, so that the server forgets them. */
  readonly expired?: boolean;
}

/** Rows in one transaction. */
const CHUNK = 50_000;
export const TASKS_PER_GROUP = 100;

/** A slugid that follows from a text. */
const slugSql = (text: string): string =>
  `overlay(overlay(overlay(translate(substr(encode(decode(md5(${text}), 'hex'), 'base64'), 1, 22), '+/', '-_') placing 'Q' from 9) placing 'C' from 11)
    placing 'A' from 22)`;
const isoSql = (expression: string): string => `to_char((${expression}) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`;
const field = (name: string, expression: string): string => `'"${name}":"' || ${expression} || '"'`;
const fields = (...parts: readonly string[]): string => parts.join(` || ',' || `);

// $1 first and $2 last number, $3 seed, $4 task queue, $5 state, $6 created, $7 deadline, $8 expires
const INSERT = `
with x as (
  select ${slugSql(`$3::text || '/task/' || i`)} as task_id, ${slugSql(`$3::text || '/group/' || i / ${TASKS_PER_GROUP}`)} as task_group_id,
    $4::text as task_queue_id, $5::text as state, $5::text = 'pending' as waits,
    $6::timestamptz + interval '1 ms' * i as created, $7::timestamptz + interval '1 ms' * i as deadline, $8::timestamptz + interval '1 ms' * i as expires
  from generate_series($1::int, $2::int) i
), y as (
  select x.*, ${fields(
    field('provisionerId', `split_part(task_queue_id, '/', 1)`),
    field('workerType', `split_part(task_queue_id, '/', 2)`),
    field('taskQueueId', 'task_queue_id'),
    `'"schedulerId":"bench","projectId":"bench"'`,
    field('taskGroupId', 'task_group_id'),
  )} as ids, ${fields(field('deadline', isoSql('deadline')), field('expires', isoSql('expires')))} as dates from x
), t as (
  insert into queue.tasks (task_id, task_group_id, task_queue_id, scheduler_id, project_id, priority, retries, retries_left, state, run_id, unmet,
    times_resolved, pending_seq, taken_until, worker_group, worker_id, deadline, expires, head, run, tags, cc, scopes, definition)
  select task_id, task_group_id, task_queue_id, 'bench', 'bench', 7, 5, 5, state, 0, 0, case when waits then 0 else 1 end,
    nextval('queue.pending_seq'), case when not waits then created + interval '20 minutes' end, case when not waits then 'bench' end,
    case when not waits then 'worker-0' end, deadline, expires, ${field('taskId', 'task_id')} || ',' || ids || ',' || dates,
    '"reasonCreated":"scheduled",' || ${field('scheduled', isoSql('created'))} || case when waits then '' else ',"workerGroup":"bench","workerId":"worker-0",' ||
      ${fields(field('started', isoSql('created')), `'"reasonResolved":"completed"'`, field('resolved', isoSql(`created + interval '1 minute'`)))} end,
    '{"kind":"build"}', '[]', '[]',
    ids || ',"dependencies":[],"requires":"all-completed","routes":[],"retries":5,' || ${field('created', isoSql('created'))} || ',' || dates ||
      ',"scopes":[],"payload":{"command":["true"],"maxRunTime":600},"metadata":{"name":"build","description":"stored","owner":"bench@example.com",' ||
      '"source":"https://example.com/source"},"tags":{"kind":"build"},"extra":{}}'
  from y
  returning task_id, task_group_id, task_queue_id, state, priority, pending_seq, deadline, expires
), g as (
  insert into queue.groups as g (task_group_id, scheduler_id, expires, unresolved)
  select task_group_id, 'bench', max(expires) + interval '1 hour', count(*) filter (where state = 'pending') from t group by task_group_id
  on conflict (task_group_id) do update set unresolved = g.unresolved + excluded.unresolved
), p as (
  insert into queue.pending (task_queue_id, priority, seq, task_id, run_id, deadline, inserted)
  select task_queue_id, priority, pending_seq, task_id, 0, deadline, $6::timestamptz from t where state = 'pending'
)
select count(*) from t`;

const DAY_MS = 86_400_000;

/** Stores tasks in groups of 100; `seed` makes their ids. */
export const storeTasks = async (
  client: pg.Client,
  seed: string,
  { count, taskQueueId, state, expired = false }: Stored,
): Promise<void> => {
  const days = (n: number): Date => new Date(Date.now() + n * DAY_MS);
  const [created, deadline, expires] =
    state === 'pending' ? [days(0), days(1), days(300)] : expired ? [days(-60), days(-59), days(-30)] : [days(-30), days(-29), days(300)];
  await client.query('set synchronous_commit = off');
  for (let from = 0; from < count; from += CHUNK) {
    const to = Math.min(from + CHUNK, count) - 1;
    await client.query(INSERT, [from, to, seed, taskQueueId, state, created, deadline, expires]);
  }
};

/** What a while of quiet would have done. */
export const settle = async (client: pg.Client): Promise<void> => {
  for (const table of ['tasks', 'groups', 'pending']) {
    await client.query(`vacuum (analyze) queue.${table}`);
  }
  await client.query('checkpoint');
};
