import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isDeeperThan } from './json-depth.ts';

const depthOf = (value: unknown): number =>
  typeof value === 'object' && value !== null ? 1 + Math.max(0, ...Object.values(value).map(depthOf)) : 0;

test('the depth of any JSON text is told exactly', () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 6 }), value => {
      const text = JSON.stringify(value);
      const depth = depthOf(value);
      expect([isDeeperThan(text, depth), isDeeperThan(text, depth - 1)]).toEqual([false, depth > 0]);
    }),
  );
});

test('brackets and quotes in strings do not count', () => {
  const text = JSON.stringify({ a: '[[[{{{', 'b"[[': '\\"[[[', c: ['\\\\', ']'] });
  expect([isDeeperThan(text, 2), isDeeperThan(text, 1)]).toEqual([false, true]);
});

test('what is not JSON is looked through without harm', () => {
  expect([isDeeperThan('"', 1), isDeeperThan('"\\"', 1), isDeeperThan(']]]]', 1), isDeeperThan('', 1)]).toEqual([
    false,
    false,
    false,
    false,
  ]);
  expect(isDeeperThan('['.repeat(1_000_000), 256)).toBe(true);
});
