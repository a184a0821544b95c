/** The table of copies: what a mirror has, is to have, or will not have. */
import { textArray } from '../../../db/arrays.ts';
import { type Query, sql, type Tx } from '../../../db/sql.ts';

/** An original at a mirror. */
export interface CopyKey {
  readonly mirror: string;
  readonly store: string;
  readonly key: string;
}

export interface CopyRow extends CopyKey {
  /** `wanted`: to be made. `refused`: not to be made before `due`. `removing`: not there any more. */
  readonly state: 'wanted' | 'ready' | 'refused' | 'removing';
  /** Which attempt made it, or makes it; its bytes are under a key of that attempt, so that a late one never touches those of another. */
  readonly attempt: string | null;
  readonly due: Date;
  readonly failures: number;
  readonly sizeBytes: number;
  readonly sourceEtag: string | null;
  readonly checked: Date;
  readonly used: Date;
  /** When the original does. */
  readonly expires: Date;
}

const columns = sql`mirror, store, key, state, attempt, due, failures, size_bytes, source_etag, checked, used, expires`;
const isCopy = ({ mirror, store, key }: CopyKey) => sql`mirror = ${mirror} and store = ${store} and key = ${key}`;

/** What is known of a copy. Primary key. */
export const getCopy = async (db: Query, copy: CopyKey): Promise<CopyRow | undefined> => {
  const [row] = await db<CopyRow>`select ${columns} from object.copies where ${isCopy(copy)}`;
  return row;
};

/** Asks for a copy, for the first time or again after it was refused; false when somebody else has. */
export const wantCopy = async (db: Query, copy: CopyKey, expires: Date, now: Date): Promise<boolean> => {
  const rows = await db`
    insert into object.copies (mirror, store, key, state, due, checked, used, expires)
    values (${copy.mirror}, ${copy.store}, ${copy.key}, 'wanted', ${now}, ${now}, ${now}, ${expires})
    on conflict (mirror, store, key) do update set state = 'wanted', due = excluded.due, failures = 0, used = excluded.used, expires = excluded.expires
    where copies.state = 'refused' and copies.due < ${now}
    returning mirror`;
  return rows.length > 0;
};

/** Notes that a copy was read. */
export const useCopy = async (db: Query, copy: CopyKey, expires: Date, now: Date): Promise<void> => {
  await db`update object.copies set used = ${now}, expires = ${expires} where ${isCopy(copy)} and state = 'ready'`;
};

/** Notes that a copy is there and the same as its original. */
export const confirmCopy = async (db: Query, copy: CopyKey, now: Date): Promise<void> => {
  await db`update object.copies set checked = ${now} where ${isCopy(copy)} and state = 'ready'`;
};

/** What was ready has to be made again. */
export const renewCopy = async (db: Query, copy: CopyKey, now: Date): Promise<void> => {
  await db`update object.copies set state = 'wanted', due = ${now}, failures = 0, size_bytes = 0 where ${isCopy(copy)} and state = 'ready'`;
};

/** Takes a copy to make; it is nobody else's until `leaseEnd`. Answers with the row as it was: `attempt` is the one before. Index on due. */
export const takeWantedCopy = async (
  db: Query,
  mirrors: readonly string[],
  attempt: string,
  now: Date,
  leaseEnd: Date,
): Promise<CopyRow | undefined> => {
  const [row] = await db<CopyRow>`
    with taken as (
      select ${columns} from object.copies
      where state = 'wanted' and due <= ${now} and mirror = any(${textArray(mirrors)}::text[])
      order by due limit 1 for update skip locked),
    marked as (
      update object.copies c set attempt = ${attempt}, due = ${leaseEnd} from taken
      where c.mirror = taken.mirror and c.store = taken.store and c.key = taken.key)
    select ${columns} from taken`;
  return row;
};

/** Keeps a copy that is being made; false when it is not wanted any more, or somebody else's. */
export const extendLease = async (db: Query, copy: CopyKey, attempt: string, leaseEnd: Date): Promise<boolean> => {
  const rows = await db`
    update object.copies set due = ${leaseEnd} where ${isCopy(copy)} and state = 'wanted' and attempt = ${attempt} returning mirror`;
  return rows.length > 0;
};

/** A copy is made; false when nobody wants it any more. */
export const finishCopy = async (
  db: Query,
  copy: CopyKey,
  attempt: string,
  { sizeBytes, sourceEtag, now }: { sizeBytes: number; sourceEtag: string; now: Date },
): Promise<boolean> => {
  const rows = await db`
    update object.copies set state = 'ready', failures = 0, size_bytes = ${sizeBytes}, source_etag = ${sourceEtag},
      checked = ${now}, used = ${now}
    where ${isCopy(copy)} and state = 'wanted' and attempt = ${attempt} returning mirror`;
  return rows.length > 0;
};

/** A copy could not be made, and is tried again at `due`, if it is not refused until then. */
export const postponeCopy = async (db: Query, copy: CopyKey, attempt: string, state: 'wanted' | 'refused', due: Date): Promise<void> => {
  await db`
    update object.copies set state = ${state}, attempt = null, failures = failures + 1, due = ${due}
    where ${isCopy(copy)} and state = 'wanted' and attempt = ${attempt}`;
};

/** Nothing is known of a copy any more, for there is no original. */
export const forgetCopy = async (db: Query, copy: CopyKey, attempt: string): Promise<void> => {
  await db`delete from object.copies where ${isCopy(copy)} and state = 'wanted' and attempt = ${attempt}`;
};

/** Copies of originals that are gone are gone too, from the end of the transaction on. */
export const removeCopiesOf = async (tx: Tx, store: string, keys: readonly string[], now: Date): Promise<void> => {
  await tx`
    update object.copies set state = 'removing', due = ${now}
    where store = ${store} and key = any(${textArray(keys)}::text[]) and state <> 'removing'`;
};

/** Lets go of up to `limit` copies whose original expires before `now`. Index on expires. */
export const dropExpiredCopies = async (db: Query, now: Date, limit: number): Promise<number> => {
  const rows = await db`
    update object.copies set state = 'removing', due = ${now} where (mirror, store, key) in (
      select mirror, store, key from object.copies where expires < ${now} and state <> 'removing' order by expires limit ${limit}
      for update skip locked)
    returning mirror`;
  return rows.length;
};

/** Lets go of up to `limit` copies of a mirror that nobody has read since `before`. Index on mirror and used. */
export const dropUnusedCopies = async (db: Query, mirror: string, before: Date, now: Date, limit: number): Promise<number> => {
  const rows = await db`
    update object.copies set state = 'removing', due = ${now} where (mirror, store, key) in (
      select mirror, store, key from object.copies
      where mirror = ${mirror} and state in ('ready', 'refused') and used < ${before} order by used limit ${limit} for update skip locked)
    returning mirror`;
  return rows.length;
};

/** How many copies a mirror has, and their size. */
export const sumCopies = async (db: Query, mirror: string): Promise<{ count: number; bytes: number }> => {
  const [row] = await db<{ count: number; bytes: number }>`
    select count(*) as count, coalesce(sum(size_bytes), 0)::bigint as bytes from object.copies where mirror = ${mirror} and state = 'ready'`;
  return row ?? { count: 0, bytes: 0 };
};

/** Lets go of the copies of a mirror that were not read for longest, until `bytes` are free or `limit` are gone; returns how many. */
export const dropOldestCopies = async (db: Query, mirror: string, bytes: number, now: Date, limit: number): Promise<number> => {
  const rows = await db`
    update object.copies set state = 'removing', due = ${now} where (mirror, store, key) in (
      select mirror, store, key from (
        select mirror, store, key, size_bytes, sum(size_bytes) over (order by used, store, key) as freed from (
          select * from object.copies where mirror = ${mirror} and state = 'ready' order by used, store, key limit ${limit}) oldest
      ) summed where freed - size_bytes < ${bytes})
      and state = 'ready'
    returning mirror`;
  return rows.length;
};

/** Takes up to `limit` copies whose bytes are to go; they are nobody else's until `leaseEnd`. Index on due. */
export const takeRemovals = async (
  db: Query,
  mirrors: readonly string[],
  now: Date,
  leaseEnd: Date,
  limit: number,
): Promise<(CopyKey & Pick<CopyRow, 'attempt'>)[]> =>
  db<CopyRow>`
    update object.copies set due = ${leaseEnd} where (mirror, store, key) in (
      select mirror, store, key from object.copies
      where state = 'removing' and due <= ${now} and mirror = any(${textArray(mirrors)}::text[])
      order by due limit ${limit} for update skip locked)
    returning mirror, store, key, attempt`;

/** The bytes of these copies of a mirror are gone. */
export const deleteCopies = async (db: Query, mirror: string, copies: readonly CopyKey[]): Promise<void> => {
  await db`
    delete from object.copies c
    using unnest(${textArray(copies.map(copy => copy.store))}::text[], ${textArray(copies.map(copy => copy.key))}::text[]) as gone(store, key)
    where c.mirror = ${mirror} and c.store = gone.store and c.key = gone.key and c.state = 'removing'`;
};

/** Forgets up to `limit` copies of mirrors that are not configured any more; returns how many. */
export const forgetStrandedCopies = async (db: Query, mirrors: readonly string[], now: Date, limit: number): Promise<number> => {
  const rows = await db`
    delete from object.copies where (mirror, store, key) in (
      select mirror, store, key from object.copies
      where mirror <> all(${textArray(mirrors)}::text[]) and expires < ${now} limit ${limit})
    returning mirror`;
  return rows.length;
};
