/** Waiting for work: until woken, until a time has passed, or until everything stops, whichever comes first. */
import type { Clock } from './clock.ts';

export interface Waker {
  /** Ends the wait under way, or else the next one at once. */
  wake(): void;
  wait(ms: number): Promise<void>;
}

export const makeWaker = (clock: Clock, stopping: AbortSignal): Waker => {
  let woken = false;
  let end: () => void = () => undefined;
  stopping.addEventListener('abort', () => end(), { once: true });
  return {
    wake: () => {
      woken = true;
      end();
    },
    wait: async ms => {
      if (!woken && !stopping.aborted) {
        await new Promise<void>(resolve => {
          const timer = clock.setTimer(ms, resolve);
          end = () => {
            timer.cancel();
            resolve();
          };
        });
        end = () => undefined;
      }
      woken = false;
    },
  };
};
