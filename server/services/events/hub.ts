/**
 * Hands the event log to this process's listeners (`log-follower.ts`). An event is matched and serialised once, however many listeners get it.
 *
 * A listener is either live, and gets each batch as it is read, or behind, and reads pages of the log up to the hub's position by itself, at its own
 * pace (`stream.ts`). Both meet at `position`: whoever has everything up to it may go live, in the same turn of the event loop, and misses nothing.
 */
import type { Binding } from '../../platform/bus/bus.ts';
import { type LogFollowerOptions, makeLogFollower } from '../../platform/log-follower.ts';
import { type LiveEvent, LoggedEvents } from './live-event.ts';
import { type LogPages, makeLogPages } from './log-pages.ts';
import { TopicIndex } from './topic-index.ts';

/** Rows read at once: then the connections get a turn. */
const BATCH = 100;

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

export const makeHub = (options: LogFollowerOptions): Hub => {
  const index = new TopicIndex<LiveListener>();
  const live = new Set<LiveListener>();

  const dispatch = (rows: readonly LoggedEvents[], from: number): void => {
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

  const follower = makeLogFollower(options, {
    batch: BATCH,
    rows: (rows, from) =>
      dispatch(
        rows.map(row => new LoggedEvents(row)),
        from,
      ),
    lost: () => [...live].forEach(listener => listener.lost()),
  });

  return {
    join: follower.join,
    leave: follower.leave,
    get position() {
      return follower.position;
    },
    pages: makeLogPages(options.db, () => follower.position),
    goLive: listener => {
      live.add(listener);
      listener.bindings.forEach(binding => index.add(binding, listener));
    },
    stopLive: listener => {
      if (live.delete(listener)) {
        listener.bindings.forEach(binding => index.delete(binding, listener));
      }
    },
    close: follower.close,
  };
};
