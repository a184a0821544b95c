/** A clock that stands still until a test moves it. Due timers fire in order, and what they start gets turns of the event loop in between. */
import { type Clock, makeClock, systemClock } from '../platform/clock.ts';

export interface Span {
  readonly days?: number;
  readonly hours?: number;
  readonly minutes?: number;
  readonly seconds?: number;
  readonly ms?: number;
}

export interface FakeClock extends Clock {
  /** Moves time without firing timers: for code that only reads the clock. */
  advance(span: Span): void;
  /** Moves time to each due timer in turn and fires it. */
  tick(span: Span): Promise<void>;
}

const inMs = ({ days = 0, hours = 0, minutes = 0, seconds = 0, ms = 0 }: Span): number =>
  (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000 + ms;

const turns = async (): Promise<void> => {
  for (let i = 0; i < 5; i++) {
    await new Promise<void>(resolve => {
      setImmediate(resolve);
    });
  }
};

const DAY_MS = 86_400_000;
/** Of the present day in UTC: no test meets midnight by chance. */
const noonMs = (): number => (Math.floor(Date.now() / DAY_MS) + 0.5) * DAY_MS;

/** Starts at `startMs` (default: at noon). */
export const makeFakeClock = (startMs: number = noonMs()): FakeClock => {
  let nowMs = startMs;
  let order = 0;
  const timers = new Set<{ atMs: number; order: number; callback: () => void }>();
  const clock = makeClock(
    () => nowMs,
    (ms, callback) => {
      const timer = { atMs: nowMs + Math.max(ms, 0), order: order++, callback };
      timers.add(timer);
      return { cancel: () => void timers.delete(timer) };
    },
  );
  return {
    ...clock,
    advance: span => {
      nowMs += inMs(span);
    },
    tick: async span => {
      const untilMs = nowMs + inMs(span);
      for (;;) {
        await turns();
        const [next] = [...timers].filter(timer => timer.atMs <= untilMs).sort((a, b) => a.atMs - b.atMs || a.order - b.order);
        if (!next) {
          break;
        }
        timers.delete(next);
        nowMs = Math.max(nowMs, next.atMs);
        next.callback();
      }
      nowMs = untilMs;
      await turns();
    },
  };
};

/** At the present: for what real servers and clients sign and check with clocks of their own. */
export const presentClock = (): FakeClock => makeFakeClock(systemClock.nowMs());

/** A clock that runs by itself, `times` faster than the system's: for what waits in earnest, where the test cannot say when. */
export const makeFastClock = (times: number): Clock => {
  const startMs = systemClock.nowMs();
  const elapsedMs = (): number => (systemClock.nowMs() - startMs) * times;
  return makeClock(
    () => startMs + elapsedMs(),
    (ms, callback, options) => systemClock.setTimer(ms / times, callback, options),
    elapsedMs,
  );
};
