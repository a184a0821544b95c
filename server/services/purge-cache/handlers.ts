/** The purge-cache service's methods. Nothing is cached: a request is seen by the next worker that asks. */
import type { purgeCacheApi, PurgeRequest } from '@tscluster/api/purge-cache/api.ts';
import type { Db } from '../../db/sql.ts';
import type { Clock } from '../../platform/clock.ts';
import { inputError } from '../../platform/errors.ts';
import { makePage, readPage } from '../../platform/page.ts';
import type { Handlers } from '../../platform/service.ts';
import { isWritableTime, parseAnyDate } from '../../platform/validate.ts';
import { allRequestsStatement, listPoolRequests, putRequest, type RequestRow } from './requests.db.ts';

export interface PurgeCacheCtx {
  readonly db: Db;
  readonly clock: Clock;
}

/** Workers that were away for longer have most likely lost their caches. */
const LIFETIME_MS = 24 * 3_600_000;
/** As much as fits into a key of the table. */
const MAX_NAME_BYTES = 2_000;

const view = ({ workerPoolId, cacheName, before }: RequestRow): PurgeRequest => {
  const [provisionerId = '', workerType = ''] = workerPoolId.split('/');
  return { provisionerId, workerType, cacheName, before: before.toISOString() };
};

/** The time that `since` means; one that cannot be written is as good as the beginning or the end of time. */
const readSince = (since: string | undefined): Date => {
  const sinceMs = since === undefined ? 0 : parseAnyDate(since);
  return new Date(isWritableTime(sinceMs) ? sinceMs : sinceMs < 0 ? 0 : Date.UTC(9999, 0));
};

export const purgeCacheHandlers: Handlers<typeof purgeCacheApi, PurgeCacheCtx> = {
  async purgeCache({ ctx: { db, clock }, params: { workerPoolId }, body: { cacheName }, authorize }) {
    await authorize({ workerPoolId, cacheName });
    if (Buffer.byteLength(cacheName) > MAX_NAME_BYTES) {
      inputError('The name of a cache has at most {{max}} bytes; this one has {{bytes}}.', {
        max: MAX_NAME_BYTES,
        bytes: Buffer.byteLength(cacheName),
      });
    }
    await putRequest(db, workerPoolId, cacheName, clock.now(), new Date(clock.nowMs() + LIFETIME_MS));
  },

  async allPurgeRequests({ ctx: { db, clock }, query }) {
    const { limit, after } = readPage(query, ['string', 'string']);
    const { rows: found } = await db.run<RequestRow>(allRequestsStatement(after, clock.now(), limit + 1));
    const { rows, continuationToken } = makePage(found, limit, row => [row.workerPoolId, row.cacheName]);
    return { requests: rows.map(view), ...(continuationToken !== undefined && { continuationToken }) };
  },

  async purgeRequests({ ctx: { db, clock }, params: { workerPoolId }, query: { since } }) {
    return { requests: (await listPoolRequests(db, workerPoolId, readSince(since), clock.now())).map(view) };
  },
};
