/**
 * A thin SQL tag over `pg`. Values become parameters, fragments nest, each distinct text is a named prepared statement, rows arrive in camelCase.
 *
 *   const [row] = await db<TaskRow>`select task_id from queue.tasks where task_id = ${taskId} ${open ? sql`and state = 1` : sql``}`;
 *
 * Three types say what a function needs: `Query` any connection, `Db` the pool (it can start a `tx`), `Tx` an open transaction. What must be atomic
 * with its caller takes a `Tx`. Underneath is `pg` because it refuses the next statement when a backend dies inside a transaction.
 */
import pg from 'pg';

export type Row = object;

/** A piece of SQL with its values; nests in other templates. */
export class Fragment {
  readonly strings: readonly string[];
  readonly values: readonly unknown[];
  constructor(strings: readonly string[], values: readonly unknown[]) {
    this.strings = strings;
    this.values = values;
  }
}

/** A fragment to nest in a statement. */
export const sql = (strings: TemplateStringsArray, ...values: readonly unknown[]): Fragment => new Fragment(strings, values);

class Json {
  readonly value: unknown;
  constructor(value: unknown) {
    this.value = value;
  }
}

/** Marks a value to be sent as JSON text. */
export const json = (value: unknown): Json => new Json(value);

export interface Statement {
  readonly text: string;
  readonly values: readonly unknown[];
}

const build = (strings: readonly string[], values: readonly unknown[], out: { text: string; values: unknown[] }): void => {
  out.text += strings[0];
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (value instanceof Fragment) {
      build(value.strings, value.values, out);
    } else {
      out.values.push(value instanceof Json ? JSON.stringify(value.value) : value);
      out.text += `$${out.values.length}`;
    }
    out.text += strings[i + 1];
  }
};

/** Flattens a template to text with `$n` and its values. */
export const flatten = (strings: readonly string[], values: readonly unknown[]): Statement => {
  const out = { text: '', values: [] as unknown[] };
  build(strings, values, out);
  return out;
};

export interface Query {
  <R extends Row = Row>(strings: TemplateStringsArray, ...values: readonly unknown[]): Promise<R[]>;
  /** Runs a finished statement; `affected` is the command's row count. */
  run<R extends Row = Row>(statement: Statement): Promise<{ rows: R[]; affected: number }>;
}

declare const transaction: unique symbol;
export interface Tx extends Query {
  readonly [transaction]: true;
  /** Calls after the commit has succeeded, and never after a rollback: wake-ups go here. */
  afterCommit(callback: () => void): void;
  /** Calls when the transaction has ended, committed or not: its locks are gone. */
  afterEnd(callback: () => void): void;
}

export interface TxOptions {
  /**
   * How long the function may do something else between two statements (default 10 000): a process that stands still must not keep its locks. Longer
   * than that, and Postgres ends the transaction.
   */
  readonly idleMs?: number;
}

export interface Db extends Query {
  /** One transaction; commits when the function returns, rolls back when it throws. Repeats on a serialisation failure or deadlock. */
  tx<T>(run: (tx: Tx) => Promise<T>, options?: TxOptions): Promise<T>;
  /** A connection of its own, outside the pool (locks, LISTEN, hot lanes). The caller ends it and listens for its `error` and `end`. */
  connect(options?: ConnectOptions): Promise<pg.Client>;
  close(): Promise<void>;
}

export interface ConnectOptions {
  /** `-c` settings of the backend. */
  readonly options?: string;
  readonly applicationName?: string;
  /** Longer than that nothing is waited for; what was asked fails with a connection error. */
  readonly answerWithinMs?: number;
}

// ---- values and rows ----

const types = new pg.TypeOverrides();
types.setTypeParser(20, (text: string) => Number(text)); // int8: our counters and ids stay below 2^53
types.setTypeParser(1700, (text: string) => Number(text)); // numeric (sums and averages)

const camel = (name: string): string => name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());

const fieldNames = new Map<string, string>();
/** `task_group_id` → `taskGroupId`. */
export const camelCase = (name: string): string => {
  let known = fieldNames.get(name);
  if (known === undefined) {
    known = camel(name);
    fieldNames.set(name, known);
  }
  return known;
};

const toRows = <R extends Row>(result: pg.QueryArrayResult): R[] => {
  const names = result.fields.map(field => camelCase(field.name));
  return result.rows.map(values => {
    const row: Record<string, unknown> = {};
    for (let i = 0; i < names.length; i++) {
      row[names[i] as string] = values[i];
    }
    return row as R;
  });
};

const statementNames = new Map<string, string>();
/** One name per distinct text, for as long as the process lives. Texts are written in code, so their number is bounded. */
export const statementName = (text: string): string => {
  let name = statementNames.get(text);
  if (name === undefined) {
    name = `s${statementNames.size}`;
    statementNames.set(text, name);
  }
  return name;
};

const makeQuery = (run: (config: pg.QueryArrayConfig) => Promise<pg.QueryArrayResult>): Query => {
  const runStatement = async <R extends Row>(statement: Statement): Promise<{ rows: R[]; affected: number }> => {
    const result = await run({
      name: statementName(statement.text),
      text: statement.text,
      values: statement.values as unknown[],
      rowMode: 'array',
    });
    return { rows: toRows<R>(result), affected: result.rowCount ?? 0 };
  };
  const query = async <R extends Row>(strings: TemplateStringsArray, ...values: readonly unknown[]): Promise<R[]> =>
    (await runStatement<R>(flatten(strings, values))).rows;
  return Object.assign(query, { run: runStatement });
};

// ---- the pool ----

export interface DbOptions {
  /** `postgres://…`, or a socket folder as `host`. */
  readonly connection: pg.ClientConfig;
  /** Connections at most. Default 10. */
  readonly poolSize?: number;
  /** A statement that takes longer is cancelled. Default 30 000; 0 never. */
  readonly statementTimeoutMs?: number;
  /** Called for errors of idle connections. */
  readonly onError?: (error: Error) => void;
}

/** Serialisation failure and deadlock: the transaction did nothing and may be run again. */
export const isRetryable = (error: unknown): boolean => {
  const code = (error as { code?: string } | undefined)?.code;
  return code === '40001' || code === '40P01';
};

/** Whether an error means that the connection is gone (as opposed to a statement refused). */
export const isConnectionError = (error: unknown): boolean => {
  const { code, message } = (error ?? {}) as { code?: string; message?: string };
  return (
    (typeof code === 'string' && /^(08...|57P0[1235]|25P03|ECONN.*|EPIPE|ENOENT|ETIMEDOUT)$/.test(code)) ||
    /Connection terminated|connection error|not queryable|Client was closed|Query read timeout/i.test(message ?? '')
  );
};

/** Whether Postgres has ended a transaction because nothing was asked of it for too long. */
export const isIdleTimeout = (error: unknown): boolean => (error as { code?: string } | undefined)?.code === '25P03';

const MAX_TRIES = 5;

const runTransaction = async <T>(client: pg.PoolClient, run: (tx: Tx) => Promise<T>, { idleMs }: TxOptions): Promise<T> => {
  let lost: Error | undefined;
  const onError = (error: Error): void => {
    lost ??= error; // the first one says why; without a listener a dying backend would end the process
  };
  client.on('error', onError);
  const callbacks: (() => void)[] = [];
  const endCallbacks: (() => void)[] = [];
  const callAll = (list: readonly (() => void)[]): void => list.forEach(callback => callback());
  try {
    await client.query(idleMs === undefined ? 'begin' : `begin; set local idle_in_transaction_session_timeout = ${Math.ceil(idleMs)}`);
    const query = makeQuery(config => client.query(config));
    const tx = Object.assign(query, {
      afterCommit: (callback: () => void) => void callbacks.push(callback),
      afterEnd: (callback: () => void) => void endCallbacks.push(callback),
    }) as unknown as Tx;
    const result = await run(tx);
    await client.query('commit');
    client.off('error', onError);
    client.release();
    callAll(callbacks);
    callAll(endCallbacks);
    return result;
  } catch (error) {
    let broken = lost ?? (isConnectionError(error) ? (error as Error) : undefined);
    if (!broken) {
      try {
        await client.query('rollback');
      } catch (rollbackError) {
        broken = rollbackError as Error;
      }
    }
    client.off('error', onError);
    client.release(broken);
    callAll(endCallbacks);
    // what the statement after the loss says is that there is no connection, not why
    throw lost && lost !== error ? connectionLost(lost, error) : error;
  }
};

const connectionLost = (lost: Error, error: unknown): Error => {
  const message = `The connection to the database was lost in a transaction (${lost.message})`;
  return Object.assign(new Error(message, { cause: error }), { code: (lost as { code?: string }).code ?? '08006' });
};

const CONNECT_TIMEOUT_MS = 10_000;
const IDLE_IN_TRANSACTION_MS = 10_000;
/** An answer that is so much later than the last moment in which Postgres would have given one does not come: the machine or the network is gone. */
const ANSWER_MS = 10_000;

/** Opens a pool. Nothing connects before the first statement. */
export const openDb = (options: DbOptions): Db => {
  const { statementTimeoutMs = 30_000 } = options;
  const config: pg.PoolConfig = {
    ...options.connection,
    types,
    max: options.poolSize ?? 10,
    idleTimeoutMillis: 60_000,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
    statement_timeout: statementTimeoutMs,
    query_timeout: statementTimeoutMs === 0 ? 0 : statementTimeoutMs + ANSWER_MS,
    idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_MS,
    application_name: 'taskcluster',
  };
  const pool = new pg.Pool(config);
  pool.on('error', error => options.onError?.(error));
  const query = makeQuery(async queryConfig => pool.query(queryConfig));
  return Object.assign(query, {
    tx: async <T>(run: (tx: Tx) => Promise<T>, txOptions: TxOptions = {}): Promise<T> => {
      for (let tries = 1; ; tries++) {
        try {
          return await runTransaction(await pool.connect(), run, txOptions);
        } catch (error) {
          if (!isRetryable(error) || tries >= MAX_TRIES) {
            throw error;
          }
        }
      }
    },
    connect: async (connect: ConnectOptions = {}) => {
      const client = new pg.Client({
        ...options.connection,
        types,
        ...(connect.options ? { options: connect.options } : {}),
        connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
        keepAlive: true,
        ...(connect.answerWithinMs === undefined ? {} : { query_timeout: connect.answerWithinMs }),
        application_name: connect.applicationName ?? 'taskcluster',
      });
      client.on('error', () => undefined); // a dying backend may report several, and one without a listener would end the process
      await client.connect();
      return client;
    },
    close: async () => pool.end(),
  });
};

/** Opens a transaction's type around a plain client, for the few places that drive `begin` and `commit` themselves (the relay). */
export const queryOn = (client: pg.ClientBase): Query => makeQuery(config => client.query(config));
