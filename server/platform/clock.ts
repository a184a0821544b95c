/** The server's clock and randomness: the same values as everywhere; `node:crypto` where bytes are asked for synchronously and often. */
import crypto from 'node:crypto';
import type { Clock, Random } from '@tscluster/client/clock.ts';

export { type Clock, type Random, type Timer, makeClock, plainSlugid, slugid, systemClock, uuid } from '@tscluster/client/clock.ts';

// asking the kernel for 16 bytes at a time costs more than everything else that makes an id
const POOL_BYTES = 4096;
const pool = Buffer.alloc(POOL_BYTES);
let used = POOL_BYTES;

const pooledBytes = (count: number): Uint8Array => {
  if (used + count > POOL_BYTES) {
    crypto.randomFillSync(pool);
    used = 0;
  }
  const bytes = Uint8Array.prototype.slice.call(pool, used, used + count);
  pool.fill(0, used, used + count); // handed out once, and kept nowhere else
  used += count;
  return bytes;
};

export const systemRandom: Random = {
  bytes: count => (count > 64 ? crypto.randomBytes(count) : pooledBytes(count)),
  float: () => Math.random(),
};

/** Waits until something has ended, well or not, for `ms` milliseconds at most. Answers whether it has. */
export const settlesWithin = async (clock: Clock, promise: Promise<unknown>, ms: number): Promise<boolean> => {
  const over = new AbortController();
  const settled = promise.then(
    () => true,
    () => true,
  );
  const late = clock.sleep(ms, over.signal).then(
    () => false,
    () => false,
  );
  try {
    return await Promise.race([settled, late]);
  } finally {
    over.abort();
  }
};
