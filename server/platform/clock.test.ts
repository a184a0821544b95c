import { expect, it } from 'vitest';
import { slugid, systemRandom } from './clock.ts';

it('hands out every random byte once', () => {
  const ids = Array.from({ length: 2_000 }, () => slugid(systemRandom));
  expect(new Set(ids).size).toBe(2_000);
  const [first, second] = [systemRandom.bytes(16), systemRandom.bytes(16)];
  const kept = Buffer.from(first).toString('hex');
  second.fill(0);
  systemRandom.bytes(16);
  expect(Buffer.from(first).toString('hex')).toBe(kept);
  expect(systemRandom.bytes(100)).toHaveLength(100);
  expect(Buffer.from(systemRandom.bytes(64)).equals(Buffer.alloc(64))).toBe(false);
});
