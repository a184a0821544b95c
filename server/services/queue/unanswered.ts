/**
 * Claims that never reached their worker: its connection closed, or the process died between the commit and the answer. Such a run would stand still
 * until its claim ends. A worker that may have one is given it again when it next asks.
 *
 * The database knows which claims were received (`answered`, noted some time after the fact). A process looks there when a worker comes to it for
 * the first time, and when it knows of trouble itself; otherwise it does not look, so that a claim costs nothing more.
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
  /** How long until there may be some that could not be given so far; undefined: there are none. */
  dueInMs(worker: ClaimRequest): number | undefined;
}

/** Workers remembered as known; the oldest are forgotten, which costs one query each. */
const MAX_KNOWN = 100_000;
/** A claim this young may be on its way to the worker through another process, or received and not noted yet. */
const MIN_AGE_MS = 2_000;

const keyOf = (worker: ClaimRequest): string => `${worker.taskQueueId} ${worker.workerGroup} ${worker.workerId}`;

const runKey = ({ taskId, runId }: { readonly taskId: string; readonly runId: number }): string => `${taskId}/${runId}`;

export const makeUnanswered = (db: Pick<Db, 'run'>, clock: Pick<Clock, 'nowMs'>, claimTimeoutMs: number): Unanswered => {
  const known = new Set<string>();
  const suspects = new Set<string>();
  /** Runs that were found when their worker came, and could not be given to it yet: too many at once, or too young. */
  const left = new Map<string, { readonly runs: ReadonlySet<string>; readonly dueMs: number }>();
  return {
    suspect: worker => void suspects.add(keyOf(worker)),
    take: async (worker, limit) => {
      const key = keyOf(worker);
      const suspected = suspects.delete(key);
      const earlier = left.get(key);
      if (known.has(key) && !suspected && !earlier) {
        return [];
      }
      const isNew = !known.has(key);
      const nowMs = clock.nowMs();
      const statement = unansweredStatement(worker, new Date(nowMs - claimTimeoutMs).toISOString(), new Date(nowMs).toISOString());
      const found = (await db.run<UnansweredRow>(statement)).rows.filter(row => isNew || suspected || earlier?.runs.has(runKey(row)));
      const dueMs = (row: UnansweredRow): number => (suspected ? 0 : row.takenUntil.getTime() - claimTimeoutMs + MIN_AGE_MS);
      const due = found.filter(row => dueMs(row) <= nowMs).slice(0, limit);
      const rest = found.filter(row => !due.includes(row));
      if (rest.length > 0) {
        left.set(key, { runs: new Set(rest.map(runKey)), dueMs: Math.min(...rest.map(dueMs)) });
      } else {
        left.delete(key);
      }
      known.add(key);
      if (known.size > MAX_KNOWN) {
        const forgotten = known.values().next().value as string;
        known.delete(forgotten);
        left.delete(forgotten);
      }
      return due.map(({ takenUntil, ...row }) => ({ ...row, takenUntilMs: takenUntil.getTime() }));
    },
    dueInMs: worker => {
      const some = left.get(keyOf(worker));
      return some && Math.max(0, some.dueMs - clock.nowMs());
    },
  };
};
