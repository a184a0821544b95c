import { expect, test } from 'vitest';
import { makeThrottle } from './workers-seen.ts';

const HALF_HOUR_MS = 30 * 60_000;

test('a key is due once in half an hour', () => {
  const { due, forget } = makeThrottle();
  expect([due('a', 0), due('a', HALF_HOUR_MS - 1), due('b', 1), due('a', HALF_HOUR_MS), due('a', HALF_HOUR_MS + 1)]).toEqual([
    true,
    false,
    true,
    true,
    false,
  ]);
  forget('a');
  expect(due('a', HALF_HOUR_MS + 2)).toBe(true);
});

test('the keys that were renewed longest ago are forgotten first', () => {
  const { due } = makeThrottle(2);
  expect(['a', 'b', 'c'].map(key => due(key, 0))).toEqual([true, true, true]);
  expect([due('c', 1), due('b', 1), due('a', 1)]).toEqual([false, false, true]);
  expect(due('b', 2)).toBe(true);
});
