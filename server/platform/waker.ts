/** Waiting for work: until woken, until a time has passed, or until everything stops, whichever comes first. */
import type { Clock } from './clock.ts';

export interface Waker {
  /** Ends the wait under way, or else the next one at once. */
  wake(): void;
  wait(ms: number): Promise<void>;
}

export const makeWaker = (clock: Clock, stopping: AbortSignal): Waker => {
  let woken = false;
  let wakeUp: () => void = () => undefined;
  return {
    wake: () => {
      woken = true;
      wakeUp();
    },
    wait: async ms => {
      if (!woken && !stopping.aborted) {
        const enough = new AbortController();
        const called = new Promise<void>(resolve => {
          wakeUp = resolve;
        });
        await Promise.race([called, clock.sleep(ms, AbortSignal.any([enough.signal, stopping])).catch(() => undefined)]);
        enough.abort();
        wakeUp = () => undefined;
      }
      woken = false;
    },
  };
};
