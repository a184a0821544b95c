/** Forgets what has expired. Nothing depends on it: what is past its expiry counts as absent at once. */
import type { Db, Query } from '../../db/sql.ts';
import type { Clock } from '../../platform/clock.ts';
import { loop } from '../../platform/loop.ts';
import { deleteExpiredEntries, deleteExpiredNamespaces } from './entries.db.ts';
import { deleteExpiredHistory } from './history.db.ts';

export interface ExpiryCtx {
  readonly db: Db;
  readonly clock: Clock;
}

const expiry = (name: string, remove: (db: Query, now: Date, limit: number) => Promise<number>) =>
  loop<ExpiryCtx>({ name, everyMs: 3_600_000, batch: 1_000, run: ({ db, clock }, limit) => remove(db, clock.now(), limit) });

export const entryExpiry = expiry('index/expire-tasks', deleteExpiredEntries);
export const namespaceExpiry = expiry('index/expire-namespaces', deleteExpiredNamespaces);
export const historyExpiry = expiry('index/expire-history', deleteExpiredHistory);
