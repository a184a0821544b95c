/** What a command works with: where it writes, the clock, and clients of the installation that is meant. One plain object, made in `main.ts`. */
import { Ansis } from 'ansis';
import type { Api } from '@tscluster/api/define.ts';
import { objectApi } from '@tscluster/api/object/api.ts';
import { queueApi } from '@tscluster/api/queue/api.ts';
import { createClient, type Client, type ClientOptions, type Credentials } from '@tscluster/client/client.ts';
import { systemClock, systemRandom, type Clock, type Random } from '@tscluster/client/clock.ts';
import { findConnection, requireRootUrl, type FoundConnection } from './connection.ts';

export interface Output {
  write(text: string | Uint8Array): Promise<void>;
  readonly isTerminal: boolean;
  readonly columns: number;
  readonly rows: number;
  /** Styles text, or leaves it as it is where the output does not show colours. */
  readonly style: Ansis;
}

export type QueueClient = Client<typeof queueApi>;
export type ObjectServiceClient = Client<typeof objectApi>;

export interface Context {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  /** Results. */
  readonly out: Output;
  /** Everything else that a person wants to know. */
  readonly err: Output;
  /** All of standard input as text. */
  readInput(): Promise<string>;
  readonly clock: Clock;
  readonly random: Random;
  /** Fires when the person interrupts. */
  readonly signal: AbortSignal;
  readonly fetch: typeof fetch;
  /** Sets the exit status of the program. */
  setExitStatus(status: number): void;
}

/** The installation a command talks to. */
export interface Installation {
  readonly rootUrl: string;
  readonly credentials: Credentials | undefined;
  readonly connection: FoundConnection;
  readonly queue: QueueClient;
  readonly object: ObjectServiceClient;
  client<A extends Api>(api: A, options?: Partial<ClientOptions>): Client<A>;
}

/** @param folders further places where a local installation's file may be, before the current folder */
export const connect = (context: Context, folders: readonly string[] = []): Installation => {
  const connection = findConnection(context.env, [...folders, context.cwd]);
  const rootUrl = requireRootUrl(connection);
  const { credentials } = connection;
  const { clock, random, signal, fetch } = context;
  const client = <A extends Api>(api: A, options: Partial<ClientOptions> = {}): Client<A> =>
    // somebody waits for the answer: what is not there is told within two seconds
    createClient(api, { rootUrl, credentials, clock, random, signal, fetch, retries: 3, ...options });
  return { rootUrl, credentials, connection, queue: client(queueApi), object: client(objectApi), client };
};

const outputOf = (stream: NodeJS.WriteStream, env: Context['env']): Output => {
  const isTerminal = stream.isTTY ?? false;
  const hasColor = isTerminal && !env['NO_COLOR'] && env['TERM'] !== 'dumb';
  return {
    write: text =>
      new Promise((resolve, reject) => {
        stream.write(text, error => (error ? reject(error) : resolve()));
      }),
    isTerminal,
    get columns() {
      // a terminal that does not know its size says 0
      return stream.columns || 120;
    },
    get rows() {
      return stream.rows || 40;
    },
    style: new Ansis(hasColor ? 1 : 0),
  };
};

const readAll = async (stream: NodeJS.ReadStream): Promise<string> => {
  const parts: Buffer[] = [];
  for await (const part of stream) {
    parts.push(part as Buffer);
  }
  return Buffer.concat(parts).toString('utf8');
};

/** The context of the real process. */
export const processContext = (signal: AbortSignal): Context => ({
  env: process.env,
  cwd: process.cwd(),
  out: outputOf(process.stdout, process.env),
  err: outputOf(process.stderr, process.env),
  readInput: () => readAll(process.stdin),
  clock: systemClock,
  random: systemRandom,
  signal,
  fetch: globalThis.fetch,
  setExitStatus: status => {
    process.exitCode = status;
  },
});

/** Writes a line of results. */
export const print = (context: Context, line: string): Promise<void> => context.out.write(`${line}\n`);
/** Writes a value as JSON, for scripts. */
export const printJson = (context: Context, value: unknown): Promise<void> => context.out.write(`${JSON.stringify(value, null, 2)}\n`);
/** Writes a line for the person only. */
export const note = (context: Context, line: string): Promise<void> => context.err.write(`${line}\n`);
