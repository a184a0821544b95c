/**
 * Where bytes are. A store is a name space of blobs (what S3 calls a bucket): the object service has one per backend, the queue one for public and
 * one for private artifacts. Both use this, so that the queue needs nothing of the object service, and so that bytes never pass through an API:
 * callers get URLs, and whoever serves the bytes (S3, or `blob-routes.ts` for the local folder) needs only the URL's signature.
 */

import type { Readable } from 'node:stream';

/** What is known of stored bytes. */
export interface Blob {
  /** As stored, that is after an encoding. */
  readonly sizeBytes: number;
  readonly contentType: string;
  /** `gzip`, for example; undefined when the bytes are as they were. */
  readonly contentEncoding: string | undefined;
}

export interface PutUrl {
  readonly key: string;
  /** The request has to carry exactly this type. */
  readonly contentType: string;
  /** The request has to have exactly this length. Default: any. */
  readonly contentLength?: number | undefined;
  /** How many bytes the caller has in mind, where the request may have another length. */
  readonly expectedLength?: number | undefined;
  readonly expires: Date;
}

export interface GetUrl {
  readonly key: string;
  readonly expires: Date;
  /** Browsers are told to save the bytes instead of showing them. */
  readonly attachment?: boolean;
}

export interface BlobStore {
  readonly name: string;
  /** A URL that takes one PUT of the bytes; it may be used again until it expires, the last one wins. */
  signPut(put: PutUrl): Promise<string>;
  /** A URL that gives the bytes until it expires. */
  signGet(get: GetUrl): Promise<string>;
  /** A URL that gives the bytes of a store which is public. */
  plainUrl(key: string): Promise<string>;
  /** Forgets blobs; missing ones are fine. The bytes are gone some time later. Answers with those that could not be removed, and why. */
  remove(keys: readonly string[]): Promise<ReadonlyMap<string, string>>;
  /** Why nothing can be stored under a key; undefined when it can. */
  refuseKey(key: string): string | undefined;
}

/** Reads what is stored, for copies of it. */
export interface BlobSource {
  /** undefined when nothing is stored. The etag is another one once the bytes were replaced. */
  look(key: string): Promise<{ readonly sizeBytes: number; readonly etag: string } | undefined>;
  /** Opens what is stored; whoever does not read the body to its end destroys it. */
  open(
    key: string,
  ): Promise<(Blob & { readonly etag: string; readonly contentDisposition?: string | undefined; readonly body: Readable }) | undefined>;
}

/** Takes bytes that come through this installation, where clients cannot send them to the store itself. */
export interface BlobWriter {
  /** Stores bytes in place of what the key has, as they come. Throws `BlobError`. */
  write(
    incoming: {
      readonly key: string;
      readonly contentType: string;
      readonly contentEncoding: string | undefined;
      /** Any other number of bytes is refused. */
      readonly contentLength: number | undefined;
    },
    body: Readable,
  ): Promise<{ readonly etag: string }>;
}

/** Artifacts whose name begins with `public/`. */
export const PUBLIC_ARTIFACTS = 'public-artifacts';
/** All other artifacts. */
export const PRIVATE_ARTIFACTS = 'private-artifacts';
/** The store of artifacts in an S3 bucket. No store of the local folder has such a name. */
export const bucketStore = (bucket: string): string => `s3:${bucket}`;
/** The store of a backend of the object service. */
export const objectStore = (backendId: string): string => `object-${backendId}`;

/** The longest key a store takes. Postgres cannot index text beyond 2,700 bytes. */
export const MAX_KEY_LENGTH = 2_100;
