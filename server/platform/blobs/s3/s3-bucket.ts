/**
 * One bucket, by what the installation does with it. Bytes go between clients and S3 under signed URLs; what passes through here is tiny, or larger than
 * S3 takes in one request, or a copy, and is streamed in parts, so that memory does not grow with it.
 *
 * Every failure is an `S3Error`; what was not there is not a failure.
 */
import type { Readable } from 'node:stream';
import type { S3Client } from '@aws-sdk/client-s3';
import type { Clock } from '../../clock.ts';
import type { Log } from '../../log.ts';
import { openClient } from './s3-client.ts';
import { reasonOf, S3Error, statusOf } from './s3-error.ts';
import type { S3Settings } from './s3-settings.ts';

export interface S3Headers {
  readonly contentType: string;
  readonly contentEncoding?: string | undefined;
  readonly contentDisposition?: string | undefined;
}

/** What is stored under a key. */
export interface S3Stored {
  readonly sizeBytes: number;
  readonly contentType: string;
  readonly contentEncoding: string | undefined;
  readonly contentDisposition: string | undefined;
  /** Another one when the bytes are replaced. */
  readonly etag: string;
}

export interface S3Bucket {
  readonly settings: S3Settings;
  put(key: string, bytes: Buffer, headers: S3Headers): Promise<void>;
  /**
   * Stores a stream in parts; nothing of it is left when it fails. An error of the stream is thrown as it is.
   *
   * @param maxBytes the most that may come; it decides how large the parts are
   */
  upload(key: string, body: Readable, headers: S3Headers, maxBytes: number): Promise<{ etag: string }>;
  /** undefined when nothing is stored there. */
  head(key: string): Promise<S3Stored | undefined>;
  /** Opens what is stored; whoever does not read the body to its end destroys it. */
  open(key: string): Promise<(S3Stored & { readonly body: Readable }) | undefined>;
  setTags(key: string, tags: Readonly<Record<string, string>>): Promise<void>;
  /** A URL for one PUT with exactly these headers, and this length if one is given. */
  signPut(key: string, headers: S3Headers & { readonly contentLength?: number | undefined }, expires: Date): Promise<string>;
  /** A URL for GET, ranges included. `contentDisposition` takes the place of the one that is stored. */
  signGet(key: string, expires: Date, options?: { readonly contentDisposition?: string }): Promise<string>;
  /** The same URL without a signature. */
  plainUrl(key: string): Promise<string>;
  /** Removes keys; missing ones are fine. Answers with those that are still there, and why. Never throws. */
  remove(keys: readonly string[]): Promise<ReadonlyMap<string, string>>;
  /** Tells the log what is wrong with the bucket, if something is, and gives it a rule for browsers where that is wanted. Never throws. */
  prepare(): Promise<void>;
}

/** S3's limits. */
const MAX_KEYS_AT_ONCE = 1_000;
const MAX_PARTS = 10_000;
const MIN_PART_BYTES = 8 * 1024 ** 2;
/** Parts that are on their way at once: each is held in memory. */
const PARTS_AT_ONCE = 2;
const REMOVALS_AT_ONCE = 16;

const CORS_RULE = {
  AllowedOrigins: ['*'],
  AllowedMethods: ['GET', 'PUT', 'HEAD', 'POST', 'DELETE'],
  AllowedHeaders: ['*'],
  ExposeHeaders: ['ETag'],
  MaxAgeSeconds: 3_600,
};

export interface S3BucketOptions {
  readonly settings: S3Settings;
  readonly clock: Clock;
  readonly log: Log;
}

export const openS3Bucket = ({ settings, clock, log }: S3BucketOptions): S3Bucket => {
  const { bucket } = settings;
  const Bucket = bucket;
  let opening: ReturnType<typeof openClient> | undefined;
  let bulk = settings.useBulkDelete;

  const open = async (): ReturnType<typeof openClient> => {
    opening ??= openClient(settings);
    try {
      return await opening;
    } catch (error) {
      opening = undefined; // the region may be there to learn next time
      throw error;
    }
  };

  const toS3Error = (error: unknown, operation: string): S3Error => {
    const failure = new S3Error(bucket, reasonOf(error), statusOf(error));
    log.warn({ bucket, operation, reason: failure.reason, status: failure.status }, 'the storage failed');
    return failure;
  };

  /** Runs something with a client; its failures become `S3Error`s. */
  const use = async <T>(
    operation: string,
    work: (client: S3Client, sdk: Awaited<ReturnType<typeof openClient>>['sdk']) => Promise<T>,
  ): Promise<T> => {
    try {
      const { client, sdk } = await open();
      return await work(client, sdk);
    } catch (error) {
      throw toS3Error(error, operation);
    }
  };

  const seconds = (expires: Date): number => Math.max(1, Math.ceil((expires.getTime() - clock.nowMs()) / 1000));

  const toInput = ({ contentType, contentEncoding, contentDisposition }: S3Headers) => ({
    ContentType: contentType,
    ...(contentEncoding === undefined ? {} : { ContentEncoding: contentEncoding }),
    ...(contentDisposition === undefined ? {} : { ContentDisposition: contentDisposition }),
  });

  const toStored = (output: {
    ContentLength?: number | undefined;
    ContentType?: string | undefined;
    ContentEncoding?: string | undefined;
    ContentDisposition?: string | undefined;
    ETag?: string | undefined;
  }): S3Stored => ({
    sizeBytes: output.ContentLength ?? 0,
    contentType: output.ContentType ?? 'application/octet-stream',
    contentEncoding: output.ContentEncoding,
    contentDisposition: output.ContentDisposition,
    etag: output.ETag ?? '',
  });

  const signGet: S3Bucket['signGet'] = (key, expires, { contentDisposition } = {}) =>
    use('signGet', (client, { s3, getSignedUrl }) =>
      getSignedUrl(
        client,
        new s3.GetObjectCommand({
          Bucket,
          Key: key,
          ...(contentDisposition === undefined ? {} : { ResponseContentDisposition: contentDisposition }),
        }),
        { expiresIn: seconds(expires), signingDate: clock.now() },
      ),
    );

  const removeOne = async (key: string): Promise<string | undefined> => {
    try {
      const { client, sdk } = await open();
      await client.send(new sdk.s3.DeleteObjectCommand({ Bucket, Key: key }));
      return undefined;
    } catch (error) {
      return statusOf(error) === 404 && reasonOf(error) !== 'NoSuchBucket' ? undefined : toS3Error(error, 'remove').reason;
    }
  };

  /** One request for all of them; undefined when the other side does not know such requests. */
  const removeAtOnce = async (keys: readonly string[]): Promise<[string, string][] | undefined> => {
    try {
      const { client, sdk } = await open();
      const { Errors: errors = [] } = await client.send(
        new sdk.s3.DeleteObjectsCommand({ Bucket, Delete: { Quiet: true, Objects: keys.map(Key => ({ Key })) } }),
      );
      return errors.filter(each => each.Code !== 'NoSuchKey').map(({ Key = '', Code = 'unknown' }) => [Key, Code]);
    } catch (error) {
      if ([405, 501].includes(statusOf(error) ?? 0)) {
        return undefined;
      }
      const { reason } = toS3Error(error, 'remove');
      return keys.map(key => [key, reason]);
    }
  };

  const remove: S3Bucket['remove'] = async keys => {
    const left = new Map<string, string>();
    for (let at = 0; at < keys.length; at += MAX_KEYS_AT_ONCE) {
      const some = keys.slice(at, at + MAX_KEYS_AT_ONCE);
      const failed = bulk ? await removeAtOnce(some) : undefined;
      failed?.forEach(([key, reason]) => left.set(key, reason));
      if (!failed) {
        bulk = false;
        for (let from = 0; from < some.length; from += REMOVALS_AT_ONCE) {
          await Promise.all(
            some.slice(from, from + REMOVALS_AT_ONCE).map(async key => {
              const reason = await removeOne(key);
              if (reason !== undefined) {
                left.set(key, reason);
              }
            }),
          );
        }
      }
    }
    return left;
  };

  const configureCors = async (client: S3Client, sdk: Awaited<ReturnType<typeof openClient>>['sdk']): Promise<void> => {
    try {
      const there = await client.send(new sdk.s3.GetBucketCorsCommand({ Bucket })).catch((error: unknown) => {
        if (reasonOf(error) !== 'NoSuchCORSConfiguration') {
          throw error;
        }
        return undefined;
      });
      if (!there) {
        await client.send(new sdk.s3.PutBucketCorsCommand({ Bucket, CORSConfiguration: { CORSRules: [CORS_RULE] } }));
        log.info({ bucket }, 'the bucket has a rule for requests from browsers now');
      }
    } catch (error) {
      const [reason, status] = [reasonOf(error), statusOf(error)];
      log.warn({ bucket, reason, status }, 'the bucket could not be given a rule for requests from browsers');
    }
  };

  return {
    settings,
    put: (key, bytes, headers) =>
      use('put', async (client, { s3 }) => {
        await client.send(new s3.PutObjectCommand({ Bucket, Key: key, Body: bytes, ContentLength: bytes.length, ...toInput(headers) }));
      }),
    upload: async (key, body, headers, maxBytes) => {
      let broken: unknown;
      body.once('error', error => (broken = error));
      try {
        const { client, sdk } = await open();
        const upload = new sdk.Upload({
          client,
          params: { Bucket, Key: key, Body: body, ...toInput(headers) },
          partSize: Math.max(MIN_PART_BYTES, Math.ceil(maxBytes / MAX_PARTS)),
          queueSize: PARTS_AT_ONCE,
        });
        return { etag: (await upload.done()).ETag ?? '' };
      } catch (error) {
        body.destroy();
        throw broken === undefined ? toS3Error(error, 'upload') : broken;
      }
    },
    head: key =>
      use('head', async (client, { s3 }) => {
        try {
          return toStored(await client.send(new s3.HeadObjectCommand({ Bucket, Key: key })));
        } catch (error) {
          if (statusOf(error) === 404) {
            return undefined;
          }
          throw error;
        }
      }),
    open: key =>
      use('open', async (client, { s3 }) => {
        try {
          const output = await client.send(new s3.GetObjectCommand({ Bucket, Key: key }));
          return { ...toStored(output), body: output.Body as Readable };
        } catch (error) {
          if (reasonOf(error) === 'NoSuchKey') {
            return undefined;
          }
          throw error;
        }
      }),
    setTags: (key, tags) =>
      use('setTags', async (client, { s3 }) => {
        const TagSet = Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
        await client.send(new s3.PutObjectTaggingCommand({ Bucket, Key: key, Tagging: { TagSet } }));
      }),
    signPut: (key, { contentLength, ...headers }, expires) =>
      use('signPut', (client, { s3, getSignedUrl }) =>
        getSignedUrl(
          client,
          new s3.PutObjectCommand({
            Bucket,
            Key: key,
            ...toInput(headers),
            ...(contentLength === undefined ? {} : { ContentLength: contentLength }),
          }),
          {
            expiresIn: seconds(expires),
            signingDate: clock.now(),
            signableHeaders: new Set(['host', 'content-type', 'content-length', 'content-disposition']),
          },
        ),
      ),
    signGet,
    plainUrl: async key => {
      const url = new URL(await signGet(key, clock.now()));
      url.search = '';
      return url.href;
    },
    remove,
    prepare: async () => {
      try {
        const { client, sdk } = await open();
        await client.send(new sdk.s3.HeadBucketCommand({ Bucket }));
        if (settings.configureCors) {
          await configureCors(client, sdk);
        }
      } catch (error) {
        const [reason, status] = [reasonOf(error), statusOf(error)];
        log.error(
          { bucket, reason, status },
          status === 404
            ? 'a bucket does not exist: create it, or correct the configuration'
            : status === 403
              ? 'a bucket refuses our access key: correct the configuration, or give the key its permissions'
              : 'a bucket could not be looked at; it is used nevertheless',
        );
      }
    },
  };
};
