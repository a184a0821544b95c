/** Numbered plain SQL, forward only, one transaction each. Any number of processes may start at once: an advisory lock lets one do the work. */
import fs from 'node:fs/promises';
import path from 'node:path';
import type { Db } from './sql.ts';
import { flatten, queryOn } from './sql.ts';

const FOLDER = path.join(import.meta.dirname, 'migrations');
const LOCK = 7_202_601; // any number that nothing else in the database uses

export interface Migration {
  readonly number: number;
  readonly name: string;
  readonly text: string;
}

/** The migrations in order. Throws when two share a number. */
export const readMigrations = async (folder = FOLDER): Promise<Migration[]> => {
  const files = (await fs.readdir(folder)).filter(file => file.endsWith('.sql')).sort();
  const migrations = await Promise.all(
    files.map(async file => {
      const match = /^(\d{4})-([a-z0-9-]+)\.sql$/.exec(file);
      if (!match) {
        throw new Error(`Migration ${file} must be named like 0001-what-it-does.sql`);
      }
      return { number: Number(match[1]), name: match[2] as string, text: await fs.readFile(path.join(folder, file), 'utf8') };
    }),
  );
  migrations.forEach((migration, i) => {
    const previous = migrations[i - 1];
    if (previous?.number === migration.number) {
      throw new Error(`Migrations ${previous.name} and ${migration.name} share the number ${migration.number}`);
    }
  });
  return migrations;
};

/** Brings the database to the newest schema; answers with the numbers that were applied. A newer database than this code knows is accepted. */
export const migrate = async (db: Db, migrations?: readonly Migration[]): Promise<number[]> => {
  const all = migrations ?? (await readMigrations());
  const client = await db.connect({ applicationName: 'taskcluster migrate' });
  const query = queryOn(client);
  client.on('error', () => undefined); // the statement under way reports it
  try {
    await client.query(`select pg_advisory_lock(${LOCK})`);
    await client.query('create schema if not exists platform');
    await client.query('create table if not exists platform.migrations (number int primary key, name text not null)');
    const done = new Set((await query<{ number: number }>`select number from platform.migrations`).map(row => row.number));
    const applied: number[] = [];
    for (const migration of all) {
      if (done.has(migration.number)) {
        continue;
      }
      await client.query('begin');
      try {
        await client.query(migration.text);
        await query.run(
          flatten(['insert into platform.migrations (number, name) values (', ', ', ')'], [migration.number, migration.name]),
        );
        await client.query('commit');
      } catch (error) {
        await client.query('rollback');
        throw new Error(`Migration ${migration.number}-${migration.name} failed: ${(error as Error).message}`, { cause: error });
      }
      applied.push(migration.number);
    }
    return applied;
  } finally {
    await client.end();
  }
};

/** The numbers of migrations that the database has not seen. */
export const findMissingMigrations = async (db: Db): Promise<number[]> => {
  const all = (await readMigrations()).map(({ number }) => number);
  const [found] = await db<{ exists: boolean }>`select to_regclass('platform.migrations') is not null as exists`;
  if (!found?.exists) {
    return all;
  }
  const done = new Set((await db<{ number: number }>`select number from platform.migrations`).map(row => row.number));
  return all.filter(number => !done.has(number));
};
