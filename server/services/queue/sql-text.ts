/**
 * Pieces of SQL text that the queue's statements share: the status and the events of a task, put together from stored JSON text inside the database,
 * so that a change and its announcement are one statement. Everything spliced here was matched by a pattern without quotes and backslashes, or went
 * through `JSON.stringify`.
 *
 * Each piece is an expression over a row of `queue.tasks`, named by its alias.
 */
import { exchangeName } from '@tscluster/api/define.ts';
import { queueEvents } from '@tscluster/api/queue/events.ts';
import { PRIORITIES } from '@tscluster/api/types.ts';

const NAMES = `(array[${PRIORITIES.map(name => `'${name}'`).join(',')}])`;

/** An instant as the protocol writes it. */
export const isoSql = (expression: string): string => `to_char(${expression} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`;

/** The name of a rank. */
export const prioritySql = (expression: string): string => `${NAMES}[${expression}]`;

/** One text of many parts; what is null is left out. */
const concat = (...parts: readonly string[]): string => `concat(${parts.filter(part => part !== '').join(', ')})`;
const quote = (text: string): string => `'${text}'`;

const lastRunParts = (t: string): string[] => [
  quote('{"runId":'),
  `${t}.run_id`,
  quote(',"state":"'),
  `${t}.state`,
  quote('",'),
  `${t}.run`,
  `',"takenUntil":"' || ${isoSql(`${t}.taken_until`)} || '"'`,
  quote('}'),
];

/** The last run as JSON. */
export const lastRunSql = (t: string): string => concat(...lastRunParts(t));

/** The status as JSON. */
export const statusSql = (t: string): string =>
  concat(
    quote('{'),
    `${t}.head`,
    quote(',"priority":"'),
    prioritySql(`${t}.priority`),
    quote('","retriesLeft":'),
    `${t}.retries_left`,
    quote(',"state":"'),
    `${t}.state`,
    quote('","runs":['),
    `case when ${t}.run_id >= 0 then ${concat(`${t}.past || ','`, ...lastRunParts(t))} end`,
    quote(']}'),
  );

/** The status as it was right after creation, before anything happened. */
export const pristineStatusSql = (t: string): string =>
  concat(
    quote('{'),
    `${t}.head`,
    quote(',"priority":"'),
    prioritySql(`${t}.priority`),
    quote('","retriesLeft":'),
    `${t}.retries`,
    quote(',"state":"unscheduled","runs":[]}'),
  );

type ExchangeKey = keyof (typeof queueEvents)['exchanges'];
const fullName = (exchange: ExchangeKey): string => exchangeName(queueEvents, queueEvents.exchanges[exchange].exchange);

export interface EventSql {
  /** One for all rows, or by the value of an expression. */
  readonly exchange: ExchangeKey | { readonly of: string; readonly cases: Readonly<Record<string, ExchangeKey>> };
  /** Alias of the row; it has `task_id`, `task_queue_id`, `scheduler_id`, `task_group_id`, `tags`, `cc`. */
  readonly t: string;
  /** Expression of the status. */
  readonly status: string;
  /** Expressions; null where the message is about none. */
  readonly runId?: string;
  readonly workerGroup?: string;
  readonly workerId?: string;
  /** Expression of further payload fields: JSON text beginning with a comma. */
  readonly more?: string;
}

/** A task event as JSON text. A worker is mentioned when its expressions are not null. */
export const eventSql = ({ exchange, t, status, runId, workerGroup, workerId, more }: EventSql): string => {
  const name =
    typeof exchange === 'string'
      ? quote(fullName(exchange))
      : `case ${exchange.of} ${Object.entries(exchange.cases)
          .map(([value, key]) => `when ${quote(value)} then ${quote(fullName(key))}`)
          .join(' ')} end`;
  const word = (expression: string | undefined): string => (expression === undefined ? `'_'` : `coalesce((${expression})::text, '_')`);
  const field = (key: string, expression: string | undefined, mark: string): string =>
    expression === undefined ? '' : `',"${key}":${mark}' || (${expression}) || '${mark}'`;
  const dot = quote('.');
  return concat(
    quote('{"exchange":"'),
    name,
    quote('","routingKey":"primary.'),
    `${t}.task_id`,
    dot,
    word(runId),
    dot,
    word(workerGroup),
    dot,
    word(workerId),
    dot,
    `replace(${t}.task_queue_id, '/', '.')`,
    dot,
    `${t}.scheduler_id`,
    dot,
    `${t}.task_group_id`,
    quote('._","cc":'),
    `${t}.cc`,
    quote(',"payload":{"status":'),
    status,
    quote(',"task":{"tags":'),
    `${t}.tags`,
    quote('}'),
    field('runId', runId, ''),
    field('workerGroup', workerGroup, '"'),
    field('workerId', workerId, '"'),
    more ?? '',
    quote(',"version":1}}'),
  );
};

/** A group event as JSON text; the row has `task_group_id`, `scheduler_id`, `expires`, `sealed`. */
export const groupEventSql = (exchange: 'taskGroupResolved' | 'taskGroupSealed', g: string): string =>
  concat(
    quote(`{"exchange":"${fullName(exchange)}","routingKey":"primary.`),
    `${g}.task_group_id`,
    quote('.'),
    `${g}.scheduler_id`,
    quote('._","cc":[],"payload":{"taskGroupId":"'),
    `${g}.task_group_id`,
    quote('","schedulerId":"'),
    `${g}.scheduler_id`,
    quote('","expires":"'),
    isoSql(`${g}.expires`),
    quote('"'),
    `',"sealed":"' || ${isoSql(`${g}.sealed`)} || '"'`,
    quote(',"version":1}}'),
  );

/**
 * Conditions for the rows of `queue.pending` (as `p`) and `queue.claims` (as `c`) that belong to rows of `queue.tasks`. They are not joined: rows only pass
 * through these tables, and a vacuum that finds none makes Postgres believe that reading one of them from end to end costs as much as looking up one row,
 * until it is told otherwise. No two runs have the same `seq`.
 *
 * @param rows what has the columns of the tasks, as it stands in a `from`
 */
export const placesOf = (rows: string): string =>
  `p.task_queue_id = any(array(select r.task_queue_id from ${rows} r)) and p.priority = any(array(select r.priority from ${rows} r))
    and p.seq = any(array(select r.pending_seq from ${rows} r))`;
/** See `placesOf`. A task has one claim at a time. */
export const claimsOf = (rows: string): string =>
  `c.taken_until = any(array(select r.taken_until from ${rows} r)) and c.task_id = any(array(select r.task_id from ${rows} r))`;

/** Columns of `queue.tasks` that events need, besides the status. */
export const EVENT_COLUMNS = (t: string): string =>
  `${t}.task_id, ${t}.task_queue_id, ${t}.scheduler_id, ${t}.task_group_id, ${t}.tags, ${t}.cc`;
