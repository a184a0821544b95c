/** Wakes a loop when its next item is due, so that nothing waits for a poll. */
import type { Clock, Timer } from '../../platform/clock.ts';

export interface Due {
  /** Something is due then; only the earliest counts. */
  at(ms: number): void;
  /** Who is to be woken. */
  onDue(wake: () => void): void;
  stop(): void;
}

export const makeDue = (clock: Clock): Due => {
  let armed: { readonly atMs: number; readonly timer: Timer } | undefined;
  let wake: () => void = () => undefined;
  return {
    at: atMs => {
      if (armed && armed.atMs <= atMs) {
        return;
      }
      armed?.timer.cancel();
      const timer = clock.setTimer(
        Math.max(atMs - clock.nowMs(), 0),
        () => {
          armed = undefined;
          wake();
        },
        { unref: true },
      );
      armed = { atMs, timer };
    },
    onDue: callback => {
      wake = callback;
    },
    stop: () => {
      armed?.timer.cancel();
      armed = undefined;
    },
  };
};
