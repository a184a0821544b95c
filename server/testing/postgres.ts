/**
 * One Postgres for all database tests of a run, in a folder of its own that goes when the run ends, with one migrated template database from which
 * `testDatabase()` makes each file's own. Vitest calls this once, before the first test.
 */
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { Client } from 'pg';
import type { TestProject } from 'vitest/node';
import { systemClock } from '@tscluster/client/clock.ts';
import { migrate } from '../db/migrate.ts';
import { openDb } from '../db/sql.ts';
import { NOT_DURABLE, startPostgres } from '../local/postgres.ts';

/** What `inject('postgres')` gives a test: plain data, as it goes to other processes. */
export interface TestPostgres {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  /** An empty, migrated database; nothing may connect to it. */
  readonly template: string;
}

declare module 'vitest' {
  interface ProvidedContext {
    postgres: TestPostgres;
  }
}

const TEMPLATE = 'migrated';

const setup = async (project: TestProject): Promise<() => Promise<void>> => {
  const keep = Boolean(process.env['KEEP_TEST_DATABASES']);
  const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'taskcluster-test-'));
  const server = await startPostgres({
    folder: path.join(folder, 'postgres'),
    logPath: path.join(folder, 'postgres.log'),
    runFolder: path.join(folder, 'run'),
    clock: systemClock,
    settings: NOT_DURABLE,
    ...(keep ? {} : { removeAtEnd: folder }),
  });
  try {
    const { host, port, user } = server.connection;
    const admin = new Client(server.connection);
    await admin.connect();
    await admin.query(`create database ${TEMPLATE}`);
    await admin.end();
    const db = openDb({ connection: { host, port, user, database: TEMPLATE } });
    try {
      await migrate(db);
    } finally {
      await db.close();
    }
    project.provide('postgres', { host, port, user, template: TEMPLATE });
  } catch (error) {
    await server.stop();
    throw error;
  }
  return async () => {
    await server.stop();
    if (keep) {
      console.log(`The tests' Postgres is kept in ${folder}`);
    }
  };
};

export default setup;
