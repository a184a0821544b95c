/** The table of secrets. Expired ones are as good as gone; a loop removes them. */
import type { Lane } from '../../db/lane.ts';
import { textArray } from '../../db/arrays.ts';
import { type Query, sql, type Tx } from '../../db/sql.ts';

export interface SecretRow {
  readonly name: string;
  readonly encrypted: string;
  readonly expires: Date;
}

/** Stores a secret in place of what was there; answers with whether a live one was. */
export const putSecret = async (tx: Tx, { name, encrypted, expires }: SecretRow, now: Date): Promise<boolean> => {
  // one after the other also while there is no row to lock: only the first of several has created it
  await tx`select pg_advisory_xact_lock(hashtextextended(${`secrets ${name}`}, 0))`;
  const [before] = await tx<{ isLive: boolean }>`select expires >= ${now} as is_live from secrets.secrets where name = ${name} for update`;
  await tx`
    insert into secrets.secrets (name, encrypted, expires) values (${name}, ${encrypted}, ${expires})
    on conflict (name) do update set encrypted = excluded.encrypted, expires = excluded.expires`;
  return before?.isLive ?? false;
};

export const deleteSecret = async (tx: Tx, name: string): Promise<void> => {
  await tx`delete from secrets.secrets where name = ${name}`;
};

/** Secrets of distinct names, expired ones included. Primary key; on a lane, because workers ask for these a lot. */
export const readSecrets = async (lane: Lane, names: readonly string[]): Promise<SecretRow[]> => {
  const text = 'select name, encrypted, expires from secrets.secrets where name = any($1::text[])';
  const [rows = []] = await lane.run([{ text, values: [textArray(names)] }]);
  return rows as SecretRow[];
};

/** Names of live secrets after one, in order; `limit` at most. */
export const listSecretNames = async (db: Query, now: Date, after: string | undefined, limit: number): Promise<string[]> => {
  const rows = await db<{ name: string }>`
    select name from secrets.secrets
    where expires >= ${now} ${after === undefined ? sql`` : sql`and name > ${after}`}
    order by name limit ${limit}`;
  return rows.map(({ name }) => name);
};

/** Removes up to `limit` secrets whose time is over; answers with their names. */
export const deleteExpiredSecrets = async (tx: Tx, now: Date, limit: number): Promise<string[]> => {
  const rows = await tx<{ name: string }>`
    delete from secrets.secrets where name in (
      select name from secrets.secrets where expires < ${now} order by expires limit ${limit} for update skip locked)
    returning name`;
  return rows.map(({ name }) => name);
};
