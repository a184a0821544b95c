/**
 * What a call costs in statements, round trips and bytes of WAL. The server counts what it sends to Postgres itself: it is started with
 * `statement-counter.ts`.
 */
import fs from 'node:fs';
import path from 'node:path';
import type pg from 'pg';
import type { Connection } from './connection.ts';
import type { Installation } from './installation.ts';
import { type CpuSplit, inParallel, measure } from './measure.ts';
import { claimWork, complete, create, withConnections } from './suites.ts';
import { slugid } from './tasks.ts';

/** The file in which the server's counts are, and how to start it so that they are there. */
export const counterOptions = (file: string): { flags: string[]; env: Record<string, string> } => ({
  flags: ['--import', path.join(import.meta.dirname, 'statement-counter.ts')],
  env: { BENCH_STATEMENTS_FILE: file },
});

export interface CallCost {
  readonly call: string;
  readonly parallel: number;
  /** Each per call. */
  readonly statements: number;
  readonly roundTrips: number;
  readonly walBytes: number;
  readonly cpuMs: CpuSplit;
}

interface Counts {
  readonly statements: number;
  readonly roundTrips: number;
  readonly walBytes: number;
}

const wait = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms));
/** After this the server has written its counts, and its relay has handed on the events. */
const SETTLE_MS = 500;

const countsNow = async (client: pg.Client, file: string): Promise<Counts> => {
  await wait(SETTLE_MS);
  const own = JSON.parse(fs.readFileSync(file, 'utf8')) as Pick<Counts, 'statements' | 'roundTrips'>;
  const { rows } = await client.query<{ wal: string }>(`select pg_current_wal_lsn() - '0/0'::pg_lsn as wal`);
  return { ...own, walBytes: Number(rows[0]?.wal) };
};

const difference = (a: Counts, b: Counts): Counts => ({
  statements: b.statements - a.statements,
  roundTrips: b.roundTrips - a.roundTrips,
  walBytes: b.walBytes - a.walBytes,
});

type Step = (connection: Connection, i: number) => Promise<unknown>;

/** Costs of single calls, `parallel` at once. What the server does by itself meanwhile is taken off; its relay's work for the calls is not. */
export const callCosts = async ({ target, connect }: Installation, file: string, count: number, parallel: number): Promise<CallCost[]> => {
  const client = await connect();
  await client.query('checkpoint');
  const taskQueueId = `bench/cost-${parallel}`;
  const claims: NonNullable<Awaited<ReturnType<typeof claimWork>>>[] = [];
  const expires = new Date(Date.now() + 86_400_000).toISOString();
  const taskGroupId = slugid();
  const claimOf = (i: number): (typeof claims)[number] => claims[i] as (typeof claims)[number];
  const run = (i: number): string => `/api/queue/v1/task/${claimOf(i).status.taskId}/runs/${claimOf(i).runId}`;
  const reference = { storageType: 'reference', expires, contentType: 'text/html', url: 'https://example.com/' };
  const steps: readonly (readonly [string, Step])[] = [
    ['createTask', connection => create(connection, target, taskQueueId, { taskGroupId })],
    [
      'claimWork',
      async (connection, i) => {
        const claim = await claimWork(connection, target, taskQueueId, i % parallel);
        if (!claim) {
          throw new Error('There is no task to claim');
        }
        claims.push(claim);
      },
    ],
    ['reclaimTask', (connection, i) => connection.call('POST', `${run(i)}/reclaim`, claimOf(i).credentials)],
    ['createArtifact', (connection, i) => connection.call('POST', `${run(i)}/artifacts/public%2Flog`, claimOf(i).credentials, reference)],
    ['status', (connection, i) => connection.call('GET', `/api/queue/v1/task/${claimOf(i).status.taskId}/status`, target.credentials)],
    [
      'listTaskGroup, a page of 100',
      connection => connection.call('GET', `/api/queue/v1/task-group/${taskGroupId}/list?limit=100`, target.credentials),
    ],
    ['reportCompleted', (connection, i) => complete(connection, claimOf(i))],
  ];
  try {
    return await withConnections(target, parallel, async connections => {
      const [idleFromMs, idleFrom] = [performance.now(), await countsNow(client, file)];
      await wait(2_000);
      const idle = difference(idleFrom, await countsNow(client, file));
      const idleMs = performance.now() - idleFromMs;
      const costs: CallCost[] = [];
      for (const [call, step] of steps) {
        const before = await countsNow(client, file);
        const startedMs = performance.now();
        const { cpuMs } = await measure(target.pids, async () => {
          await inParallel(parallel, count, async (w, i) => void (await step(connections[w] as Connection, i)));
          return count;
        });
        const all = difference(before, await countsNow(client, file));
        const share = (performance.now() - startedMs) / idleMs;
        const each = (key: keyof Counts): number => Math.max(0, (all[key] - idle[key] * share) / count);
        costs.push({
          call,
          parallel,
          statements: each('statements'),
          roundTrips: each('roundTrips'),
          walBytes: each('walBytes'),
          cpuMs,
        });
      }
      return costs;
    });
  } finally {
    await client.end();
  }
};

const ROWS = 2_000;
const TAKE = (logged: boolean): string => `
with head as (select id, msg from bench.outbox order by id limit 100),
  taken as (delete from bench.outbox where id in (select id from head) returning id, msg)
  ${logged ? ', logged as (insert into bench.event_log (seq, outbox_id, written, msg) select id, id, now(), msg from taken)' : ''}
select id, msg from taken order by id`;

/** Microseconds that Postgres needs to take a row of 1.7 KB from an outbox without and with a log of events, and bytes of WAL. */
export const eventLogCost = async (
  connect: Installation['connect'],
): Promise<{ logged: boolean; microseconds: number; walBytes: number }[]> => {
  const client = await connect();
  try {
    await client.query(`
      create schema bench;
      create table bench.outbox (like platform.outbox including all);
      create table bench.event_log (like platform.event_log including all)`);
    const best = [false, true].map(logged => ({ logged, microseconds: Number.POSITIVE_INFINITY, walBytes: Number.POSITIVE_INFINITY }));
    const position = async (): Promise<number> =>
      Number((await client.query<{ wal: string }>(`select pg_current_wal_lsn() - '0/0'::pg_lsn as wal`)).rows[0]?.wal);
    for (let round = 0; round < 10; round++) {
      for (const side of best) {
        await client.query(
          `insert into bench.outbox (msg) select (select string_agg(md5(n::text || i::text), '","') from generate_series(1, 24) n) || repeat('{"status":"running"}', 45)
           from generate_series(1, ${ROWS}) i`,
        );
        const from = await position();
        const startedMs = performance.now();
        for (let taken = 0; taken < ROWS; taken += 100) {
          await client.query({ name: `take-${side.logged}`, text: TAKE(side.logged) });
        }
        side.microseconds = Math.min(side.microseconds, ((performance.now() - startedMs) * 1_000) / ROWS);
        side.walBytes = Math.min(side.walBytes, ((await position()) - from) / ROWS);
      }
    }
    await client.query('drop schema bench cascade');
    return best;
  } finally {
    await client.end();
  }
};
