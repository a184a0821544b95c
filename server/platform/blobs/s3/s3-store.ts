/** A bucket as a store of blobs: what whoever hands out URLs needs of it, and what takes the bytes that are too large for one request. */
import { Readable } from 'node:stream';
import type { Clock } from '../../clock.ts';
import { arriving, BlobError, STALL_TIMEOUT_MS } from '../arriving.ts';
import type { BlobSource, BlobStore, BlobWriter } from '../blob-store.ts';
import { signBlobUrl } from '../signed-url.ts';
import type { S3Bucket, S3Headers } from './s3-bucket.ts';
import { refuseS3Key } from './s3-key.ts';

export interface S3StoreOptions {
  /** Names the store in URLs of this installation. */
  readonly name: string;
  readonly bucket: S3Bucket;
  readonly signingSecret: Uint8Array;
  /** Where this installation takes what is too large for one request: scheme, host, port. */
  readonly origin: string;
}

type Put = Parameters<BlobStore['signPut']>[0] & Pick<S3Headers, 'contentDisposition'>;

/** The URL for a PUT: the bucket's own, or, for what is too large for one request there, one of this installation, which sends it on in parts. */
export const signS3Put = async ({ name, bucket, signingSecret, origin }: S3StoreOptions, put: Put): Promise<string> => {
  const { key, expires, contentLength, expectedLength = contentLength, ...headers } = put;
  return expectedLength !== undefined && expectedLength > bucket.settings.maxPutBytes
    ? signBlobUrl(origin, signingSecret, {
        method: 'PUT',
        store: name,
        key,
        expiresMs: expires.getTime(),
        contentType: put.contentType,
        contentLength,
      })
    : bucket.signPut(key, { ...headers, contentLength }, expires);
};

/** The store `name` in a bucket. */
export const makeS3Store = (options: S3StoreOptions): BlobStore => {
  const { name, bucket } = options;
  return {
    name,
    signPut: put => signS3Put(options, put),
    signGet: ({ key, expires }) => bucket.signGet(key, expires),
    plainUrl: key => bucket.plainUrl(key),
    remove: keys => bucket.remove(keys),
    refuseKey: refuseS3Key,
  };
};

/** Reads a bucket. */
export const makeS3Source = (bucket: S3Bucket): BlobSource => ({ look: bucket.head, open: bucket.open });

export interface S3WriterOptions {
  readonly bucket: S3Bucket;
  readonly clock: Clock;
  /** More bytes are refused. */
  readonly maxBytes: number;
  /** Throws `BlobError` when nothing may be written under a key any more. */
  readonly check?: (key: string) => Promise<void>;
  /** What is kept beside the bytes. */
  readonly headersFor?: (contentType: string) => Partial<S3Headers>;
}

/** Each holds some parts in memory. */
const WRITES_AT_ONCE = 16;

/** Streams bytes to a bucket, in parts. */
export const makeS3Writer = ({ bucket, clock, maxBytes, check, headersFor }: S3WriterOptions): BlobWriter => {
  let writing = 0;
  return {
    write: async ({ key, contentType, contentEncoding, contentLength }, body) => {
      if (writing >= WRITES_AT_ONCE) {
        throw new BlobError(503, 'Busy', `This process takes ${WRITES_AT_ONCE} large uploads at a time, and has them. Try again.`);
      }
      writing += 1;
      try {
        await check?.(key);
        const chunks = arriving(body, { contentLength, maxBytes, stallTimeoutMs: STALL_TIMEOUT_MS, clock });
        const headers = { contentType, contentEncoding, ...headersFor?.(contentType) };
        return await bucket.upload(key, Readable.from(chunks, { objectMode: false }), headers, contentLength ?? maxBytes);
      } finally {
        writing -= 1;
      }
    },
  };
};
