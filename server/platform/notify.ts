/**
 * Waking other processes: names are collected and sent as one `NOTIFY` per process and interval (a NOTIFY in every transaction would take a global lock
 * at each commit). Losing one costs latency only: whoever waits also looks by itself now and then.
 */
import type pg from 'pg';
import type { Db } from '../db/sql.ts';
import { type Clock, type Random, uuid } from './clock.ts';
import type { Log } from './log.ts';

const CHANNEL = 'platform_wake';
const INTERVAL_MS = 5;
const RECONNECT_MS = 500;
/** NOTIFY payloads end at 8000 bytes. */
const MAX_PAYLOAD = 7_900;

/** Clients or roles were changed. */
export const AUTH_CHANGED = 'auth';

export interface Notifier {
  /** Wakes those who listen for `name` here and in other processes. */
  notify(name: string): void;
  onNotify(name: string, callback: () => void): () => void;
  /** Whether notifications of other processes arrive at present. */
  readonly connected: boolean;
  close(): Promise<void>;
}

export interface NotifierOptions {
  readonly db: Db;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Nobody else works on this database: nothing is sent or listened for. */
  readonly alone?: boolean;
}

/** Names as payloads, each below the limit; `sender` stands first in each. */
const toPayloads = (sender: string, names: Iterable<string>): string[] => {
  const payloads: string[] = [];
  let payload = sender;
  for (const name of names) {
    if (payload !== sender && Buffer.byteLength(payload) + Buffer.byteLength(name) + 1 > MAX_PAYLOAD) {
      payloads.push(payload);
      payload = sender;
    }
    payload += ` ${name}`;
  }
  return payload === sender ? payloads : [...payloads, payload];
};

export const openNotifier = ({ db, clock, random, log, alone = false }: NotifierOptions): Notifier => {
  // pids repeat from container to container
  const sender = uuid(random);
  const callbacks = new Map<string, Set<() => void>>();
  const waiting = new Set<string>();
  const closing = new AbortController();
  let client: pg.Client | undefined;
  let flushing = false;
  let sentMs = Number.NEGATIVE_INFINITY;
  let ending: Promise<void> = Promise.resolve();

  const call = (name: string): void => {
    for (const callback of callbacks.get(name) ?? []) {
      callback();
    }
  };

  /** Sends at once after a rest, else when the interval is over. */
  const flush = async (): Promise<void> => {
    while (waiting.size > 0 && !closing.signal.aborted) {
      const restMs = sentMs + INTERVAL_MS - clock.monotonicMs();
      await (restMs > 0 ? clock.sleep(restMs, closing.signal) : new Promise(resolve => setImmediate(resolve)));
      sentMs = clock.monotonicMs();
      const payloads = toPayloads(sender, waiting);
      waiting.clear();
      for (const payload of payloads) {
        await db`select pg_notify(${CHANNEL}, ${payload})`;
      }
    }
  };

  const listen = async (): Promise<void> => {
    while (!closing.signal.aborted) {
      try {
        const opened = await db.connect({ applicationName: 'taskcluster notify' });
        const ended = new Promise<void>(resolve => {
          opened.once('end', resolve);
        });
        opened.on('notification', message => {
          const [from, ...names] = (message.payload ?? '').split(' ');
          if (from !== sender) {
            names.forEach(call);
          }
        });
        client = opened;
        if (closing.signal.aborted) {
          await opened.end();
          return;
        }
        await opened.query(`listen ${CHANNEL}`);
        // something may have been missed while nobody listened
        for (const name of callbacks.keys()) {
          call(name);
        }
        await ended;
      } catch (error) {
        log.debug({ err: error }, 'notifications are not available');
        await client?.end().catch(() => undefined);
      }
      client = undefined;
      await clock.sleep(RECONNECT_MS, closing.signal).catch(() => undefined);
    }
  };
  if (!alone) {
    ending = listen();
  }

  return {
    notify: name => {
      call(name);
      if (alone) {
        return;
      }
      waiting.add(name);
      if (!flushing) {
        flushing = true;
        flush()
          .catch((error: unknown) => closing.signal.aborted || log.warn({ err: error }, 'notification not sent'))
          .finally(() => {
            flushing = false;
          });
      }
    },
    onNotify: (name, callback) => {
      const set = callbacks.get(name) ?? new Set();
      callbacks.set(name, set);
      set.add(callback);
      return () => set.delete(callback);
    },
    get connected() {
      return alone || client !== undefined;
    },
    close: async () => {
      closing.abort(new Error('Notifications are closing'));
      await client?.end().catch(() => undefined);
      // the database may be away, and an attempt to reach it under way
      await Promise.race([ending, clock.sleep(2 * RECONNECT_MS)]);
    },
  };
};
