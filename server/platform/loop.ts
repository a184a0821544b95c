/**
 * Loops: one runner for everything that happens by itself. A full batch runs again at once, otherwise the loop waits or is woken; failures back off
 * and never end it; shutdown finishes the batch. Any number of copies may run in any number of processes.
 */
import type { Clock } from './clock.ts';
import type { Log } from './log.ts';
import type { Metrics } from './metrics.ts';
import { makeWaker } from './waker.ts';

export interface Loop<Ctx> {
  /** Process name, metric label and log field: `queue/claim-expiry`. */
  readonly name: string;
  readonly everyMs: number;
  /** Items per run at most. */
  readonly batch: number;
  /** Runs in every process that has the service, whichever loops that process was given: it looks after what the process remembers. */
  readonly everywhere?: true;
  /** Does up to `limit` items; answers with how many it did. */
  readonly run: (ctx: Ctx, limit: number) => Promise<number>;
}

export const loop = <Ctx>(definition: Loop<Ctx>): Loop<Ctx> => definition;

export interface RunningLoop {
  readonly name: string;
  wake(): void;
  stop(): Promise<void>;
}

/** A loop with its context, to be started by the process that serves it. */
export interface BoundLoop {
  readonly name: string;
  readonly everywhere: boolean;
  start(platform: LoopPlatform): RunningLoop;
}

export interface LoopPlatform {
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
}

const MAX_BACKOFF_MS = 60_000;
const SECONDS = [0.001, 0.01, 0.1, 1, 10, 60];

/**
 * Binds a loop to its context. `onWake` receives the loop's wake function, for those who know that there is work.
 */
export const run = <Ctx>(definition: Loop<Ctx>, ctx: Ctx, onWake?: (wake: () => void) => void): BoundLoop => ({
  name: definition.name,
  everywhere: definition.everywhere ?? false,
  start: platform => {
    const running = startLoop(definition, ctx, platform);
    onWake?.(() => running.wake());
    return running;
  },
});

const startLoop = <Ctx>(definition: Loop<Ctx>, ctx: Ctx, { clock, log, metrics }: LoopPlatform): RunningLoop => {
  const { name, everyMs, batch } = definition;
  const runs = metrics.counter('loop_runs_total', 'Runs of a loop', ['loop']);
  const items = metrics.counter('loop_items_total', 'Items a loop has done', ['loop']);
  const failures = metrics.counter('loop_failures_total', 'Runs of a loop that failed', ['loop']);
  const seconds = metrics.histogram('loop_run_seconds', 'How long a run took', ['loop'], SECONDS);
  const stopping = new AbortController();
  const waker = makeWaker(clock, stopping.signal);

  const work = async (): Promise<void> => {
    let backoffMs = 100;
    while (!stopping.signal.aborted) {
      const startedMs = clock.monotonicMs();
      try {
        const count = await definition.run(ctx, batch);
        backoffMs = 100;
        runs.inc({ loop: name });
        items.inc({ loop: name }, count);
        seconds.observe({ loop: name }, (clock.monotonicMs() - startedMs) / 1000);
        if (count < batch) {
          await waker.wait(everyMs);
        }
      } catch (error) {
        failures.inc({ loop: name });
        log.error({ err: error, loop: name, backoffMs }, 'loop failed');
        await waker.wait(backoffMs);
        backoffMs = Math.min(backoffMs * 2, MAX_BACKOFF_MS);
      }
    }
  };
  const finished = work();

  return {
    name,
    wake: waker.wake,
    stop: async () => {
      stopping.abort(new Error(`Loop ${name} is stopping`));
      await finished;
    },
  };
};
