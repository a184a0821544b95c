/**
 * Claims that never reached their worker: its connection closed, or the process died between the commit and the answer. Such a run would stand still
 * until its claim ends. A worker that may have one is given it again when it next asks.
 *
 * The database knows which claims were received (`answered`, noted some time after the fact). A process looks there when a worker comes to it for
 * the first time, and when it knows of trouble itself. Where other processes hand out claims too, whose trouble it does not know of, it looks again now
 * and then. Otherwise it does not look, so that a claim costs nothing more. What this process itself is answering with, or has answered with and not
 * noted yet, is never given twice, however slow the database is.
 */
import type { Db } from '../../db/sql.ts';
import type { Clock } from '../../platform/clock.ts';
import { type ClaimRequest, type UnansweredRow, unansweredStatement } from './claim.db.ts';
import type { Claimed } from './waiters.ts';

export interface Unanswered {
  /** A worker is being answered with these runs, as with those that `take` gives. */
  answering(worker: ClaimRequest, runs: readonly Run[]): void;
  /** It is noted that the worker has received the run, or the run has ended. */
  settled(worker: ClaimRequest, run: Run): void;
  /** These runs did not reach the worker. */
  lost(worker: ClaimRequest, runs: readonly Run[]): void;
  /** A worker may hold runs without knowing; nobody knows which. */
  suspect(worker: ClaimRequest): void;
  /** Runs that this worker holds without knowing, as many as it can take now; the rest waits until it asks again. */
  take(worker: ClaimRequest, limit: number): Promise<readonly Claimed[]>;
  /** How long until it is worth asking again; undefined: no reason is known. */
  dueInMs(worker: ClaimRequest): number | undefined;
}

/** Workers remembered as known; the oldest are forgotten, which costs one query each. */
const MAX_KNOWN = 100_000;
/** A claim this young may be on its way to the worker through another process, or received and not noted yet. */
const MIN_AGE_MS = 5_000;
/** How often a worker is looked for again where other processes hand out claims too. */
const LOOK_AGAIN_MS = 10_000;

const keyOf = (worker: ClaimRequest): string => `${worker.taskQueueId} ${worker.workerGroup} ${worker.workerId}`;

interface Run {
  readonly taskId: string;
  readonly runId: number;
}
const runKey = ({ taskId, runId }: Run): string => `${taskId}/${runId}`;

export interface UnansweredOptions {
  readonly db: Pick<Db, 'run'>;
  readonly clock: Pick<Clock, 'nowMs'>;
  readonly claimTimeoutMs: number;
  /** No other process hands out claims. */
  readonly alone: boolean;
}

export const makeUnanswered = ({ db, clock, claimTimeoutMs, alone }: UnansweredOptions): Unanswered => {
  /** When each worker was looked for. */
  const known = new Map<string, number>();
  /** Workers that may hold runs without knowing, each with the time at which the claims of these have ended. */
  const suspects = new Map<string, number>();
  /** Runs that each worker is being given by this process, until that is noted. */
  const inHand = new Map<string, Set<string>>();
  /** Runs that this process could not give to their worker, until they are given, each with the time at which its claim has ended. */
  const lost = new Map<string, number>();
  const remember = (map: Map<string, number>, key: string): void => {
    const nowMs = clock.nowMs();
    map.delete(key);
    map.set(key, nowMs + claimTimeoutMs); // the newest stands last
    for (const [old, endMs] of map) {
      if (endMs > nowMs) {
        break;
      }
      map.delete(old);
    }
  };
  /** Runs that were found when their worker came, and could not be given to it yet: too many at once, or too young. */
  const left = new Map<string, { readonly runs: ReadonlySet<string>; readonly dueMs: number }>();
  const lookAgainInMs = (key: string): number | undefined => {
    const lookedMs = known.get(key);
    return alone || lookedMs === undefined ? undefined : Math.max(0, lookedMs + LOOK_AGAIN_MS - clock.nowMs());
  };
  const settle = (key: string, run: string): void => {
    const runs = inHand.get(key);
    runs?.delete(run);
    if (runs?.size === 0) {
      inHand.delete(key);
    }
  };
  const answering = (key: string, runs: readonly string[]): void => {
    const mine = inHand.get(key) ?? new Set();
    inHand.set(key, mine);
    for (const run of runs) {
      lost.delete(run);
      mine.add(run);
    }
  };
  return {
    answering: (worker, runs) => answering(keyOf(worker), runs.map(runKey)),
    settled: (worker, run) => settle(keyOf(worker), runKey(run)),
    lost: (worker, runs) => {
      const key = keyOf(worker);
      for (const run of runs.map(runKey)) {
        settle(key, run);
        remember(lost, run);
      }
      remember(suspects, key);
    },
    suspect: worker => remember(suspects, keyOf(worker)),
    take: async (worker, limit) => {
      const key = keyOf(worker);
      const suspected = suspects.delete(key);
      const earlier = left.get(key);
      const isUnknown = !known.has(key) || lookAgainInMs(key) === 0;
      if (!isUnknown && !suspected && !earlier) {
        return [];
      }
      const nowMs = clock.nowMs();
      const statement = unansweredStatement(worker, new Date(nowMs - claimTimeoutMs).toISOString(), new Date(nowMs).toISOString());
      const inHandBefore = new Set(inHand.get(key));
      const { rows } = await db.run<UnansweredRow>(statement).catch((error: unknown) => {
        if (suspected) {
          remember(suspects, key);
        }
        throw error;
      });
      const found = rows.filter(row => {
        const run = runKey(row);
        // what was noted while we read may not have been so when the database looked
        const isInHand = inHandBefore.has(run) || (inHand.get(key)?.has(run) ?? false);
        return !isInHand && (isUnknown || suspected || (earlier?.runs.has(run) ?? false));
      });
      const dueMs = (row: UnansweredRow): number => (lost.has(runKey(row)) ? 0 : row.takenUntil.getTime() - claimTimeoutMs + MIN_AGE_MS);
      const due = found.filter(row => dueMs(row) <= nowMs).slice(0, limit);
      const rest = found.filter(row => !due.includes(row));
      if (rest.length > 0) {
        left.set(key, { runs: new Set(rest.map(runKey)), dueMs: Math.min(...rest.map(dueMs)) });
      } else {
        left.delete(key);
      }
      if (isUnknown) {
        known.delete(key); // the newest stands last
        known.set(key, nowMs);
      }
      if (known.size > MAX_KNOWN) {
        const forgotten = known.keys().next().value as string;
        known.delete(forgotten);
        left.delete(forgotten);
      }
      answering(key, due.map(runKey));
      return due.map(({ takenUntil, ...row }) => ({ ...row, takenUntilMs: takenUntil.getTime() }));
    },
    dueInMs: worker => {
      const key = keyOf(worker);
      const some = left.get(key);
      const dueInMs = some && Math.max(0, some.dueMs - clock.nowMs());
      const againInMs = lookAgainInMs(key);
      return dueInMs === undefined || againInMs === undefined ? (dueInMs ?? againInMs) : Math.min(dueInMs, againInMs);
    },
  };
};
