/**
 * Every method of index and purge-cache that the published JavaScript client knows is called through it, on a running installation with its local worker:
 * with success, and refused for a documented reason.
 */
import { indexApi } from '@tscluster/api/index/api.ts';
import { createClient } from '@tscluster/client/client.ts';
import { beforeAll, describe, expect, test } from 'vitest';
import { type Installation, startInstallation } from './support/installation.ts';
import { expectRefusal, type ServiceClient, type ServiceMethod, taskcluster } from './support/official.ts';
import { waitFor } from './support/processes.ts';
import { aScript, aTask, newId } from './support/tasks.ts';

let installation: Installation;
const clients = (credentials: { clientId: string; accessToken: string } | Record<string, never>) => {
  const options = { rootUrl: installation.rootUrl, credentials, retries: 0 };
  return { index: new taskcluster.Index(options), caches: new taskcluster.PurgeCache(options), queue: new taskcluster.Queue(options) };
};
const called = new Set<string>();
const call = (client: ServiceClient, name: string, ...args: unknown[]): Promise<any> => {
  called.add(name);
  return (client[name] as ServiceMethod)(...args);
};
let root: ReturnType<typeof clients>;
let nobody: ReturnType<typeof clients>;
const inHours = (hours: number): string => new Date(Date.now() + hours * 3_600_000).toISOString();

beforeAll(async () => {
  installation = await startInstallation();
  root = clients(installation.credentials);
  nobody = clients({});
});

/** Runs a task on the local worker; answers with its id once it is resolved. */
const run = async (script: string, more: object = {}, payload: object = {}): Promise<string> => {
  const taskId = newId();
  await call(root.queue, 'createTask', taskId, { ...aTask(), payload: aScript(script, payload), ...more });
  await waitFor(`task ${taskId}`, 120_000, async () =>
    ['completed', 'failed', 'exception'].includes((await call(root.queue, 'status', taskId)).status.state),
  );
  return taskId;
};
const logOf = async (taskId: string): Promise<string> =>
  (await fetch(`${installation.rootUrl}/api/queue/v1/task/${taskId}/artifacts/public%2Flogs%2Flive.log`)).text();

describe.each(['index', 'caches'] as const)('operational methods of %s', service => {
  test('answer', async () => {
    expect(await call(root[service], 'ping')).toMatchObject({ alive: true });
    expect(await call(root[service], 'lbheartbeat')).toEqual({});
    expect(await call(root[service], 'heartbeat')).toEqual({});
    expect(await call(root[service], 'version')).toHaveProperty('version');
  });
});

describe('the index', () => {
  const entry = () => ({ taskId: newId(), rank: 4, data: { a: 1 }, expires: inHours(10) });

  test('entries', async () => {
    const { index } = root;
    const first = entry();
    const stored = { namespace: 'e2e.entries.x', ...first };
    expect(await call(index, 'insertTask', 'e2e.entries.x', first)).toEqual(stored);
    expect(await call(index, 'insertTask', 'e2e.entries.x', { ...entry(), rank: 3 })).toEqual(stored);
    expect(await call(nobody.index, 'findTask', 'e2e.entries.x')).toEqual(stored);
    expect(await call(nobody.index, 'findTasksAtIndex', { indexes: ['e2e.entries.x', 'e2e.none'] })).toEqual({ tasks: [stored] });
    expect(await call(nobody.index, 'listTasks', 'e2e.entries')).toEqual({ tasks: [stored] });
    expect((await call(nobody.index, 'listNamespaces', 'e2e')).namespaces).toMatchObject([{ namespace: 'e2e.entries', name: 'entries' }]);
    expect((await call(nobody.index, 'listNamespaces', 'e2e', { limit: '0' })).namespaces).toEqual([]);
    expect(await call(index, 'deleteTask', 'e2e.entries.x')).toEqual({});
    expect(await call(index, 'deleteTask', 'e2e.entries.x')).toEqual({});

    await expectRefusal(call(index, 'findTask', 'e2e.entries.x'), 404, 'ResourceNotFound', 'Indexed task not found');
    await expectRefusal(call(index, 'findTask', 'no path'), 400, 'InvalidRequestArguments', 'indexPath');
    await expectRefusal(call(nobody.index, 'insertTask', 'e2e.x', entry()), 403, 'InsufficientScopes', 'index:insert-task:e2e.x');
    await expectRefusal(call(index, 'insertTask', 'e2e.x', { ...entry(), rank: 0.5 }), 400, 'InputError', 'rank');
    await expectRefusal(call(nobody.index, 'deleteTask', 'e2e.x'), 403, 'InsufficientScopes', 'index:delete-task:e2e.x');
    await expectRefusal(call(index, 'findTasksAtIndex', { indexes: 'x' }), 400, 'InputValidationError', 'data/indexes');
    await expectRefusal(call(index, 'listTasks', 'e2e', { limit: 'x' }), 400, 'InvalidRequestArguments', 'limit');
    await expectRefusal(call(index, 'listNamespaces', 'e..e'), 400, 'InvalidRequestArguments', 'namespace');
  });

  test('a task that runs is indexed by its routes, its artifacts are found, and failures are remembered', async () => {
    const { index } = root;
    const artifacts = ['public', 'private'].map(folder => ({ type: 'file', path: 'out', name: `${folder}/out.txt` }));
    const expires = inHours(5);
    const index1 = { rank: 2, data: { kind: 'build' }, expires };
    const definition = { routes: ['index.e2e.build.latest', 'index.e2e.build.other'], extra: { index: index1 } };
    const failed = await run('exit 1', definition);
    const taskId = await run('echo content > out', definition, { artifacts });
    const found = await waitFor('the index entry', 60_000, async () => (await call(index, 'listTasks', 'e2e.build')).tasks.length === 2);
    expect(found).toBe(true);
    expect(await call(nobody.index, 'findTask', 'e2e.build.latest')).toEqual({ namespace: 'e2e.build.latest', taskId, ...index1 });

    called.add('findArtifactFromTask');
    const method = index['findArtifactFromTask'] as ServiceMethod;
    const open = await fetch(nobody.index.buildUrl(method, 'e2e.build.latest', 'public/out.txt'));
    expect([open.status, await open.text()]).toEqual([200, 'content\n']);
    const closed = await fetch(index.buildSignedUrl(method, 'e2e.build.latest', 'private/out.txt'));
    expect([closed.status, await closed.text()]).toEqual([200, 'content\n']);
    expect((await fetch(index.buildUrl(method, 'e2e.build.latest', 'private/out.txt'))).status).toBe(403);
    await expectRefusal(call(index, 'findArtifactFromTask', 'e2e.none', 'public/out.txt'), 404, 'ResourceNotFound');

    // not known to that client
    const own = createClient(indexApi, { rootUrl: installation.rootUrl });
    const { runs } = await own.listHistory({ indexPath: 'e2e.build.latest' });
    expect(runs).toMatchObject([
      { taskId, runId: 0, state: 'completed', reasonResolved: 'completed', workerId: 'local-1' },
      { taskId: failed, runId: 0, state: 'failed', reasonResolved: 'failed' },
    ]);
  });
});

describe('purge-cache', () => {
  const pool = 'local/process';
  const mounts = [{ directory: 'cache', cacheName: 'e2e-purged' }];
  const definition = { scopes: ['generic-worker:cache:e2e-purged'] };
  const linesAfter = async (): Promise<string> => {
    const log = await logOf(await run('echo one >> cache/lines; echo "lines: $(wc -l < cache/lines)"', definition, { mounts }));
    return /^lines: (\d+)$/m.exec(log)?.[1] ?? log;
  };

  test('requests', async () => {
    const { caches } = root;
    const beforeMs = Date.now();
    expect(await call(caches, 'purgeCache', 'e2e/pool', { cacheName: 'c' })).toBeUndefined();
    const { requests } = await call(nobody.caches, 'purgeRequests', 'e2e/pool');
    expect(requests).toEqual([{ provisionerId: 'e2e', workerType: 'pool', cacheName: 'c', before: expect.any(String) }]);
    expect(Date.parse(requests[0].before)).toBeGreaterThanOrEqual(beforeMs);
    expect(await call(nobody.caches, 'purgeRequests', 'e2e/pool', { since: inHours(1) })).toEqual({ requests: [] });
    expect(await call(nobody.caches, 'allPurgeRequests', { limit: '10' })).toEqual({ requests });

    await expectRefusal(
      call(nobody.caches, 'purgeCache', 'e2e/pool', { cacheName: 'c' }),
      403,
      'InsufficientScopes',
      'purge-cache:e2e/pool:c',
    );
    await expectRefusal(call(caches, 'purgeCache', 'e2e', { cacheName: 'c' }), 400, 'InvalidRequestArguments', 'workerPoolId');
    await expectRefusal(call(caches, 'purgeRequests', 'e2e/pool', { since: 'x' }), 400, 'InvalidRequestArguments', 'Invalid Date');
    await expectRefusal(call(caches, 'allPurgeRequests', { continuationToken: '!' }), 400, 'InputError', 'continuation token');
  });

  test('the local worker throws a cache away before it uses it again', async () => {
    expect(await linesAfter()).toBe('1');
    expect(await linesAfter()).toBe('2');
    await call(root.caches, 'purgeCache', pool, { cacheName: 'another' });
    expect(await linesAfter()).toBe('3');
    await call(root.caches, 'purgeCache', pool, { cacheName: 'e2e-purged' });
    expect(await linesAfter()).toBe('1');
  });
});

test('no method of the client was forgotten', () => {
  const methods = [root.index, root.caches].flatMap(client =>
    Object.keys(Object.getPrototypeOf(client) as object).filter(
      name => (client[name] as ServiceMethod | undefined)?.entryReference?.type === 'function',
    ),
  );
  expect(methods.length).toBeGreaterThan(15);
  expect(methods.filter(name => !called.has(name))).toEqual([]);
});
