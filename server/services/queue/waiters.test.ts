import { expect, test } from 'vitest';
import { makeFakeClock } from '../../testing/clock.ts';
import { makeWaiters } from './waiters.ts';

test('who is given a new run in the moment in which it is made gets more if there is more', async () => {
  const clock = makeFakeClock();
  const waiters = makeWaiters({ clock, ask: () => undefined, isExcluded: () => false, onQueue: () => undefined });
  const worker = { taskQueueId: 'p/q', workerGroup: 'wg', workerId: 'w' };
  const given = waiters.wait(worker, 3, 20_000, new AbortController().signal);
  waiters.deal(new Map())?.deliver([], 0); // it asked, and there was nothing
  expect(waiters.deal(new Map())).toBeUndefined();

  const deal = waiters.deal(new Map([['p/q', 1]]));
  expect(deal?.slots).toEqual([1, 2, 3].map(slot => ({ taskQueueId: 'p/q', slot, request: 1 })));
  const released = ['a', 'b'].map(taskId => ({ request: 1, taskId, runId: 0, priority: 7, scopes: '[]', definition: '{}', status: '{}' }));
  expect(deal?.deliver(released, clock.nowMs())).toEqual([]);
  expect((await given).map(({ taskId }) => taskId)).toEqual(['a', 'b']);
  expect(waiters.size).toBe(0);
});
