/**
 * Where the queue's artifacts are: stores for the bytes of type s3, and the object service for type object. Both are reached from here only.
 * The local folder behind the stores is served by whichever process has it; the queue needs the signing key and the database.
 */
import { objectApi } from '@tscluster/api/object/api.ts';
import { type Client, ApiCallError } from '@tscluster/client/client.ts';
import { plainSlugid } from '../../platform/clock.ts';
import { type BlobStore, PRIVATE_ARTIFACTS, PUBLIC_ARTIFACTS } from '../../platform/blobs/blob-store.ts';
import { makeLocalStore } from '../../platform/blobs/local-store.ts';
import { blobUrlSettings } from '../../platform/blobs/settings.ts';
import { text } from '../../platform/config.ts';
import type { Platform } from '../../platform/service.ts';
import { createTemporaryCredentials } from '../../platform/temporary-credentials.ts';

const MINUTE_MS = 60_000;
const PUT_URL_MS = 45 * MINUTE_MS;
/** The signature outlives what is announced, so that a request sent in time arrives in time. */
const PUT_GRACE_MS = 10_000;
const GET_URL_MS = 30 * MINUTE_MS;

export const artifactSettings = {
  ...blobUrlSettings,
  artifactCdn: text('PUBLIC_ARTIFACT_CDN', 'base URL of a cache in front of public artifacts', { fallback: undefined }),
};

export interface ArtifactConfig {
  readonly objectsOrigin: string | undefined;
  readonly signPublicArtifactUrls: boolean;
  readonly artifactCdn: string | undefined;
}

export interface ObjectCredentials {
  readonly clientId: string;
  readonly accessToken: string;
  readonly certificate: string;
}

export interface ArtifactStorage {
  /** A URL to PUT bytes to, and until when it is sure to work. */
  signPut(blob: { bucket: string; key: string }, contentType: string): Promise<{ url: string; expires: Date }>;
  /** A URL that gives the bytes. */
  getUrl(blob: { bucket: string; key: string }, options: { skipCdn: boolean }): Promise<string>;
  /** Removes bytes; missing ones are fine. Blobs of a bucket that is not configured any more are left out, and reported. */
  remove(blobs: readonly { bucket: string; key: string }[]): Promise<void>;
  /** A client of the object service that may do this and nothing else. */
  objects(authorizedScopes: readonly string[]): Client<typeof objectApi>;
  /** Credentials for one object, until `expires`. */
  objectCredentials(clientId: string, scope: string, expires: Date): ObjectCredentials;
}

/** Client ids are for people to read; what may not stand in one is left out of them. */
const validClientId = (text_: string): string => text_.replace(/[^A-Za-z0-9!@/:.+|_-]/g, '_');

export const makeArtifactStorage = (platform: Platform, config: ArtifactConfig): ArtifactStorage => {
  const { db, clock, random, log, rootUrl, signingSecret } = platform;
  const origin = config.objectsOrigin ?? rootUrl;
  const stores = new Map<string, BlobStore>(
    [PUBLIC_ARTIFACTS, PRIVATE_ARTIFACTS].map(name => [name, makeLocalStore({ name, db, clock, signingSecret, origin })]),
  );
  const requireStore = (bucket: string): BlobStore => {
    const store = stores.get(bucket);
    if (!store) {
      throw new Error(`The bucket ${bucket} of an artifact is not configured any more`);
    }
    return store;
  };
  const after = (ms: number): Date => new Date(clock.nowMs() + ms);
  return {
    signPut: async ({ bucket, key }, contentType) => ({
      url: await requireStore(bucket).signPut({ key, contentType, expires: after(PUT_URL_MS + PUT_GRACE_MS) }),
      expires: after(PUT_URL_MS),
    }),
    getUrl: async ({ bucket, key }, { skipCdn }) => {
      const store = requireStore(bucket);
      if (bucket !== PUBLIC_ARTIFACTS || config.signPublicArtifactUrls) {
        return store.signGet({ key, expires: after(GET_URL_MS) });
      }
      return config.artifactCdn !== undefined && !skipCdn
        ? `${config.artifactCdn.replace(/\/+$/, '')}/${encodeURI(key)}`
        : store.plainUrl(key);
    },
    remove: async blobs => {
      const byBucket = new Map<string, string[]>();
      for (const { bucket, key } of blobs) {
        byBucket.set(bucket, [...(byBucket.get(bucket) ?? []), key]);
      }
      for (const [bucket, keys] of byBucket) {
        const store = stores.get(bucket);
        if (store) {
          await store.remove(keys);
        } else {
          log.warn({ bucket, artifacts: keys.length }, 'bytes of expired artifacts stay, because their bucket is not configured any more');
        }
      }
    },
    objects: authorizedScopes => platform.client(objectApi, 'queue', { authorizedScopes }),
    objectCredentials: (clientId, scope, expires) =>
      createTemporaryCredentials({
        credentials: platform.serviceCredentials('queue'),
        clientId: validClientId(clientId),
        scopes: [scope],
        start: clock.now(),
        expiry: expires,
        seed: plainSlugid(random) + plainSlugid(random),
      }),
  };
};

/** Whether a call was refused with this status. */
export const isRefusal = (error: unknown, ...statusCodes: readonly number[]): boolean =>
  error instanceof ApiCallError && statusCodes.includes(error.statusCode);
