/** The table of objects: one row each, unfinished uploads included. */
import { textArray } from '../../db/arrays.ts';
import { json, type Query, sql, type Tx } from '../../db/sql.ts';
import type { Hashes } from './hashes.ts';

export interface ObjectRow {
  readonly name: string;
  readonly projectId: string;
  readonly backendId: string;
  /** null once the upload is finished. */
  readonly uploadId: string | null;
  readonly uploadExpires: Date | null;
  /** What the backend noted when the upload began. */
  readonly data: unknown;
  readonly hashes: Hashes;
  readonly expires: Date;
  /** Its bytes are being removed since then: it is not there any more. */
  readonly removing: Date | null;
}

type Stored = Omit<ObjectRow, 'data' | 'hashes'> & { readonly data: string; readonly hashes: string };
const toRow = (stored: Stored): ObjectRow => ({
  ...stored,
  data: JSON.parse(stored.data) as unknown,
  hashes: JSON.parse(stored.hashes) as Hashes,
});

/** Adds an object whose upload begins; false when its name or its upload id is taken. */
export const insertObject = async (tx: Tx, object: Omit<ObjectRow, 'removing'>): Promise<boolean> => {
  const rows = await tx`
    insert into object.objects (name, project_id, backend_id, upload_id, upload_expires, data, hashes, expires)
    values (${object.name}, ${object.projectId}, ${object.backendId}, ${object.uploadId}, ${object.uploadExpires},
            ${json(object.data)}, ${json(object.hashes)}, ${object.expires})
    on conflict do nothing returning name`;
  return rows.length > 0;
};

/** One object. Primary key. */
export const getObject = async (db: Query, name: string): Promise<ObjectRow | undefined> => {
  const [row] = await db<Stored>`
    select name, project_id, backend_id, upload_id, upload_expires, data, hashes, expires, removing from object.objects where name = ${name}`;
  return row && toRow(row);
};

/** One object, which nobody else changes until the transaction ends. */
export const lockObject = async (tx: Tx, name: string): Promise<ObjectRow | undefined> => {
  const [row] = await tx<Stored>`
    select name, project_id, backend_id, upload_id, upload_expires, data, hashes, expires, removing from object.objects
    where name = ${name} for update`;
  return row && toRow(row);
};

export const setHashes = async (tx: Tx, name: string, hashes: Hashes): Promise<void> => {
  await tx`update object.objects set hashes = ${json(hashes)} where name = ${name}`;
};

/** Ends the upload: from now on the object is there. */
export const finishObject = async (tx: Tx, name: string, hashes: Hashes, data: unknown): Promise<void> => {
  await tx`
    update object.objects set hashes = ${json(hashes)}, data = ${json(data)}, upload_id = null, upload_expires = null where name = ${name}`;
};

/**
 * Takes objects and uploads of a backend whose time is over, the oldest first: from now on they are not there. Those that were taken before are left out,
 * or with `triedBefore` only those that were, before then. Indexes on both dates.
 */
export const takeExpiredObjects = async (tx: Tx, backendId: string, now: Date, limit: number, triedBefore?: Date): Promise<ObjectRow[]> => {
  const tried = triedBefore === undefined ? sql`removing is null` : sql`removing < ${triedBefore}`;
  const due = sql`backend_id = ${backendId} and ${tried}`;
  const rows = await tx<Stored>`
    update object.objects set removing = ${now} where name in (
      select name from object.objects where name in (
        (select name from object.objects where expires < ${now} and ${due} order by expires limit ${limit})
        union
        (select name from object.objects where upload_expires < ${now} and ${due} order by upload_expires limit ${limit})
      ) and (expires < ${now} or upload_expires < ${now}) and ${due}
      limit ${limit} for update skip locked)
    returning name, project_id, backend_id, upload_id, upload_expires, data, hashes, expires, removing`;
  return rows.map(toRow);
};

/** Removes objects whose bytes are gone. */
export const deleteObjects = async (tx: Tx, names: readonly string[]): Promise<void> => {
  await tx`delete from object.objects where name = any(${textArray(names)}::text[]) and removing is not null`;
};

/** Objects past their time whose backend is not configured any more. */
export const countStrandedObjects = async (db: Query, now: Date, backendIds: readonly string[]): Promise<number> => {
  const [row] = await db<{ count: number }>`
    select count(*) from object.objects where expires < ${now} and backend_id <> all(${backendIds}::text[])`;
  return row?.count ?? 0;
};
