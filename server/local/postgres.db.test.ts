import { spawn } from 'node:child_process';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { Client } from 'pg';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { systemClock } from '@tscluster/client/clock.ts';
import { type EmbeddedPostgres, NOT_DURABLE, type PostgresEvent, type PostgresOptions, startPostgres } from './postgres.ts';

let dir: string;
const started: EmbeddedPostgres[] = [];

beforeEach(async () => {
  dir = await fs.mkdtemp(path.join(os.tmpdir(), 'taskcluster-postgres-'));
});
afterEach(async () => {
  await Promise.all(started.splice(0).map(server => server.stop()));
  await fs.rm(dir, { recursive: true, force: true });
});

const start = async (more: Partial<PostgresOptions> = {}): Promise<EmbeddedPostgres> => {
  const server = await startPostgres({
    folder: path.join(dir, 'postgres'),
    logPath: path.join(dir, 'postgres.log'),
    runFolder: path.join(dir, 'run'),
    clock: systemClock,
    settings: NOT_DURABLE,
    ...more,
  });
  started.push(server);
  return server;
};

const query = async (server: EmbeddedPostgres, text: string): Promise<unknown[]> => {
  const client = new Client(server.connection);
  client.on('error', () => undefined);
  await client.connect();
  try {
    return (await client.query({ text, rowMode: 'array' })).rows.flat();
  } finally {
    await client.end().catch(() => undefined);
  }
};

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

const until = async (what: () => boolean): Promise<void> => {
  while (!what()) {
    await systemClock.sleep(5);
  }
};

test('a second start keeps the data; the cluster is UTF8 with C order, on a private socket only', async () => {
  const first = await start();
  await query(first, 'create table kept as select 7 as n');
  expect(await query(first, 'show server_encoding')).toEqual(['UTF8']);
  expect(await query(first, 'show listen_addresses')).toEqual(['']);
  expect(await query(first, "select datcollate from pg_database where datname = 'postgres'")).toEqual(['C']);
  expect((await fs.stat(first.connection.host)).mode & 0o777).toBe(0o700);
  const pid = first.pid() as number;
  await first.stop();
  expect(isAlive(pid)).toBe(false);
  const second = await start();
  expect(await query(second, 'select n from kept')).toEqual([7]);
});

test('a killed Postgres is started again at the same address', async () => {
  const events: PostgresEvent['kind'][] = [];
  const server = await start({ onEvent: event => events.push(event.kind) });
  await query(server, 'create table kept as select 7 as n');
  await query(server, 'checkpoint');
  process.kill(server.pid() as number, 'SIGKILL');
  await until(() => events.includes('recovered'));
  expect(events).toEqual(['died', 'recovered']);
  expect(await query(server, 'select n from kept')).toEqual([7]);
});

test('Postgres ends with a process that is killed, and a start at that moment waits for it', async () => {
  const program = `
    import { startPostgres } from ${JSON.stringify(path.join(import.meta.dirname, 'postgres.ts'))};
    import { systemClock as clock } from '@tscluster/client/clock.ts';
    const dir = ${JSON.stringify(dir)};
    const server = await startPostgres({ folder: dir + '/postgres', logPath: dir + '/postgres.log', runFolder: dir + '/run', clock, settings: ${JSON.stringify(NOT_DURABLE)} });
    console.log(server.pid());
  `;
  const file = path.join(import.meta.dirname, `postgres-child-${process.pid}.tmp.mts`);
  await fs.writeFile(file, program);
  try {
    const child = spawn(process.execPath, [file], { stdio: ['ignore', 'pipe', 'inherit'] });
    const pid = Number(await new Promise<string>(resolve => child.stdout.once('data', (chunk: Buffer) => resolve(chunk.toString()))));
    expect(isAlive(pid)).toBe(true);
    child.kill('SIGKILL');
    const server = await start();
    expect(isAlive(pid)).toBe(false);
    expect(await query(server, 'select 1')).toEqual([1]);
  } finally {
    await fs.rm(file);
  }
});

test('a lock file whose process id now belongs to somebody else does not stop the start', async () => {
  const first = await start();
  await first.stop();
  const file = path.join(dir, 'postgres', 'postmaster.pid');
  await fs.writeFile(
    file,
    [process.pid, path.join(dir, 'postgres'), 1_700_000_000, 5432, path.join(dir, 'run'), '', '  123456    654321', 'ready   ', ''].join(
      '\n',
    ),
  );
  const second = await start();
  expect(await query(second, 'select 1')).toEqual([1]);
});

test('a long path gets a short socket folder', async () => {
  const long = path.join(dir, 'x'.repeat(120));
  await fs.mkdir(long);
  const server = await start({ runFolder: path.join(long, 'run') });
  expect(server.connection.host.length).toBeLessThan(90);
  expect(await query(server, 'select 1')).toEqual([1]);
  await server.stop();
  await fs.rm(server.connection.host, { recursive: true });
});

test('a data folder of another release is named, not touched', async () => {
  await fs.mkdir(path.join(dir, 'postgres'));
  await fs.writeFile(path.join(dir, 'postgres', 'PG_VERSION'), '17\n');
  await expect(start()).rejects.toThrow(`${dir}/postgres holds a database of Postgres 17, and this release brings 18.`);
});
