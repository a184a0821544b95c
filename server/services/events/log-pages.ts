/**
 * Pages of the event log for listeners that are behind. A row never changes, so it is read once for all who want it: after a restart everybody resumes at
 * about the same place, and a transaction with thousands of events is sent in many steps. Few reads are under way at a time, what is kept is bounded, and
 * nothing is kept when nobody is behind.
 */
import type { Db } from '../../db/sql.ts';
import { readEventLog } from '../../platform/event-log.ts';
import { LoggedEvents } from './live-event.ts';

export const PAGE_ROWS = 64;
/** Of text; what is made of it is some times larger. */
const MAX_KEPT_BYTES = 8 * 1024 * 1024;
const MAX_READS = 2;

export interface LogPages {
  /** Call before the first `after`, and `close` when no more pages are needed. */
  open(): void;
  close(): void;
  /** Rows after `seq`, at least one, in order and none left out; undefined when row `seq + 1` was removed. It must not be beyond the position. */
  after(seq: number): Promise<readonly LoggedEvents[] | undefined>;
}

interface Page {
  /** Consecutive; of the newest page not all yet. */
  readonly rows: LoggedEvents[];
  bytes: number;
  /** The read under way. */
  reading: Promise<void> | undefined;
}

/** @param position the last row that may be handed out */
export const makeLogPages = (db: Db, position: () => number): LogPages => {
  const pages = new Map<number, Page>();
  const waiting: (() => void)[] = [];
  let users = 0;
  let reads = 0;
  let bytes = 0;

  /** Throws away the pages used longest ago. */
  const shrink = (): void => {
    for (const [number, page] of pages) {
      if (bytes <= MAX_KEPT_BYTES || pages.size === 1) {
        return;
      }
      pages.delete(number);
      bytes -= page.bytes;
    }
  };

  const requirePage = (number: number): Page => {
    const page = pages.get(number) ?? { rows: [], bytes: 0, reading: undefined };
    pages.delete(number);
    pages.set(number, page);
    return page;
  };

  /** Adds the rows that a page lacks. */
  const read = async (number: number, page: Page): Promise<void> => {
    while (reads >= MAX_READS) {
      await new Promise<void>(resolve => waiting.push(resolve));
    }
    reads += 1;
    try {
      const end = (number + 1) * PAGE_ROWS;
      const from = page.rows.at(-1)?.seq ?? number * PAGE_ROWS - 1;
      for (const row of await readEventLog(db, from, end - 1 - from)) {
        if (row.seq < end) {
          page.rows.push(new LoggedEvents(row));
          page.bytes += row.msg.length;
          bytes += pages.get(number) === page ? row.msg.length : 0;
        }
      }
      shrink();
    } finally {
      reads -= 1;
      page.reading = undefined;
      waiting.shift()?.();
    }
  };

  const find = ({ rows }: Page, seq: number): readonly LoggedEvents[] | undefined => {
    const at = rows.findIndex(row => row.seq > seq);
    return rows[at]?.seq === seq + 1 ? rows.slice(at).filter(row => row.seq <= position()) : undefined;
  };

  return {
    open: () => {
      users += 1;
    },
    close: () => {
      users -= 1;
      if (users === 0) {
        pages.clear();
        bytes = 0;
      }
    },
    after: async seq => {
      const number = Math.floor((seq + 1) / PAGE_ROWS);
      const page = requirePage(number);
      // a read that was under way may have begun before the row was appended
      for (let tries = 0; tries < 2 && !find(page, seq); tries++) {
        page.reading ??= read(number, page);
        await page.reading;
      }
      return find(page, seq);
    },
  };
};
