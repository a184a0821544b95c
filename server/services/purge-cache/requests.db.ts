/** The table of requests: one row per worker pool and name of a cache. Rows past their expiry count as absent. */
import type { Query, Statement } from '../../db/sql.ts';

export interface RequestRow {
  readonly workerPoolId: string;
  readonly cacheName: string;
  readonly before: Date;
}

/** Notes a request, or makes an old one new. */
export const putRequest = async (db: Query, workerPoolId: string, cacheName: string, before: Date, expires: Date): Promise<void> => {
  await db`
    insert into purge_cache.requests as r (worker_pool_id, cache_name, before, expires)
    values (${workerPoolId}, ${cacheName}, ${before}, ${expires})
    on conflict (worker_pool_id, cache_name) do update
    set before = greatest(r.before, excluded.before), expires = greatest(r.expires, excluded.expires)`;
};

/** The requests of a pool since a time, by name; a scan of the front part of the primary key. */
export const listPoolRequests = (db: Query, workerPoolId: string, since: Date, now: Date): Promise<RequestRow[]> =>
  db<RequestRow>`
    select worker_pool_id, cache_name, before from purge_cache.requests
    where worker_pool_id = ${workerPoolId} and before >= ${since} and expires > ${now}
    order by worker_pool_id, cache_name`;

const ALL = `
select worker_pool_id, cache_name, before from purge_cache.requests
where (worker_pool_id, cache_name) > ($1::text, $2::text) and expires > $3
order by worker_pool_id, cache_name limit $4`;

/** Requests of all pools, by pool and name, after a key (`RequestRow`s). */
export const allRequestsStatement = (
  after: readonly [workerPoolId: string, cacheName: string] | undefined,
  now: Date,
  limit: number,
): Statement => ({ text: ALL, values: [...(after ?? ['', '']), now, limit] });

/** Removes requests past their expiry; answers with how many. */
export const deleteExpiredRequests = async (db: Query, now: Date, limit: number): Promise<number> => {
  const rows = await db`
    delete from purge_cache.requests where (worker_pool_id, cache_name) in (
      select worker_pool_id, cache_name from purge_cache.requests where expires < ${now} order by expires limit ${limit} for update skip locked)
    returning cache_name`;
  return rows.length;
};
