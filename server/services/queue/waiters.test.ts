import { expect, test } from 'vitest';
import { makeFakeClock } from '../../testing/clock.ts';
import { makeWaiters } from './waiters.ts';

const clock = makeFakeClock();

/** A line of workers `w0`, `w1`, …; the one that is excluded gets nothing. */
const aLine = (count: number, { want = 1, excluded }: { want?: number; excluded?: string } = {}) => {
  const waiters = makeWaiters({
    clock,
    ask: () => undefined,
    isExcluded: ({ workerId }) => workerId === excluded,
    onQueue: () => undefined,
  });
  const given = Array.from({ length: count }, (_, i) =>
    waiters.wait({ taskQueueId: 'p/q', workerGroup: 'wg', workerId: `w${i}` }, want, 20_000, new AbortController().signal),
  );
  return { waiters, given };
};
const run = (taskId: string, request = 1) => ({ request, taskId, runId: 0, priority: 7, scopes: '[]', definition: '{}', status: '{}' });
const idsOf = async (claimed: Promise<readonly { taskId: string }[]> | undefined) => (await claimed)?.map(({ taskId }) => taskId);

test('who is given a new run in the moment in which it is made gets more if there is more', async () => {
  const { waiters, given } = aLine(1, { want: 3 });
  waiters.deal(new Map())?.deliver([], 0); // it asked, and there was nothing
  expect(waiters.deal(new Map())).toBeUndefined();

  const deal = waiters.deal(new Map([['p/q', 1]]));
  expect(deal?.places).toEqual([{ taskQueueId: 'p/q', requests: [1, 1, 1] }]);
  expect(deal?.deliver([run('a'), run('b')], clock.nowMs())).toEqual([]);
  expect(await idsOf(given[0])).toEqual(['a', 'b']);
  expect(waiters.size).toBe(0);
});

test('a run that becomes pending while the first in line gets another one wakes the second', async () => {
  const { waiters, given } = aLine(2);
  const deal = waiters.deal(new Map());
  expect(waiters.wake('p/q', 1)).toBe(0); // both are being served
  deal?.deliver([run('earlier')], 0);
  expect(await idsOf(given[0])).toEqual(['earlier']);
  expect(waiters.asking).toBe(1);
  waiters.deal(new Map())?.deliver([run('later')], 0);
  expect(await idsOf(given[1])).toEqual(['later']);
});

test('two runs that become pending one after the other wake two', () => {
  const { waiters } = aLine(3);
  waiters.deal(new Map())?.deliver([], 0);
  expect([waiters.wake('p/q', 1), waiters.wake('p/q', 1)]).toEqual([1, 1]);
  expect(waiters.asking).toBe(2);
  expect([waiters.wake('p/q'), waiters.wake('p/q')]).toEqual([1, 0]);
});

test('a worker that may get nothing is not woken instead of the one behind it', () => {
  const { waiters } = aLine(2, { excluded: 'w0' });
  waiters.deal(new Map())?.deliver([], 0);
  expect(waiters.wake('p/q', 1)).toBe(1);
  expect(waiters.deal(new Map())?.requests.map(({ workerId }) => workerId)).toEqual(['w1']);
});

test('new runs are awaited by workers who found nothing, not by those who are being served or may get nothing', () => {
  const newRuns = new Map([['p/q', 1]]);
  const { waiters } = aLine(1);
  expect(waiters.areAwaited(newRuns)).toBe(false); // it asks
  const deal = waiters.deal(new Map());
  expect(waiters.areAwaited(newRuns)).toBe(false);
  deal?.deliver([], 0);
  expect(waiters.areAwaited(newRuns)).toBe(true);
  expect(waiters.areAwaited(new Map([['p/other', 1]]))).toBe(false);

  const { waiters: quarantined } = aLine(1, { excluded: 'w0' });
  quarantined.deal(new Map())?.deliver([], 0);
  expect(quarantined.areAwaited(newRuns)).toBe(false);
});
