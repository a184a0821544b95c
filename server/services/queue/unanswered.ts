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
  /** The runs that this worker holds without knowing. */
  take(worker: ClaimRequest): Promise<readonly Claimed[]>;
}

/** Workers remembered as known; the oldest are forgotten, which costs one query each. */
const MAX_KNOWN = 100_000;
/** A claim this young may be on its way to the worker through another process, or received and not noted yet. */
const MIN_AGE_MS = 2_000;

const keyOf = (worker: ClaimRequest): string => `${worker.taskQueueId} ${worker.workerGroup} ${worker.workerId}`;

export const makeUnanswered = (db: Db, clock: Clock, claimTimeoutMs: number): Unanswered => {
  const known = new Set<string>();
  const suspects = new Set<string>();
  return {
    suspect: worker => void suspects.add(keyOf(worker)),
    take: async worker => {
      const key = keyOf(worker);
      const suspected = suspects.delete(key);
      if (known.has(key) && !suspected) {
        return [];
      }
      const nowMs = clock.nowMs();
      const statement = unansweredStatement(worker, new Date(nowMs - claimTimeoutMs).toISOString(), new Date(nowMs).toISOString());
      const { rows } = await db.run<UnansweredRow>(statement);
      const due = rows.filter(row => suspected || row.takenUntil.getTime() - claimTimeoutMs <= nowMs - MIN_AGE_MS);
      if (due.length < rows.length) {
        suspects.add(key); // look again when they are old enough
      }
      known.add(key);
      if (known.size > MAX_KNOWN) {
        known.delete(known.values().next().value as string);
      }
      return due.map(({ takenUntil, ...row }) => ({ ...row, takenUntilMs: takenUntil.getTime() }));
    },
  };
};
