/**
 * The entries of the index and their namespaces. What is hot (`insert`, `find`) is one set-based statement for a lane; the rest reads and removes.
 *
 * Inserting is one statement: each entry by the key of its path, then the namespaces above those that were stored. It touches a namespace only if it is
 * missing or ends too early, which is once a day at most. Rows are locked in the order of their keys, entries before namespaces: insertions never wait
 * for each other in a circle.
 */
import { intArray, textArray, timestampArray } from '../../db/arrays.ts';
import type { Query, Statement } from '../../db/sql.ts';
import type { Place } from './paths.ts';

export interface Entry extends Place {
  readonly rank: number;
  readonly taskId: string;
  /** A JSON object. */
  readonly data: string;
  readonly expires: Date;
}

export interface NewEntry extends Entry {
  /** When the run was resolved, or now for whoever inserts by hand. */
  readonly insertedMs: number;
}

// Midnight is the following one, whatever the time of day; years have four digits.
const INSERT = (inserted: string, wins: string): string => `
with x as materialized (
  select * from unnest($1::text[], $2::text[], $3::int4[], $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[])
    as x(namespace, name, rank, task_id, data, expires, inserted)
), e as (
  insert into index.tasks as t (namespace, name, rank, task_id, data, expires, inserted)
  select x.namespace, x.name, x.rank, x.task_id, x.data, x.expires, x.inserted from x
  on conflict (namespace, name) do update set
    rank = excluded.rank, task_id = excluded.task_id, data = excluded.data, expires = excluded.expires, inserted = ${inserted}
  where ${wins} or t.expires <= $8::timestamptz
  returning t.namespace, t.name, t.expires
), s as (
  select e.namespace, least(date_trunc('day', max(e.expires), 'UTC') + interval '1 day', timestamptz '9999-12-31T23:59:59.999Z') as expires
  from e where e.namespace <> '' group by e.namespace
), a as (
  select array_to_string(w.parts[1 : i - 1], '.') as parent, w.parts[i] collate platform.protocol_order as name, max(s.expires) as expires
  from s cross join lateral (select string_to_array(s.namespace, '.') as parts) w cross join lateral generate_series(1, cardinality(w.parts)) as i
  group by 1, 2
), n as (
  insert into index.namespaces as n (parent, name, expires)
  select a.parent, a.name, a.expires from a
  where not exists (select from index.namespaces k where k.parent = a.parent and k.name = a.name and k.expires >= a.expires)
  order by a.parent, a.name
  on conflict (parent, name) do update set expires = excluded.expires where n.expires < excluded.expires
)
select e.namespace, e.name from e`;

// Somebody inserts by hand: at equal ranks that is newer than all there is.
const INSERT_BY_CALL = INSERT('greatest(t.inserted, excluded.inserted)', 't.rank <= excluded.rank');
// Events come again and out of order: what is there in the end must not depend on it.
const INSERT_BY_EVENT = INSERT(
  'excluded.inserted',
  '(t.rank, t.inserted, t.task_id) <= (excluded.rank, excluded.inserted, excluded.task_id)',
);

const before = (a: Place, b: Place): number => {
  const [left, right] = a.namespace === b.namespace ? [a.name, b.name] : [a.namespace, b.namespace];
  return left < right ? -1 : left > right ? 1 : 0;
};

/** Stores entries of distinct paths, where nothing of a higher rank is in the way. Answers with the places (`Place`s) of those it stored. */
export const insertStatement = (entries: readonly NewEntry[], by: 'call' | 'event', nowMs: number): Statement => {
  const sorted = entries.toSorted(before);
  return {
    text: by === 'call' ? INSERT_BY_CALL : INSERT_BY_EVENT,
    values: [
      textArray(sorted.map(entry => entry.namespace)),
      textArray(sorted.map(entry => entry.name)),
      intArray(sorted.map(entry => entry.rank)),
      textArray(sorted.map(entry => entry.taskId)),
      textArray(sorted.map(entry => entry.data)),
      timestampArray(sorted.map(entry => entry.expires.getTime())),
      timestampArray(sorted.map(entry => entry.insertedMs)),
      new Date(nowMs).toISOString(),
    ],
  };
};

const COLUMNS = 't.namespace, t.name, t.rank, t.task_id, t.data, t.expires';
const FIND = `
select ${COLUMNS} from unnest($1::text[], $2::text[]) as x(namespace, name)
join index.tasks t on t.namespace = x.namespace and t.name = x.name
where t.expires > $3::timestamptz`;

/** Unexpired entries at places (`Entry`s), in no order; one look-up by the primary key for each. */
export const findStatement = (places: readonly Place[], nowMs: number): Statement => ({
  text: FIND,
  values: [textArray(places.map(place => place.namespace)), textArray(places.map(place => place.name)), new Date(nowMs).toISOString()],
});

/** A page has at most so many bytes of data, or one entry. */
const MAX_PAGE_BYTES = 8 * 1024 * 1024;

// The size of a text is known without reading it.
const WITHIN_BYTES = `
select s.namespace, s.name, s.rank, s.task_id, s.data, s.expires, s.total from (
  select t.*, count(*) over () as total, row_number() over w as nth, sum(octet_length(t.data)) over w as bytes from t window w as (order by t.place)
) s where s.bytes <= ${MAX_PAGE_BYTES} or s.nth = 1 order by s.place`;

/** One of the first entries that were found, as far as they are not too large together; `total` were found. */
export interface ListedEntry extends Entry {
  readonly total: number;
}

// Every name comes after the empty text.
const LIST = `
with t as materialized (
  select ${COLUMNS}, row_number() over (order by t.namespace, t.name) as place from index.tasks t
  where t.namespace = $1 and t.name > $2 and t.expires > $3
  order by t.namespace, t.name limit $4
) ${WITHIN_BYTES}`;

/** Unexpired entries directly in a namespace, by name, after a name (`ListedEntry`s). */
export const listStatement = (namespace: string, after: string | undefined, now: Date, limit: number): Statement => ({
  text: LIST,
  values: [namespace, after ?? '', now, limit],
});

const FIND_IN_ORDER = `
with t as materialized (
  select ${COLUMNS}, x.place from unnest($1::text[], $2::text[]) with ordinality as x(namespace, name, place)
  join index.tasks t on t.namespace = x.namespace and t.name = x.name
  where t.expires > $3
) ${WITHIN_BYTES}`;

/** Unexpired entries at distinct places, in the order given. */
export const findEntries = async (db: Query, places: readonly Place[], now: Date): Promise<ListedEntry[]> => {
  const values = [textArray(places.map(place => place.namespace)), textArray(places.map(place => place.name)), now];
  return (await db.run<ListedEntry>({ text: FIND_IN_ORDER, values })).rows;
};

export const deleteEntry = async (db: Query, { namespace, name }: Place): Promise<void> => {
  await db`delete from index.tasks where namespace = ${namespace} and name = ${name}`;
};

export interface NamespaceRow {
  readonly name: string;
  readonly expires: Date;
}

/** Unexpired namespaces directly below one, by name, after a name (`NamespaceRow`s). */
export const listNamespacesStatement = (parent: string, after: string | undefined, now: Date, limit: number): Statement => ({
  text: `select name, expires from index.namespaces where parent = $1 and name > $2 and expires > $3 order by parent, name limit $4`,
  values: [parent, after ?? '', now, limit],
});

/** Removes entries past their expiry; answers with how many. */
export const deleteExpiredEntries = async (db: Query, now: Date, limit: number): Promise<number> => {
  const rows = await db`
    delete from index.tasks where (namespace, name) in (
      select namespace, name from index.tasks where expires < ${now} order by expires limit ${limit} for update skip locked)
    returning name`;
  return rows.length;
};

/** The same for namespaces. Whatever is in one has expired with it. */
export const deleteExpiredNamespaces = async (db: Query, now: Date, limit: number): Promise<number> => {
  const rows = await db`
    delete from index.namespaces where (parent, name) in (
      select parent, name from index.namespaces where expires < ${now} order by expires limit ${limit} for update skip locked)
    returning name`;
  return rows.length;
};
