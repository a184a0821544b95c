/** Reading the queue: many tasks at once, lists and their pages, ids in URLs; and what is announced of groups. */
import { queueApi } from '@tscluster/api/queue/api.ts';
import { beforeAll, describe, expect, test } from 'vitest';
import { expireDependencies } from './loops.ts';
import { type QueueClient, type QueueServer, aWorker, refusal, withQueue } from './testing.ts';

const DAY = 86_400_000;
const iso = (ms: number): string => new Date(ms).toISOString();

let server: QueueServer;
let queue: QueueClient;
beforeAll(async () => {
  server = await withQueue();
  ({ queue } = server);
  server.client(queueApi, { clientId: 'raw' });
});

/** A request as no client sends it. */
const raw = async (path: string, method = 'GET', as = 'raw'): Promise<{ status: number; body: Record<string, unknown> }> => {
  const headers = { authorization: `Hawk id="${as}", ts="1", nonce="x", mac="x"` };
  const reply = await server.fetch(`${server.rootUrl}/api/queue/v1${path}`, { method, headers });
  return { status: reply.status, body: JSON.parse((await reply.text()) || '{}') as Record<string, unknown> };
};
const page = <T>(
  ask: (query: { limit?: string; continuationToken?: string }) => Promise<T & { continuationToken?: string | undefined }>,
) => ({
  /** Every page of a walk. */
  async walk(limit: number): Promise<T[]> {
    const pages: T[] = [];
    let continuationToken: string | undefined;
    do {
      const answer = await ask({ limit: String(limit), ...(continuationToken === undefined ? {} : { continuationToken }) });
      pages.push(answer);
      ({ continuationToken } = answer);
    } while (continuationToken !== undefined);
    return pages;
  },
});

describe('many tasks at once', () => {
  test('need the scope for each, also for those that do not exist', async () => {
    const [a, b] = [await server.create(), server.newId()];
    const reader = server.client(queueApi, { scopes: [`queue:get-task:${a}`, `queue:status:${a}`] });
    expect((await reader.tasks({ taskIds: [a, a] })).tasks.map(({ taskId }) => taskId)).toEqual([a]);
    expect((await reader.statuses({ taskIds: [a] })).statuses).toHaveLength(1);
    expect(await refusal(reader.tasks({ taskIds: [a, b] }))).toMatchObject({
      code: 'InsufficientScopes',
      message: expect.stringContaining(`queue:get-task:${b}`) as string,
    });
    expect(await refusal(reader.statuses({ taskIds: [a, b] }))).toMatchObject({ code: 'InsufficientScopes' });
  });

  test('of none is nothing, for anybody', async () => {
    const anybody = server.client(queueApi, { scopes: null });
    expect(await anybody.tasks({})).toEqual({ tasks: [] });
    expect(await anybody.statuses({ taskIds: [] })).toEqual({ statuses: [] });
  });

  test('come in pages, each task once', async () => {
    const ids = await Promise.all(Array.from({ length: 7 }, () => server.create()));
    const asked = [...ids, server.newId(), ...ids.slice(0, 3)];
    const pages = await page(query => queue.statuses({ taskIds: asked }, query)).walk(3);
    // in which order within a page is open
    expect(pages.flatMap(({ statuses }) => statuses.map(({ taskId }) => taskId).toSorted())).toEqual(ids.toSorted());
    expect((await queue.tasks({ taskIds: asked }, { limit: '5000' })).tasks).toHaveLength(7);
    expect(await queue.tasks({ taskIds: asked }, { limit: '0' })).toEqual({ tasks: [] });
  });
});

describe('lists', () => {
  test('of any kind end with a limit of 0, and take one above the maximum', async () => {
    const taskId = await server.create({ taskQueueId: 'prov/lists' });
    await server.create({ dependencies: [taskId], taskQueueId: 'prov/lists' });
    await server.create({ taskQueueId: 'prov/lists' });
    await server.claim(1, 'prov/lists');
    const of = { taskQueueId: 'prov/lists' };
    const lists: Record<string, (query: { limit: string }) => Promise<object>> = {
      tasks: query => queue.listTaskGroup({ taskGroupId: taskId }, query),
      dependents: query => queue.listDependentTasks({ taskId }, query),
      pending: query => queue.listPendingTasks(of, query),
      claimed: query => queue.listClaimedTasks(of, query),
      provisioners: query => queue.listProvisioners(query),
      workerTypes: query => queue.listWorkerTypes({ provisionerId: 'prov' }, query),
      taskQueues: query => queue.listTaskQueues(query),
      workers: query => queue.listWorkers({ provisionerId: 'prov', workerType: 'lists' }, query),
    };
    const sizeOf = (answer: object): unknown => Object.values(answer).find(value => Array.isArray(value));
    for (const [name, list] of Object.entries(lists)) {
      const none = await list({ limit: '0' });
      expect([name, sizeOf(none), 'continuationToken' in none]).toEqual([name, [], false]);
      const all = await list({ limit: '99999' });
      expect([name, (sizeOf(all) as unknown[]).length > 0, 'continuationToken' in all]).toEqual([name, true, false]);
    }
  });

  test('of provisioners go on, too', async () => {
    for (const provisioner of ['p-c', 'p-a', 'p-b', 'P-a']) {
      await queue.declareWorker(
        { provisionerId: provisioner, workerType: 'w', ...aWorker() },
        { expires: iso(server.clock.nowMs() + DAY) },
      );
    }
    const pages = await page(query => queue.listProvisioners(query)).walk(2);
    const names = pages.flatMap(({ provisioners }) => provisioners.map(({ provisionerId }) => provisionerId));
    expect(names.filter(name => /^p-/i.test(name))).toEqual(['p-a', 'P-a', 'p-b', 'p-c']);
  });

  test('of dependents leave out edges that have expired, and tasks that are gone', async () => {
    const required = await server.create();
    const deadline = server.clock.nowMs() + 60_000;
    const short = await server.create({ dependencies: [required], deadline: iso(deadline), expires: iso(deadline) });
    const long = await server.create({ dependencies: [required] });
    const gone = await server.create({ dependencies: [required] });
    const ids = async () => (await queue.listDependentTasks({ taskId: required })).tasks.map(({ status }) => status.taskId);
    expect(new Set(await ids())).toEqual(new Set([short, long, gone]));
    await server.db`delete from queue.tasks where task_id = ${gone}`;
    server.clock.advance({ minutes: 1 });
    expect(await ids()).toEqual([long]);
    await server.runLoop(expireDependencies);
    expect(await ids()).toEqual([long]);
  });

  test('of claimed runs have a task once, at its latest claim', async () => {
    const taskId = await server.create({ taskQueueId: 'prov/latest' });
    await server.claim(1, 'prov/latest');
    await server.clock.tick({ minutes: 5 });
    await queue.reclaimTask({ taskId, runId: '0' });
    const { tasks } = await queue.listClaimedTasks({ taskQueueId: 'prov/latest' });
    expect(tasks).toMatchObject([{ taskId, runId: 0, ...aWorker(), claimed: server.clock.now().toISOString() }]);
  });
});

describe('ids in URLs', () => {
  test('of task queues are one segment or two, as each route has it', async () => {
    await queue.declareWorker({ provisionerId: 'prov', workerType: 'urls', ...aWorker() }, { expires: iso(server.clock.nowMs() + DAY) });
    for (const path of [
      '/pending/prov/urls',
      '/pending/prov%2Furls',
      '/task-queues/prov/urls/counts',
      '/task-queues/prov%2Furls/pending',
    ]) {
      expect(await raw(path)).toMatchObject({ status: 200 });
    }
    expect(await raw('/task-queues/prov%2Furls')).toMatchObject({ status: 200, body: { taskQueueId: 'prov/urls' } });
    expect(await raw('/task-queues/prov/urls')).toEqual({ status: 404, body: { error: 'Not found' } });
    expect(await raw('/pending/prov')).toMatchObject({ status: 400, body: { code: 'InvalidRequestArguments' } });
  });

  test('of worker types may be looser than those of task queues', async () => {
    const list = '/provisioners/prov/worker-types/UPPER_case/workers';
    expect(await raw(list)).toMatchObject({ status: 200, body: { workers: [] } });
    expect(await raw(`${list}?quarantined=maybe`)).toMatchObject({ status: 400, body: { code: 'InvalidRequestArguments' } });
    expect(await raw('/provisioners/prov/worker-types/UPPER_case')).toMatchObject({ status: 404, body: { code: 'ResourceNotFound' } });
    expect(await raw(`/provisioners/prov/worker-types/${'w'.repeat(39)}`)).toMatchObject({ status: 400 });
  });

  test('of runs are numbers however written', async () => {
    const taskId = await server.create({ taskQueueId: 'prov/runs' });
    await server.claim(1, 'prov/runs');
    expect(await raw(`/task/${taskId}/runs/00/reclaim`, 'POST')).toMatchObject({ status: 200, body: { runId: 0 } });
    expect(await raw(`/task/${taskId}/runs/102/reclaim`, 'POST')).toMatchObject({ status: 404 });
    for (const runId of ['-1', '1e1', 'x', '0x0']) {
      expect(await raw(`/task/${taskId}/runs/${runId}/reclaim`, 'POST')).toMatchObject({
        status: 400,
        body: { code: 'InvalidRequestArguments' },
      });
    }
  });

  test('of tasks are checked by form', async () => {
    for (const taskId of ['x', 'AAAAAAAAAAAAAAAAAAAAAA', `${server.newId()}x`, `${server.newId().slice(0, -1)}%20`]) {
      expect(await raw(`/task/${taskId}/status`)).toMatchObject({ status: 400, body: { code: 'InvalidRequestArguments' } });
    }
  });
});

describe('a group', () => {
  test('that is cancelled announces each task as it is: tags, priority, routes', async () => {
    const taskGroupId = server.newId();
    const running = await server.create({
      taskGroupId,
      priority: 'high',
      tags: { kind: 'x' },
      routes: ['r.1'],
      taskQueueId: 'prov/cancel',
    });
    await server.claim(1, 'prov/cancel');
    const unscheduled = await server.create({ taskGroupId, priority: 'low', dependencies: [running], tags: { kind: 'y' } });
    await queue.sealTaskGroup({ taskGroupId });
    await server.drain();
    await queue.cancelTaskGroup({ taskGroupId });
    const events = (await server.drain()).filter(({ exchange }) => exchange.endsWith('/task-exception'));
    const told = new Map(events.map(event => [(event.payload as { status: { taskId: string } }).status.taskId, event]));
    expect(told.get(running)).toMatchObject({
      routingKey: `primary.${running}.0.wg1.worker-a.prov.cancel.-.${taskGroupId}._`,
      cc: ['route.r.1'],
      payload: { runId: 0, ...aWorker(), task: { tags: { kind: 'x' } }, status: { priority: 'high', state: 'exception' }, version: 1 },
    });
    expect(told.get(unscheduled)).toMatchObject({
      cc: [],
      payload: {
        runId: 0,
        task: { tags: { kind: 'y' } },
        status: { priority: 'low', runs: [{ reasonCreated: 'exception', reasonResolved: 'canceled' }] },
      },
    });
  });

  test('is left as it was by a creation that is refused', async () => {
    const taskGroupId = await server.create({ schedulerId: 's1', expires: iso(server.clock.nowMs() + DAY) });
    const before = await queue.getTaskGroup({ taskGroupId });
    const late = { taskGroupId, schedulerId: 's1', expires: iso(server.clock.nowMs() + 30 * DAY) };
    expect(await refusal(server.create({ ...late, schedulerId: 's2' }))).toMatchObject({ code: 'RequestConflict' });
    expect(await refusal(server.create({ ...late, dependencies: [server.newId()] }))).toMatchObject({ code: 'InputError' });
    expect(await refusal(server.create({ ...late, deadline: iso(server.clock.nowMs() - 1) }))).toMatchObject({ code: 'InputError' });
    expect(await queue.getTaskGroup({ taskGroupId })).toEqual(before);
    await queue.sealTaskGroup({ taskGroupId });
    expect(await refusal(server.create(late))).toMatchObject({ code: 'RequestConflict' });
    expect(await queue.getTaskGroup({ taskGroupId })).toMatchObject({ expires: before.expires });
  });

  test('that is not sealed is not cancelled, whoever asks', async () => {
    const taskGroupId = await server.create();
    const stranger = server.client(queueApi, { scopes: [] });
    expect(await refusal(stranger.cancelTaskGroup({ taskGroupId }))).toMatchObject({ statusCode: 409 });
    await queue.sealTaskGroup({ taskGroupId });
    expect(await refusal(stranger.cancelTaskGroup({ taskGroupId }))).toMatchObject({ statusCode: 403 });
    expect(await refusal(stranger.cancelTaskGroup({ taskGroupId: server.newId() }))).toMatchObject({ statusCode: 404 });
  });
});

test('a changed priority is read at once, in every process', async () => {
  const taskId = await server.create({ priority: 'low' });
  const other = await withQueue({ db: server.db, clock: server.clock });
  expect((await other.queue.task({ taskId })).priority).toBe('low');
  await queue.changeTaskPriority({ taskId }, { newPriority: 'very-high' });
  expect((await other.queue.task({ taskId })).priority).toBe('very-high');
  expect((await other.queue.status({ taskId })).status.priority).toBe('very-high');
});

test('a report that is repeated after a rerun resolves nothing', async () => {
  const taskId = await server.create({ taskQueueId: 'prov/again', retries: 0 });
  const dependent = await server.create({ dependencies: [taskId], requires: 'all-completed', taskQueueId: 'prov/again' });
  await server.claim(1, 'prov/again');
  const report = () => queue.reportException({ taskId, runId: '0' }, { reason: 'worker-shutdown' });
  await report();
  const late = await server.create({ dependencies: [taskId, dependent], requires: 'all-resolved', taskQueueId: 'prov/again' });
  await queue.rerunTask({ taskId });
  await server.claim(1, 'prov/again');
  await server.drain();
  await report();
  const events = (await server.drain()).map(({ exchange }) => exchange.split('/').at(-1));
  expect(events).toEqual(['task-exception']);
  expect((await queue.status({ taskId })).status.state).toBe('running');
  expect((await queue.status({ taskId: dependent })).status.state).toBe('unscheduled');
  expect((await queue.status({ taskId: late })).status.state).toBe('unscheduled');
});
