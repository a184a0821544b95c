/**
 * Every method of every API refuses missing, insufficient, expired and wrong credentials, and has then changed nothing. The list of methods comes from
 * the declarations, so that a new one cannot be forgotten; what it is called with is made from its parameters and its schema, and where that is not
 * enough, `BODIES` says what makes the call valid but for its caller.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { apis, exchanges, payloadSchemas } from '@tscluster/api/all.ts';
import type { Api, Method } from '@tscluster/api/define.ts';
import { collectSchemas, routeParams } from '@tscluster/api/references.ts';
import { authApi } from '@tscluster/api/auth/api.ts';
import { hooksApi } from '@tscluster/api/hooks/api.ts';
import { queueApi } from '@tscluster/api/queue/api.ts';
import { secretsApi } from '@tscluster/api/secrets/api.ts';
import { ApiCallError } from '@tscluster/client/client.ts';
import { systemClock } from '@tscluster/client/clock.ts';
import { createTemporaryCredentials } from '@tscluster/server/platform/temporary-credentials.ts';
import { allServices } from '@tscluster/server/services/all.ts';
import { presentClock } from '@tscluster/server/testing/clock.ts';
import { type TestServer, withServer } from '@tscluster/server/testing/server.ts';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeResolver, sampleOf } from './sample.ts';

const ROOT = { clientId: 'static/taskcluster/root', accessToken: 'token-of-root-0123456789abcdef' };
const TASK = 'AAAAAAAAQACAAAAAAAAAAA';
const OTHER_TASK = 'BBBBBBBBQBCBBBBBBBBBBA';

/** Values of path parameters, by name; they name what `beforeAll` makes. */
const PARAMS: Readonly<Record<string, string>> = {
  taskId: TASK,
  taskGroupId: TASK,
  runId: '0',
  taskQueueId: 'prov/wt',
  provisionerId: 'prov',
  workerType: 'wt',
  workerPoolId: 'prov/wt',
  workerGroup: 'wg',
  workerId: 'w',
  clientId: 'some-client',
  roleId: 'some-role',
  hookGroupId: 'group',
  hookId: 'hook',
  indexPath: 'a.b.c',
  namespace: 'a.b',
  entityType: 'client',
  entityId: 'some-client',
  account: 'account',
  bucket: 'bucket',
  container: 'container',
  table: 'table',
  prefix: 'prefix/',
};

// the server's clock starts at the present
const inHours = (hours: number): string => new Date(systemClock.nowMs() + hours * 3_600_000).toISOString();

const definition = {
  taskQueueId: 'prov/wt',
  created: inHours(0),
  deadline: inHours(2),
  payload: {},
  metadata: { name: 'n', description: 'd', owner: 'o@example.com', source: 'https://src.example/' },
};
const hook = {
  metadata: { name: 'n', description: 'd', owner: 'o@example.com' },
  task: definition,
  schedule: [],
  triggerSchema: { type: 'object', properties: {}, additionalProperties: false },
};

/** Bodies that a schema alone does not make: `service.method`. */
const BODIES: Readonly<Record<string, unknown>> = {
  'queue.createTask': definition,
  'hooks.createHook': hook,
  'hooks.updateHook': hook,
  'index.findTasksAtIndex': { indexes: ['a.b.c'] },
  'queue.statuses': { taskIds: [TASK] },
  'queue.tasks': { taskIds: [TASK] },
  'scheduler.checkGraph': { tasks: [{ taskId: OTHER_TASK, task: { ...definition, taskGroupId: OTHER_TASK } }] },
  'scheduler.submitGraph': { tasks: [{ taskId: OTHER_TASK, task: { ...definition, taskGroupId: OTHER_TASK } }] },
  'auth.githubRepoToken': { repositories: ['repo'], permissions: { contents: 'read' } },
};

/** Parameters of single methods. */
const SPECIAL_PARAMS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'queue.createTask': { taskId: OTHER_TASK },
  'scheduler.checkGraph': { taskGroupId: OTHER_TASK },
  'scheduler.submitGraph': { taskGroupId: OTHER_TASK },
  'auth.awsS3Credentials': { level: 'read-only' },
  'auth.azureContainerSAS': { level: 'read-only' },
  'auth.azureTableSAS': { level: 'read-only' },
};

/** Answered to anybody, for the protocol says so. */
const PUBLIC = [
  'auth.authenticateHawk',
  'auth.authenticateHawkBatch',
  'auth.testAuthenticate',
  'auth.testAuthenticateGet',
  'hooks.triggerHookWithToken', // the token is the right
];

interface Call {
  readonly api: Api;
  readonly name: string;
  readonly method: Method;
}
const calls: Call[] = apis.flatMap(api => Object.entries(api.methods).map(([name, method]) => ({ api, name, method })));
const OPERATIONAL = new Set(['ping', 'version', 'heartbeat', 'lbheartbeat']);
const guarded = calls.filter(({ method }) => method.scopes !== undefined);

const resolve = makeResolver(collectSchemas(apis, exchanges, payloadSchemas));

const bodyOf = ({ api, name, method }: Call): unknown => {
  const given = BODIES[`${api.service}.${name}`];
  if (given !== undefined || method.input === undefined) {
    return given;
  }
  return sampleOf(method.input as unknown as Record<string, unknown>, resolve, inHours(1));
};

const invoke = async (call: Call, credentials: { clientId: string; accessToken: string } | undefined): Promise<string> => {
  const { api, name, method } = call;
  const special = SPECIAL_PARAMS[`${api.service}.${name}`];
  const names = routeParams(method.route);
  const params = Object.fromEntries(names.map(each => [each, special?.[each] ?? PARAMS[each] ?? 'x']));
  const body = bodyOf(call);
  const client = (credentials ? server.client(api, { credentials }) : server.client(api, { scopes: null })) as unknown as Record<
    string,
    (...args: unknown[]) => Promise<unknown>
  >;
  try {
    await (client[name] as (...args: unknown[]) => Promise<unknown>)(
      ...(names.length > 0 ? [params] : []),
      ...(body === undefined ? [] : [body]),
    );
    return 'accepted';
  } catch (error) {
    return error instanceof ApiCallError ? `${error.statusCode} ${error.code}` : String(error);
  }
};

/** A digest of every row of every table. */
const contents = async (): Promise<Record<string, string>> => {
  const tables = await server.db<{ name: string }>`
    select format('%I.%I', schemaname, tablename) as name from pg_tables where schemaname not in ('pg_catalog', 'information_schema') order by 1`;
  const digests: Record<string, string> = {};
  for (const { name } of tables) {
    const client = await server.db.connect({});
    try {
      const { rows } = await client.query<{ digest: string }>(
        `select coalesce(md5(string_agg(t::text, '' order by t::text)), '') as digest from ${name} t`,
      );
      digests[name] = (rows[0] as { digest: string }).digest;
    } finally {
      await client.end();
    }
  }
  return digests;
};

let server: TestServer;
const objects = mkdtempSync(join(tmpdir(), 'taskcluster-refusals-'));
afterAll(() => rmSync(objects, { recursive: true, force: true }));
let weak: { clientId: string; accessToken: string };

beforeAll(async () => {
  // those that work by themselves would change rows meanwhile
  server = await withServer(
    allServices.filter(({ name }) => name !== 'built-in-workers'),
    { clock: presentClock(), environment: { STATIC_CLIENTS: '[]', OBJECTS_FOLDER: objects } },
  );
  const root = <A extends Api>(api: A) => server.client(api, { credentials: ROOT });
  const future = inHours(24 * 365);
  const { accessToken } = await root(authApi).createClient({ clientId: 'some-client' }, { expires: future, description: '', scopes: [] });
  weak = { clientId: 'some-client', accessToken };
  await root(authApi).createRole({ roleId: 'some-role' }, { description: '', scopes: ['a'] });
  await root(queueApi).createTask({ taskId: TASK }, { ...definition, created: inHours(0), deadline: inHours(2) });
  await root(queueApi).claimWork({ taskQueueId: 'prov/wt' }, { workerGroup: 'wg', workerId: 'w' });
  await root(queueApi).reportCompleted({ taskId: TASK, runId: '0' });
  await root(queueApi).sealTaskGroup({ taskGroupId: TASK });
  await root(hooksApi).createHook({ hookGroupId: 'group', hookId: 'hook' }, hook);
  await root(secretsApi).set({ name: 'x' }, { secret: { a: 1 }, expires: future });
  await server.drain();
}, 120_000);

test('only these are answered to anybody', () => {
  const open = calls.filter(({ method, name }) => method.scopes === undefined && !OPERATIONAL.has(name));
  expect(open.map(({ api, name }) => `${api.service}.${name}`)).toEqual(PUBLIC);
});

describe('a call is refused', () => {
  const outcomes = new Map<string, string>();
  const refusedWith = async (
    what: string,
    credentials: () => { clientId: string; accessToken: string; certificate?: string } | undefined,
  ) => {
    const before = await contents();
    for (const call of guarded) {
      outcomes.set(`${call.api.service}.${call.name}`, await invoke(call, credentials()));
    }
    expect(await contents(), `${what}: a refused call changed something`).toEqual(before);
    return Object.fromEntries(outcomes);
  };
  const all = (answer: string): Record<string, string> =>
    Object.fromEntries(guarded.map(({ api, name }) => [`${api.service}.${name}`, answer]));

  test('without credentials', async () => {
    expect(await refusedWith('no credentials', () => undefined)).toEqual(all('403 InsufficientScopes'));
  });
  test('with credentials that may do nothing', async () => {
    expect(await refusedWith('no scopes', () => weak)).toEqual(all('403 InsufficientScopes'));
  });
  test('with a wrong access token', async () => {
    expect(await refusedWith('wrong token', () => ({ ...weak, accessToken: 'wrong-wrong-wrong-wrong' }))).toEqual(
      all('401 AuthenticationFailed'),
    );
  });
  test('with a client that does not exist', async () => {
    expect(await refusedWith('no client', () => ({ ...weak, clientId: 'nobody' }))).toEqual(all('401 AuthenticationFailed'));
  });
  test('with temporary credentials that have expired', async () => {
    const expired = createTemporaryCredentials({
      credentials: ROOT,
      scopes: ['*'],
      start: new Date(server.clock.nowMs() - 7_200_000),
      expiry: new Date(server.clock.nowMs() - 3_600_000),
      seed: 'x'.repeat(44),
    });
    expect(await refusedWith('expired', () => expired)).toEqual(all('401 AuthenticationFailed'));
  });
});
