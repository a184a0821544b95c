/** The server's clock and randomness: the same values as everywhere; `node:crypto` where bytes are asked for synchronously and often. */
import crypto from 'node:crypto';
import type { Random } from '@tscluster/client/clock.ts';

export { type Clock, type Random, type Timer, makeClock, plainSlugid, slugid, systemClock, uuid } from '@tscluster/client/clock.ts';

export const systemRandom: Random = {
  bytes: count => crypto.randomBytes(count),
  float: () => Math.random(),
};
