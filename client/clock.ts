/**
 * Time and randomness as values, so that a whole installation runs under a simulated clock with a seed. This file is the one place of `Date.now`,
 * `setTimeout` and `crypto` in the packages that a browser may load; everything else receives a `Clock` and a `Random`.
 */

export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Milliseconds since the epoch. */
  nowMs(): number;
  now(): Date;
  /** Calls once after `ms`; an unreferenced timer does not keep the process alive. */
  setTimer(ms: number, callback: () => void, options?: { unref?: boolean }): Timer;
  /** Resolves after `ms`, or rejects with the signal's reason. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** Monotonic milliseconds for measuring durations. */
  monotonicMs(): number;
}

const sleepWith = (setTimer: Clock['setTimer'], ms: number, signal?: AbortSignal): Promise<void> =>
  new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason as Error);
      return;
    }
    const onAbort = (): void => {
      timer.cancel();
      reject(signal?.reason as Error);
    };
    const timer = setTimer(ms, () => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    });
    signal?.addEventListener('abort', onAbort, { once: true });
  });

/** A clock from its two primitives. */
export const makeClock = (nowMs: () => number, setTimer: Clock['setTimer'], monotonicMs: () => number = nowMs): Clock => ({
  nowMs,
  now: () => new Date(nowMs()),
  setTimer,
  sleep: (ms, signal) => sleepWith(setTimer, ms, signal),
  monotonicMs,
});

// a longer delay overflows Node's 32-bit timer and fires at once
const MAX_TIMER_MS = 2 ** 31 - 1;

export const systemClock: Clock = makeClock(
  () => Date.now(),
  (ms, callback, options) => {
    const handle = setTimeout(callback, Math.min(Math.max(ms, 0), MAX_TIMER_MS));
    if (options?.unref) {
      (handle as { unref?: () => void }).unref?.();
    }
    return { cancel: () => clearTimeout(handle) };
  },
  () => performance.now(),
);

export interface Random {
  bytes(count: number): Uint8Array;
  /** In [0, 1). */
  float(): number;
}

export const systemRandom: Random = {
  bytes: count => crypto.getRandomValues(new Uint8Array(count)),
  float: () => Math.random(),
};

const hex = (bytes: Uint8Array): string => Array.from(bytes, b => b.toString(16).padStart(2, '0')).join('');

const uuidBytes = (random: Random): Uint8Array => {
  const bytes = random.bytes(16);
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  return bytes;
};

/** A UUID v4 in canonical text form (RFC 9562 §5.4). */
export const uuid = (random: Random): string => hex(uuidBytes(random)).replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');

const base64url = (bytes: Uint8Array): string =>
  btoa(String.fromCharCode(...bytes))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
    .replace(/=+$/, '');

/** A "nice" slugid: a UUID v4 in URL-safe base64 whose first character is a letter, so that it is never mistaken for an option. */
export const slugid = (random: Random): string => {
  const bytes = uuidBytes(random);
  bytes[0] = (bytes[0] ?? 0) & 0x7f;
  return base64url(bytes);
};

/** Any v4 slugid, 22 characters; the form of which access tokens and certificate seeds are made (two of them). */
export const plainSlugid = (random: Random): string => base64url(uuidBytes(random));
