/** What a worker is given of the runs it holds without knowing. */
import { beforeEach, expect, test } from 'vitest';
import type { Db, Row, Statement } from '../../db/sql.ts';
import type { ClaimRequest, UnansweredRow } from './claim.db.ts';
import { makeUnanswered, type Unanswered } from './unanswered.ts';

const TIMEOUT_MS = 1_200_000;
const worker: ClaimRequest = { taskQueueId: 'prov/type', workerGroup: 'group', workerId: 'worker' };

let nowMs: number;
let rows: UnansweredRow[];
let queries: number;
let unanswered: Unanswered;
let db: Pick<Db, 'run'>;

const make = (alone: boolean): Unanswered => makeUnanswered({ db, clock: { nowMs: () => nowMs }, claimTimeoutMs: TIMEOUT_MS, alone });

const aRun = (taskId: string, ageMs: number): UnansweredRow => ({
  taskId,
  runId: 0,
  priority: 7,
  scopes: '[]',
  definition: '',
  status: '{}',
  takenUntil: new Date(nowMs - ageMs + TIMEOUT_MS),
});

const take = async (limit = 32): Promise<string[]> => (await unanswered.take(worker, limit)).map(({ taskId }) => taskId);

beforeEach(() => {
  nowMs = Date.parse('2030-01-01T00:00:00.000Z');
  rows = [];
  queries = 0;
  db = {
    run: <R extends Row>(_statement: Statement) => {
      queries++;
      return Promise.resolve({ rows: rows as unknown as R[], affected: rows.length });
    },
  };
  unanswered = make(true);
});

test('a worker is looked for once, when it comes first', async () => {
  expect([await take(), await take(), queries]).toEqual([[], [], 1]);
});

test('what is more than a worker can take now it is given when it asks again', async () => {
  rows = [aRun('a', 9_000), aRun('b', 9_000), aRun('c', 9_000)];
  expect(await take(1)).toEqual(['a']);
  rows = rows.slice(1); // received, and noted
  expect(await take(1)).toEqual(['b']);
  rows = [aRun('new', 9_000), ...rows.slice(1)]; // given out by this process meanwhile
  expect(await take(1)).toEqual(['c']);
  expect([await take(), queries]).toEqual([[], 3]);
});

test('a young one is given when it is old enough, and what was claimed since is not', async () => {
  rows = [aRun('young', 500)];
  expect(await take()).toEqual([]);
  expect(unanswered.dueInMs(worker)).toBe(4_500);
  nowMs += 4_000;
  rows = [...rows, aRun('new', 0)];
  expect(await take()).toEqual([]);
  nowMs += 5_000;
  expect(unanswered.dueInMs(worker)).toBe(0);
  expect(await take()).toEqual(['young']);
  rows = [aRun('new', 5_000)];
  expect(unanswered.dueInMs(worker)).toBeUndefined();
  expect(await take()).toEqual([]);
});

test('what did not reach it is given at once; after trouble of which nobody knows the extent, what is old enough', async () => {
  await take();
  rows = [aRun('unsure', 10), aRun('lost', 10)];
  expect(await take()).toEqual([]);
  unanswered.lost(worker, [{ taskId: 'lost', runId: 0 }]);
  expect(await take()).toEqual(['lost']);
  unanswered.suspect(worker);
  rows = [aRun('unsure', 10)];
  expect([await take(), unanswered.dueInMs(worker)]).toEqual([[], 4_990]);
  nowMs += 4_990;
  expect(await take()).toEqual(['unsure']);
});

test('what is on its way from here is not given twice, however long that takes to be noted', async () => {
  const run = { taskId: 'on its way', runId: 0 };
  rows = [aRun(run.taskId, 60_000)];
  unanswered.answering(worker, [run]);
  expect(await take()).toEqual([]);
  unanswered.suspect(worker);
  expect(await take()).toEqual([]);
  // noted while a query is under way that began before
  unanswered.suspect(worker);
  const taking = take();
  unanswered.settled(worker, run);
  expect(await taking).toEqual([]);
  // given to one of two that ask at once
  unanswered.lost(worker, [run]);
  const both = await Promise.all([take(), (unanswered.suspect(worker), take())]);
  expect(both.flat()).toEqual([run.taskId]);
});

test('trouble is not forgotten when the database cannot be asked', async () => {
  await take();
  unanswered.lost(worker, [{ taskId: 'lost', runId: 0 }]);
  const { run } = db;
  db.run = () => Promise.reject(new Error('away'));
  await expect(take()).rejects.toThrow('away');
  db.run = run;
  rows = [aRun('lost', 10)];
  expect(await take()).toEqual(['lost']);
});

test('where other processes hand out claims too, a known worker is looked for every ten seconds', async () => {
  unanswered = make(false);
  expect(unanswered.dueInMs(worker)).toBeUndefined();
  expect(await take()).toEqual([]);
  expect(unanswered.dueInMs(worker)).toBe(10_000);
  rows = [aRun('of another process', 9_000)];
  nowMs += 9_999;
  expect([await take(), queries]).toEqual([[], 1]);
  nowMs += 1;
  expect(unanswered.dueInMs(worker)).toBe(0);
  expect(await take()).toEqual(['of another process']);
  nowMs += 10_000;
  rows = [aRun('on its way', 1_500)];
  expect(await take()).toEqual([]);
  expect(unanswered.dueInMs(worker)).toBe(3_500);
  nowMs += 3_500;
  expect(await take()).toEqual(['on its way']);
});
