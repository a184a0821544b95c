/** Removes objects whose time is over, and uploads that were not finished within a day: the data first, then the row. */
import type { Db } from '../../db/sql.ts';
import type { Clock } from '../../platform/clock.ts';
import type { Log } from '../../platform/log.ts';
import { loop } from '../../platform/loop.ts';
import type { Backend } from './backends/backend.ts';
import { countStrandedObjects, deleteObject, listExpiredObjects, lockObject, type ObjectRow } from './objects.db.ts';

export interface ExpiryCtx {
  readonly db: Db;
  readonly clock: Clock;
  readonly log: Log;
  readonly backends: ReadonlyMap<string, Backend>;
}

/** Each holds a connection. */
const AT_ONCE = 4;

/** One object; false when it stays for now. Its lock keeps a late finishUpload from losing its data. */
const expireObject = async (ctx: ExpiryCtx, { name, backendId }: ObjectRow, now: Date): Promise<boolean> => {
  try {
    return await ctx.db.tx(async tx => {
      const object = await lockObject(tx, name);
      const isOver = object && (object.expires < now || (object.uploadExpires !== null && object.uploadExpires < now));
      const backend = object && ctx.backends.get(object.backendId);
      if (!isOver || !backend || !(await backend.remove(tx, object))) {
        return false;
      }
      await deleteObject(tx, name);
      return true;
    });
  } catch (error) {
    ctx.log.error({ err: error, name, backendId }, 'object could not be removed');
    return false;
  }
};

export const objectExpiry = loop<ExpiryCtx>({
  name: 'object/expire',
  everyMs: 3_600_000,
  batch: 100,
  run: async (ctx, limit) => {
    const now = ctx.clock.now();
    const backendIds = [...ctx.backends.keys()];
    const expired = await listExpiredObjects(ctx.db, now, backendIds, limit);
    let removed = 0;
    for (let at = 0; at < expired.length; at += AT_ONCE) {
      const outcomes = await Promise.all(expired.slice(at, at + AT_ONCE).map(object => expireObject(ctx, object, now)));
      removed += outcomes.filter(Boolean).length;
    }
    if (expired.length < limit) {
      const stranded = await countStrandedObjects(ctx.db, now, backendIds);
      if (stranded > 0) {
        ctx.log.warn({ objects: stranded }, 'expired objects stay, because their backend is not configured any more');
      }
    }
    // what could not be removed is tried in the next run, not at once again
    return removed;
  },
});
