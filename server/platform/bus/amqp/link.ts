/**
 * A connection to the broker that comes back: it is tried again after each loss, and set up before anybody gets to see it. `amqplib` is loaded with
 * the first one, so that an installation without a broker does without it.
 */
import type { ChannelModel } from 'amqplib';
import type { Duplex } from 'node:stream';
import { type Clock, type Random, settlesWithin } from '../../clock.ts';
import type { Log } from '../../log.ts';
import type { Metrics } from '../../metrics.ts';

const CONNECT_MS = 10_000;
/** A broker that goes silent is given up after about two of these. */
const HEARTBEAT_SECONDS = 20;
const FIRST_BACKOFF_MS = 100;
const MAX_BACKOFF_MS = 10_000;
/** How long a broker may take to end what it is asked to end. */
export const CLOSE_MS = 5_000;

export interface LinkOptions {
  /** `amqp://user:password@host:port/vhost`, or `amqps://`. */
  readonly url: string;
  /** Shown by the broker, and in logs. */
  readonly name: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: Metrics;
  /** Sets a new connection up; a throw closes it, and another is tried. */
  readonly onOpen: (connection: ChannelModel) => Promise<void>;
}

export interface Link {
  /** The connection, when one is open and set up. */
  readonly connection: ChannelModel | undefined;
  /** Resolves when there is one; rejects when `signal` aborts. */
  ready(signal: AbortSignal): Promise<ChannelModel>;
  close(): Promise<void>;
}

const withHeartbeat = (url: string): string => {
  const parsed = new URL(url);
  if (!parsed.searchParams.has('heartbeat')) {
    parsed.searchParams.set('heartbeat', String(HEARTBEAT_SECONDS));
  }
  return parsed.href;
};

const streamOf = (connection: ChannelModel): Duplex => (connection.connection as unknown as { stream: Duplex }).stream;

/** Closes; a broker that does not answer is left without its agreement. */
export const closeConnection = async (connection: ChannelModel, clock: Clock): Promise<void> => {
  if (!(await settlesWithin(clock, connection.close(), CLOSE_MS))) {
    // an error, because amqplib does not notice a socket that only closes: whoever waits for an answer on it would wait for ever
    streamOf(connection).destroy(new Error('The message broker does not end the connection'));
  }
};

export const openLink = (options: LinkOptions): Link => {
  const { url, name, clock, random, log, metrics, onOpen } = options;
  const connected = metrics.gauge('bus_connected', 'Whether there is a connection to the message broker', ['connection']);
  const stopping = new AbortController();
  const waiting = new Set<(connection: ChannelModel) => void>();
  let current: ChannelModel | undefined;

  /** Opens one connection and stays with it to its end. Throws when it cannot be had, or not be set up. */
  const useOne = async (opened: () => void): Promise<void> => {
    const { connect, credentials } = await import('amqplib');
    const { username, password } = new URL(url);
    const connection = await connect(withHeartbeat(url), {
      // by itself it would read characters beyond ASCII wrongly
      ...(username === '' ? {} : { credentials: credentials.plain(decodeURIComponent(username), decodeURIComponent(password)) }),
      timeout: CONNECT_MS,
      noDelay: true,
      keepAlive: true,
      clientProperties: { connection_name: `taskcluster ${name}` },
    });
    let problem: Error | undefined;
    connection.on('error', (error: Error) => {
      problem = error;
    });
    const ended = new Promise<void>(resolve => {
      connection.once('close', (error?: Error) => {
        problem ??= error;
        resolve();
      });
      stopping.signal.addEventListener('abort', () => resolve(), { once: true });
      // either may have happened before anybody could listen
      if (stopping.signal.aborted || streamOf(connection).writableEnded) {
        resolve();
      }
    });
    try {
      await Promise.race([onOpen(connection), ended.then(() => Promise.reject(problem ?? new Error('The connection has closed')))]);
      opened();
      current = connection;
      connected.set({ connection: name }, 1);
      for (const resolve of waiting) {
        resolve(connection);
      }
      waiting.clear();
      await ended;
    } finally {
      current = undefined;
      connected.set({ connection: name }, 0);
      await closeConnection(connection, clock);
    }
    if (!stopping.signal.aborted) {
      throw problem ?? new Error('The connection has closed');
    }
  };

  const run = async (): Promise<void> => {
    let backoffMs = FIRST_BACKOFF_MS;
    let told = false; // once for each time that it is away
    connected.set({ connection: name }, 0);
    while (!stopping.signal.aborted) {
      try {
        await useOne(() => {
          backoffMs = FIRST_BACKOFF_MS;
          told = false;
          log.info({ connection: name }, 'connected to the message broker');
        });
      } catch (error) {
        if (!told && !stopping.signal.aborted) {
          told = true;
          log.warn({ err: error, connection: name }, 'the message broker is away: events wait until it is back');
        }
        await clock.sleep(backoffMs * (0.75 + random.float() / 2), stopping.signal).catch(() => undefined);
        backoffMs = Math.min(backoffMs * 2, MAX_BACKOFF_MS);
      }
    }
  };
  const finished = run();

  return {
    get connection() {
      return current;
    },
    ready: signal =>
      new Promise((resolve, reject) => {
        if (current) {
          resolve(current);
          return;
        }
        const onAbort = (): void => {
          waiting.delete(take);
          reject(signal.reason as Error);
        };
        const take = (connection: ChannelModel): void => {
          signal.removeEventListener('abort', onAbort);
          resolve(connection);
        };
        if (signal.aborted) {
          onAbort();
        } else {
          waiting.add(take);
          signal.addEventListener('abort', onAbort, { once: true });
        }
      }),
    close: async () => {
      stopping.abort(new Error('The bus is closing'));
      await finished;
    },
  };
};
