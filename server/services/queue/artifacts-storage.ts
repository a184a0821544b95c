/**
 * Where the queue's artifacts are: stores for the bytes of type s3, and the object service for type object. Both are reached from here only.
 * The local folder behind the stores is served by whichever process has it; the queue needs the signing key and the database.
 */
import { objectApi } from '@tscluster/api/object/api.ts';
import { type Client, ApiCallError } from '@tscluster/client/client.ts';
import { plainSlugid } from '../../platform/clock.ts';
import { openArtifactStores } from '../../platform/blobs/artifact-stores.ts';
import type { BlobStore } from '../../platform/blobs/blob-store.ts';
import { artifactBucketSettings, blobUrlSettings } from '../../platform/blobs/settings.ts';
import { type SettingValues, text } from '../../platform/config.ts';
import { inputError, notFound } from '../../platform/errors.ts';
import { signMirrorUrl } from '../../platform/mirror/mirror-url.ts';
import { findRegion, REGION_HEADER, regionSettings } from '../../platform/mirror/regions.ts';
import type { Platform } from '../../platform/service.ts';
import { createTemporaryCredentials } from '../../platform/temporary-credentials.ts';

const MINUTE_MS = 60_000;
const PUT_URL_MS = 45 * MINUTE_MS;
/** The signature outlives what is announced, so that a request sent in time arrives in time. */
const PUT_GRACE_MS = 10_000;
const GET_URL_MS = 30 * MINUTE_MS;

export const artifactSettings = {
  ...blobUrlSettings,
  ...artifactBucketSettings,
  ...regionSettings,
  artifactCdn: text('PUBLIC_ARTIFACT_CDN', 'base URL of a cache in front of public artifacts', { fallback: undefined }),
};

export type ArtifactConfig = SettingValues<typeof artifactSettings>;

export interface ReadOptions {
  /** Neither a cache nor a copy will do. */
  readonly skipCdn: boolean;
  /** Where the reader is, if there is a mirror. */
  readonly region: string | undefined;
  /** When the artifact expires. */
  readonly expires: Date;
}

export interface BlobAddress {
  readonly bucket: string;
  readonly key: string;
}

export interface ObjectCredentials {
  readonly clientId: string;
  readonly accessToken: string;
  readonly certificate: string;
}

export interface ArtifactStorage {
  /** Where the bytes of an artifact go. Throws an `ApiError` for a name that cannot be stored there. */
  locate(taskId: string, runId: number, name: string): BlobAddress;
  /** A URL to PUT bytes to, and until when it is sure to work. */
  signPut(blob: BlobAddress, contentType: string, contentLength: number | null): Promise<{ url: string; expires: Date }>;
  /** A URL that gives the bytes, or those of a copy. */
  getUrl(blob: BlobAddress, options: ReadOptions): Promise<string>;
  /**
   * Removes bytes; missing ones are fine. Blobs of a bucket that is not configured any more are left out, and reported. Answers with those that could
   * not be removed.
   */
  remove(blobs: readonly BlobAddress[]): Promise<ReadonlySet<BlobAddress>>;
  /** Looks after the buckets once the service is up. */
  prepare(): void;
  /** Where a caller is, if there is a mirror. */
  regionOf(caller: Parameters<typeof findRegion>[1]): string | undefined;
  /** A client of the object service that may do this and nothing else, for somebody in a region. */
  objects(authorizedScopes: readonly string[], region?: string): Client<typeof objectApi>;
  /** Credentials for one object, until `expires`. */
  objectCredentials(clientId: string, scope: string, expires: Date): ObjectCredentials;
}

export interface ArtifactCtx {
  readonly platform: Platform;
  readonly artifacts: ArtifactStorage;
}

/** Client ids are for people to read; what may not stand in one is left out of them. */
const validClientId = (text_: string): string => text_.replace(/[^A-Za-z0-9!@/:.+|_-]/g, '_');

export const makeArtifactStorage = (platform: Platform, config: ArtifactConfig): ArtifactStorage => {
  const { db, clock, random, log, rootUrl, signingSecret } = platform;
  const origin = config.objectsOrigin ?? rootUrl;
  const { stores, buckets, storeFor, isOpen } = openArtifactStores({ db, clock, log, signingSecret, origin, config });
  const requireStore = (bucket: string): BlobStore =>
    stores.get(bucket) ?? notFound('The artifact is in {{bucket}}, which is not configured here any more.', { bucket });
  const after = (ms: number): Date => new Date(clock.nowMs() + ms);
  return {
    locate: (taskId, runId, name) => {
      const store = storeFor(name);
      const key = `${taskId}/${runId}/${name}`;
      const problem = store.refuseKey(key);
      if (problem !== undefined) {
        inputError('The artifact name {{name}} cannot be used for storageType s3 here: {{problem}}.', { name, problem });
      }
      return { bucket: store.name, key };
    },
    signPut: async ({ bucket, key }, contentType, contentLength) => ({
      url: await requireStore(bucket).signPut({
        key,
        contentType,
        // what a worker announces is the length before compression
        expectedLength: contentLength ?? undefined,
        expires: after(PUT_URL_MS + PUT_GRACE_MS),
      }),
      expires: after(PUT_URL_MS),
    }),
    getUrl: async ({ bucket, key }, { skipCdn, region, expires }) => {
      const store = requireStore(bucket);
      if (region !== undefined && !skipCdn) {
        const grant = { region, store: bucket, key, untilMs: clock.nowMs() + GET_URL_MS, expiresMs: expires.getTime() };
        return signMirrorUrl(origin, signingSecret, grant);
      }
      if (!isOpen(bucket)) {
        return store.signGet({ key, expires: after(GET_URL_MS) });
      }
      return config.artifactCdn !== undefined && !skipCdn
        ? `${config.artifactCdn.replace(/\/+$/, '')}/${encodeURI(key)}`
        : store.plainUrl(key);
    },
    remove: async blobs => {
      const left = new Set<BlobAddress>();
      for (const [bucket, own] of Map.groupBy(blobs, blob => blob.bucket)) {
        const store = stores.get(bucket);
        if (!store) {
          log.warn({ bucket, artifacts: own.length }, 'bytes of expired artifacts stay, because their bucket is not configured any more');
          continue;
        }
        const failed = await store.remove(own.map(({ key }) => key));
        own.filter(({ key }) => failed.has(key)).forEach(blob => left.add(blob));
        if (failed.size > 0) {
          const [[key, reason] = []] = failed;
          log.error(
            { bucket, artifacts: failed.size, key, reason },
            'bytes of expired artifacts could not be removed; they are tried again',
          );
        }
      }
      return left;
    },
    prepare: () => buckets.forEach(bucket => void bucket.prepare()),
    regionOf: caller => findRegion(config.mirrorRegions, caller),
    objects: (authorizedScopes, region) =>
      platform.client(objectApi, 'queue', { authorizedScopes, ...(region !== undefined && { headers: { [REGION_HEADER]: region } }) }),
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
