/** The table of objects: one row each, unfinished uploads included. */
import { json, type Query, type Tx } from '../../db/sql.ts';
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
}

type Stored = Omit<ObjectRow, 'data' | 'hashes'> & { readonly data: string; readonly hashes: string };
const toRow = (stored: Stored): ObjectRow => ({
  ...stored,
  data: JSON.parse(stored.data) as unknown,
  hashes: JSON.parse(stored.hashes) as Hashes,
});

/** Adds an object whose upload begins; false when its name or its upload id is taken. */
export const insertObject = async (tx: Tx, object: ObjectRow): Promise<boolean> => {
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
    select name, project_id, backend_id, upload_id, upload_expires, data, hashes, expires from object.objects where name = ${name}`;
  return row && toRow(row);
};

/** One object, which nobody else changes until the transaction ends. */
export const lockObject = async (tx: Tx, name: string): Promise<ObjectRow | undefined> => {
  const [row] = await tx<Stored>`
    select name, project_id, backend_id, upload_id, upload_expires, data, hashes, expires from object.objects
    where name = ${name} for update`;
  return row && toRow(row);
};

export const setHashes = async (tx: Tx, name: string, hashes: Hashes): Promise<void> => {
  await tx`update object.objects set hashes = ${json(hashes)} where name = ${name}`;
};

/** Ends the upload: from now on the object is there. */
export const finishObject = async (tx: Tx, name: string, hashes: Hashes): Promise<void> => {
  await tx`update object.objects set hashes = ${json(hashes)}, upload_id = null, upload_expires = null where name = ${name}`;
};

/** Objects and uploads whose time is over, the oldest first; of these backends only. Indexes on both dates. */
export const listExpiredObjects = async (db: Query, now: Date, backendIds: readonly string[], limit: number): Promise<ObjectRow[]> => {
  const rows = await db<Stored>`
    select name, project_id, backend_id, upload_id, upload_expires, data, hashes, expires from (
      (select * from object.objects where expires < ${now} and backend_id = any(${backendIds}::text[]) order by expires limit ${limit})
      union
      (select * from object.objects where upload_expires < ${now} and backend_id = any(${backendIds}::text[]) order by upload_expires limit ${limit})
    ) expired limit ${limit}`;
  return rows.map(toRow);
};

export const deleteObject = async (tx: Tx, name: string): Promise<void> => {
  await tx`delete from object.objects where name = ${name}`;
};

/** Objects past their time whose backend is not configured any more. */
export const countStrandedObjects = async (db: Query, now: Date, backendIds: readonly string[]): Promise<number> => {
  const [row] = await db<{ count: number }>`
    select count(*) from object.objects where expires < ${now} and backend_id <> all(${backendIds}::text[])`;
  return row?.count ?? 0;
};
