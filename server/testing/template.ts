/**
 * A database per test file, cloned from the migrated template (some 50 ms), and dropped after the file. With KEEP_TEST_DATABASES=1 the databases of
 * files with a failed test stay, and so does their Postgres's folder.
 */
import crypto from 'node:crypto';
import { Client } from 'pg';
import { afterAll, afterEach, inject } from 'vitest';
import { type Db, openDb } from '../db/sql.ts';
import type { TestPostgres } from './postgres.ts';

export interface TestDatabase {
  readonly db: Db;
  /** For a second pool, or another process. */
  readonly connection: { readonly host: string; readonly port: number; readonly user: string; readonly database: string };
  /** Closes the pool and drops the database. Happens by itself after the file. */
  drop(): Promise<void>;
}

const withAdmin = async <T>(postgres: TestPostgres, run: (client: Client) => Promise<T>): Promise<T> => {
  const client = new Client({ host: postgres.host, port: postgres.port, user: postgres.user, database: 'postgres' });
  await client.connect();
  try {
    return await run(client);
  } finally {
    await client.end();
  }
};

// a test file has its own copy of this module, so these are the file's
const made: TestDatabase[] = [];
let failed = false;
afterEach(({ task }) => {
  failed ||= task.result?.state === 'fail';
});
afterAll(async () => {
  for (const database of made.splice(0)) {
    await database.drop();
  }
}, 300_000);

/** Makes a fresh migrated database. Call it at the top of a file, in a `beforeAll`, or in a test. */
export const testDatabase = async (): Promise<TestDatabase> => {
  const postgres = inject('postgres');
  const database = `test_${crypto.randomBytes(6).toString('hex')}`;
  await withAdmin(postgres, client => client.query(`create database ${database} template ${postgres.template} strategy file_copy`));
  const connection = { host: postgres.host, port: postgres.port, user: postgres.user, database };
  const db = openDb({ connection, poolSize: 5 });
  let dropped = false;
  const drop = async (): Promise<void> => {
    if (!dropped) {
      dropped = true;
      await db.close();
      if (failed && process.env['KEEP_TEST_DATABASES']) {
        console.log(`kept database ${database}`);
        return;
      }
      await withAdmin(postgres, client => client.query(`drop database if exists ${database} with (force)`));
    }
  };
  const result = { db, connection, drop };
  made.push(result);
  return result;
};
