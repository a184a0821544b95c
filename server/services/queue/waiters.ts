/**
 * Workers that wait for work: the long polls of this process, first come first served within a queue. A waiter stays in line from its request until it
 * got something, its time was up, or its connection closed. It asks once when it comes and again whenever it is woken; each batch of the hot path
 * deals places to those who ask, and to the first in line of queues that get new runs in the same transaction.
 */
import type { Clock, Timer } from '../../platform/clock.ts';
import type { ClaimedRow, ClaimRequest, Places } from './claim.db.ts';

/** What a worker was given. */
export interface Claimed extends Omit<ClaimedRow, 'request'> {
  readonly takenUntilMs: number;
}

interface Entry extends ClaimRequest {
  readonly want: number;
  readonly settle: (claimed: readonly Claimed[]) => void;
  readonly fail: (error: unknown) => void;
  state: 'waiting' | 'asking' | 'dealt' | 'gone';
  /** Woken while a batch was under way for it: it asks again if that brings nothing. */
  woken: boolean;
  failures: number;
}

/** What found its worker gone. */
export interface Orphan {
  readonly worker: ClaimRequest;
  readonly claimed: readonly Claimed[];
}

/** Places dealt for one batch. */
export interface Deal {
  readonly requests: readonly ClaimRequest[];
  readonly places: readonly Places[];
  /** Hands out what was claimed. Answers with what found its worker gone. */
  deliver(rows: readonly ClaimedRow[], takenUntilMs: number): Orphan[];
  /** The batch failed: its waiters ask again, or fail when that happened too often. */
  release(error: unknown): void;
}

export interface Waiters {
  /** Puts a worker in line. Resolves with what it got; with nothing when the time was up or the signal aborted. */
  wait(request: ClaimRequest, want: number, waitMs: number, signal: AbortSignal): Promise<readonly Claimed[]>;
  /** Wakes up to `count` waiters of a queue (default all), beside those who are being served. Answers with how many there were. */
  wake(taskQueueId: string, count?: number): number;
  /** Wakes everybody: the safety net. */
  wakeAll(): void;
  /** Deals places; `newRuns` counts runs by queue that become pending in this batch. Undefined when nobody is to get any. */
  deal(newRuns: ReadonlyMap<string, number>): Deal | undefined;
  /** Whether a worker who found nothing waits for new runs of these queues. */
  areAwaited(newRuns: ReadonlyMap<string, number>): boolean;
  readonly size: number;
  /** Those of the queues in which somebody waits. */
  waitingIn(taskQueueIds: readonly string[]): string[];
  /** Waiters on whose behalf the queue is being looked at, or will be. */
  readonly asking: number;
}

/** Places dealt per queue and batch at most. */
const MAX_PLACES = 200;
const MAX_FAILURES = 3;

export interface WaitersOptions {
  readonly clock: Clock;
  /** Somebody asks: a batch should run soon. */
  readonly ask: () => void;
  /** Whether a worker may get nothing now. */
  readonly isExcluded: (request: ClaimRequest) => boolean;
  /** The first waiter of a queue came (true), or the last one left. */
  readonly onQueue: (taskQueueId: string, waiting: boolean) => void;
}

export const makeWaiters = ({ clock, ask, isExcluded, onQueue }: WaitersOptions): Waiters => {
  const queues = new Map<string, Set<Entry>>();
  let asking = new Set<Entry>();
  let size = 0;
  let dealtNow = 0;

  const leave = (entry: Entry): void => {
    if (entry.state === 'gone') {
      return;
    }
    entry.state = 'gone';
    asking.delete(entry);
    size--;
    const line = queues.get(entry.taskQueueId);
    line?.delete(entry);
    if (line?.size === 0) {
      queues.delete(entry.taskQueueId);
      onQueue(entry.taskQueueId, false);
    }
  };

  const askFor = (entry: Entry): void => {
    if (entry.state === 'dealt') {
      entry.woken = true;
    } else if (entry.state === 'waiting') {
      entry.state = 'asking';
      asking.add(entry);
      ask();
    }
  };

  /**
   * Those of a queue who are to get places, in the order of the line, and how many places: as many as they want, as more runs may become pending in the
   * batch than are known beforehand (the dependents of one that ends in it).
   */
  const candidates = (line: ReadonlySet<Entry>, asked: readonly Entry[], newRuns: number): { entries: Entry[]; count: number } => {
    const entries = new Set<Entry>();
    let count = 0;
    for (const entry of line) {
      if (count >= newRuns) {
        break;
      }
      if (entry.state !== 'dealt' && !isExcluded(entry)) {
        entries.add(entry);
        count += entry.want;
      }
    }
    for (const entry of asked) {
      if (!entries.has(entry) && !isExcluded(entry)) {
        entries.add(entry);
        count += entry.want;
      }
    }
    return { entries: [...entries], count: Math.min(count, MAX_PLACES) };
  };

  return {
    wait: (request, want, waitMs, signal) =>
      new Promise((resolve, reject) => {
        if (signal.aborted) {
          resolve([]);
          return;
        }
        const timer: { current?: Timer } = {};
        const finish = (): void => {
          timer.current?.cancel();
          signal.removeEventListener('abort', giveUp);
        };
        const entry: Entry = {
          ...request,
          want,
          state: 'waiting',
          woken: false,
          failures: 0,
          settle: claimed => {
            finish();
            resolve(claimed);
          },
          fail: error => {
            finish();
            reject(error);
          },
        };
        const giveUp = (): void => {
          leave(entry);
          entry.settle([]);
        };
        size++;
        const line = queues.get(request.taskQueueId);
        if (line) {
          line.add(entry);
        } else {
          queues.set(request.taskQueueId, new Set([entry]));
          onQueue(request.taskQueueId, true);
        }
        signal.addEventListener('abort', giveUp, { once: true });
        timer.current = clock.setTimer(waitMs, giveUp);
        askFor(entry);
      }),
    wake: (taskQueueId, count = Number.POSITIVE_INFINITY) => {
      let woken = 0;
      for (const entry of queues.get(taskQueueId) ?? []) {
        if (woken >= count) {
          break;
        }
        if (!isExcluded(entry)) {
          // one that is being served already may leave with another run than the one that it is woken for
          woken += entry.state === 'waiting' ? 1 : 0;
          askFor(entry);
        }
      }
      return woken;
    },
    wakeAll: () => {
      for (const line of queues.values()) {
        for (const entry of line) {
          askFor(entry);
        }
      }
    },
    areAwaited: newRuns => {
      for (const taskQueueId of newRuns.keys()) {
        for (const entry of queues.get(taskQueueId) ?? []) {
          if (entry.state === 'waiting' && !isExcluded(entry)) {
            return true;
          }
        }
      }
      return false;
    },
    get size() {
      return size;
    },
    waitingIn: taskQueueIds => taskQueueIds.filter(id => queues.has(id)),
    get asking() {
      return asking.size + dealtNow;
    },
    deal: newRuns => {
      const byQueue = new Map<string, Entry[]>();
      for (const entry of asking) {
        const list = byQueue.get(entry.taskQueueId);
        if (list) {
          list.push(entry);
        } else {
          byQueue.set(entry.taskQueueId, [entry]);
        }
      }
      for (const taskQueueId of newRuns.keys()) {
        if (!byQueue.has(taskQueueId) && queues.has(taskQueueId)) {
          byQueue.set(taskQueueId, []);
        }
      }
      for (const entry of asking) {
        entry.state = 'waiting';
      }
      asking = new Set();
      const dealt: Entry[] = [];
      const places: Places[] = [];
      for (const [taskQueueId, asked] of byQueue) {
        const { entries, count } = candidates(queues.get(taskQueueId) ?? new Set(), asked, newRuns.get(taskQueueId) ?? 0);
        const first = dealt.length;
        const left = entries.map(entry => entry.want);
        dealt.push(...entries);
        const requests: number[] = [];
        for (let i = 0; requests.length < count; i = (i + 1) % entries.length) {
          if ((left[i] as number) > 0) {
            left[i] = (left[i] as number) - 1;
            requests.push(first + i + 1);
          }
        }
        if (count > 0) {
          places.push({ taskQueueId, requests });
        }
      }
      if (places.length === 0) {
        return undefined;
      }
      const served = new Set(places.flatMap(({ requests }) => requests));
      dealt.forEach((entry, i) => {
        entry.state = 'dealt';
        entry.woken = !served.has(i + 1); // no place was left for it: its turn comes with the next batch
      });
      dealtNow += dealt.length;
      const back = (entry: Entry): void => {
        entry.state = 'waiting';
        if (entry.woken) {
          askFor(entry);
        }
      };
      return {
        requests: dealt,
        places,
        deliver: (rows, takenUntilMs) => {
          dealtNow -= dealt.length;
          const byRequest = new Map<number, Claimed[]>();
          for (const { request, ...row } of rows) {
            const list = byRequest.get(request);
            if (list) {
              list.push({ ...row, takenUntilMs });
            } else {
              byRequest.set(request, [{ ...row, takenUntilMs }]);
            }
          }
          const orphans: Orphan[] = [];
          dealt.forEach((entry, i) => {
            const claimed = byRequest.get(i + 1);
            if (!claimed) {
              if (entry.state === 'dealt') {
                back(entry);
              }
            } else if (entry.state === 'gone') {
              orphans.push({ worker: entry, claimed });
            } else {
              leave(entry);
              entry.settle(claimed);
            }
          });
          return orphans;
        },
        release: error => {
          dealtNow -= dealt.length;
          for (const entry of dealt) {
            if (entry.state === 'dealt') {
              entry.failures++;
              if (entry.failures > MAX_FAILURES) {
                leave(entry);
                entry.fail(error);
              } else {
                entry.woken = true;
                back(entry);
              }
            }
          }
        },
      };
    },
  };
};
