/**
 * Claims that never reached their worker: its connection closed, or the process died between the commit and the answer. Such a run would stand still
 * until its claim ends. A worker that may have one is given it again when it next asks.
 *
 * The database knows which claims were received (`answered`, noted some time after the fact). A process looks there when a worker comes to it for
 * the first time, and when it knows of trouble itself. Where other processes hand out claims too, whose trouble it does not know of, it looks again now
 * and then. Otherwise it does not look, so that a claim costs nothing more.
 */
import type { Db } from '../../db/sql.ts';
import type { Clock } from '../../platform/clock.ts';
import { type ClaimRequest, type UnansweredRow, unansweredStatement } from './claim.db.ts';
import type { Claimed } from './waiters.ts';

export interface Unanswered {
  /** A worker may hold runs without knowing. */
  suspect(worker: ClaimRequest): void;
  /** Runs that this worker holds without knowing, as many as it can take now; the rest waits until it asks again. */
  take(worker: ClaimRequest, limit: number): Promise<readonly Claimed[]>;
  /** How long until it is worth asking again; undefined: no reason is known. */
  dueInMs(worker: ClaimRequest): number | undefined;
}

/** Workers remembered as known; the oldest are forgotten, which costs one query each. */
const MAX_KNOWN = 100_000;
/** A claim this young may be on its way to the worker through another process, or received and not noted yet. */
const MIN_AGE_MS = 2_000;
/** How often a worker is looked for again where other processes hand out claims too. */
const LOOK_AGAIN_MS = 10_000;

const keyOf = (worker: ClaimRequest): string => `${worker.taskQueueId} ${worker.workerGroup} ${worker.workerId}`;

const runKey = ({ taskId, runId }: { readonly taskId: string; readonly runId: number }): string => `${taskId}/${runId}`;

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
  const suspects = new Set<string>();
  /** Runs that were found when their worker came, and could not be given to it yet: too many at once, or too young. */
  const left = new Map<string, { readonly runs: ReadonlySet<string>; readonly dueMs: number }>();
  const lookAgainInMs = (key: string): number | undefined => {
    const lookedMs = known.get(key);
    return alone || lookedMs === undefined ? undefined : Math.max(0, lookedMs + LOOK_AGAIN_MS - clock.nowMs());
  };
  return {
    suspect: worker => void suspects.add(keyOf(worker)),
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
      const found = (await db.run<UnansweredRow>(statement)).rows.filter(row => isUnknown || suspected || earlier?.runs.has(runKey(row)));
      const dueMs = (row: UnansweredRow): number => (suspected ? 0 : row.takenUntil.getTime() - claimTimeoutMs + MIN_AGE_MS);
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
