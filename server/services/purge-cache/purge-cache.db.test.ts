import { purgeCacheApi } from '@tscluster/api/purge-cache/api.ts';
import type { Client } from '@tscluster/client/client.ts';
import { beforeAll, describe, expect, test } from 'vitest';
import { findScans } from '../../testing/plans.ts';
import { type TestServer, withServer } from '../../testing/server.ts';
import { allRequestsStatement } from './requests.db.ts';
import { purgeCacheService, requestExpiry } from './service.ts';

let server: TestServer;
let caches: Client<typeof purgeCacheApi>;
beforeAll(async () => {
  server = await withServer([purgeCacheService]);
  caches = server.client(purgeCacheApi);
});

const POOL = 'prov/wt';
const refused = (code: string, statusCode: number, text = '') =>
  expect.objectContaining({ code, statusCode, message: expect.stringContaining(text) as unknown }) as unknown;
const withScopes = (...scopes: string[]) => server.client(purgeCacheApi, { scopes });
const purge = (cacheName: string, workerPoolId = POOL) => caches.purgeCache({ workerPoolId }, { cacheName });
const namesOf = async (workerPoolId: string, since?: string): Promise<string[]> =>
  (await caches.purgeRequests({ workerPoolId }, since === undefined ? {} : { since })).requests.map(each => each.cacheName);
const request = (path: string, init: RequestInit = {}) =>
  server.fetch(`${server.rootUrl}/api/purge-cache/v1${path}`, {
    ...init,
    headers: { authorization: 'Hawk id="static/taskcluster/x"', ...(init.headers as Record<string, string>) },
  });

describe('a request', () => {
  test('is answered with nothing, and seen at once by those who ask', async () => {
    expect(await namesOf('first/seen')).toEqual([]);
    const before = server.clock.now().toISOString();
    const response = await request('/purge-cache/first%2Fseen', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"cacheName":"c"}',
    });
    expect([response.status, await response.text()]).toEqual([204, '']);
    expect(await caches.purgeRequests({ workerPoolId: 'first/seen' })).toEqual({
      requests: [{ provisionerId: 'first', workerType: 'seen', cacheName: 'c', before }],
    });
  });

  test('that is repeated begins anew', async () => {
    await purge('c', 'again/x');
    server.clock.advance({ hours: 23 });
    await purge('c', 'again/x');
    const before = server.clock.now().toISOString();
    server.clock.advance({ hours: 23 });
    expect((await caches.purgeRequests({ workerPoolId: 'again/x' })).requests).toEqual([
      { provisionerId: 'again', workerType: 'x', cacheName: 'c', before },
    ]);
  });

  test('made twice at once is one', async () => {
    await Promise.all(Array.from({ length: 10 }, () => purge('c', 'once/x')));
    expect(await namesOf('once/x')).toEqual(['c']);
  });

  test('is kept for a day, and then removed in batches', async () => {
    const own = await withServer([purgeCacheService]);
    const client = own.client(purgeCacheApi);
    const list = async () => [
      (await client.purgeRequests({ workerPoolId: POOL })).requests.length,
      (await client.allPurgeRequests()).requests.length,
    ];
    for (const cacheName of ['a', 'b', 'c']) {
      await client.purgeCache({ workerPoolId: POOL }, { cacheName });
    }
    own.clock.advance({ hours: 24, ms: -1 });
    expect(await list()).toEqual([3, 3]);
    expect(await requestExpiry.run(own, 2)).toBe(0);
    own.clock.advance({ ms: 1 });
    expect(await list()).toEqual([0, 0]);
    own.clock.advance({ ms: 1 });
    expect([await requestExpiry.run(own, 2), await requestExpiry.run(own, 2)]).toEqual([2, 1]);
    expect(await own.db`select cache_name from purge_cache.requests`).toEqual([]);
  });

  test.each(['', ' ', 'a/b', '*', 'ä☃😀', '"\\', 'x'.repeat(2_000), '../..', '<script>', "'; drop table x; --"])(
    'may name the cache %j',
    async name => {
      await purge(name, 'odd/names');
      expect(await namesOf('odd/names')).toContain(name);
    },
  );

  test.each([
    ['a NUL character', { cacheName: 'a\0b' }, 'InputError'],
    ['a name that is too long', { cacheName: 'x'.repeat(2_001) }, 'InputError'],
    ['the same in other letters', { cacheName: '€'.repeat(700) }, 'InputError'],
    ['no name', {}, 'InputValidationError'],
    ['a number as name', { cacheName: 5 }, 'InputValidationError'],
    ['more', { cacheName: 'a', more: 1 }, 'InputValidationError'],
    ['a list', [], 'InputValidationError'],
  ])('with %s is refused', async (_, body, code) => {
    await expect(caches.purgeCache({ workerPoolId: 'refused/x' }, body as never)).rejects.toEqual(refused(code, 400));
    expect(await namesOf('refused/x')).toEqual([]);
  });

  test.each(['x', 'a/b/c', '/b', 'a/', 'a.b/c', 'ä/b', `${'a'.repeat(39)}/b`, 'list'])('cannot be for the pool %j', async pool => {
    for (const init of [{}, { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"cacheName":"c"}' }]) {
      const response = await request(`/purge-cache/${encodeURIComponent(pool)}`, init);
      expect([response.status, ((await response.json()) as { code?: string }).code]).toEqual(
        pool === 'list' && !('method' in init) ? [200, undefined] : [400, 'InvalidRequestArguments'],
      );
    }
  });

  test('needs the scope of pool and cache', async () => {
    await withScopes('purge-cache:prov/wt:name').purgeCache({ workerPoolId: POOL }, { cacheName: 'name' });
    await expect(withScopes('purge-cache:prov/wt:name').purgeCache({ workerPoolId: POOL }, { cacheName: 'name2' })).rejects.toEqual(
      refused('InsufficientScopes', 403, 'purge-cache:prov/wt:name2'),
    );
    await expect(withScopes().purgeCache({ workerPoolId: POOL }, {} as never)).rejects.toEqual(refused('InputValidationError', 400));
    const { client } = server;
    await expect(client(purgeCacheApi, { scopes: null }).purgeCache({ workerPoolId: POOL }, { cacheName: 'c' })).rejects.toEqual(
      refused('InsufficientScopes', 403),
    );
  });
});

describe('the requests of a pool', () => {
  test('are those since a time', async () => {
    await purge('old', 'since/x');
    server.clock.advance({ minutes: 10 });
    const since = server.clock.now().toISOString();
    await purge('new', 'since/x');
    await purge('other', 'since/y');
    expect(await namesOf('since/x')).toEqual(['new', 'old']);
    expect(await namesOf('since/x', since)).toEqual(['new']);
    expect(await namesOf('since/x', new Date(server.clock.nowMs() + 1).toISOString())).toEqual([]);
    expect(await namesOf('since/x', '2000-01-01')).toEqual(['new', 'old']);
    expect(await namesOf('since/x', 'Sat, 01 Jan 2000 00:00:00 GMT')).toEqual(['new', 'old']);
    expect(await namesOf('since/x', '-200000-01-01T00:00:00Z')).toEqual(['new', 'old']);
    expect(await namesOf('since/x', '+200000-01-01T00:00:00Z')).toEqual([]);
  });

  test.each(['', 'yesterday', '1970-01-01T00:00:00.000Z', '2040-13-01'])('are not since %j', async since => {
    await expect(caches.purgeRequests({ workerPoolId: POOL }, { since })).rejects.toEqual(
      refused('InvalidRequestArguments', 400, 'Invalid Date'),
    );
  });

  test('need a scope with two colons', async () => {
    await withScopes('purge-cache:purge-requests::prov/wt').purgeRequests({ workerPoolId: POOL });
    await withScopes('purge-cache:purge-requests:*').purgeRequests({ workerPoolId: POOL });
    for (const scope of ['purge-cache:purge-requests:prov/wt', 'purge-cache:purge-requests::prov/w', 'purge-cache:all-purge-requests']) {
      await expect(withScopes(scope).purgeRequests({ workerPoolId: POOL })).rejects.toEqual(
        refused('InsufficientScopes', 403, 'purge-cache:purge-requests::prov/wt'),
      );
    }
    // who may not ask does not learn that the question is wrong
    await expect(withScopes().purgeRequests({ workerPoolId: 'x' }, { since: 'x' })).rejects.toEqual(refused('InsufficientScopes', 403));
  });

  test('take no other query', async () => {
    expect((await request('/purge-cache/prov%2Fwt?limit=1')).status).toBe(400);
  });
});

describe('all requests', () => {
  let own: TestServer;
  let client: Client<typeof purgeCacheApi>;
  beforeAll(async () => {
    own = await withServer([purgeCacheService]);
    client = own.client(purgeCacheApi);
    for (const [workerPoolId, cacheName] of [
      ['b/x', 'one'],
      ['a/x', 'two'],
      ['a/x', 'One'],
      ['a/x', 'one'],
      ['A/x', 'one'],
    ] as const) {
      await client.purgeCache({ workerPoolId }, { cacheName });
    }
  });
  const keys = (requests: readonly { provisionerId: string; cacheName: string }[]) =>
    requests.map(each => [each.provisionerId, each.cacheName]);
  const ALL = [
    ['a', 'one'],
    ['a', 'One'],
    ['a', 'two'],
    ['A', 'one'],
    ['b', 'one'],
  ];

  test('come by pool and name', async () => {
    const { requests, ...rest } = await client.allPurgeRequests();
    expect(keys(requests)).toEqual(ALL);
    expect(rest).toEqual({});
    expect(requests[0]).toEqual({ provisionerId: 'a', workerType: 'x', cacheName: 'one', before: own.clock.now().toISOString() });
  });

  test('page by page, while others come and go', async () => {
    const seen = [];
    let continuationToken: string | undefined;
    let round = 0;
    do {
      const page: Awaited<ReturnType<typeof client.allPurgeRequests>> = await client.allPurgeRequests({ limit: '2', continuationToken });
      seen.push(...page.requests);
      ({ continuationToken } = page);
      await client.purgeCache({ workerPoolId: 'a/x' }, { cacheName: `aaa${round++}` });
    } while (continuationToken !== undefined);
    expect(keys(seen)).toEqual(ALL);
    expect(await client.allPurgeRequests({ limit: '0' })).toEqual({ requests: [] });
  });

  test('refusals', async () => {
    await expect(withScopes('purge-cache:purge-requests:*').allPurgeRequests()).rejects.toEqual(
      refused('InsufficientScopes', 403, 'purge-cache:all-purge-requests'),
    );
    await withScopes('purge-cache:all-purge-requests').allPurgeRequests();
    await expect(client.allPurgeRequests({ limit: 'x' })).rejects.toEqual(refused('InvalidRequestArguments', 400));
    await expect(client.allPurgeRequests({ continuationToken: '!' })).rejects.toEqual(refused('InputError', 400));
  });

  test('are read along the key', async () => {
    expect(await findScans(own.db, allRequestsStatement(['a/x', 'b'], own.clock.now(), 10))).toEqual([]);
  });
});
