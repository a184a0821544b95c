/** The object service: names, rights, hashes and expiry of objects. Where there is a local folder, it serves the bytes as well. */
import { objectApi } from '@tscluster/api/object/api.ts';
import { type BlobFolder, openBlobFolder } from '../../platform/blobs/blob-folder.ts';
import { blobGarbage, blobLeftovers } from '../../platform/blobs/blob-loops.ts';
import { makeBlobRoute } from '../../platform/blobs/blob-routes.ts';
import { type ArtifactStores, openArtifactStores } from '../../platform/blobs/artifact-stores.ts';
import { type BlobSource, type BlobWriter, objectStore, PRIVATE_ARTIFACTS, PUBLIC_ARTIFACTS } from '../../platform/blobs/blob-store.ts';
import { makeFolderSource } from '../../platform/blobs/local-store.ts';
import { makeS3Source, makeS3Writer } from '../../platform/blobs/s3/s3-store.ts';
import { artifactBucketSettings, blobFolderSettings, blobUrlSettings } from '../../platform/blobs/settings.ts';
import { plainSlugid } from '../../platform/clock.ts';
import { run } from '../../platform/loop.ts';
import { regionSettings } from '../../platform/mirror/regions.ts';
import { defineService, type Platform, serve } from '../../platform/service.ts';
import type { Backend } from './backends/backend.ts';
import { backendSettings, checkBackendMap } from './configuration.ts';
import { objectExpiry } from './expiry.ts';
import { type ObjectCtx, objectHandlers } from './handlers.ts';
import { mirrorCopier } from './mirror/copier.ts';
import { mirrorEvictions } from './mirror/evictions.ts';
import { makeMirrorMetrics, makeMirrors, type MirrorCtx, openMirrors } from './mirror/mirror.ts';
import { makeMirrorRoute } from './mirror/route.ts';
import { checkMirrors, mirrorSettings } from './mirror/settings.ts';

/** Wakes the loop that makes copies. */
const COPIES = 'object/mirror-copies';

/** Where bytes can be read, for copies of them, and where they can be written through here, for what is too large for one request; by store. */
const openStores = (
  { db, clock }: Pick<Platform, 'db' | 'clock'>,
  artifacts: ArtifactStores,
  backends: ReadonlyMap<string, Backend>,
  { folder, maxBytes }: { folder: BlobFolder | undefined; maxBytes: number },
): { sources: Map<string, BlobSource>; writers: Map<string, BlobWriter> } => {
  const sources = new Map<string, BlobSource>();
  const writers = new Map<string, BlobWriter>();
  if (folder) {
    [PUBLIC_ARTIFACTS, PRIVATE_ARTIFACTS].forEach(name => sources.set(name, makeFolderSource(name, db, folder)));
  }
  for (const [name, bucket] of artifacts.buckets) {
    sources.set(name, makeS3Source(bucket));
    writers.set(name, makeS3Writer({ bucket, clock, maxBytes }));
  }
  for (const { backendId, source, writer } of backends.values()) {
    sources.set(objectStore(backendId), source);
    if (writer) {
      writers.set(objectStore(backendId), writer);
    }
  }
  return { sources, writers };
};

export const objectService = defineService({
  name: 'object',
  settings: {
    ...backendSettings,
    ...blobUrlSettings,
    ...blobFolderSettings,
    ...artifactBucketSettings,
    ...mirrorSettings,
    ...regionSettings,
  },
  start: async (platform, config) => {
    const { db, clock, random, log, metrics, signingSecret } = platform;
    checkBackendMap(config.backendMap, config.backends);
    checkMirrors(config);

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

    const artifacts = openArtifactStores({ db, clock, log, signingSecret, origin, config });
    const { maxBytes } = config;
    const { sources, writers } = openStores(platform, artifacts, backends, { folder, maxBytes });

    const mirrorCtx: MirrorCtx = {
      db,
      clock,
      log,
      sources,
      mirrors: openMirrors(config.mirrors, { clock, log }),
      newAttempt: () => plainSlugid(random),
      metrics: makeMirrorMetrics(metrics),
      wakeCopier: () => platform.notify(COPIES),
    };
    const mirrors = makeMirrors(mirrorCtx);
    const ctx: ObjectCtx = {
      db,
      clock,
      backends,
      rules: config.backendMap,
      middleware: config.middleware,
      mirrors,
      regions: config.mirrorRegions,
    };
    const publicStores = config.signPublicArtifactUrls ? [] : [PUBLIC_ARTIFACTS];
    const blobRoute = makeBlobRoute({ db, clock, log, metrics, folder, writers, maxBytes, signingSecret, publicStores });
    const { stores, isOpen } = artifacts;
    const stopListening: (() => void)[] = [];
    return {
      apis: [serve(objectApi, objectHandlers, ctx)],
      routes: [blobRoute, makeMirrorRoute({ clock, signingSecret, mirrors, stores, isOpen })],
      loops: [
        run(objectExpiry, { db, clock, log, backends }),
        run(mirrorCopier, mirrorCtx, wake => stopListening.push(platform.onNotify(COPIES, wake))),
        run(mirrorEvictions, mirrorCtx),
        ...(folder ? [run(blobGarbage, { folder }), run(blobLeftovers, { folder })] : []),
      ],
      // not waited for: the service is of use without it
      ready: async () => {
        for (const backend of backends.values()) {
          void backend.prepare?.();
        }
        for (const { bucket } of mirrorCtx.mirrors.values()) {
          void bucket.prepare();
        }
      },
      close: async () => stopListening.forEach(stop => stop()),
    };
  },
});
