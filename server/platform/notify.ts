/**
 * Waking other processes: names are collected and sent as one `NOTIFY` per process and interval (a NOTIFY in every transaction would take a global lock
 * at each commit). Losing one costs latency only: whoever waits also looks by itself now and then.
 */
import type pg from 'pg';
import type { Db } from '../db/sql.ts';
import type { Clock } from './clock.ts';
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

/** `alone`: nobody else works on this database, so that nothing is sent or listened for. */
export const openNotifier = (db: Db, clock: Clock, log: Log, alone = false): Notifier => {
  const callbacks = new Map<string, Set<() => void>>();
  const waiting = new Set<string>();
  let client: pg.Client | undefined;
  let flushing = false;
  let closed = false;
  let ending: Promise<void> = Promise.resolve();

  const call = (name: string): void => {
    for (const callback of callbacks.get(name) ?? []) {
      callback();
    }
  };

  const flush = async (): Promise<void> => {
    await clock.sleep(INTERVAL_MS);
    const names = [...waiting];
    waiting.clear();
    flushing = false;
    let payload = '';
    const send = async (): Promise<void> => {
      if (payload !== '' && !closed) {
        await db`select pg_notify(${CHANNEL}, ${`${process.pid} ${payload}`})`;
      }
    };
    for (const name of names) {
      if (payload.length + name.length > MAX_PAYLOAD) {
        await send();
        payload = '';
      }
      payload += `${payload === '' ? '' : ' '}${name}`;
    }
    await send();
  };

  const listen = async (): Promise<void> => {
    while (!closed) {
      try {
        const opened = await db.connect({ applicationName: 'taskcluster notify' });
        const ended = new Promise<void>(resolve => {
          opened.once('end', resolve);
          opened.once('error', () => resolve());
        });
        opened.on('notification', message => {
          const [from, ...names] = (message.payload ?? '').split(' ');
          if (from !== String(process.pid)) {
            names.forEach(call);
          }
        });
        await opened.query(`listen ${CHANNEL}`);
        client = opened;
        // something may have been missed while nobody listened
        for (const name of callbacks.keys()) {
          call(name);
        }
        await ended;
      } catch (error) {
        log.debug({ err: error }, 'notifications are not available');
      }
      client = undefined;
      if (!closed) {
        await clock.sleep(RECONNECT_MS);
      }
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
        flush().catch((error: unknown) => log.warn({ err: error }, 'notification not sent'));
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
      closed = true;
      await client?.end();
      await Promise.race([ending, clock.sleep(2 * RECONNECT_MS)]);
    },
  };
};
