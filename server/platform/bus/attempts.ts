/** What every bus does with an event whose handler fails: it pauses longer each time, and puts the event aside after the fifth. */
import { isConnectionError, isIdleTimeout } from '../../db/sql.ts';

export const MAX_ATTEMPTS = 5;
/** Events in one transaction, for those who take several. */
export const MAX_TOGETHER = 100;

/** After the first failure a second, then twice as long each time. */
export const pauseMs = (failures: number): number => 1_000 * 2 ** Math.max(failures - 1, 0);

/** Handlers may call others in their transaction; one that does nothing else for so long counts as failed. */
export const HANDLER_IDLE_MS = 60_000;

/** Whether a failure says something about the event: a lost database does not, and is waited for. */
export const isFailureOfHandler = (error: unknown): boolean => !isConnectionError(error) || isIdleTimeout(error);

/** What is written down beside an event that was put aside. */
export const describeFailure = (error: unknown): string =>
  (error instanceof Error ? (error.stack ?? error.message) : String(error)).slice(0, 4_000);
