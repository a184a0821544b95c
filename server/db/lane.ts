/**
 * The hot path's connection: several prepared statements under one Sync, which Postgres runs as one implicit transaction. One round trip, one
 * commit, all or nothing. `plan_cache_mode=force_generic_plan` and the disabled scans keep plans made on empty tables from being sequential scans;
 * only index look-ups belong here.
 *
 * A lane runs one pipeline at a time; callers batch (see `batcher.ts`). When the connection is lost, the pipeline under way fails with a connection
 * error (it may or may not have been committed: what callers retry is idempotent), and the next one opens a new connection.
 */
import pg from 'pg';
import { type Db, type Row, type Statement, camelCase, isConnectionError } from './sql.ts';

/** Settings of a lane's backend: every plan is an index look-up, also one that was made while the tables were empty. */
export const HOT_OPTIONS =
  '-c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c enable_bitmapscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c enable_memoize=off';

export interface Lane {
  /** Runs the statements as one transaction; answers with the rows of each. */
  run(statements: readonly Statement[]): Promise<Row[][]>;
  close(): Promise<void>;
}

type Wire = {
  stream: { cork?: () => void; uncork?: () => void };
  parse(message: object): void;
  bind(message: object): void;
  describe(message: object): void;
  execute(message: object): void;
  sync(): void;
};
type FieldDescription = { name: string; dataTypeID: number };
type Prepared = { names: Map<string, string>; next: number };

const toWire = (value: unknown): unknown => {
  if (value === null || value === undefined || typeof value === 'string' || Buffer.isBuffer(value)) {
    return value ?? null;
  }
  if (value instanceof Date) {
    return value.toISOString();
  }
  if (typeof value === 'number' || typeof value === 'boolean' || typeof value === 'bigint') {
    return String(value);
  }
  throw new TypeError(`A lane's value must be text, number, boolean, Date or Buffer, got ${typeof value}`);
};

/** The protocol object that `pg` drives: submit writes everything at once, then the answers arrive in order. */
class Pipeline {
  readonly #statements: readonly Statement[];
  readonly #prepared: Prepared;
  readonly #fresh: { text: string; name: string }[] = [];
  readonly #results: Row[][] = [];
  readonly #settle: (error: Error | undefined, results: Row[][]) => void;
  #fields: { name: string; parse: (text: string) => unknown }[] = [];
  #current: Row[] = [];
  #done = false;

  constructor(statements: readonly Statement[], prepared: Prepared, settle: (error: Error | undefined, results: Row[][]) => void) {
    this.#statements = statements;
    this.#prepared = prepared;
    this.#settle = settle;
  }

  submit(connection: Wire): null {
    connection.stream.cork?.();
    try {
      for (const { text, values } of this.#statements) {
        let name = this.#prepared.names.get(text) ?? this.#fresh.find(f => f.text === text)?.name;
        if (name === undefined) {
          name = `l${this.#prepared.next++}`;
          this.#fresh.push({ text, name });
          connection.parse({ text, name });
        }
        connection.bind({ portal: '', statement: name, values, valueMapper: toWire });
        connection.describe({ type: 'P', name: '' });
        connection.execute({ portal: '', rows: 0 });
      }
      connection.sync();
    } finally {
      connection.stream.uncork?.();
    }
    return null;
  }

  handleRowDescription(message: { fields: FieldDescription[] }): void {
    this.#fields = message.fields.map(field => ({
      name: camelCase(field.name),
      parse: (field.dataTypeID === 20 ? Number : pg.types.getTypeParser(field.dataTypeID)) as (text: string) => unknown,
    }));
  }

  handleDataRow(message: { fields: (string | null)[] }): void {
    const row: Record<string, unknown> = {};
    for (let i = 0; i < this.#fields.length; i++) {
      const field = this.#fields[i] as { name: string; parse: (text: string) => unknown };
      const value = message.fields[i];
      row[field.name] = value === null || value === undefined ? null : field.parse(value);
    }
    this.#current.push(row);
  }

  handleCommandComplete(): void {
    this.#results.push(this.#current);
    this.#current = [];
    this.#fields = [];
  }

  handleEmptyQuery(): void {
    this.handleCommandComplete();
  }

  handlePortalSuspended(): void {
    throw new Error('A lane never limits its rows');
  }

  handleReadyForQuery(): void {
    for (const { text, name } of this.#fresh) {
      this.#prepared.names.set(text, name);
    }
    this.#finish(undefined);
  }

  // After an error nobody knows which of the new statements were prepared: they get new names the next time.
  handleError(error: Error): void {
    this.#finish(error);
  }

  #finish(error: Error | undefined): void {
    if (!this.#done) {
      this.#done = true;
      this.#settle(error, this.#results);
    }
  }
}

/** Opens a lane; the connection is made at the first use. */
export const openLane = (db: Db, applicationName: string): Lane => {
  let connected: Promise<{ client: pg.Client; prepared: Prepared }> | undefined;
  let closed = false;

  const connect = async (): Promise<{ client: pg.Client; prepared: Prepared }> => {
    const client = await db.connect({ options: HOT_OPTIONS, applicationName });
    const drop = (): void => {
      connected = undefined;
    };
    client.on('error', drop);
    client.on('end', drop);
    return { client, prepared: { names: new Map(), next: 0 } };
  };

  return {
    run: async statements => {
      if (closed) {
        throw new Error('The lane is closed');
      }
      connected ??= connect();
      const attempt = connected;
      const { client, prepared } = await attempt.catch((error: unknown) => {
        connected = undefined;
        throw error;
      });
      return new Promise<Row[][]>((resolve, reject) => {
        const pipeline = new Pipeline(statements, prepared, (error, results) => {
          if (error && isConnectionError(error) && connected === attempt) {
            connected = undefined; // its end may be noticed later than the next call
            void client.end().catch(() => undefined);
          }
          if (error) {
            reject(error);
          } else {
            resolve(results);
          }
        });
        client.query(pipeline as unknown as pg.Submittable);
      });
    },
    close: async () => {
      closed = true;
      const open = await connected?.catch(() => undefined);
      await open?.client.end();
    },
  };
};
