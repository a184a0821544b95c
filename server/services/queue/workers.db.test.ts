import { queueApi } from '@tscluster/api/queue/api.ts';
import type { Client } from '@tscluster/client/client.ts';
import { slugid } from '@tscluster/client/clock.ts';
import { beforeAll, expect, test } from 'vitest';
import { seededRandom, type TestServer, withServer } from '../../testing/server.ts';
import type { Ctx } from './ctx.ts';
import { queueService } from './service.ts';
import { workerInfoExpiry } from './workers-expiry.ts';

let server: TestServer;
let queue: Client<typeof queueApi>;
let ctx: Ctx;
const random = seededRandom(21);

const ctxOf = (of: TestServer): Ctx => of.server.services.get('queue')?.apis?.[0]?.ctx as Ctx;

beforeAll(async () => {
  server = await withServer([queueService]);
  queue = server.client(queueApi);
  ctx = ctxOf(server);
});

const DAY = 24 * 60;
const inMinutes = (minutes: number): string => new Date(server.clock.nowMs() + minutes * 60_000).toISOString();
const refused = (code: string, statusCode: number) => expect.objectContaining({ code, statusCode }) as unknown;
const params = (workerType: string, workerId = 'w', workerGroup = 'wg') => ({ provisionerId: 'prov', workerType, workerGroup, workerId });

const create = async (taskQueueId: string): Promise<string> => {
  const taskId = slugid(random);
  await queue.createTask(
    { taskId },
    {
      taskQueueId,
      created: inMinutes(0),
      deadline: inMinutes(60),
      payload: {},
      metadata: { name: 'n', description: 'd', owner: 'o', source: 'https://src.example' },
    },
  );
  return taskId;
};
const claim = async (taskQueueId: string, workerId = 'w', tasks = 1): Promise<string[]> =>
  (await queue.claimWork({ taskQueueId }, { workerGroup: 'wg', workerId, tasks })).tasks.map(each => each.status.taskId);

test('declareWorker makes worker and queue known, and only ever prolongs', async () => {
  const declared = await queue.declareWorker(params('declared'), { expires: inMinutes(DAY) });
  expect(declared).toEqual({
    ...params('declared'),
    taskQueueId: 'prov/declared',
    quarantineUntil: expect.stringMatching(/Z$/),
    expires: inMinutes(DAY),
    firstClaim: inMinutes(0),
    lastDateActive: inMinutes(0),
    recentTasks: [],
  });
  expect(Date.parse(declared.quarantineUntil as string)).toBeLessThan(server.clock.nowMs() - 9 * 365 * DAY * 60_000);
  const firstClaim = inMinutes(0);
  server.clock.advance({ minutes: 1 });
  expect(await queue.declareWorker(params('declared'), { expires: inMinutes(5) })).toMatchObject({
    expires: inMinutes(DAY - 1),
    firstClaim,
    lastDateActive: inMinutes(0),
  });
  expect(await queue.declareWorker(params('declared'), { expires: inMinutes(2 * DAY) })).toMatchObject({ expires: inMinutes(2 * DAY) });
  expect(await queue.getTaskQueue({ taskQueueId: 'prov/declared' })).toEqual({
    taskQueueId: 'prov/declared',
    expires: inMinutes(2 * DAY),
    lastDateActive: inMinutes(0),
    description: '',
    stability: 'experimental',
  });
});

test('declareWorker needs a scope for each property', async () => {
  const may = server.client(queueApi, { scopes: ['queue:declare-worker:prov/scoped/wg/w#expires'] });
  const mayNot = server.client(queueApi, {
    scopes: ['queue:declare-worker:prov/scoped/wg/w#other', 'queue:declare-worker:prov/scoped/wg/w'],
  });
  await expect(mayNot.declareWorker(params('scoped'), { expires: inMinutes(1) })).rejects.toEqual(refused('InsufficientScopes', 403));
  await expect(mayNot.declareWorker(params('scoped'), {} as never)).rejects.toEqual(refused('InputValidationError', 400));
  await expect(queue.getWorker(params('scoped'))).rejects.toEqual(refused('ResourceNotFound', 404));
  await may.declareWorker(params('scoped'), { expires: inMinutes(1) });
  await expect(queue.declareWorker(params('Not-A-Type'), { expires: inMinutes(1) })).rejects.toEqual(refused('InputError', 400));
});

test('a claim makes worker and queue known, with the last 20 runs', async () => {
  const taskQueueId = 'prov/claims';
  const created: string[] = [];
  for (let i = 0; i < 25; i++) {
    created.push(await create(taskQueueId));
  }
  await claim(taskQueueId, 'w', 1);
  await claim(taskQueueId, 'w', 4);
  await claim(taskQueueId, 'w', 20);
  const worker = await queue.getWorker(params('claims'));
  expect(worker).toMatchObject({ expires: inMinutes(DAY), firstClaim: inMinutes(0), lastDateActive: inMinutes(0) });
  expect(worker.recentTasks).toEqual(created.slice(5).map(taskId => ({ taskId, runId: 0 })));
  expect(await queue.listWorkers({ provisionerId: 'prov', workerType: 'claims' })).toEqual({
    workers: [
      {
        workerGroup: 'wg',
        workerId: 'w',
        firstClaim: inMinutes(0),
        lastDateActive: inMinutes(0),
        latestTask: { taskId: created.at(-1), runId: 0 },
      },
    ],
  });
  expect(await queue.getTaskQueue({ taskQueueId })).toMatchObject({ expires: inMinutes(DAY) });
});

test('what is told again and again is written once in half an hour', async () => {
  const seen = ctx.seen;
  const rowOf = async () => (await server.db`select expires, last_date_active from queue.workers where worker_id = 'often'`)[0];
  seen.worker('prov/often', 'wg', 'often', []);
  await seen.flush();
  const first = await rowOf();
  expect(first).toEqual({ expires: new Date(inMinutes(DAY)), lastDateActive: new Date(inMinutes(0)) });
  server.clock.advance({ minutes: 29 });
  seen.worker('prov/often', 'wg', 'often', []);
  await seen.flush();
  expect(await rowOf()).toEqual(first);
  server.clock.advance({ minutes: 2 });
  seen.worker('prov/often', 'wg', 'often', []);
  await seen.flush();
  expect(await rowOf()).toEqual({ expires: new Date(inMinutes(DAY)), lastDateActive: new Date(inMinutes(0)) });
});

test('what is told is written without being asked for', async () => {
  ctx.seen.worker('prov/behind', 'wg', 'behind', []);
  await server.clock.tick({ seconds: 1 });
  await expect.poll(() => server.db`select 1 from queue.workers where worker_id = 'behind'`).toHaveLength(1);
});

test('what could not be written is told again', async () => {
  await server.db`alter table queue.task_queues rename to elsewhere`;
  ctx.seen.worker('prov/failing', 'wg', 'failing', []);
  await ctx.seen.flush();
  await server.db`alter table queue.elsewhere rename to task_queues`;
  ctx.seen.worker('prov/failing', 'wg', 'failing', []);
  await ctx.seen.flush();
  expect(await queue.getWorker(params('failing', 'failing'))).toMatchObject({ workerId: 'failing' });
});

test('claimTask makes the queue known for five days', async () => {
  const taskId = await create('prov/direct');
  await queue.claimTask({ taskId, runId: '0' }, { workerGroup: 'wg', workerId: 'w' });
  expect(await queue.getTaskQueue({ taskQueueId: 'prov/direct' })).toMatchObject({ expires: inMinutes(5 * DAY) });
  await expect(queue.getWorker(params('direct'))).rejects.toEqual(refused('ResourceNotFound', 404));
});

test('quarantine: no tasks until it is over', async () => {
  const taskQueueId = 'prov/quarantine';
  await expect(queue.quarantineWorker(params('quarantine'), { quarantineUntil: inMinutes(60) })).rejects.toEqual(
    refused('ResourceNotFound', 404),
  );
  await queue.declareWorker(params('quarantine'), { expires: inMinutes(10) });
  await queue.declareWorker(params('quarantine', 'other'), { expires: inMinutes(10) });
  const operator = server.client(queueApi, { clientId: 'operator' });
  const quarantined = await operator.quarantineWorker(params('quarantine'), {
    quarantineUntil: inMinutes(60),
    quarantineInfo: 'broken disk',
  });
  expect(quarantined).toMatchObject({ quarantineUntil: inMinutes(60), expires: inMinutes(DAY) });
  expect(Object.keys(quarantined)).not.toContain('quarantineDetails');

  const taskId = await create(taskQueueId);
  await expect(queue.claimTask({ taskId, runId: '0' }, { workerGroup: 'wg', workerId: 'w' })).rejects.toEqual(
    refused('RequestConflict', 409),
  );
  const list = async (query: Record<string, string> = {}) =>
    (await queue.listWorkers({ provisionerId: 'prov', workerType: 'quarantine' }, query)).workers.map(each => [
      each.workerId,
      each.quarantineUntil,
    ]);
  expect(await list()).toEqual([
    ['other', undefined],
    ['w', inMinutes(60)],
  ]);
  expect(await list({ quarantined: 'true' })).toEqual([['w', inMinutes(60)]]);
  expect(await list({ quarantined: 'false' })).toEqual([['other', undefined]]);
  await expect(list({ quarantined: 'maybe' })).rejects.toEqual(refused('InvalidRequestArguments', 400));

  await operator.quarantineWorker(params('quarantine'), { quarantineUntil: inMinutes(-60) });
  expect(await claim(taskQueueId)).toEqual([taskId]);
  const [row] = await server.db<{ details: string }>`
    select quarantine_details as details from queue.workers where task_queue_id = ${taskQueueId} and worker_id = 'w'`;
  expect(JSON.parse(row?.details ?? '')).toEqual([
    { clientId: 'operator', updatedAt: inMinutes(0), quarantineUntil: inMinutes(60), quarantineInfo: 'broken disk' },
    { clientId: 'operator', updatedAt: inMinutes(0), quarantineUntil: inMinutes(-60), quarantineInfo: '[unspecified]' },
  ]);
  const stranger = server.client(queueApi, { scopes: ['queue:quarantine-worker:prov/quarantine/wg/other'] });
  await expect(stranger.quarantineWorker(params('quarantine'), { quarantineUntil: 'x' })).rejects.toEqual(
    refused('InsufficientScopes', 403),
  );
  await expect(stranger.quarantineWorker(params('quarantine', 'other'), { quarantineUntil: 'x' })).rejects.toEqual(
    refused('InputValidationError', 400),
  );
});

test('another process learns of a quarantine, one that starts later too', async () => {
  const other = await withServer([queueService], { db: server.db, clock: server.clock });
  const isQuarantined = (of: TestServer): boolean => ctxOf(of).seen.isQuarantined('prov/shared', 'wg', 'w');
  await queue.declareWorker(params('shared'), { expires: inMinutes(10) });
  await queue.quarantineWorker(params('shared'), { quarantineUntil: inMinutes(60) });
  expect(isQuarantined(server)).toBe(true);
  // with the word of the first process lost, the other one looks by itself
  await server.clock.tick({ seconds: 31 });
  await expect.poll(() => isQuarantined(other)).toBe(true);
  const late = await withServer([queueService], { db: server.db, clock: server.clock });
  expect(isQuarantined(late)).toBe(true);
  server.clock.advance({ minutes: 60 });
  expect([server, other, late].map(isQuarantined)).toEqual([false, false, false]);
});

test('task queues, worker types and provisioners are views of the same', async () => {
  const own = await withServer([queueService], { clock: server.clock });
  const client = own.client(queueApi);
  const declare = (provisionerId: string, workerType: string, minutes: number) =>
    client.declareWorker({ provisionerId, workerType, workerGroup: 'g', workerId: 'w' }, { expires: inMinutes(minutes) });
  await declare('b', 'x', 100);
  await declare('a', 'y', 50);
  await declare('a', 'x', 20);
  const fixed = { lastDateActive: inMinutes(0), description: '', stability: 'experimental' };
  expect(await client.listTaskQueues()).toEqual({
    taskQueues: [
      { taskQueueId: 'a/x', expires: inMinutes(20), ...fixed },
      { taskQueueId: 'a/y', expires: inMinutes(50), ...fixed },
      { taskQueueId: 'b/x', expires: inMinutes(100), ...fixed },
    ],
  });
  expect(await client.listWorkerTypes({ provisionerId: 'a' })).toEqual({
    workerTypes: [
      { provisionerId: 'a', workerType: 'x', taskQueueId: 'a/x', expires: inMinutes(20), ...fixed },
      { provisionerId: 'a', workerType: 'y', taskQueueId: 'a/y', expires: inMinutes(50), ...fixed },
    ],
  });
  expect(await client.getWorkerType({ provisionerId: 'a', workerType: 'y' })).toEqual({
    provisionerId: 'a',
    workerType: 'y',
    taskQueueId: 'a/y',
    expires: inMinutes(50),
    ...fixed,
  });
  expect(await client.listProvisioners()).toEqual({
    provisioners: [
      { provisionerId: 'a', expires: inMinutes(50), ...fixed },
      { provisionerId: 'b', expires: inMinutes(100), ...fixed },
    ],
  });
  expect(await client.getProvisioner({ provisionerId: 'a' })).toEqual({ provisionerId: 'a', expires: inMinutes(50), ...fixed });
  await expect(client.getProvisioner({ provisionerId: 'nope' })).rejects.toEqual(refused('ResourceNotFound', 404));
  await expect(client.getWorkerType({ provisionerId: 'a', workerType: 'nope' })).rejects.toEqual(refused('ResourceNotFound', 404));
  await expect(client.getTaskQueue({ taskQueueId: 'a/nope' })).rejects.toEqual(refused('ResourceNotFound', 404));
  expect(await client.listWorkerTypes({ provisionerId: 'nope' })).toEqual({ workerTypes: [] });

  // paged by key: what comes and goes in between neither repeats nor hides the others
  const first = await client.listTaskQueues({ limit: '1' });
  expect(first.taskQueues.map(each => each.taskQueueId)).toEqual(['a/x']);
  await own.db`delete from queue.task_queues where task_queue_id = 'a/x'`;
  const { continuationToken } = first as { continuationToken: string };
  const rest = await client.listTaskQueues({ continuationToken });
  expect(rest.taskQueues.map(each => each.taskQueueId)).toEqual(['a/y', 'b/x']);
  expect(rest.continuationToken).toBeUndefined();
  const page = await client.listProvisioners({ limit: '1' });
  expect(await client.listProvisioners({ continuationToken: page.continuationToken ?? '' })).toMatchObject({
    provisioners: [{ provisionerId: 'b' }],
  });
  await expect(client.listTaskQueues({ continuationToken: '!!' })).rejects.toEqual(refused('InputError', 400));
  server.clock.advance({ minutes: 60 });
  expect((await client.listTaskQueues()).taskQueues.map(each => each.taskQueueId)).toEqual(['b/x']);
  expect((await client.listProvisioners()).provisioners.map(each => each.provisionerId)).toEqual(['b']);
});

test('workers are paged by group and id, in the order of the protocol', async () => {
  const keys = [
    ['b', 'w1'],
    ['a', 'w2'],
    ['A', 'w1'],
    ['a', 'W1'],
    ['a', 'w1'],
    ['a', 'w-1'],
  ] as const;
  for (const [workerGroup, workerId] of keys) {
    await queue.declareWorker(params('paged', workerId, workerGroup), { expires: inMinutes(10) });
  }
  const walk = async (limit: string): Promise<string[]> => {
    const found: string[] = [];
    let continuationToken: string | undefined;
    do {
      const page = await queue.listWorkers(
        { provisionerId: 'prov', workerType: 'paged' },
        { limit, ...(continuationToken === undefined ? {} : { continuationToken }) },
      );
      found.push(...page.workers.map(each => `${each.workerGroup}/${each.workerId}`));
      continuationToken = page.continuationToken;
    } while (continuationToken !== undefined);
    return found;
  };
  const expected = ['a/w-1', 'a/w1', 'a/W1', 'a/w2', 'A/w1', 'b/w1'];
  expect(await walk('1000')).toEqual(expected);
  expect(await walk('1')).toEqual(expected);
  expect(await walk('4')).toEqual(expected);
});

test('what has expired is forgotten, quarantined workers are not', async () => {
  const own = await withServer([queueService], { clock: server.clock });
  const client = own.client(queueApi);
  const context = ctxOf(own);
  for (const workerId of ['gone', 'kept', 'fresh']) {
    await client.declareWorker(params('expiry', workerId), { expires: inMinutes(workerId === 'fresh' ? 3 * DAY : 1) });
  }
  await client.declareWorker(params('old', 'w'), { expires: inMinutes(1) });
  await client.quarantineWorker(params('expiry', 'kept'), { quarantineUntil: inMinutes(3 * DAY) });
  server.clock.advance({ minutes: 2 });
  await expect(client.getWorker(params('expiry', 'gone'))).rejects.toEqual(refused('ResourceNotFound', 404));
  expect(await workerInfoExpiry.run(context, 100)).toBe(0);
  server.clock.advance({ minutes: 30 });
  expect(await workerInfoExpiry.run(context, 1)).toBe(1);
  expect(await workerInfoExpiry.run(context, 100)).toBe(2);
  server.clock.advance({ days: 2 });
  expect(await workerInfoExpiry.run(context, 100)).toBe(0);
  const { workers } = await client.listWorkers({ provisionerId: 'prov', workerType: 'expiry' });
  expect(workers.map(each => each.workerId)).toEqual(['fresh', 'kept']);
  expect(await client.getWorker(params('expiry', 'kept'))).toMatchObject({ workerId: 'kept' });
  await expect(client.getTaskQueue({ taskQueueId: 'prov/old' })).rejects.toEqual(refused('ResourceNotFound', 404));
});

test('dates come in every form that the protocol accepts', async () => {
  const declared = await queue.declareWorker(params('dates'), { expires: '2038-01-01 05:00:00+0130' });
  expect(declared).toMatchObject({ expires: '2038-01-01T03:30:00.000Z' });
  const quarantined = await queue.quarantineWorker(params('dates'), { quarantineUntil: '2037-01-01t05:00:00-05' });
  expect(quarantined).toMatchObject({ quarantineUntil: '2037-01-01T10:00:00.000Z' });
});

test.each(['!!', 'abc', '[9000000000000000]', '[9000000000000000,"x"]', '[-9000000000000000,"x"]', '[1.5,"x"]'])(
  'pending and claimed runs are listed whatever token %s says',
  async text => {
    const continuationToken = text.startsWith('[') ? Buffer.from(text).toString('base64url') : text;
    expect(await queue.listPendingTasks({ taskQueueId: 'prov/tokens' }, { continuationToken })).toEqual({ tasks: [] });
    expect(await queue.listClaimedTasks({ taskQueueId: 'prov/tokens' }, { continuationToken })).toEqual({ tasks: [] });
  },
);

test.each([
  ['listProvisioners', [], 'queue:list-provisioners'],
  ['getProvisioner', [{ provisionerId: 'p' }], 'queue:get-provisioner:p'],
  ['listWorkerTypes', [{ provisionerId: 'p' }], 'queue:list-worker-types:p'],
  ['getWorkerType', [{ provisionerId: 'p', workerType: 'w' }], 'queue:get-worker-type:p/w'],
  ['listTaskQueues', [], 'queue:list-task-queues'],
  ['getTaskQueue', [{ taskQueueId: 'p/w' }], 'queue:get-task-queue:p/w'],
  ['listWorkers', [{ provisionerId: 'p', workerType: 'w' }], 'queue:list-workers:p/w'],
  ['getWorker', [{ provisionerId: 'p', workerType: 'w', workerGroup: 'g', workerId: 'i' }], 'queue:get-worker:p/w/g/i'],
] as const)('%s needs its scope', async (name, args, scope) => {
  const call = (scopes: string[]): Promise<unknown> =>
    (server.client(queueApi, { scopes })[name] as (...all: unknown[]) => Promise<unknown>)(...args);
  await expect(call([`${scope}x`])).rejects.toMatchObject({ statusCode: 403, message: expect.stringContaining(scope) });
  const outcome = await call([scope]).then(
    () => 200,
    (error: { statusCode: number }) => error.statusCode,
  );
  expect([200, 404]).toContain(outcome);
});
