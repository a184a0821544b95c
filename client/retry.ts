/** When a call is tried again, and how long after (protocol: "Client behaviour expected by servers"). */
import type { Random } from './clock.ts';

/** Tries after the first one. */
export const MAX_RETRIES = 5;
const DELAY_FACTOR_MS = 100;
const RANDOMIZATION = 0.25;
const MAX_DELAY_MS = 30_000;

/** How long to wait before retry `retry`, counted from 1: twice as long each time, ± 25 %, at most 30 s. */
export const retryDelayMs = (retry: number, random: Random): number =>
  Math.min(MAX_DELAY_MS, 2 ** retry * DELAY_FACTOR_MS * (1 - RANDOMIZATION + 2 * RANDOMIZATION * random.float()));

/** Whether the same request may succeed later. Connection errors and timeouts count as such, too. */
export const isTransient = (statusCode: number): boolean => statusCode >= 500;
