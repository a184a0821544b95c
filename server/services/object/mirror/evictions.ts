/** Lets go of copies: of originals that are over, that nobody reads, and that are too many. First the row says so, then the bytes go, then the row. */
import { loop } from '../../../platform/loop.ts';
import {
  deleteCopies,
  dropExpiredCopies,
  dropOldestCopies,
  dropUnusedCopies,
  forgetStrandedCopies,
  sumCopies,
  takeRemovals,
} from './copies.db.ts';
import { copyKeyOf, type MirrorCtx } from './mirror.ts';

const LEASE_MS = 600_000;
/** A mirror that is too full is emptied to this part of its limit, so that it is not too full again at once. */
const KEPT = 0.9;

/** Removes what was let go; returns how many copies are gone. */
const removeCopies = async ({ db, clock, log, mirrors }: MirrorCtx, limit: number): Promise<number> => {
  const now = clock.now();
  const taken = await takeRemovals(db, [...mirrors.keys()], now, new Date(now.getTime() + LEASE_MS), limit);
  let removed = 0;
  for (const [name, own] of Map.groupBy(taken, copy => copy.mirror)) {
    const keys = new Map(own.flatMap(copy => (copy.attempt === null ? [] : [[copyKeyOf(copy, copy.attempt), copy]])));
    const left = (await mirrors.get(name)?.bucket.remove([...keys.keys()])) ?? new Map<string, string>();
    const kept = new Set([...left.keys()].map(key => keys.get(key)));
    const gone = own.filter(copy => !kept.has(copy));
    await deleteCopies(db, name, gone);
    removed += gone.length;
    if (left.size > 0) {
      log.error({ mirror: name, copies: left.size, reason: [...left.values()][0] }, 'copies could not be removed; they are tried again');
    }
  }
  return removed;
};

export const mirrorEvictions = loop<MirrorCtx>({
  name: 'object/mirror-evictions',
  everyMs: 60_000,
  batch: 1_000,
  run: async (ctx, limit) => {
    const { db, clock, metrics, mirrors } = ctx;
    if (mirrors.size === 0) {
      return 0;
    }
    const now = clock.now();
    await dropExpiredCopies(db, now, limit);
    for (const [name, { config }] of mirrors) {
      await dropUnusedCopies(db, name, new Date(now.getTime() - config.keepSeconds * 1000), now, limit);
      const { count, bytes } = await sumCopies(db, name);
      metrics.stored(name, count, bytes);
      if (bytes > config.maxBytes) {
        await dropOldestCopies(db, name, bytes - config.maxBytes * KEPT, now, limit);
      }
    }
    await forgetStrandedCopies(db, [...mirrors.keys()], now, limit);
    return removeCopies(ctx, limit);
  },
});
