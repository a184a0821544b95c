/** A store in the local folder, as far as those see it who hand out URLs: it needs the database and the signing key, not the folder itself. */
import type { Db } from '../../db/sql.ts';
import type { Clock } from '../clock.ts';
import type { BlobFolder } from './blob-folder.ts';
import { type BlobSource, type BlobStore, MAX_KEY_LENGTH } from './blob-store.ts';
import { deleteBlobs, getBlob } from './blobs.db.ts';
import { blobUrl, signBlobUrl } from './signed-url.ts';

const READ_BYTES = 256 * 1024;

export interface LocalStoreOptions {
  readonly name: string;
  readonly db: Db;
  readonly clock: Clock;
  readonly signingSecret: Uint8Array;
  /** Where `blob-routes.ts` is served: scheme, host, port. */
  readonly origin: string;
}

/** The store `name` of the local folder. */
export const makeLocalStore = ({ name, db, clock, signingSecret, origin }: LocalStoreOptions): BlobStore => ({
  name,
  signPut: async ({ key, contentType, contentLength, expires }) =>
    signBlobUrl(origin, signingSecret, { method: 'PUT', store: name, key, expiresMs: expires.getTime(), contentType, contentLength }),
  signGet: async ({ key, expires, attachment = false }) =>
    signBlobUrl(origin, signingSecret, { method: 'GET', store: name, key, expiresMs: expires.getTime(), attachment }),
  plainUrl: async key => blobUrl(origin, name, key).href,
  remove: async keys => {
    await deleteBlobs(db, name, keys, clock.now());
    return new Map();
  },
  refuseKey: key =>
    key.length > MAX_KEY_LENGTH ? `it has ${key.length} characters where it is stored, and ${MAX_KEY_LENGTH} are possible` : undefined,
});

/** Reads a store of the local folder. */
export const makeFolderSource = (store: string, db: Db, folder: BlobFolder): BlobSource => ({
  look: async key => {
    const blob = await getBlob(db, store, key);
    return blob && { sizeBytes: blob.sizeBytes, etag: blob.digest };
  },
  open: async key => {
    const blob = await getBlob(db, store, key);
    const handle = blob && (await folder.open(blob.digest));
    return handle && { ...blob, etag: blob.digest, body: handle.createReadStream({ highWaterMark: READ_BYTES }) };
  },
});
