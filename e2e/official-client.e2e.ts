/** The published JavaScript client, unmodified, does what people do with it: a chain of tasks, its log and artifacts, temporary credentials, signed URLs. */
import { beforeAll, describe, expect, test } from 'vitest';
import { type Installation, startInstallation } from './support/installation.ts';
import {
  type ClientCredentials,
  type OfficialClients,
  expectRefusal,
  officialClients,
  readArtifact,
  taskcluster,
} from './support/official.ts';
import { waitFor } from './support/processes.ts';
import { aScript, aTask, newId } from './support/tasks.ts';

let installation: Installation;
let root: OfficialClients;

beforeAll(async () => {
  installation = await startInstallation();
  root = officialClients(installation, installation.credentials);
});

const HOUR_MS = 3_600_000;
const inAnHour = (): Date => new Date(Date.now() + HOUR_MS);

describe('a chain of three tasks', () => {
  test('runs in order, hands artifacts on, and leaves logs', async () => {
    const { queue } = root;
    const taskGroupId = newId();
    const [first, second, third] = [newId(), newId(), newId()];
    const expires = inAnHour().toISOString();
    const output = { type: 'file', path: 'out.txt', name: 'public/out.txt', expires };
    const input = (taskId: string) => ({ file: 'in.txt', content: { taskId, artifact: 'public/out.txt' } });

    await queue['createTask']!(
      first,
      aTask({ taskGroupId, payload: aScript('echo one step; echo one > out.txt', { artifacts: [output] }) }),
    );
    await queue['createTask']!(
      second,
      aTask({
        taskGroupId,
        dependencies: [first],
        payload: aScript('echo another step; { cat in.txt; echo two; } > out.txt', { artifacts: [output], mounts: [input(first)] }),
      }),
    );
    const { status: waiting } = await queue['createTask']!(
      third,
      aTask({
        taskGroupId,
        dependencies: [second],
        payload: aScript('echo the last step; cat in.txt; { cat in.txt; echo three; } > out.txt', {
          artifacts: [output],
          mounts: [input(second)],
        }),
      }),
    );
    expect(waiting).toMatchObject({ state: 'unscheduled', runs: [] });

    await waitFor('the chain', 60_000, async () => {
      const { tasks } = await queue['listTaskGroup']!(taskGroupId);
      return tasks.every(({ status }: { status: { state: string } }) => ['completed', 'failed', 'exception'].includes(status.state));
    });
    const statuses = await Promise.all([first, second, third].map(async taskId => (await queue['status']!(taskId)).status));
    expect(statuses).toMatchObject(
      [1, 2, 3].map(() => ({
        state: 'completed',
        runs: [
          {
            runId: 0,
            state: 'completed',
            reasonCreated: 'scheduled',
            reasonResolved: 'completed',
            workerGroup: 'local',
            workerId: 'local-1',
          },
        ],
      })),
    );
    const [one, two, three] = statuses.map(({ runs }) => runs[0]);
    expect(Date.parse(two.scheduled)).toBeGreaterThanOrEqual(Date.parse(one.resolved));
    expect(Date.parse(three.scheduled)).toBeGreaterThanOrEqual(Date.parse(two.resolved));

    expect(await readArtifact(queue, third, 'public/out.txt')).toBe('one\ntwo\nthree\n');
    expect(await readArtifact(queue, third, 'public/out.txt', 0)).toBe('one\ntwo\nthree\n');
    for (const name of ['public/logs/live.log', 'public/logs/live_backing.log']) {
      expect(await readArtifact(queue, third, name)).toMatch(/the last step\r?\n.*one\r?\n.*two/s);
    }
    const { artifacts } = await queue['listLatestArtifacts']!(third);
    expect(artifacts.map(({ name }: { name: string }) => name)).toEqual(
      expect.arrayContaining(['public/logs/live.log', 'public/logs/live_backing.log', 'public/out.txt']),
    );
    // anybody may read what is public
    expect(await readArtifact(officialClients(installation).queue, first, 'public/out.txt')).toBe('one\n');
  });

  test('a task that fails keeps the next from starting', async () => {
    const { queue } = root;
    const [first, second] = [newId(), newId()];
    await queue['createTask']!(first, aTask({ payload: aScript('echo it breaks; exit 3') }));
    await queue['createTask']!(second, aTask({ dependencies: [first], payload: aScript('true') }));
    const status = await waitFor('the failure', 60_000, async () => {
      const answer = await queue['status']!(first);
      return ['failed', 'exception', 'completed'].includes(answer.status.state) && answer.status;
    });
    expect(status).toMatchObject({ state: 'failed', runs: [{ reasonResolved: 'failed' }] });
    expect(await readArtifact(queue, first, 'public/logs/live_backing.log')).toContain('it breaks');
    expect((await queue['status']!(second)).status).toMatchObject({ state: 'unscheduled', runs: [] });
  });
});

describe('temporary credentials made by the client', () => {
  const make = (options: { clientId?: string; scopes: string[]; start?: Date; expiry?: Date }): Required<ClientCredentials> =>
    taskcluster.createTemporaryCredentials({ expiry: inAnHour(), ...options, credentials: installation.credentials });

  test('without a name act as their issuer, with their own scopes only', async () => {
    const credentials = make({ scopes: ['queue:list-task-queues', 'e2e:some-scope'] });
    const { auth, queue } = officialClients(installation, credentials);
    expect(credentials.clientId).toBe(installation.credentials.clientId);
    const { scopes } = await auth['currentScopes']!();
    expect(scopes).toEqual(expect.arrayContaining(['assume:anonymous', 'e2e:some-scope', 'queue:list-task-queues']));
    expect(scopes).not.toContain('*');
    expect(await queue['listTaskQueues']!()).toMatchObject({ taskQueues: expect.any(Array) });
    await expectRefusal(queue['sealTaskGroup']!(newId()), 404, 'ResourceNotFound');
    await expectRefusal(auth['deleteRole']!('e2e-nothing'), 403, 'InsufficientScopes', 'auth:delete-role:e2e-nothing');
  });

  test('with a name act under it', async () => {
    const credentials = make({ clientId: 'e2e/named', scopes: ['auth:create-role:e2e-named', 'e2e:granted'] });
    const { auth } = officialClients(installation, credentials);
    expect(credentials.clientId).toBe('e2e/named');
    expect(await auth['createRole']!('e2e-named', { description: 'by a named one', scopes: ['e2e:granted'] })).toMatchObject({
      roleId: 'e2e-named',
    });
    const { auditHistory } = await root.auth['getEntityHistory']!('role', 'e2e-named');
    expect(auditHistory).toMatchObject([{ clientId: 'e2e/named', actionType: 'created', entityId: 'e2e-named' }]);
    expect(await taskcluster.credentialInformation(installation.rootUrl, make({ scopes: ['e2e:x'] }))).toMatchObject({
      type: 'temporary',
      active: true,
    });
  });

  test('narrowed to some of their scopes can do no more', async () => {
    const credentials = make({ scopes: ['queue:*', 'auth:*'] });
    const { auth } = officialClients(installation, credentials, ['auth:current-scopes', 'queue:list-task-queues']);
    expect((await auth['currentScopes']!()).scopes).toContain('queue:list-task-queues');
    await expectRefusal(auth['deleteRole']!('e2e-nothing'), 403, 'InsufficientScopes', 'auth:delete-role:e2e-nothing');
    const beyond = officialClients(installation, credentials, ['secrets:get:x']);
    await expectRefusal(beyond.auth['currentScopes']!(), 401, 'AuthenticationFailed', 'secrets:get:x');
  });

  test('are refused when they have expired, or are not valid yet', async () => {
    const scopes = ['auth:current-scopes'];
    const past = make({ scopes, start: new Date(Date.now() - 2 * HOUR_MS), expiry: new Date(Date.now() - HOUR_MS) });
    await expectRefusal(
      officialClients(installation, past).auth['currentScopes']!(),
      401,
      'AuthenticationFailed',
      'ext.certificate.expiry',
    );
    const future = make({ scopes, start: inAnHour(), expiry: new Date(Date.now() + 2 * HOUR_MS) });
    await expectRefusal(
      officialClients(installation, future).auth['currentScopes']!(),
      401,
      'AuthenticationFailed',
      'ext.certificate.start',
    );
  });

  test('are refused when their certificate was altered, or belongs to another name', async () => {
    const credentials = make({ scopes: ['e2e:little'] });
    const certificate = JSON.parse(credentials.certificate) as { scopes: string[] };
    const altered = { ...credentials, certificate: JSON.stringify({ ...certificate, scopes: ['*'] }) };
    await expectRefusal(
      officialClients(installation, altered).auth['currentScopes']!(),
      401,
      'AuthenticationFailed',
      'ext.certificate.signature',
    );
    const renamed = { ...make({ clientId: 'e2e/one', scopes: [] as string[] }), clientId: 'e2e/other' };
    await expectRefusal(officialClients(installation, renamed).auth['currentScopes']!(), 401, 'AuthenticationFailed', 'ext.certificate');
    const bare = { clientId: credentials.clientId, accessToken: credentials.accessToken };
    await expectRefusal(officialClients(installation, bare).auth['currentScopes']!(), 401, 'AuthenticationFailed', 'Bad mac');
  });

  test('cannot have scopes or names that their issuer may not give, and end with it', async () => {
    const clientId = `e2e/issuer-${newId()}`;
    const { accessToken } = await root.auth['createClient']!(clientId, {
      description: 'issues',
      expires: inAnHour(),
      scopes: ['e2e:issued', `auth:create-client:${clientId}/*`, 'auth:current-scopes'],
    });
    const issue = (options: { clientId?: string; scopes: string[] }) =>
      officialClients(
        installation,
        taskcluster.createTemporaryCredentials({
          expiry: inAnHour(),
          ...options,
          credentials: { clientId, accessToken: accessToken as string },
        }),
      ).auth;
    const good = issue({ clientId: `${clientId}/child`, scopes: ['e2e:issued'] });
    expect((await good['currentScopes']!()).scopes).toContain('e2e:issued');
    await expectRefusal(issue({ scopes: ['e2e:more'] })['currentScopes']!(), 401, 'AuthenticationFailed', 'ext.certificate issuer');
    await expectRefusal(
      issue({ clientId: 'somebody', scopes: [] })['currentScopes']!(),
      401,
      'AuthenticationFailed',
      'auth:create-client:somebody',
    );
    await root.auth['disableClient']!(clientId);
    await expectRefusal(good['currentScopes']!(), 401, 'AuthenticationFailed', 'disabled');
    await root.auth['enableClient']!(clientId);
    expect((await good['currentScopes']!()).scopes).toContain('e2e:issued');
    await root.auth['deleteClient']!(clientId);
    await expectRefusal(good['currentScopes']!(), 401, 'AuthenticationFailed', 'not found');
  });
});

describe('what is refused', () => {
  const createOne = (clients: OfficialClients, more: object = {}) => clients.queue['createTask']!(newId(), { ...aTask(), ...more });

  test('a bad signature: 401 AuthenticationFailed', async () => {
    const { clientId } = installation.credentials;
    const wrong = officialClients(installation, { clientId, accessToken: 'A'.repeat(44) });
    await expectRefusal(createOne(wrong), 401, 'AuthenticationFailed', 'Bad mac');
    await expectRefusal(wrong.auth['currentScopes']!(), 401, 'AuthenticationFailed', 'Bad mac');
    const unknown = officialClients(installation, { clientId: 'e2e/nobody', accessToken: 'A'.repeat(44) });
    await expectRefusal(createOne(unknown), 401, 'AuthenticationFailed', "'e2e/nobody' not found");
  });

  test('a missing scope: 403 InsufficientScopes, naming it; nothing is changed', async () => {
    const nobody = officialClients(installation);
    const taskId = newId();
    await expectRefusal(nobody.queue['createTask']!(taskId, aTask()), 403, 'InsufficientScopes', 'queue:create-task:highest:local/process');
    await expectRefusal(root.queue['status']!(taskId), 404, 'ResourceNotFound', taskId);
    const narrowed = officialClients(installation, installation.credentials, [
      'queue:create-task:lowest:local/process',
      'queue:create-task:project:none',
      'queue:scheduler-id:-',
    ]);
    expect((await createOne(narrowed)).status.state).toBe('pending');
    await expectRefusal(createOne(narrowed, { scopes: ['e2e:more'] }), 403, 'InsufficientScopes', 'e2e:more');
    await expectRefusal(createOne(narrowed, { routes: ['e2e.route'] }), 403, 'InsufficientScopes', 'queue:route:e2e.route');
    await expectRefusal(createOne(narrowed, { priority: 'low' }), 403, 'InsufficientScopes', 'queue:create-task:low:local/process');
  });

  test('a task cannot use its credentials for more than it was given', async () => {
    const taskQueueId = 'e2e/refusals';
    const taskId = newId();
    await root.queue['createTask']!(taskId, aTask({ taskQueueId, scopes: ['e2e:mine'] }));
    const { tasks } = await root.queue['claimWork']!(taskQueueId, { workerGroup: 'e2e', workerId: 'refusals' });
    const own = officialClients(installation, tasks[0].credentials);
    expect((await own.auth['currentScopes']!()).scopes).toEqual(
      expect.arrayContaining([
        'e2e:mine',
        `queue:resolve-task:${taskId}/0`,
        `queue:create-artifact:${taskId}/0`,
        `queue:reclaim-task:${taskId}/0`,
      ]),
    );
    await expectRefusal(own.queue['reportCompleted']!(newId(), 0), 403, 'InsufficientScopes', 'queue:resolve-task:');
    await expectRefusal(own.queue['createTask']!(newId(), aTask()), 403, 'InsufficientScopes');
    expect((await own.queue['reportCompleted']!(taskId, 0)).status.state).toBe('completed');
  });
});

describe('signed URLs', () => {
  const get = async (url: string): Promise<{ status: number; body: { code?: string; message?: string } & Record<string, unknown> }> => {
    const response = await fetch(url, { redirect: 'manual' });
    return { status: response.status, body: (await response.json()) as Record<string, unknown> };
  };

  test('of GET methods work without a header, with and without a query, by permanent and temporary credentials', async () => {
    const { auth, queue } = root;
    expect(await get(await auth.buildSignedUrl(auth['currentScopes']!))).toMatchObject({
      status: 200,
      body: { scopes: expect.arrayContaining(['*']) },
    });
    expect(await get(await queue.buildSignedUrl(queue['listTaskQueues']!, { limit: '1' }))).toMatchObject({
      status: 200,
      body: { taskQueues: expect.any(Array) },
    });
    const temporary = officialClients(
      installation,
      taskcluster.createTemporaryCredentials({
        expiry: inAnHour(),
        scopes: ['queue:list-task-queues'],
        credentials: installation.credentials,
      }),
    );
    expect(await get(await temporary.queue.buildSignedUrl(temporary.queue['listTaskQueues']!))).toMatchObject({ status: 200 });
    expect(await get(await temporary.auth.buildSignedUrl(temporary.auth['getEntityHistory']!, 'role', 'anonymous'))).toMatchObject({
      status: 403,
      body: { code: 'InsufficientScopes' },
    });
  });

  test('of private artifacts lead to their content', async () => {
    const { queue } = root;
    const taskQueueId = 'e2e/signed';
    const taskId = newId();
    await queue['createTask']!(taskId, aTask({ taskQueueId }));
    await queue['claimWork']!(taskQueueId, { workerGroup: 'e2e', workerId: 'signed' });
    const expires = inAnHour().toISOString();
    const { putUrl } = await queue['createArtifact']!(taskId, 0, 'private/x.txt', {
      storageType: 's3',
      contentType: 'text/plain',
      expires,
    });
    const put = await fetch(putUrl, { method: 'PUT', headers: { 'content-type': 'text/plain' }, body: 'a secret' });
    expect(put.status).toBe(200);
    const unsigned = await queue.buildUrl(queue['getLatestArtifact']!, taskId, 'private/x.txt');
    expect(await get(unsigned)).toMatchObject({ status: 403, body: { code: 'InsufficientScopes' } });
    const signed = await queue.buildSignedUrl(queue['getLatestArtifact']!, taskId, 'private/x.txt');
    const redirect = await get(signed);
    expect(redirect).toMatchObject({ status: 303, body: { storageType: 's3' } });
    expect(await (await fetch(signed)).text()).toBe('a secret');
  });

  test('are refused when they were altered or are over', async () => {
    const { auth } = root;
    const url = await auth.buildSignedUrl(auth['getEntityHistory']!, 'role', 'anonymous');
    expect(await get(url)).toMatchObject({ status: 200 });
    expect(await get(url.replace('/anonymous', '/another'))).toMatchObject({ status: 401, body: { code: 'AuthenticationFailed' } });
    const over = await auth.buildSignedUrl(auth['getEntityHistory']!, 'role', 'anonymous', {}, { expiration: -10 });
    const answer = await get(over);
    expect(answer).toMatchObject({ status: 401, body: { code: 'AuthenticationFailed' } });
    expect(answer.body.message).toContain('Access expired');
  });
});
