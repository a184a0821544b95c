/** Removes artifacts some time after they expired: the bytes of type s3 first, then the rows. Objects are left to the object service's own expiry. */
import type { Db } from '../../db/sql.ts';
import type { Clock } from '../../platform/clock.ts';
import { loop } from '../../platform/loop.ts';
import { deleteArtifacts, takeExpiredArtifacts } from './artifacts.db.ts';
import type { ArtifactStorage } from './artifacts-storage.ts';

/** How long an expired artifact may still be listed. */
export const EXPIRATION_DELAY_MS = 30 * 60_000;

export interface ArtifactExpiryCtx {
  readonly platform: { readonly db: Db; readonly clock: Clock };
  readonly artifacts: ArtifactStorage;
}

export const artifactExpiry = loop<ArtifactExpiryCtx>({
  name: 'queue/expire-artifacts',
  everyMs: 600_000,
  batch: 500,
  run: async ({ platform: { db, clock }, artifacts }, limit) => {
    const before = new Date(clock.nowMs() - EXPIRATION_DELAY_MS);
    return db.tx(async tx => {
      const taken = await takeExpiredArtifacts(tx, before, limit);
      const blobs = taken
        .filter(artifact => artifact.storageType === 's3')
        .map(artifact => artifact.details as { bucket: string; key: string });
      if (blobs.length > 0) {
        await artifacts.remove(blobs);
      }
      if (taken.length > 0) {
        await deleteArtifacts(tx, taken);
      }
      return taken.length;
    });
  },
});
