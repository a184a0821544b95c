/**
 * Asks the queue for work whenever a slot is free: the request leaves the moment a task has been reported, and waits at the queue until there is work.
 * Slots that become free while a request waits are asked for with a request of their own.
 */
import type { Clock, Random } from '@tscluster/client/clock.ts';
import { messageOf } from './errors.ts';
import type { Monitor } from './monitor.ts';
import type { ClaimedTask, QueueCalls } from './queue.ts';

const FIRST_RETRY_MS = 500;
const MAX_RETRY_MS = 30_000;
/** The protocol's limit for one call. */
const MAX_PER_CALL = 32;
/** Runs remembered as begun. */
const MAX_BEGUN = 1_000;

export interface ClaimLoopOptions {
  readonly queue: Pick<QueueCalls, 'claimWork'>;
  readonly taskQueueId: string;
  readonly workerGroup: string;
  readonly workerId: string;
  readonly capacity: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly monitor: Monitor;
  /** Makes room on the disk; false: do not claim now. */
  readonly makeRoom: () => Promise<boolean>;
  /** Runs a task. `free` is to be called when its slot is free; the promise resolves when the task is cleaned up. */
  readonly run: (claim: ClaimedTask, free: () => void) => Promise<void>;
}

export class ClaimLoop {
  readonly #options: ClaimLoopOptions;
  readonly #stopped = new AbortController();
  readonly #tasks = new Set<Promise<void>>();
  readonly #calls = new Set<Promise<void>>();
  readonly #begun = new Set<string>();
  #free: number;
  #asked = 0;
  #failures = 0;

  constructor(options: ClaimLoopOptions) {
    this.#options = options;
    this.#free = options.capacity;
  }

  /** Begins to ask for work. */
  start(): void {
    this.#ask();
  }

  /** Asks for no more work. */
  stop(): void {
    this.#stopped.abort();
  }

  /** Resolves when no request is under way and every task is cleaned up. To be called after `stop`. */
  async ended(): Promise<void> {
    while (this.#calls.size + this.#tasks.size > 0) {
      await Promise.allSettled([...this.#calls, ...this.#tasks]);
    }
  }

  get runningTasks(): number {
    return this.#options.capacity - this.#free;
  }

  #ask(): void {
    const count = Math.min(MAX_PER_CALL, this.#free - this.#asked);
    if (count <= 0 || this.#stopped.signal.aborted || (this.#failures > 0 && this.#calls.size > 0)) {
      return;
    }
    this.#asked += count;
    const call = this.#claim(count)
      .catch((error: unknown) => this.#waitAfterFailure(error))
      .finally(() => {
        this.#calls.delete(call);
        this.#asked -= count;
        this.#ask();
      });
    this.#calls.add(call);
  }

  async #claim(count: number): Promise<void> {
    const { queue, taskQueueId, workerGroup, workerId, makeRoom, monitor } = this.#options;
    if (!(await makeRoom())) {
      throw new Error('there is not enough free disk space to run a task');
    }
    const { tasks } = await queue.claimWork({ taskQueueId }, { workerGroup, workerId, tasks: count });
    if (this.#failures > 0) {
      monitor.info({ failures: this.#failures }, 'claims are answered again');
    }
    this.#failures = 0;
    // also after a stop: a claim that was made must be resolved
    for (const claim of tasks) {
      if (this.#isNew(claim)) {
        this.#begin(claim);
      }
    }
  }

  /** Whether a run was not begun before: a queue that cannot know whether its answer arrived gives a run once more. */
  #isNew({ status, runId }: ClaimedTask): boolean {
    const { taskId } = status;
    const key = `${taskId}/${runId}`;
    if (this.#begun.has(key)) {
      this.#options.monitor.info({ taskId, runId }, 'claimed once more');
      return false;
    }
    this.#begun.add(key);
    if (this.#begun.size > MAX_BEGUN) {
      this.#begun.delete(this.#begun.values().next().value as string);
    }
    return true;
  }

  #begin(claim: ClaimedTask): void {
    this.#free--;
    let isFree = false;
    const free = (): void => {
      if (!isFree) {
        isFree = true;
        this.#free++;
        this.#ask();
      }
    };
    const task = this.#options.run(claim, free).finally(() => {
      free();
      this.#tasks.delete(task);
    });
    this.#tasks.add(task);
  }

  async #waitAfterFailure(failure: unknown): Promise<void> {
    const { signal } = this.#stopped;
    if (signal.aborted) {
      return;
    }
    const { clock, random, monitor } = this.#options;
    const delayMs = Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** this.#failures) * (0.5 + random.float() / 2);
    this.#failures++;
    monitor.warn({ error: messageOf(failure), retryInMs: Math.round(delayMs) }, 'no work could be claimed');
    await clock.sleep(delayMs, signal).catch(() => {});
  }
}
