/**
 * Every method of auth, queue and object that the published JavaScript client knows is called through it: with success, and refused for a documented
 * reason. The last test compares what was called with the client's own list, so that none is forgotten.
 */
import { beforeAll, describe, expect, test } from 'vitest';
import { type Installation, startInstallation } from './support/installation.ts';
import {
  type OfficialClients,
  type ServiceClient,
  type ServiceMethod,
  collector,
  expectRefusal,
  officialClients,
  source,
  taskcluster,
} from './support/official.ts';
import { aTask, newId } from './support/tasks.ts';

type Service = keyof OfficialClients;

/** The client's list has two that the protocol has no more. */
const GONE = ['queue.declareProvisioner', 'queue.declareWorkerType'];
/** They need an account with somebody else, which this installation does not have: 404 says so. */
const NOT_CONFIGURED = [
  'awsS3Credentials',
  'azureTables',
  'azureTableSAS',
  'azureContainers',
  'azureContainerSAS',
  'sentryDSN',
  'gcpCredentials',
].map(name => `auth.${name}`);
/** They answer everybody, whoever asks and however. */
const NEVER_REFUSED = (['auth', 'queue', 'object'] as const).flatMap(service =>
  ['ping', 'lbheartbeat', 'version', 'heartbeat'].map(name => `${service}.${name}`),
);

const succeeded = new Set<string>();
const refused = new Set<string>();

/** The same client, noting which methods succeed and which are refused. */
const noting = (service: Service, client: ServiceClient): ServiceClient =>
  new Proxy(client, {
    get: (target, name: string) => {
      const method = target[name] as ServiceMethod | undefined;
      if (typeof method !== 'function' || method.entryReference === undefined) {
        return method;
      }
      return (...args: unknown[]) =>
        method.apply(target, args).then(
          (value: unknown) => {
            succeeded.add(`${service}.${name}`);
            return value;
          },
          (error: { statusCode?: number }) => {
            if (error.statusCode !== undefined && error.statusCode >= 400 && error.statusCode < 500) {
              refused.add(`${service}.${name}`);
            }
            throw error;
          },
        );
    },
  });

const notingClients = (...args: Parameters<typeof officialClients>): OfficialClients => {
  const clients = officialClients(...args);
  return { auth: noting('auth', clients.auth), queue: noting('queue', clients.queue), object: noting('object', clients.object) };
};

let installation: Installation;
let root: OfficialClients;
let nobody: OfficialClients;
let impostor: OfficialClients;

beforeAll(async () => {
  installation = await startInstallation({ env: { WEBSOCKTUNNEL_SECRET: 'shared-with-a-tunnel' } });
  root = notingClients(installation, installation.credentials);
  nobody = notingClients(installation);
  impostor = notingClients(installation, { clientId: installation.credentials.clientId, accessToken: 'B'.repeat(44) });
});

const inAnHour = (): Date => new Date(Date.now() + 3_600_000);
const METHODS: Readonly<Record<Service, () => ServiceClient>> = {
  auth: () => root.auth,
  queue: () => root.queue,
  object: () => root.object,
};
const of = (client: ServiceClient, name: string): ServiceMethod => {
  const method = client[name];
  if (!method) {
    throw new Error(`The client has no method ${name}`);
  }
  return method;
};
const call = (client: ServiceClient, name: string, ...args: unknown[]): Promise<any> => of(client, name)(...args);

describe.each(['auth', 'queue', 'object'] as const)('operational methods of %s', service => {
  test('answer', async () => {
    const client = METHODS[service]();
    expect(await call(client, 'ping')).toMatchObject({ alive: true, uptime: expect.any(Number) });
    expect(await call(client, 'lbheartbeat')).toEqual({});
    expect(await call(client, 'heartbeat')).toEqual({});
    expect(await call(client, 'version')).toMatchObject({ version: expect.any(String), commit: expect.any(String) });
  });
});

describe('auth', () => {
  const clientId = 'e2e/methods';

  test('clients', async () => {
    const { auth } = root;
    const words = { description: 'made here', expires: inAnHour().toISOString(), scopes: ['e2e:a'], deleteOnExpiration: false };
    const created = await call(auth, 'createClient', clientId, words);
    expect(created).toMatchObject({ clientId, scopes: ['e2e:a'], disabled: false, accessToken: expect.stringMatching(/^[\w-]{44}$/) });
    await expectRefusal(call(auth, 'createClient', clientId, { ...words, description: 'other' }), 409, 'RequestConflict', 'exists');
    expect(await call(auth, 'client', clientId)).toMatchObject({ clientId, expandedScopes: ['e2e:a'] });
    await expectRefusal(call(auth, 'client', 'e2e/none'), 404, 'ResourceNotFound', 'Client not found');
    const { clients } = await call(auth, 'listClients', { prefix: 'e2e/' });
    expect(clients).toMatchObject([{ clientId }]);
    await expectRefusal(call(auth, 'listClients', { limit: 'many' }), 400, 'InvalidRequestArguments', 'limit');
    expect(await call(auth, 'updateClient', clientId, { ...words, scopes: ['e2e:b'] })).toMatchObject({ scopes: ['e2e:b'] });
    await expectRefusal(call(nobody.auth, 'updateClient', clientId, words), 403, 'InsufficientScopes', `auth:update-client:${clientId}`);
    expect(await call(auth, 'disableClient', clientId)).toMatchObject({ disabled: true });
    await expectRefusal(call(auth, 'disableClient', 'e2e/none'), 404, 'ResourceNotFound');
    expect(await call(auth, 'enableClient', clientId)).toMatchObject({ disabled: false });
    await expectRefusal(call(auth, 'enableClient', 'static/e2e'), 400, 'InputError', 'reserved for statically configured clients');
    const reset = await call(auth, 'resetAccessToken', clientId);
    expect(reset.accessToken).not.toBe(created.accessToken);
    await expectRefusal(call(nobody.auth, 'resetAccessToken', clientId), 403, 'InsufficientScopes', `auth:reset-access-token:${clientId}`);
    await expectRefusal(call(nobody.auth, 'deleteClient', clientId), 403, 'InsufficientScopes', `auth:delete-client:${clientId}`);
    expect(await call(auth, 'deleteClient', clientId)).toBeUndefined();
    await expectRefusal(call(auth, 'client', clientId), 404, 'ResourceNotFound');
  });

  test('roles', async () => {
    const { auth } = root;
    const roleId = 'e2e-methods';
    const words = { description: 'made here', scopes: ['e2e:a'] };
    expect(await call(auth, 'createRole', roleId, words)).toMatchObject({ roleId, scopes: ['e2e:a'] });
    await expectRefusal(call(auth, 'createRole', roleId, { ...words, scopes: ['e2e:b'] }), 409, 'RequestConflict', roleId);
    await expectRefusal(call(auth, 'createRole', 'e2e-cycle', { ...words, scopes: ['assume:e2e-cycle'] }), 400, 'InputError', 'cycle');
    expect(await call(auth, 'role', roleId)).toMatchObject({ roleId, expandedScopes: ['assume:e2e-methods', 'e2e:a'] });
    await expectRefusal(call(auth, 'role', 'e2e-none'), 404, 'ResourceNotFound', 'Role not found');
    expect(await call(auth, 'updateRole', roleId, { ...words, scopes: ['e2e:b'] })).toMatchObject({ scopes: ['e2e:b'] });
    await expectRefusal(call(auth, 'updateRole', 'e2e-none', words), 404, 'ResourceNotFound', 'e2e-none');
    expect((await call(auth, 'listRoles')).map((role: { roleId: string }) => role.roleId)).toEqual(
      expect.arrayContaining(['anonymous', roleId]),
    );
    expect((await call(auth, 'listRoles2', { limit: '1' })).roles).toHaveLength(1);
    expect((await call(auth, 'listRoleIds')).roleIds).toEqual(expect.arrayContaining(['anonymous', roleId]));
    await expectRefusal(call(impostor.auth, 'listRoles'), 401, 'AuthenticationFailed', 'Bad mac');
    await expectRefusal(call(auth, 'listRoles2', { continuationToken: 'not one', limit: '1' }), 400, 'InputError', 'continuationToken');
    await expectRefusal(call(auth, 'listRoleIds', { limit: 'many' }), 400, 'InvalidRequestArguments', 'limit');
    await expectRefusal(call(nobody.auth, 'deleteRole', roleId), 403, 'InsufficientScopes', `auth:delete-role:${roleId}`);
    expect(await call(auth, 'deleteRole', roleId)).toBeUndefined();
  });

  test('scopes and history', async () => {
    const { auth } = root;
    expect(await call(auth, 'expandScopes', { scopes: ['e2e:b', 'e2e:a', 'e2e:*'] })).toEqual({ scopes: ['e2e:*'] });
    await expectRefusal(call(auth, 'expandScopes', { scopes: ['a', 'a'] }), 400, 'InputValidationError', 'data/scopes');
    expect(await call(auth, 'currentScopes')).toMatchObject({ scopes: expect.arrayContaining(['*']) });
    await expectRefusal(call(impostor.auth, 'currentScopes'), 401, 'AuthenticationFailed', 'Bad mac');
    const { auditHistory } = await call(auth, 'getEntityHistory', 'client', clientId);
    expect(auditHistory.map(({ actionType }: { actionType: string }) => actionType)).toEqual([
      'created',
      'updated',
      'client disabled',
      'client enabled',
      'access token reset',
      'deleted',
    ]);
    await expectRefusal(call(nobody.auth, 'getEntityHistory', 'client', clientId), 403, 'InsufficientScopes', 'auth:audit-history:client');
    const own = await call(auth, 'listAuditHistory', installation.credentials.clientId, { limit: '3' });
    expect(own.auditHistory).toHaveLength(3);
    await expectRefusal(
      call(nobody.auth, 'listAuditHistory', clientId),
      403,
      'InsufficientScopes',
      `auth:client-audit-history:${clientId}`,
    );
  });

  test('authentication', async () => {
    const { auth } = root;
    const request = { method: 'get', resource: '/x', host: 'localhost', port: 80 };
    expect(await call(nobody.auth, 'authenticateHawk', request)).toMatchObject({ status: 'no-auth', scheme: 'none' });
    await expectRefusal(call(auth, 'authenticateHawk', { ...request, port: 'http' }), 400, 'InputValidationError', 'data/port');
    const tester = notingClients(installation, { clientId: 'tester', accessToken: 'no-secret' }).auth;
    const scopes = { clientScopes: ['test:*'], requiredScopes: ['test:x'] };
    expect(await call(tester, 'testAuthenticate', scopes)).toMatchObject({
      clientId: 'tester',
      scopes: expect.arrayContaining(['test:*']),
    });
    await expectRefusal(call(tester, 'testAuthenticate', { ...scopes, requiredScopes: ['other'] }), 403, 'InsufficientScopes', 'other');
    expect(await call(tester, 'testAuthenticateGet')).toMatchObject({ clientId: 'tester' });
    await expectRefusal(call(auth, 'testAuthenticateGet'), 401, 'AuthenticationFailed', 'not found');
  });

  test('credentials of other systems', async () => {
    const { auth } = root;
    expect(await call(auth, 'azureAccounts')).toEqual({ accounts: [] });
    await expectRefusal(call(nobody.auth, 'azureAccounts'), 403, 'InsufficientScopes', 'auth:azure-table:list-accounts');
    expect(await call(auth, 'websocktunnelToken', 'audience', 'client')).toMatchObject({
      wstAudience: 'audience',
      wstClient: 'client',
      token: expect.stringMatching(/^[\w-]+\.[\w-]+\.[\w-]+$/),
    });
    await expectRefusal(
      call(nobody.auth, 'websocktunnelToken', 'audience', 'client'),
      403,
      'InsufficientScopes',
      'auth:websocktunnel-token:audience/client',
    );
    const notFound = (name: string, ...args: string[]): Promise<void> => expectRefusal(call(auth, name, ...args), 404, 'ResourceNotFound');
    await notFound('awsS3Credentials', 'read-only', 'a-bucket', 'prefix/');
    await notFound('azureTables', 'account');
    await notFound('azureTableSAS', 'account', 'aTable', 'read-only');
    await notFound('azureContainers', 'account');
    await notFound('azureContainerSAS', 'account', 'container', 'read-write');
    await notFound('sentryDSN', 'project');
    await notFound('gcpCredentials', '-', 'account@example.com');
  });
});

describe('queue', () => {
  const taskQueueId = 'e2e/methods';
  const worker = { workerGroup: 'e2e', workerId: 'methods' };
  const create = async (more: object = {}): Promise<string> => {
    const taskId = newId();
    await call(root.queue, 'createTask', taskId, { ...aTask({ taskQueueId }), ...more });
    return taskId;
  };
  const claim = async (): Promise<string> => {
    const { tasks } = await call(root.queue, 'claimWork', taskQueueId, worker);
    return tasks[0].status.taskId;
  };

  test('tasks', async () => {
    const { queue } = root;
    const taskId = newId();
    const definition = aTask({ taskQueueId });
    expect((await call(queue, 'createTask', taskId, definition)).status).toMatchObject({ taskId, state: 'pending' });
    await expectRefusal(call(queue, 'createTask', taskId, { ...definition, retries: 1 }), 409, 'RequestConflict', taskId);
    expect(await call(queue, 'task', taskId)).toMatchObject({ taskQueueId, retries: 5, priority: 'lowest' });
    await expectRefusal(call(queue, 'task', newId()), 404, 'ResourceNotFound');
    expect((await call(queue, 'status', taskId)).status).toMatchObject({ taskId, state: 'pending' });
    await expectRefusal(call(queue, 'status', newId()), 404, 'ResourceNotFound');
    await expectRefusal(call(queue, 'status', 'no-slugid'), 400, 'InvalidRequestArguments', 'taskId');
    expect((await call(queue, 'tasks', { taskIds: [taskId, newId()] })).tasks).toMatchObject([{ taskId, task: { taskQueueId } }]);
    await expectRefusal(call(queue, 'tasks', { taskIds: taskId }), 400, 'InputValidationError', 'data/taskIds');
    expect((await call(queue, 'statuses', { taskIds: [taskId] })).statuses).toMatchObject([{ taskId, status: { state: 'pending' } }]);
    await expectRefusal(call(queue, 'statuses', {}, { limit: 'all' }), 400, 'InvalidRequestArguments', 'limit');
    const dependent = await create({ dependencies: [taskId] });
    expect((await call(queue, 'listDependentTasks', taskId)).tasks).toMatchObject([
      { status: { taskId: dependent, state: 'unscheduled' } },
    ]);
    await expectRefusal(call(queue, 'listDependentTasks', newId()), 404, 'ResourceNotFound');
    expect((await call(queue, 'scheduleTask', dependent)).status).toMatchObject({ state: 'pending' });
    await expectRefusal(call(queue, 'scheduleTask', newId()), 404, 'ResourceNotFound');
    await expectRefusal(call(nobody.queue, 'cancelTask', taskId), 403, 'InsufficientScopes', `queue:cancel-task:-/${taskId}/${taskId}`);
    expect((await call(queue, 'cancelTask', taskId)).status).toMatchObject({ state: 'exception', runs: [{ reasonResolved: 'canceled' }] });
    expect((await call(queue, 'rerunTask', taskId)).status).toMatchObject({ state: 'pending', runs: [{}, { reasonCreated: 'rerun' }] });
    await expectRefusal(call(nobody.queue, 'rerunTask', taskId), 403, 'InsufficientScopes', `queue:rerun-task:-/${taskId}/${taskId}`);
    await Promise.all([taskId, dependent].map(each => call(queue, 'cancelTask', each)));
  });

  test('groups', async () => {
    const { queue } = root;
    const taskGroupId = newId();
    const taskId = await create({ taskGroupId });
    expect(await call(queue, 'getTaskGroup', taskGroupId)).toMatchObject({ taskGroupId, schedulerId: '-' });
    await expectRefusal(call(queue, 'getTaskGroup', newId()), 404, 'ResourceNotFound');
    expect((await call(queue, 'listTaskGroup', taskGroupId)).tasks).toMatchObject([{ status: { taskId } }]);
    await expectRefusal(call(queue, 'listTaskGroup', newId()), 404, 'ResourceNotFound');
    await expectRefusal(call(queue, 'cancelTaskGroup', taskGroupId), 409, 'RequestConflict', 'seal');
    await expectRefusal(
      call(nobody.queue, 'sealTaskGroup', taskGroupId),
      403,
      'InsufficientScopes',
      `queue:seal-task-group:-/${taskGroupId}`,
    );
    expect(await call(queue, 'sealTaskGroup', taskGroupId)).toMatchObject({ taskGroupId, sealed: expect.any(String) });
    await expectRefusal(create({ taskGroupId }), 409, 'RequestConflict', taskGroupId);
    expect(await call(queue, 'cancelTaskGroup', taskGroupId)).toMatchObject({ taskGroupSize: 1, cancelledCount: 1, taskIds: [taskId] });
  });

  test('claims and reports', async () => {
    const { queue } = root;
    const first = await create();
    await expectRefusal(call(nobody.queue, 'claimWork', taskQueueId, worker), 403, 'InsufficientScopes', `queue:claim-work:${taskQueueId}`);
    await expectRefusal(call(queue, 'claimWork', taskQueueId, { ...worker, tasks: 33 }), 400, 'InputValidationError', 'data/tasks');
    expect(await claim()).toBe(first);
    expect(await call(queue, 'reclaimTask', first, 0)).toMatchObject({ runId: 0, takenUntil: expect.any(String), credentials: {} });
    await expectRefusal(call(queue, 'reclaimTask', first, 1), 404, 'ResourceNotFound');
    expect((await call(queue, 'reportCompleted', first, 0)).status).toMatchObject({ state: 'completed' });
    await expectRefusal(call(queue, 'reportFailed', first, 0), 409, 'RequestConflict', 'completed');
    await expectRefusal(call(queue, 'reclaimTask', first, 0), 409, 'RequestConflict');

    const second = await create();
    await expectRefusal(call(queue, 'reportCompleted', second, 0), 409, 'RequestConflict', 'pending');
    expect(await call(queue, 'claimTask', second, 0, worker)).toMatchObject({ runId: 0, status: { taskId: second, state: 'running' } });
    await expectRefusal(call(queue, 'claimTask', second, 0, { ...worker, workerId: 'other' }), 409, 'RequestConflict');
    expect((await call(queue, 'reportFailed', second, 0)).status).toMatchObject({ state: 'failed' });

    const third = await create();
    expect(await claim()).toBe(third);
    await expectRefusal(call(queue, 'reportException', third, 0, { reason: 'canceled' }), 400, 'InputValidationError', 'data/reason');
    expect((await call(queue, 'reportException', third, 0, { reason: 'worker-shutdown' })).status).toMatchObject({
      state: 'pending',
      retriesLeft: 4,
      runs: [{ reasonResolved: 'worker-shutdown' }, { reasonCreated: 'retry' }],
    });
    await call(queue, 'cancelTask', third);
  });

  test('artifacts', async () => {
    const { queue } = root;
    const taskId = await create({ extra: { about: 'artifacts' } });
    const expires = inAnHour().toISOString();
    const make = (name: string, words: object): Promise<any> => call(queue, 'createArtifact', taskId, 0, name, { expires, ...words });
    await expectRefusal(make('public/early', { storageType: 'link', artifact: 'x' }), 400, 'InputError');
    expect(await claim()).toBe(taskId);

    const bytes = 'a text for everybody\n';
    const { putUrl } = await make('public/s3.txt', { storageType: 's3', contentType: 'text/plain' });
    expect((await fetch(putUrl, { method: 'PUT', headers: { 'content-type': 'text/plain' }, body: bytes })).status).toBe(200);
    expect(await make('public/elsewhere', { storageType: 'reference', contentType: 'text/html', url: 'https://example.com/' })).toEqual({
      storageType: 'reference',
    });
    expect(await make('public/link', { storageType: 'link', artifact: 'public/s3.txt' })).toEqual({ storageType: 'link' });
    expect(await make('public/error', { storageType: 'error', reason: 'file-missing-on-worker', message: 'it was not there' })).toEqual({
      storageType: 'error',
    });
    await expectRefusal(make('public/link', { storageType: 'link', artifact: 'public/other' }), 409, 'RequestConflict');

    const {
      name,
      projectId,
      uploadId,
      credentials,
      expires: until,
    } = await make('public/object.txt', { storageType: 'object', contentType: 'text/plain' });
    const own = notingClients(installation, credentials).object;
    await expectRefusal(call(queue, 'finishArtifact', taskId, 0, 'public/object.txt', { uploadId: newId() }), 400, 'InputError');
    const upload = { projectId, uploadId, name, contentType: 'text/plain', contentLength: bytes.length, expires: until };
    await taskcluster.upload({ ...upload, object: own, streamFactory: source(bytes) });
    expect(await call(queue, 'finishArtifact', taskId, 0, 'public/object.txt', { uploadId })).toBeUndefined();

    const s3 = { storageType: 's3', url: expect.stringMatching(/^http/) };
    expect(await call(queue, 'artifact', taskId, 0, 'public/s3.txt')).toEqual(s3);
    expect(await call(queue, 'latestArtifact', taskId, 'public/link')).toEqual(s3);
    expect(await call(queue, 'getArtifact', taskId, 0, 'public/s3.txt')).toEqual(s3);
    expect(await call(queue, 'getLatestArtifact', taskId, 'public/elsewhere')).toEqual({
      storageType: 'reference',
      url: 'https://example.com/',
    });
    expect(await call(queue, 'latestArtifact', taskId, 'public/error')).toMatchObject({
      storageType: 'error',
      reason: 'file-missing-on-worker',
    });
    await expectRefusal(call(queue, 'getLatestArtifact', taskId, 'public/error'), 424, 'UnknownError', 'it was not there');
    await expectRefusal(
      call(nobody.queue, 'getArtifact', taskId, 0, 'private/x'),
      403,
      'InsufficientScopes',
      'queue:get-artifact:private/x',
    );
    await expectRefusal(call(queue, 'artifact', taskId, 0, 'public/none'), 404, 'ResourceNotFound');
    await expectRefusal(call(queue, 'latestArtifact', newId(), 'public/none'), 404, 'ResourceNotFound');

    const names = ['public/elsewhere', 'public/error', 'public/link', 'public/object.txt', 'public/s3.txt'];
    for (const list of [call(queue, 'listArtifacts', taskId, 0), call(queue, 'listLatestArtifacts', taskId)]) {
      expect((await list).artifacts.map((artifact: { name: string }) => artifact.name)).toEqual(names);
    }
    await expectRefusal(call(queue, 'listArtifacts', taskId, 7), 404, 'ResourceNotFound');
    await expectRefusal(call(queue, 'listLatestArtifacts', newId()), 404, 'ResourceNotFound');
    const info = { storageType: 'object', name: 'public/object.txt', contentType: 'text/plain' };
    expect(await call(queue, 'artifactInfo', taskId, 0, 'public/object.txt')).toMatchObject(info);
    expect(await call(queue, 'latestArtifactInfo', taskId, 'public/object.txt')).toMatchObject(info);
    await expectRefusal(call(queue, 'artifactInfo', taskId, 0, 'public/none'), 404, 'ResourceNotFound');
    await expectRefusal(call(queue, 'latestArtifactInfo', taskId, 'public/none'), 404, 'ResourceNotFound');

    for (const each of ['public/s3.txt', 'public/link', 'public/object.txt']) {
      const { streamFactory, text } = collector();
      const contentType = await taskcluster.downloadArtifact({
        taskId,
        name: each,
        queue: officialClients(installation).queue,
        streamFactory,
      });
      expect([text(), contentType]).toEqual([bytes, expect.stringMatching(/^text\/plain/)]);
    }
    await call(queue, 'reportCompleted', taskId, 0);
  });

  test('task queues and workers', async () => {
    const { queue } = root;
    const [provisionerId, workerType] = taskQueueId.split('/');
    const { workerGroup, workerId } = worker;
    const names = [provisionerId, workerType, workerGroup, workerId];
    const unknown = [provisionerId, workerType, workerGroup, 'nobody'];
    const expires = inAnHour().toISOString();
    const pending = await create();

    expect(await call(queue, 'pendingTasks', taskQueueId)).toMatchObject({ taskQueueId, pendingTasks: 1 });
    await expectRefusal(call(queue, 'pendingTasks', 'no-queue'), 400, 'InvalidRequestArguments', 'taskQueueId');
    expect(await call(queue, 'taskQueueCounts', taskQueueId)).toMatchObject({ pendingTasks: 1, claimedTasks: expect.any(Number) });
    await expectRefusal(
      call(nobody.queue, 'taskQueueCounts', taskQueueId),
      403,
      'InsufficientScopes',
      `queue:claimed-count:${taskQueueId}`,
    );
    expect((await call(queue, 'listPendingTasks', taskQueueId)).tasks).toMatchObject([{ taskId: pending, runId: 0 }]);
    await expectRefusal(
      call(nobody.queue, 'listPendingTasks', taskQueueId),
      403,
      'InsufficientScopes',
      `queue:pending-list:${taskQueueId}`,
    );
    expect(await claim()).toBe(pending);
    expect((await call(queue, 'listClaimedTasks', taskQueueId)).tasks).toContainEqual(
      expect.objectContaining({ taskId: pending, ...worker }),
    );
    await expectRefusal(
      call(nobody.queue, 'listClaimedTasks', taskQueueId),
      403,
      'InsufficientScopes',
      `queue:claimed-list:${taskQueueId}`,
    );
    await call(queue, 'reportCompleted', pending, 0);

    expect((await call(queue, 'listTaskQueues')).taskQueues).toContainEqual(expect.objectContaining({ taskQueueId }));
    await expectRefusal(call(nobody.queue, 'listTaskQueues'), 403, 'InsufficientScopes', 'queue:list-task-queues');
    expect(await call(queue, 'getTaskQueue', taskQueueId)).toMatchObject({ taskQueueId });
    await expectRefusal(call(queue, 'getTaskQueue', 'e2e/none'), 404, 'ResourceNotFound');
    expect((await call(queue, 'listProvisioners')).provisioners).toContainEqual(expect.objectContaining({ provisionerId }));
    await expectRefusal(call(queue, 'listProvisioners', { limit: 'all' }), 400, 'InvalidRequestArguments', 'limit');
    expect(await call(queue, 'getProvisioner', provisionerId)).toMatchObject({ provisionerId });
    await expectRefusal(call(queue, 'getProvisioner', 'none'), 404, 'ResourceNotFound');
    expect((await call(queue, 'listWorkerTypes', provisionerId)).workerTypes).toContainEqual(expect.objectContaining({ workerType }));
    await expectRefusal(call(queue, 'listWorkerTypes', 'has space'), 400, 'InvalidRequestArguments', 'provisionerId');
    expect(await call(queue, 'getWorkerType', provisionerId, workerType)).toMatchObject({ provisionerId, workerType });
    await expectRefusal(call(queue, 'getWorkerType', provisionerId, 'none'), 404, 'ResourceNotFound');

    await call(queue, 'declareWorker', provisionerId, workerType, workerGroup, 'declared', { expires });
    await expectRefusal(
      call(nobody.queue, 'declareWorker', ...names, { expires }),
      403,
      'InsufficientScopes',
      `queue:declare-worker:${names.join('/')}#expires`,
    );
    expect(
      (await call(queue, 'listWorkers', provisionerId, workerType)).workers.map((each: { workerId: string }) => each.workerId),
    ).toEqual(['declared', workerId]);
    await expectRefusal(
      call(queue, 'listWorkers', provisionerId, workerType, { quarantined: 'perhaps' }),
      400,
      'InvalidRequestArguments',
      'quarantined',
    );
    expect(await call(queue, 'getWorker', ...names)).toMatchObject({ workerGroup, workerId, recentTasks: expect.any(Array) });
    await expectRefusal(call(queue, 'getWorker', ...unknown), 404, 'ResourceNotFound');
    expect(await call(queue, 'quarantineWorker', ...names, { quarantineUntil: expires, quarantineInfo: 'by a test' })).toMatchObject({
      quarantineUntil: expires,
    });
    await expectRefusal(call(queue, 'quarantineWorker', ...unknown, { quarantineUntil: expires }), 404, 'ResourceNotFound');
    const { workers } = await call(queue, 'listWorkers', provisionerId, workerType, { quarantined: 'true' });
    expect(workers).toMatchObject([{ workerId, quarantineUntil: expires }]);
  });
});

describe('object', () => {
  test('uploads and downloads', async () => {
    const { object } = root;
    const name = 'e2e/methods/file.bin';
    const text = 'x'.repeat(20_000); // too long to be sent with the declaration
    const words = {
      projectId: 'e2e',
      expires: inAnHour().toISOString(),
      contentType: 'application/octet-stream',
      contentLength: text.length,
    };
    const uploadId = newId();
    await taskcluster.upload({ ...words, name, uploadId, object, streamFactory: source(text) });
    await expectRefusal(
      call(object, 'createUpload', name, { projectId: 'e2e', uploadId: newId(), expires: words.expires, proposedUploadMethods: {} }),
      409,
      'RequestConflict',
    );
    await expectRefusal(call(object, 'finishUpload', 'e2e/none', { projectId: 'e2e', uploadId }), 404, 'ResourceNotFound');
    expect(await call(object, 'object', name)).toMatchObject({
      projectId: 'e2e',
      hashes: { sha256: expect.stringMatching(/^[0-9a-f]{64}$/) },
    });
    await expectRefusal(call(object, 'object', 'e2e/none'), 404, 'ResourceNotFound');
    const { streamFactory, text: received } = collector();
    await taskcluster.download({ name, object, streamFactory });
    expect(received()).toBe(text);
    await expectRefusal(call(object, 'startDownload', name, { acceptDownloadMethods: {} }), 406, 'NoMatchingMethod');
    const { url } = await call(object, 'startDownload', name, { acceptDownloadMethods: { simple: true } });
    expect(await (await fetch(url)).text()).toBe(text);
    await call(object, 'download', name);
    expect(await (await fetch(object.buildSignedUrl(of(officialClients(installation).object, 'download'), name))).text()).toBe(text);
    await expectRefusal(call(nobody.object, 'download', name), 403, 'InsufficientScopes', `object:download:${name}`);
  });
});

test('no method of the client was forgotten', () => {
  const list = (service: Service): string[] => {
    const client = officialClients(installation)[service];
    const names = Object.keys(Object.getPrototypeOf(client) as object);
    return names.filter(name => client[name]?.entryReference?.type === 'function').map(name => `${service}.${name}`);
  };
  const all = (['auth', 'queue', 'object'] as const).flatMap(list).filter(name => !GONE.includes(name));
  expect(all.length).toBeGreaterThan(85);
  expect(all.filter(name => !succeeded.has(name) && !NOT_CONFIGURED.includes(name))).toEqual([]);
  expect(all.filter(name => !refused.has(name) && !NEVER_REFUSED.includes(name))).toEqual([]);
});
