/** The object service: names, rights, hashes and expiry of objects. Where there is a local folder, it serves the bytes as well. */
import { objectApi } from '@tscluster/api/object/api.ts';
import { type BlobFolder, openBlobFolder } from '../../platform/blobs/blob-folder.ts';
import { blobGarbage, blobLeftovers } from '../../platform/blobs/blob-loops.ts';
import { makeBlobRoute } from '../../platform/blobs/blob-routes.ts';
import { bucketStore, type BlobWriter, objectStore, PUBLIC_ARTIFACTS } from '../../platform/blobs/blob-store.ts';
import { openS3Bucket } from '../../platform/blobs/s3/s3-bucket.ts';
import { makeS3Writer } from '../../platform/blobs/s3/s3-store.ts';
import { artifactBucketSettings, blobFolderSettings, blobUrlSettings, readArtifactBuckets } from '../../platform/blobs/settings.ts';
import { run } from '../../platform/loop.ts';
import type { SettingValues } from '../../platform/config.ts';
import { defineService, type Platform, serve } from '../../platform/service.ts';
import { backendSettings, checkBackendMap } from './configuration.ts';
import { objectExpiry } from './expiry.ts';
import { type ObjectCtx, objectHandlers } from './handlers.ts';

/** Artifacts that are too large for one request to their bucket come through here too. */
const openArtifactWriters = (
  { clock, log }: Platform,
  config: SettingValues<typeof artifactBucketSettings> & { readonly maxBytes: number },
): [string, BlobWriter][] => {
  const buckets = readArtifactBuckets(config);
  return (buckets ? [buckets.public, buckets.private] : []).map(settings => {
    const bucket = openS3Bucket({ settings, clock, log });
    return [bucketStore(settings.bucket), makeS3Writer({ bucket, clock, maxBytes: config.maxBytes })];
  });
};

export const objectService = defineService({
  name: 'object',
  settings: { ...backendSettings, ...blobUrlSettings, ...blobFolderSettings, ...artifactBucketSettings },
  start: async (platform, config) => {
    const { db, clock, random, log, metrics, signingSecret } = platform;
    checkBackendMap(config.backendMap, config.backends);

    let folder: BlobFolder | undefined;
    if (config.objectsFolder !== undefined) {
      folder = await openBlobFolder({ folder: config.objectsFolder, db, clock, random, maxBytes: config.maxBytes });
    }
    const requireFolder = (): BlobFolder => {
      if (!folder) {
        throw new Error('OBJECTS_FOLDER is not set, but BACKENDS has a backend of type local: say in which folder objects are to be kept.');
      }
      return folder;
    };
    const origin = config.objectsOrigin ?? platform.rootUrl;
    const context = { db, clock, random, log, signingSecret, origin, maxBytes: config.maxBytes, folder: requireFolder };
    const backends = new Map(config.backends.map(({ backendId, type, config: own }) => [backendId, type.open(backendId, own, context)]));

    const writers = new Map<string, BlobWriter>(openArtifactWriters(platform, config));
    for (const { backendId, writer } of backends.values()) {
      if (writer) {
        writers.set(objectStore(backendId), writer);
      }
    }

    const ctx: ObjectCtx = { db, clock, backends, rules: config.backendMap, middleware: config.middleware };
    const publicStores = config.signPublicArtifactUrls ? [] : [PUBLIC_ARTIFACTS];
    return {
      apis: [serve(objectApi, objectHandlers, ctx)],
      routes:
        folder || writers.size > 0
          ? [makeBlobRoute({ db, clock, log, metrics, folder, writers, maxBytes: config.maxBytes, signingSecret, publicStores })]
          : [],
      loops: [
        run(objectExpiry, { db, clock, log, backends }),
        ...(folder ? [run(blobGarbage, { folder }), run(blobLeftovers, { folder })] : []),
      ],
      // not waited for: the service is of use without it
      ready: async () => {
        for (const backend of backends.values()) {
          void backend.prepare?.();
        }
      },
    };
  },
});
