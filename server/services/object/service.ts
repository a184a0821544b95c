/** The object service: names, rights, hashes and expiry of objects. Where there is a local folder, it serves the bytes as well. */
import { objectApi } from '@tscluster/api/object/api.ts';
import { type BlobFolder, openBlobFolder } from '../../platform/blobs/blob-folder.ts';
import { blobGarbage, blobLeftovers } from '../../platform/blobs/blob-loops.ts';
import { makeBlobRoute } from '../../platform/blobs/blob-routes.ts';
import { PUBLIC_ARTIFACTS } from '../../platform/blobs/blob-store.ts';
import { blobFolderSettings, blobUrlSettings } from '../../platform/blobs/settings.ts';
import { run } from '../../platform/loop.ts';
import { defineService, serve } from '../../platform/service.ts';
import { backendSettings, checkBackendMap } from './configuration.ts';
import { objectExpiry } from './expiry.ts';
import { type ObjectCtx, objectHandlers } from './handlers.ts';

export const objectService = defineService({
  name: 'object',
  settings: { ...backendSettings, ...blobUrlSettings, ...blobFolderSettings },
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
    const context = { db, clock, random, signingSecret, origin, folder: requireFolder };
    const backends = new Map(config.backends.map(({ backendId, type, config: own }) => [backendId, type.open(backendId, own, context)]));

    const ctx: ObjectCtx = { db, clock, backends, rules: config.backendMap, middleware: config.middleware };
    const publicStores = config.signPublicArtifactUrls ? [] : [PUBLIC_ARTIFACTS];
    return {
      apis: [serve(objectApi, objectHandlers, ctx)],
      routes: folder ? [makeBlobRoute({ db, clock, log, metrics, folder, signingSecret, publicStores })] : [],
      loops: [
        run(objectExpiry, { db, clock, log, backends }),
        ...(folder ? [run(blobGarbage, { folder }), run(blobLeftovers, { folder })] : []),
      ],
    };
  },
});
