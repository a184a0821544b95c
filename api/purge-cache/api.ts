/** Purge-cache: tells workers which of their caches have to go. */
import { defineApi, methods } from '../define.ts';
import { heartbeatMethods, pingMethods } from '../operational.ts';
import { array, dateTime, object, optional, ref, schema, string, type TypeOf } from '../schema.ts';
import { continuationToken, identifier, paging } from '../types.ts';

/** `<provisionerId>/<workerType>`. */
export const WORKER_POOL_ID = /^[A-Za-z0-9_-]{1,38}\/[A-Za-z0-9_-]{1,38}$/;

export const purgeCacheRequest = schema(
  'purge-cache',
  'purge-cache-request',
  { title: 'Purge Cache Request' },
  object({ cacheName: string({ description: 'The caches of this name have to go.' }) }),
);

export const purgeRequests = schema(
  'purge-cache',
  'purge-cache-requests',
  { title: 'Purge Requests' },
  array(
    object({
      provisionerId: identifier({ description: 'First half of the worker pool id.' }),
      workerType: identifier({ description: 'Second half of the worker pool id.' }),
      cacheName: string({ description: 'Which caches.' }),
      before: dateTime({ description: 'Those made before this time have to go.' }),
    }),
    { uniqueItems: false },
  ),
);
export type PurgeRequest = TypeOf<typeof purgeRequests>[number];

export const purgeRequestList = schema(
  'purge-cache',
  'purge-cache-request-list',
  { title: 'Purge Requests of a Worker Pool' },
  object({ requests: ref(purgeRequests) }),
);

export const allPurgeRequestList = schema(
  'purge-cache',
  'all-purge-cache-request-list',
  { title: 'All Purge Requests' },
  object({ requests: ref(purgeRequests), continuationToken: optional(continuationToken()) }),
);

const common = { category: 'Purge-Cache Service', stability: 'stable' } as const;
const ofPool = { splat: ['workerPoolId'], params: { workerPoolId: WORKER_POOL_ID } } as const;

const purgeCacheMethods = methods({
  purgeCache: {
    ...common,
    ...ofPool,
    method: 'post',
    route: '/purge-cache/<workerPoolId>',
    title: 'Purge Worker Cache',
    description:
      'Asks the workers of a pool to throw away their caches of a name, as far as they were made before now. Workers look before they use a cache. The request is kept for a day; asking again begins a new one.',
    scopes: 'purge-cache:<workerPoolId>:<cacheName>',
    input: purgeCacheRequest,
  },
  allPurgeRequests: {
    ...common,
    method: 'get',
    route: '/purge-cache/list',
    query: paging,
    title: 'All Open Purge Requests',
    description: 'The requests of all pools, by pool and name. Paged: a page can be short and still not be the last.',
    scopes: 'purge-cache:all-purge-requests',
    output: allPurgeRequestList,
  },
  purgeRequests: {
    ...common,
    ...ofPool,
    method: 'get',
    route: '/purge-cache/<workerPoolId>',
    // any date that a browser reads is taken, as the protocol has it; but not the beginning of 1970
    query: { since: value => (Date.parse(value) ? undefined : 'Invalid Date') },
    title: 'Open Purge Requests for a Worker Pool',
    description:
      'What the workers of a pool have to throw away; with `since` only what was asked for since then. Clocks differ: ask for some minutes more than have passed.',
    scopes: 'purge-cache:purge-requests::<workerPoolId>',
    output: purgeRequestList,
  },
});

export const purgeCacheApi = defineApi({
  service: 'purge-cache',
  version: 'v1',
  title: 'Purge-Cache Service',
  description:
    'Workers keep caches between tasks. When one is spoiled, this service tells the workers of a pool to throw away all caches of its name. It does not know what caches there are.',
  methods: { ...pingMethods, ...purgeCacheMethods, ...heartbeatMethods },
  schemas: [purgeRequests],
});
