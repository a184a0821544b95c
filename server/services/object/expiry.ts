/**
 * Removes objects whose time is over, and uploads that were not finished within a day, in batches: from the moment they are taken nobody reads or
 * finishes them, then the data goes, then the rows. What could not be removed is kept and tried again later; after a crash it is the same.
 */
import type { Db } from '../../db/sql.ts';
import { objectStore } from '../../platform/blobs/blob-store.ts';
import type { Clock } from '../../platform/clock.ts';
import type { Log } from '../../platform/log.ts';
import { loop } from '../../platform/loop.ts';
import type { Backend } from './backends/backend.ts';
import { removeCopiesOf } from './mirror/copies.db.ts';
import { countStrandedObjects, deleteObjects, type ObjectRow, takeExpiredObjects } from './objects.db.ts';

export interface ExpiryCtx {
  readonly db: Db;
  readonly clock: Clock;
  readonly log: Log;
  readonly backends: ReadonlyMap<string, Backend>;
}

/** What could not be removed is tried again after so long, which is longer than removing a batch takes. */
const RETRY_MS = 600_000;

/** Those that were never tried come first: what can never be removed holds up nothing else. */
const take = (ctx: ExpiryCtx, backendId: string, limit: number): Promise<ObjectRow[]> =>
  ctx.db.tx(async tx => {
    const now = ctx.clock.now();
    const fresh = await takeExpiredObjects(tx, backendId, now, limit);
    const room = limit - fresh.length;
    return room === 0 ? fresh : [...fresh, ...(await takeExpiredObjects(tx, backendId, now, room, new Date(now.getTime() - RETRY_MS)))];
  });

/** Removes objects of one backend; returns how many are gone. */
const removeObjects = async ({ db, clock, log }: ExpiryCtx, backend: Backend, objects: readonly ObjectRow[]): Promise<number> => {
  try {
    const left = await backend.remove(objects);
    const gone = objects.filter(({ name }) => !left.has(name));
    await db.tx(async tx => {
      await deleteObjects(
        tx,
        gone.map(({ name }) => name),
      );
      await removeCopiesOf(tx, objectStore(backend.backendId), gone.map(backend.keyOf), clock.now());
    });
    if (left.size > 0) {
      const [[name, reason] = []] = left;
      log.error({ backendId: backend.backendId, objects: left.size, name, reason }, 'objects could not be removed; they are tried again');
    }
    return gone.length;
  } catch (error) {
    log.error({ err: error, backendId: backend.backendId, objects: objects.length }, 'objects could not be removed; they are tried again');
    return 0;
  }
};

export const objectExpiry = loop<ExpiryCtx>({
  name: 'object/expire',
  everyMs: 600_000,
  batch: 1_000,
  run: async (ctx, limit) => {
    let done = 0;
    for (const [backendId, backend] of ctx.backends) {
      const taken = await take(ctx, backendId, limit);
      const removed = taken.length > 0 ? await removeObjects(ctx, backend, taken) : 0;
      // a backend on which nothing can be removed is not asked at once again
      done += removed > 0 ? taken.length : 0;
    }
    if (done < limit) {
      const stranded = await countStrandedObjects(ctx.db, ctx.clock.now(), [...ctx.backends.keys()]);
      if (stranded > 0) {
        ctx.log.warn({ objects: stranded }, 'expired objects stay, because their backend is not configured any more');
      }
    }
    return done;
  },
});
