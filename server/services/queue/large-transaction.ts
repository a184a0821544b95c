/**
 * Transactions beside the lane that touch thousands of tasks. Their plans are those of the hot path: index look-ups, whatever the tables held when they
 * were made. And they wait for nobody as long as it takes to notice a deadlock: calls on the hot path, which share one transaction, may be waiting behind
 * them. So they give way soon, and are run again.
 */
import type { Db, Statement, Tx } from '../../db/sql.ts';

const SETTINGS: Statement = {
  text: `select set_config(name, value, true) from (values ('plan_cache_mode', 'force_generic_plan'), ('enable_seqscan', 'off'), ('enable_bitmapscan', 'off'),
    ('enable_hashjoin', 'off'), ('enable_mergejoin', 'off'), ('enable_memoize', 'off'), ('lock_timeout', '300ms')) as s(name, value)`,
  values: [],
};

/** Runs a large transaction. */
export const largeTx = <T>(db: Db, run: (tx: Tx) => Promise<T>): Promise<T> =>
  db.tx(async tx => {
    await tx.run(SETTINGS);
    return run(tx);
  });

/** Whether it gave way to somebody who held a lock. */
export const gaveWay = (error: unknown): boolean => (error as { code?: string }).code === '55P03';
