/**
 * Vacuum by work done, for tables that rows only pass through. Postgres keeps removed rows and their places in indexes until a table is vacuumed, and
 * whoever looks for its first row walks over them. Autovacuum looks once a minute whether there is something to do: under load that is tens of thousands
 * of rows, and finding the next task takes longer than handing it out.
 */
import type { Db } from '../db/sql.ts';
import type { Log } from './log.ts';

export interface Vacuum {
  /** That many rows were removed from the table (schema and name). After some thousand it is vacuumed, without anybody waiting for it. */
  removed(table: string, rows: number): void;
  /** Finishes the one under way. */
  stop(): Promise<void>;
}

export interface VacuumOptions {
  readonly db: Db;
  readonly log: Log;
  /** Rows after which a table is vacuumed. Default 5 000: some 10 ms of work, and walked over in a tenth of a millisecond. */
  readonly afterRows?: number;
}

export const makeVacuum = ({ db, log, afterRows = 5_000 }: VacuumOptions): Vacuum => {
  const removed = new Map<string, number>();
  let working: Promise<void> | undefined;
  let stopped = false;

  const vacuum = async (table: string): Promise<void> => {
    removed.set(table, 0);
    try {
      // never waits for one that another process is at, nor makes others wait
      await db.run({ text: `vacuum (skip_locked, truncate off) ${table}`, values: [] });
    } catch (error) {
      log.warn({ err: error, table }, 'a table could not be vacuumed: autovacuum will');
    }
  };

  const work = async (): Promise<void> => {
    for (;;) {
      const table = stopped ? undefined : [...removed.keys()].find(key => (removed.get(key) as number) >= afterRows);
      if (table === undefined) {
        working = undefined;
        return;
      }
      await vacuum(table);
    }
  };

  return {
    removed: (table, rows) => {
      const count = (removed.get(table) ?? 0) + rows;
      removed.set(table, count);
      if (count >= afterRows && !stopped) {
        working ??= work();
      }
    },
    stop: async () => {
      stopped = true;
      await working;
    },
  };
};
