/** Every method of purge-cache, and what the local worker makes of it. */
import { describe, expect, test } from 'vitest';
import { expectRefusal } from '../../official.ts';
import { type Under, call, inHours } from '../library.ts';
import { logOf, run } from '../run.ts';

export const purgeCacheCalls = (under: Under): void => {
  describe('purge-cache', () => {
    const pool = 'local/process';
    const mounts = [{ directory: 'cache', cacheName: 'e2e-purged' }];
    const definition = { scopes: ['generic-worker:cache:e2e-purged'] };
    const linesAfter = async (): Promise<string> => {
      const log = await logOf(
        under,
        await run(under, 'echo one >> cache/lines; echo "lines: $(wc -l < cache/lines)"', definition, { mounts }),
      );
      return /^lines: (\d+)$/m.exec(log)?.[1] ?? log;
    };

    test('requests', async () => {
      const { purgeCache } = under.root;
      const beforeMs = Date.now();
      expect(await call(purgeCache, 'purgeCache', 'e2e/pool', { cacheName: 'c' })).toBeUndefined();
      const { requests } = await call(under.nobody.purgeCache, 'purgeRequests', 'e2e/pool');
      expect(requests).toEqual([{ provisionerId: 'e2e', workerType: 'pool', cacheName: 'c', before: expect.any(String) }]);
      expect(Date.parse(requests[0].before)).toBeGreaterThanOrEqual(beforeMs);
      expect(await call(under.nobody.purgeCache, 'purgeRequests', 'e2e/pool', { since: inHours(1) })).toEqual({ requests: [] });
      expect(await call(under.nobody.purgeCache, 'allPurgeRequests', { limit: '10' })).toEqual({ requests });

      await expectRefusal(
        call(under.nobody.purgeCache, 'purgeCache', 'e2e/pool', { cacheName: 'c' }),
        403,
        'InsufficientScopes',
        'purge-cache:e2e/pool:c',
      );
      await expectRefusal(call(purgeCache, 'purgeCache', 'e2e', { cacheName: 'c' }), 400, 'InvalidRequestArguments', 'workerPoolId');
      await expectRefusal(call(purgeCache, 'purgeRequests', 'e2e/pool', { since: 'x' }), 400, 'InvalidRequestArguments', 'Invalid Date');
      await expectRefusal(call(purgeCache, 'allPurgeRequests', { continuationToken: '!' }), 400, 'InputError', 'continuation token');
    });

    test('the local worker throws a cache away before it uses it again', async () => {
      expect(await linesAfter()).toBe('1');
      expect(await linesAfter()).toBe('2');
      await call(under.root.purgeCache, 'purgeCache', pool, { cacheName: 'another' });
      expect(await linesAfter()).toBe('3');
      await call(under.root.purgeCache, 'purgeCache', pool, { cacheName: 'e2e-purged' });
      expect(await linesAfter()).toBe('1');
    });
  });
};
