/** Removes artifacts some time after they expired: the bytes of type s3 first, then the rows. Objects are left to the object service's own expiry. */
import type { Db } from '../../db/sql.ts';
import type { Clock } from '../../platform/clock.ts';
import { loop } from '../../platform/loop.ts';
import { deleteArtifacts, type ExpiredArtifact, takeExpiredArtifacts } from './artifacts.db.ts';
import type { ArtifactStorage, BlobAddress } from './artifacts-storage.ts';

/** How long an expired artifact may still be listed. */
export const EXPIRATION_DELAY_MS = 30 * 60_000;

export interface ArtifactExpiryCtx {
  readonly platform: { readonly db: Db; readonly clock: Clock };
  readonly artifacts: ArtifactStorage;
}

/** So many batches in which something could not be removed are gone through in one run, for the sake of those behind them. */
const MAX_BATCHES = 20;

/**
 * Removes up to `limit` artifacts, those behind `after` if it is given. The bytes go inside the transaction: the rows are locked for it, so that
 * nobody gives an artifact a later expiry while its bytes disappear.
 */
const removeSome = async (ctx: ArtifactExpiryCtx, before: Date, after: ExpiredArtifact | undefined, limit: number) =>
  ctx.platform.db.tx(async tx => {
    const taken = await takeExpiredArtifacts(tx, before, after, limit);
    const blobs = taken.filter(artifact => artifact.storageType === 's3').map(artifact => artifact.details as BlobAddress);
    const left = blobs.length > 0 ? await ctx.artifacts.remove(blobs) : new Set<BlobAddress>();
    const gone = taken.filter(artifact => !left.has(artifact.details as BlobAddress));
    if (gone.length > 0) {
      await deleteArtifacts(tx, gone);
    }
    return { removed: gone.length, isMore: left.size > 0 && taken.length === limit, last: taken.at(-1) };
  });

export const artifactExpiry = loop<ArtifactExpiryCtx>({
  name: 'queue/expire-artifacts',
  everyMs: 600_000,
  batch: 500,
  run: async (ctx, limit) => {
    const before = new Date(ctx.platform.clock.nowMs() - EXPIRATION_DELAY_MS);
    let removed = 0;
    let after: ExpiredArtifact | undefined;
    for (let batch = 0; batch < MAX_BATCHES; batch++) {
      const done = await removeSome(ctx, before, after, limit);
      removed += done.removed;
      after = done.last;
      if (!done.isMore) {
        break;
      }
    }
    return removed;
  },
});
