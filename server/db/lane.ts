/**
 * The hot path's connection: several prepared statements under one Sync, which Postgres runs as one implicit transaction. One round trip, one
 * commit, all or nothing. `plan_cache_mode=force_generic_plan` and the disabled scans keep plans made on empty tables from being sequential scans;
 * only index look-ups belong here.
 *
 * A lane runs one pipeline at a time; callers batch (see `batcher.ts`). When the connection is lost, the pipeline under way fails with a connection
 * error (it may or may not have been committed: what callers retry is idempotent), and the next one opens a new connection.
 */
import pg from 'pg';
import { serialize } from 'pg-protocol';
import { type Db, type Row, type Statement, camelCase, isConnectionError } from './sql.ts';

const STATEMENT_SECONDS = 30;
/** Longer than Postgres takes at most: the machine or the network is gone. */
const ANSWER_MS = 40_000;

/** Settings of a lane's backend: every plan is an index look-up, also one that was made while the tables were empty. */
export const HOT_OPTIONS =
  '-c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c enable_bitmapscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c enable_memoize=off';

const SESSION = `${HOT_OPTIONS} -c statement_timeout=${STATEMENT_SECONDS}s`;

export interface Lane {
  /** Runs the statements as one transaction; answers with the rows of each. */
  run(statements: readonly Statement[]): Promise<Row[][]>;
  close(): Promise<void>;
}

type Wire = { stream: { write(bytes: Buffer): boolean } };
type FieldDescription = { name: string; dataTypeID: number };
type Field = { name: string; parse: (text: string) => unknown };
/** What a connection knows of a statement: its name, and once it was described, the fields of its rows. */
type Prepared = { name: string; fields?: Field[] };
type Session = { statements: Map<string, Prepared>; next: number };

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

/**
 * The protocol object that `pg` drives: submit writes everything at once, as one piece (many small ones cost a third of it again), then the answers
 * arrive in order. Rows are described at a statement's first use only.
 */
class Pipeline {
  readonly #statements: readonly Statement[];
  readonly #session: Session;
  readonly #fresh = new Map<string, Prepared>();
  readonly #used: Prepared[] = [];
  readonly #results: Row[][] = [];
  readonly #settle: (error: Error | undefined, results: Row[][]) => void;
  #current: Row[] = [];
  #done = false;
  /** Set by `pg`, which stops its timer when it is called. */
  callback?: () => void;

  constructor(statements: readonly Statement[], session: Session, settle: (error: Error | undefined, results: Row[][]) => void) {
    this.#statements = statements;
    this.#session = session;
    this.#settle = settle;
  }

  submit(connection: Wire): null {
    const messages: Buffer[] = [];
    for (const { text, values } of this.#statements) {
      let prepared = this.#session.statements.get(text) ?? this.#fresh.get(text);
      if (!prepared) {
        prepared = { name: `l${this.#session.next++}` };
        this.#fresh.set(text, prepared);
        messages.push(serialize.parse({ text, name: prepared.name }));
      }
      messages.push(serialize.bind({ statement: prepared.name, values: values as unknown[], valueMapper: toWire }));
      if (!prepared.fields) {
        messages.push(serialize.describe({ type: 'P' }));
      }
      messages.push(serialize.execute());
      this.#used.push(prepared);
    }
    messages.push(serialize.sync());
    connection.stream.write(Buffer.concat(messages));
    return null;
  }

  handleRowDescription(message: { fields: FieldDescription[] }): void {
    this.#underway().fields = message.fields.map(field => ({
      name: camelCase(field.name),
      parse: (field.dataTypeID === 20 ? Number : pg.types.getTypeParser(field.dataTypeID)) as (text: string) => unknown,
    }));
  }

  handleDataRow(message: { fields: (string | null)[] }): void {
    const row: Record<string, unknown> = {};
    const fields = this.#underway().fields ?? [];
    for (let i = 0; i < fields.length; i++) {
      const field = fields[i] as Field;
      const value = message.fields[i];
      row[field.name] = value === null || value === undefined ? null : field.parse(value);
    }
    this.#current.push(row);
  }

  handleCommandComplete(): void {
    this.#results.push(this.#current);
    this.#current = [];
  }

  handleEmptyQuery(): void {
    this.handleCommandComplete();
  }

  handlePortalSuspended(): void {
    throw new Error('A lane never limits its rows');
  }

  handleReadyForQuery(): void {
    for (const [text, prepared] of this.#fresh) {
      this.#session.statements.set(text, prepared);
    }
    this.#finish(undefined);
  }

  // After an error nobody knows which of the new statements were prepared: they get new names the next time.
  handleError(error: Error): void {
    this.#finish(error);
  }

  /** The statement whose answer is arriving. */
  #underway(): Prepared {
    return this.#used[this.#results.length] as Prepared;
  }

  #finish(error: Error | undefined): void {
    if (!this.#done) {
      this.#done = true;
      this.callback?.();
      this.#settle(error, this.#results);
    }
  }
}

/**
 * Opens a lane; the connection is made at the first use.
 *
 * @param setup SQL run once on each connection, such as the making of temporary functions
 */
export const openLane = (db: Db, applicationName: string, setup?: string): Lane => {
  let connected: Promise<{ client: pg.Client; session: Session }> | undefined;
  let closed = false;

  const connect = async (): Promise<{ client: pg.Client; session: Session }> => {
    const client = await db.connect({ options: SESSION, applicationName, answerWithinMs: ANSWER_MS });
    const drop = (): void => {
      connected = undefined;
    };
    client.on('error', drop);
    client.on('end', drop);
    if (setup !== undefined) {
      await client.query(setup).catch(async (error: unknown) => {
        await client.end();
        throw error;
      });
    }
    return { client, session: { statements: new Map(), next: 0 } };
  };

  return {
    run: async statements => {
      if (closed) {
        throw new Error('The lane is closed');
      }
      connected ??= connect();
      const attempt = connected;
      const { client, session } = await attempt.catch((error: unknown) => {
        connected = undefined;
        throw error;
      });
      return new Promise<Row[][]>((resolve, reject) => {
        const pipeline = new Pipeline(statements, session, (error, results) => {
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
