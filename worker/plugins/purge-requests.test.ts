import { systemClock, systemRandom } from '@tscluster/client/clock.ts';
import { expect, test } from 'vitest';
import { silentMonitor } from '../monitor.ts';
import { aConfig } from '../testing/with-worker.ts';
import type { CachePool } from './cache-pool.ts';
import { PurgeRequests } from './purge-requests.ts';

const START = Date.parse('2030-01-15T12:00:00.000Z');
const MINUTE = 60_000;

/** A worker that asks a service which is in the test's hand. */
const setUp = () => {
  const state = {
    nowMs: START,
    answer: (): Response => Response.json({ requests: [] }),
    /** `since` of each question. */
    asked: [] as (string | null)[],
    purged: [] as [string, number][],
    warnings: 0,
  };
  const caches = { purge: async (name: string, beforeMs: number) => void state.purged.push([name, beforeMs]) } as unknown as CachePool;
  const purges = new PurgeRequests(
    {
      config: aConfig('/nowhere', 'http://tc.example'),
      clock: { ...systemClock, nowMs: () => state.nowMs },
      random: systemRandom,
      monitor: { ...silentMonitor, warn: () => void state.warnings++ },
      marker: 'test',
      fetch: async (input, init) => {
        const url = new URL(input as URL);
        expect(url.pathname).toBe('/api/purge-cache/v1/purge-cache/local%2Fprocess');
        expect(new Headers(init?.headers).get('authorization')).toContain('id="test/worker"');
        state.asked.push(url.searchParams.get('since'));
        return state.answer();
      },
    },
    caches,
  );
  return { state, purges };
};

test('caches made up to five minutes after the request go', async () => {
  const { state, purges } = setUp();
  const before = '2030-01-15T11:00:00.000Z';
  state.answer = () => Response.json({ requests: [{ provisionerId: 'local', workerType: 'process', cacheName: 'c', before }] });
  await purges.apply({ usesCaches: true });
  expect(state.purged).toEqual([['c', Date.parse(before) + 5 * MINUTE]]);
});

test('asks for all at first, then since five minutes before the last answer', async () => {
  const { state, purges } = setUp();
  await purges.apply({ usesCaches: true });
  state.nowMs += 20 * MINUTE;
  await purges.apply({ usesCaches: true });
  state.nowMs += MINUTE;
  state.answer = () => new Response('', { status: 500 });
  await purges.apply({ usesCaches: true });
  await purges.apply({ usesCaches: true });
  state.answer = () => Response.json({ requests: [] });
  await purges.apply({ usesCaches: true });
  expect(state.asked).toEqual([
    null,
    '2030-01-15T11:55:00.000Z',
    '2030-01-15T12:15:00.000Z',
    '2030-01-15T12:15:00.000Z',
    '2030-01-15T12:15:00.000Z',
  ]);
  // said once, not for every task
  expect(state.warnings).toBe(1);
});

test('for tasks without caches it is enough to ask every six hours', async () => {
  const { state, purges } = setUp();
  await purges.apply({ usesCaches: false });
  state.nowMs += 6 * 60 * MINUTE - 1;
  await purges.apply({ usesCaches: false });
  expect(state.asked).toHaveLength(1);
  state.nowMs += 1;
  await purges.apply({ usesCaches: false });
  expect(state.asked).toHaveLength(2);
});

test('nobody to ask is no reason to fail', async () => {
  const { state, purges } = setUp();
  state.answer = () => {
    throw new TypeError('fetch failed');
  };
  await purges.apply({ usesCaches: true });
  expect([state.purged, state.warnings]).toEqual([[], 1]);
});
