/**
 * A backend keeps the bytes of objects. The service keeps names, rights, hashes and expiry; it asks the backend for URLs and never sees the bytes,
 * except tiny ones that come within a request.
 *
 * Order of calls: `startUpload` once per object (its notes are stored with the object), `upload` any number of times, `checkUpload` and then, in the
 * transaction that finishes the object, `finish` (both any number of times: the commit may fail), downloads, `remove` any number of times.
 * Calls about different objects run concurrently. Nothing waits for a network within a transaction.
 */
import type { Hashes } from '../hashes.ts';
import type { Db, Tx } from '../../../db/sql.ts';
import type { Clock, Random } from '../../../platform/clock.ts';
import type { BlobFolder } from '../../../platform/blobs/blob-folder.ts';
import type { BlobSource, BlobWriter } from '../../../platform/blobs/blob-store.ts';
import type { Log } from '../../../platform/log.ts';

export interface StoredObject {
  readonly name: string;
  readonly projectId: string;
  /** What `startUpload` returned. */
  readonly data: unknown;
  readonly hashes: Hashes;
}

export interface ProposedUpload {
  readonly dataInline?: { readonly contentType: string; readonly bytes: Buffer };
  readonly putUrl?: { readonly contentType: string; readonly contentLength: number };
}

/** At most one of them. */
export interface ChosenUpload {
  dataInline?: true;
  putUrl?: { readonly url: string; readonly expires: string; readonly headers: Record<string, string> };
}

export type DownloadMethod = 'getUrl' | 'simple';

export type Download =
  | { readonly method: 'simple'; readonly url: string }
  | { readonly method: 'getUrl'; readonly url: string; readonly expires: string; readonly hashes: Hashes };

export interface Backend {
  readonly backendId: string;
  /** Notes to be kept with the object. Throws an `ApiError` for what could never be stored. */
  startUpload(name: string, uploadId: string, proposed: ProposedUpload): unknown;
  /** Chooses one of the proposed methods, or none. May store bytes that are given inline. */
  upload(object: StoredObject, proposed: ProposedUpload): Promise<ChosenUpload>;
  /** Looks at what was uploaded; answers with the notes to keep with the finished object. Throws an `ApiError` when there is no data. */
  checkUpload(object: StoredObject): Promise<unknown>;
  /** Nothing can be written any more from now on, where the backend can see to that. Throws an `ApiError` when there is no data. */
  finish(tx: Tx, object: StoredObject): Promise<void>;
  /** In no particular order. */
  readonly downloadMethods: readonly DownloadMethod[];
  download(object: StoredObject, method: DownloadMethod): Promise<Download>;
  /** Removes data that nobody reads any more; missing data is fine. Answers with the names of those to ask for again later, and why. */
  remove(objects: readonly StoredObject[]): Promise<ReadonlyMap<string, string>>;
  /** Looks after its place once the service is up. */
  prepare?(): Promise<void>;
  /** Under which key the bytes of an object are, for `source`. */
  keyOf(object: StoredObject): string;
  /** Reads bytes, for copies. */
  readonly source: BlobSource;
  /** Takes bytes that are too large for one request to the backend. */
  readonly writer?: BlobWriter;
}

/** What backends are made from. */
export interface BackendContext {
  readonly db: Db;
  readonly clock: Clock;
  readonly random: Random;
  readonly signingSecret: Uint8Array;
  /** Where this installation takes and gives bytes. */
  readonly origin: string;
  readonly log: Log;
  /** The largest object that is accepted. */
  readonly maxBytes: number;
  /** The local folder; throws a message for people when it is not configured. */
  readonly folder: () => BlobFolder;
}

/** A kind of backend. `read` checks its part of the configuration and throws an Error that says what is wrong. */
export interface BackendType<C = unknown> {
  readonly type: string;
  read(config: Readonly<Record<string, unknown>>): C;
  open(backendId: string, config: C, context: BackendContext): Backend;
}

export const defineBackend = <C>(backend: BackendType<C>): BackendType => backend;
