/**
 * Hands the event log to this process's listeners. While there is one, a single reader follows the log: woken by the relay, by way of the platform's
 * notifications, with a slow poll as a safety net. An event is matched and serialised once, however many listeners get it.
 *
 * A listener is either live, and gets each batch as it is read, or behind, and reads pages of the log up to the hub's position by itself, at its own
 * pace (`stream.ts`). Both meet at `position`: whoever has everything up to it may go live, in the same turn of the event loop, and misses nothing.
 */
import type { Db } from '../../db/sql.ts';
import type { Binding } from '../../platform/bus/bus.ts';
import type { Clock } from '../../platform/clock.ts';
import { newestSeq, readEventLog } from '../../platform/event-log.ts';
import type { Log } from '../../platform/log.ts';
import { type Waker, makeWaker } from '../../platform/waker.ts';
import { type LiveEvent, LoggedEvents } from './live-event.ts';
import { type LogPages, makeLogPages } from './log-pages.ts';
import { TopicIndex } from './topic-index.ts';

/** Rows read at once: then the connections get a turn. */
const BATCH = 100;
const POLL_MS = 5_000;
const RETRY_MS = 500;

/** Some events, for one or several listeners; `shared` keeps what was made of the same events for another one. */
export interface Batch {
  readonly events: readonly LiveEvent[];
  readonly shared: Map<string, Buffer>;
}

export interface LiveListener {
  readonly bindings: readonly Binding[];
  /** Everything wanted after row `from`, up to the hub's position. */
  deliver(batch: Batch, from: number): void;
  /** Rows were removed before they were read. */
  lost(): void;
}

export interface Hub {
  /** Starts the reader, or joins those it reads for; call `leave` once for it. Afterwards `position` is known. */
  join(): Promise<void>;
  leave(): void;
  /** The row up to which everything was handed out. */
  readonly position: number;
  readonly pages: LogPages;
  goLive(listener: LiveListener): void;
  stopLive(listener: LiveListener): void;
  close(): Promise<void>;
}

export interface HubOptions {
  readonly db: Db;
  readonly clock: Clock;
  readonly log: Log;
  /** Calls back when the event log has grown. Returns how to stop. */
  readonly onGrown: (callback: () => void) => () => void;
}

interface Reader {
  readonly started: Promise<void>;
  stop(): Promise<void>;
}

export const makeHub = ({ db, clock, log, onGrown }: HubOptions): Hub => {
  const index = new TopicIndex<LiveListener>();
  const live = new Set<LiveListener>();
  let position = 0;
  let users = 0;
  let reader: Reader | undefined;
  let stopped: Promise<void> = Promise.resolve();

  const dispatch = (rows: readonly LoggedEvents[]): void => {
    const from = position;
    position = rows.at(-1)?.seq ?? from;
    const wanted = new Map<LiveListener, LiveEvent[]>();
    for (const row of rows) {
      if (!row.mentions(index.exchanges)) {
        continue;
      }
      for (const each of row.events) {
        const { exchange, routingKey, cc } = each.event;
        for (const listener of index.match(exchange, routingKey, cc)) {
          const events = wanted.get(listener);
          if (events) {
            events.push(each);
          } else {
            wanted.set(listener, [each]);
          }
        }
      }
    }
    const shared = new Map<string, Buffer>();
    for (const [listener, events] of wanted) {
      listener.deliver({ events, shared }, from);
    }
  };

  const readOnce = async (waker: Waker, isStopped: () => boolean): Promise<void> => {
    const rows = await readEventLog(db, position, BATCH);
    if (isStopped()) {
      return;
    }
    const [first] = rows;
    if (!first) {
      await waker.wait(POLL_MS);
      return;
    }
    if (first.seq !== position + 1) {
      log.error({ position, first: first.seq }, 'the event log was trimmed before it was read');
      [...live].forEach(listener => listener.lost());
    }
    dispatch(rows.map(row => new LoggedEvents(row)));
  };

  const startReader = (): Reader => {
    const stopping = new AbortController();
    const isStopped = (): boolean => stopping.signal.aborted;
    const waker = makeWaker(clock, stopping.signal);
    const stopListening = onGrown(waker.wake);
    const begin = async (): Promise<void> => {
      position = await newestSeq(db);
    };
    const started = begin();
    const read = async (): Promise<void> => {
      await started;
      while (!isStopped()) {
        try {
          await readOnce(waker, isStopped);
        } catch (error) {
          log.warn({ err: error }, 'the event log could not be read');
          await clock.sleep(RETRY_MS, stopping.signal).catch(() => undefined);
        }
      }
    };
    const finished = read().catch(() => undefined); // that it could not start is told by `started`
    return {
      started,
      stop: async () => {
        stopListening();
        stopping.abort(new Error('Nobody listens any more'));
        await finished;
      },
    };
  };

  const leave = (): void => {
    users -= 1;
    if (users === 0 && reader) {
      stopped = reader.stop();
      reader = undefined;
    }
  };

  return {
    join: async () => {
      users += 1;
      try {
        await stopped;
        reader ??= startReader();
        await reader.started;
      } catch (error) {
        leave();
        throw error;
      }
    },
    leave,
    get position() {
      return position;
    },
    pages: makeLogPages(db, () => position),
    goLive: listener => {
      live.add(listener);
      listener.bindings.forEach(binding => index.add(binding, listener));
    },
    stopLive: listener => {
      if (live.delete(listener)) {
        listener.bindings.forEach(binding => index.delete(binding, listener));
      }
    },
    close: async () => {
      await reader?.stop();
      await stopped;
    },
  };
};
