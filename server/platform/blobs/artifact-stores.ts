/**
 * The stores of artifacts of type s3: two in the local folder, and two buckets where they are configured. The queue hands out their URLs; the object
 * service takes what is large, and looks after copies.
 */
import type { Db } from '../../db/sql.ts';
import type { Clock } from '../clock.ts';
import type { SettingValues } from '../config.ts';
import type { Log } from '../log.ts';
import { type BlobStore, bucketStore, PRIVATE_ARTIFACTS, PUBLIC_ARTIFACTS } from './blob-store.ts';
import { makeLocalStore } from './local-store.ts';
import { openS3Bucket, type S3Bucket } from './s3/s3-bucket.ts';
import { makeS3Store } from './s3/s3-store.ts';
import { type artifactBucketSettings, type blobUrlSettings, readArtifactBuckets } from './settings.ts';

export interface ArtifactStores {
  /** Every store that may have artifacts. What was stored in the folder before there were buckets stays there. */
  readonly stores: ReadonlyMap<string, BlobStore>;
  /** Those of them that are buckets. */
  readonly buckets: ReadonlyMap<string, S3Bucket>;
  /** Where new artifacts go, by name. */
  storeFor(name: string): BlobStore;
  /** Whether URLs of a store need no signature. */
  isOpen(store: string): boolean;
}

export interface ArtifactStoresOptions {
  readonly db: Db;
  readonly clock: Clock;
  readonly log: Log;
  readonly signingSecret: Uint8Array;
  /** Where this installation takes and gives bytes. */
  readonly origin: string;
  readonly config: SettingValues<typeof artifactBucketSettings> & SettingValues<typeof blobUrlSettings>;
}

/** Opens them; throws an Error that says what is wrong with the configuration. */
export const openArtifactStores = ({ db, clock, log, signingSecret, origin, config }: ArtifactStoresOptions): ArtifactStores => {
  const settings = readArtifactBuckets(config);
  const buckets = new Map(
    (settings ? [settings.public, settings.private] : []).map(each => [
      bucketStore(each.bucket),
      openS3Bucket({ settings: each, clock, log }),
    ]),
  );
  const stores = new Map<string, BlobStore>();
  for (const name of [PUBLIC_ARTIFACTS, PRIVATE_ARTIFACTS]) {
    stores.set(name, makeLocalStore({ name, db, clock, signingSecret, origin }));
  }
  for (const [name, bucket] of buckets) {
    stores.set(name, makeS3Store({ name, bucket, signingSecret, origin }));
  }
  const [openStore, otherStore] = settings
    ? [bucketStore(settings.public.bucket), bucketStore(settings.private.bucket)]
    : [PUBLIC_ARTIFACTS, PRIVATE_ARTIFACTS];
  return {
    stores,
    buckets,
    storeFor: name => stores.get(name.startsWith('public/') ? openStore : otherStore) as BlobStore,
    isOpen: store => !config.signPublicArtifactUrls && [PUBLIC_ARTIFACTS, openStore].includes(store),
  };
};
