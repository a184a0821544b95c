/**
 * Columns whose values are encrypted under the keyring. A service names its own (`Service.encrypted`); the platform moves what lies under an older key
 * to the newest one, in the background and in batches, so that the older one can be taken off the ring. The values themselves stay.
 */
import type { Db, Query } from '../db/sql.ts';
import { camelCase } from '../db/sql.ts';
import type { Keyring } from './keyring.ts';
import type { Log } from './log.ts';
import { type BoundLoop, type Loop, loop, run } from './loop.ts';
import type { Metrics } from './metrics.ts';

type Values = Readonly<Record<string, string>>;

export interface EncryptedColumn {
  /** With its schema: `auth.clients`. */
  readonly table: string;
  readonly column: string;
  /** The columns of its primary key. */
  readonly key: readonly string[];
  /** Other columns that the context is made of. */
  readonly also?: readonly string[];
  /** What the value is bound to; columns by their names in camelCase. */
  readonly context: (row: Values) => string;
}

interface Stale {
  readonly row: Values;
  readonly stored: string;
}

const numbered = (columns: readonly string[], from: number): string => columns.map((_, i) => `$${from + i}`).join(', ');

/** Values that are not stored with this beginning, by key; `limit` at most, after one key. */
const listStale = async (
  db: Query,
  { table, column, key, also = [] }: EncryptedColumn,
  beginning: string,
  after: readonly string[] | undefined,
  limit: number,
): Promise<Stale[]> => {
  const text = `select ${[...key, ...also].map(name => `${name}::text as ${name}`).join(', ')}, ${column} as stored_value from ${table}
    where not starts_with(${column}, $1) ${after === undefined ? '' : `and (${key.join(', ')}) > (${numbered(key, 3)})`}
    order by ${key.map(name => `${table}.${name}`).join(', ')} limit $2`;
  const { rows } = await db.run<Values>({ text, values: [beginning, limit, ...(after ?? [])] });
  return rows.map(row => ({ row, stored: row['storedValue'] ?? '' }));
};

/** Replaces a value, unless it was changed meanwhile. */
const replaceValue = async (db: Query, { table, column, key }: EncryptedColumn, { row, stored }: Stale, fresh: string): Promise<void> => {
  const text = `update ${table} set ${column} = $1 where ${column} = $2 and (${key.join(', ')}) = (${numbered(key, 3)})`;
  await db.run({ text, values: [fresh, stored, ...key.map(name => row[camelCase(name)])] });
};

/** How many values are not stored with this beginning. */
const countStale = async (db: Query, { table, column }: EncryptedColumn, beginning: string): Promise<number> => {
  const { rows } = await db.run<{ count: number }>({
    text: `select count(*) from ${table} where not starts_with(${column}, $1)`,
    values: [beginning],
  });
  return rows[0]?.count ?? 0;
};

/** How many values lie under each key, by the key's id. */
export const countByKey = async (db: Query, { table, column }: EncryptedColumn): Promise<ReadonlyMap<string, number>> => {
  const { rows } = await db.run<{ keyId: string; count: number }>({
    text: `select split_part(${column}, ':', 2) as key_id, count(*) from ${table} where ${column} is not null group by 1`,
    values: [],
  });
  return new Map(rows.map(({ keyId, count }) => [keyId, count]));
};

export interface ReencryptionCtx {
  readonly db: Db;
  readonly keyring: Keyring;
  readonly log: Log;
  readonly metrics: Metrics;
}

const HOUR_MS = 3_600_000;

/** The loop that moves a column's values under the newest key; `reencrypt-<table>` of the service. */
export const reencryptionLoop = (service: string, column: EncryptedColumn, ctx: ReencryptionCtx): Loop<undefined> => {
  const { db, keyring, log, metrics } = ctx;
  const { table, key, context } = column;
  const left = metrics.gauge('encrypted_values_left', 'Encrypted values that are not under the newest key yet', ['table', 'column']);
  /** Where a walk goes on that began with this ring. */
  let walk: { readonly beginning: string; readonly after: readonly string[] } | undefined;
  return loop<undefined>({
    name: `${service}/reencrypt-${table.replace(/^.*\./, '').replaceAll('_', '-')}`,
    everyMs: HOUR_MS,
    batch: 100,
    run: async (_ctx, limit) => {
      const beginning = keyring.newestPrefix;
      const after = walk?.beginning === beginning ? walk.after : undefined;
      const stale = await listStale(db, column, beginning, after, limit);
      for (const each of stale) {
        try {
          const place = context(each.row);
          await replaceValue(db, column, each, keyring.encrypt(keyring.decrypt(each.stored, place), place));
        } catch (error) {
          // its key is lost, and it with it; others need not be
          log.error(
            { err: error, table, key: key.map(name => each.row[camelCase(name)]) },
            'encrypted value cannot be moved to the newest key',
          );
        }
      }
      const last = stale.length < limit ? undefined : stale.at(-1);
      walk = last && { beginning, after: key.map(name => last.row[camelCase(name)] ?? '') };
      const isNoneLeft = stale.length === 0 && after === undefined;
      left.set({ table, column: column.column }, isNoneLeft ? 0 : await countStale(db, column, beginning));
      return stale.length;
    },
  });
};

/** The same, bound. It looks at once when the ring has changed. */
export const reencryption = (service: string, column: EncryptedColumn, ctx: ReencryptionCtx): BoundLoop =>
  run(reencryptionLoop(service, column, ctx), undefined, wake => ctx.keyring.onChange(wake));
