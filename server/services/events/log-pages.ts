/**
 * Pages of the event log for listeners that are behind. Rows below the hub's position never change, so a page is read once for all who want it: after a
 * restart everybody resumes at about the same place. Few are read at a time, and what is kept is bounded.
 */
import type { Db } from '../../db/sql.ts';
import { readEventLog } from '../../platform/event-log.ts';
import { LoggedEvents } from './live-event.ts';

export const PAGE_ROWS = 64;
const MAX_KEPT_BYTES = 16 * 1024 * 1024;
const MAX_READS = 2;

export interface LogPages {
  /** Rows after `seq`, at least one, in order and none left out; undefined when the row `seq + 1` was removed. There must be such a row below the position. */
  after(seq: number): Promise<readonly LoggedEvents[] | undefined>;
}

/** @param position the last row that may be handed out */
export const makeLogPages = (db: Db, position: () => number): LogPages => {
  const kept = new Map<number, { rows: readonly LoggedEvents[]; bytes: number }>();
  const underWay = new Map<number, Promise<readonly LoggedEvents[]>>();
  const waiting: (() => void)[] = [];
  let reads = 0;
  let keptBytes = 0;

  const keep = (page: number, rows: readonly LoggedEvents[]): void => {
    const bytes = rows.reduce((sum, row) => sum + row.sizeBytes, 0);
    kept.set(page, { rows, bytes });
    keptBytes += bytes;
    for (const [oldest, entry] of kept) {
      if (keptBytes <= MAX_KEPT_BYTES || oldest === page) {
        break;
      }
      kept.delete(oldest);
      keptBytes -= entry.bytes;
    }
  };

  const read = async (page: number): Promise<readonly LoggedEvents[]> => {
    while (reads >= MAX_READS) {
      await new Promise<void>(resolve => waiting.push(resolve));
    }
    reads += 1;
    try {
      const last = page * PAGE_ROWS + PAGE_ROWS - 1;
      const isComplete = last <= position();
      const rows = (await readEventLog(db, page * PAGE_ROWS - 1, PAGE_ROWS))
        .filter(({ seq }) => seq <= last)
        .map(row => new LoggedEvents(row));
      if (isComplete) {
        keep(page, rows);
      }
      return rows;
    } finally {
      reads -= 1;
      waiting.shift()?.();
    }
  };

  const pageOf = async (page: number): Promise<readonly LoggedEvents[]> => {
    const found = kept.get(page);
    if (found) {
      kept.delete(page); // the one used last is thrown away last
      kept.set(page, found);
      return found.rows;
    }
    let reading = underWay.get(page);
    if (!reading) {
      reading = read(page).finally(() => underWay.delete(page));
      underWay.set(page, reading);
    }
    return reading;
  };

  return {
    after: async seq => {
      const page = Math.floor((seq + 1) / PAGE_ROWS);
      // one that was under way when the row was appended lacks it
      for (const rows of [await pageOf(page), undefined]) {
        const found = (rows ?? (await pageOf(page))).filter(row => row.seq > seq && row.seq <= position());
        if (found[0]?.seq === seq + 1) {
          return found;
        }
      }
      return undefined;
    },
  };
};
