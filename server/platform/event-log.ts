/**
 * The event log: what was announced lately, in the order of the relay's commits. The relay appends in the transaction that takes the rows of the outbox
 * (`relay.ts`), and is the only writer: `seq` has no gaps, and whoever has read up to a row has missed nothing before it. So a listener that was away
 * goes on where it stopped, whatever the bus is and however the processes are split.
 *
 * A row holds the events of one transaction. Old rows are removed by time and by number; the newest stays always, so that `seq` goes on from it.
 */
import type { Query } from '../db/sql.ts';
import { integer } from './config.ts';
import type { BusEvent, OutboxEvent } from './events.ts';

/** Notified (`platform.onNotify`) when rows were appended. */
export const EVENT_LOG = 'event-log';

export const eventLogSettings = {
  keepSeconds: integer('EVENT_LOG_KEEP_SECONDS', 'how long events are kept for listeners that were disconnected', {
    fallback: 3_600,
    min: 60,
  }),
  keepRows: integer('EVENT_LOG_KEEP_ROWS', 'how many transactions’ events are kept at most', { fallback: 500_000, min: 1_000 }),
};

export interface LogRow {
  readonly seq: number;
  readonly outboxId: number;
  /** The events as JSON objects joined by commas. */
  readonly msg: string;
}

/** The events of a row of the outbox; ids follow from that row's id and the place in it. */
export const parseEvents = (outboxId: number, msg: string): BusEvent[] =>
  (JSON.parse(`[${msg}]`) as OutboxEvent[]).map((event, i) => ({ id: `${outboxId}-${i}`, ...event }));

/** Up to `limit` rows after `seq`, in order. They are consecutive; if the first is not `seq + 1`, those between were removed. Index: primary key. */
export const readEventLog = (db: Query, after: number, limit: number): Promise<LogRow[]> =>
  db<LogRow>`select seq, outbox_id, msg from platform.event_log where seq > ${after} order by seq limit ${limit}`;

/** What is kept, by `seq`: of an empty log the oldest is 1 and the newest 0. */
export const oldestAndNewest = async (db: Query): Promise<{ oldest: number; newest: number }> => {
  const [row] = await db<{ oldest: number | null; newest: number | null }>`
    select (select seq from platform.event_log order by seq limit 1) as oldest,
      (select seq from platform.event_log order by seq desc limit 1) as newest`;
  return { oldest: row?.oldest ?? 1, newest: row?.newest ?? 0 };
};

/** The newest row's `seq`; 0 when nothing was ever announced. */
export const newestSeq = async (db: Query): Promise<number> => (await oldestAndNewest(db)).newest;

/** Removes up to `limit` of the oldest rows, if written before `before` or not after `upTo`; never those from `newest` on. */
export const trimEventLog = async (
  db: Query,
  { before, upTo, newest, limit }: { before: Date; upTo: number; newest: number; limit: number },
): Promise<number> => {
  const removed = await db<{ seq: number }>`
    delete from platform.event_log where seq in (
      select seq from (select seq, written from platform.event_log order by seq limit ${limit}) oldest
      where seq < ${newest} and (written < ${before} or seq <= ${upTo}))
    returning seq`;
  return removed.length;
};
