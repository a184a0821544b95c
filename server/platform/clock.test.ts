import { expect, it } from 'vitest';
import { makeFakeClock } from '../testing/clock.ts';
import { settlesWithin, slugid, systemRandom } from './clock.ts';

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

it('waits for what settles in time, and for nothing else', async () => {
  const clock = makeFakeClock();
  expect(await settlesWithin(clock, Promise.resolve(), 1_000)).toBe(true);
  expect(await settlesWithin(clock, Promise.reject(new Error('fails')), 1_000)).toBe(true);
  const slow = Promise.withResolvers<void>();
  const waiting = settlesWithin(clock, slow.promise, 1_000);
  await clock.tick({ ms: 999 });
  expect(await Promise.race([waiting, Promise.resolve('it waits')])).toBe('it waits');
  await clock.tick({ ms: 1 });
  expect(await waiting).toBe(false);
  slow.reject(new Error('nobody waits any more'));
});
