/** The purge-cache service: tells workers which of their caches have to go. */
import { purgeCacheApi } from '@tscluster/api/purge-cache/api.ts';
import { loop, run } from '../../platform/loop.ts';
import { defineService, serve } from '../../platform/service.ts';
import { type PurgeCacheCtx, purgeCacheHandlers } from './handlers.ts';
import { deleteExpiredRequests } from './requests.db.ts';

export const requestExpiry = loop<PurgeCacheCtx>({
  name: 'purge-cache/expire',
  everyMs: 3_600_000,
  batch: 1_000,
  run: ({ db, clock }, limit) => deleteExpiredRequests(db, clock.now(), limit),
});

export const purgeCacheService = defineService({
  name: 'purge-cache',
  settings: {},
  start: ({ db, clock }) => {
    const ctx: PurgeCacheCtx = { db, clock };
    return { apis: [serve(purgeCacheApi, purgeCacheHandlers, ctx)], loops: [run(requestExpiry, ctx)] };
  },
});
