/** The table behind the local folder: which store has which bytes under which key. */
import type { Db, Query, Tx } from '../../db/sql.ts';
import { textArray } from '../../db/arrays.ts';
import type { Blob } from './blob-store.ts';

export interface BlobRow extends Blob {
  /** SHA-256 of the stored bytes in hexadecimal: the name of their file. */
  readonly digest: string;
  readonly sealed: boolean;
}

/** What a store has under a key. Primary key. */
export const getBlob = async (db: Query, store: string, key: string): Promise<BlobRow | undefined> => {
  const [row] = await db<Omit<BlobRow, 'contentEncoding'> & { contentEncoding: string | null }>`
    select digest, size_bytes, content_type, content_encoding, sealed from platform.blobs where store = ${store} and key = ${key}`;
  return row && { ...row, contentEncoding: row.contentEncoding ?? undefined };
};

/** Puts bytes under a key, in place of what was there; false when that is sealed. */
export const upsertBlob = async (tx: Tx, store: string, key: string, blob: Omit<BlobRow, 'sealed'>, now: Date): Promise<boolean> => {
  const [before] = await tx<{ digest: string }>`
    select digest from platform.blobs where store = ${store} and key = ${key} for update`;
  const written = await tx`
    insert into platform.blobs (store, key, digest, size_bytes, content_type, content_encoding, stored)
    values (${store}, ${key}, ${blob.digest}, ${blob.sizeBytes}, ${blob.contentType}, ${blob.contentEncoding ?? null}, ${now})
    on conflict (store, key) do update set
      digest = excluded.digest, size_bytes = excluded.size_bytes, content_type = excluded.content_type,
      content_encoding = excluded.content_encoding, stored = excluded.stored
    where not blobs.sealed
    returning store`;
  if (before && written.length > 0) {
    await addGarbage(tx, [before.digest], now);
  }
  return written.length > 0;
};

/** Keeps a blob as it is from now on; undefined when there is none. */
export const sealBlob = async (tx: Tx, store: string, key: string): Promise<Blob | undefined> => {
  const [row] = await tx<{ sizeBytes: number; contentType: string; contentEncoding: string | null }>`
    update platform.blobs set sealed = true where store = ${store} and key = ${key}
    returning size_bytes, content_type, content_encoding`;
  return row && { ...row, contentEncoding: row.contentEncoding ?? undefined };
};

/** Forgets blobs. Their files are removed later, when no other key has the same bytes. */
export const deleteBlobs = async (db: Query, store: string, keys: readonly string[], now: Date): Promise<void> => {
  await db`
    with gone as (
      delete from platform.blobs where store = ${store} and key = any(${textArray(keys)}::text[]) returning digest)
    insert into platform.blob_garbage (digest, since) select distinct digest, ${now}::timestamptz from gone
    on conflict (digest) do update set since = excluded.since`;
};

/** Notes that files may have no name any more. */
export const addGarbage = async (db: Query, digests: readonly string[], now: Date): Promise<void> => {
  await db`
    insert into platform.blob_garbage (digest, since) select distinct unnest(${textArray(digests)}::text[]), ${now}::timestamptz
    on conflict (digest) do update set since = excluded.since`;
};

/** Files that nobody has needed since `before`, the oldest first. */
export const listGarbage = async (db: Query, before: Date, limit: number): Promise<string[]> => {
  const rows = await db<{ digest: string }>`
    select digest from platform.blob_garbage where since < ${before} order by since limit ${limit}`;
  return rows.map(row => row.digest);
};

/** Calls `remove` if no key has these bytes, and takes them off the list. What puts a file in its place holds the same lock. */
export const collectGarbage = async (db: Db, digest: string, before: Date, remove: () => Promise<void>): Promise<void> =>
  db.tx(async tx => {
    await lockDigest(tx, digest);
    const [used] = await tx`select 1 as used from platform.blobs where digest = ${digest} limit 1`;
    if (!used) {
      await remove();
    }
    await tx`delete from platform.blob_garbage where digest = ${digest} and since < ${before}`;
  });

/** Until the transaction ends nobody else creates or removes the file of these bytes. */
export const lockDigest = async (tx: Tx, digest: string): Promise<void> => {
  await tx`select pg_advisory_xact_lock(hashtextextended(${digest}, 7202602))`;
};
