/** Redirects to artifacts of indexed tasks, with the real auth service and a queue that checks what it is asked. */
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { authApi } from '@tscluster/api/auth/api.ts';
import { indexApi } from '@tscluster/api/index/api.ts';
import { queueApi } from '@tscluster/api/queue/api.ts';
import type { Client } from '@tscluster/client/client.ts';
import { slugid } from '@tscluster/client/clock.ts';
import { signUrl } from '@tscluster/client/hawk.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { seededRandom, type TestServer, withServer } from '../../testing/server.ts';
import { auth } from '../auth/service.ts';
import { FUTURE, ROOT } from '../auth/testing.ts';
import { objectService } from '../object/service.ts';
import { queueService } from '../queue/service.ts';
import { indexService } from './service.ts';

let dir: string;
let server: TestServer;
let queue: Client<typeof queueApi>;
let root: Client<typeof authApi>;
let taskId: string;
const inHours = (hours: number): string => new Date(server.clock.nowMs() + hours * 3_600_000).toISOString();

/** Requests an artifact of the task at a path, as a client with these scopes; null: as nobody. */
let callers = 0;
const get = async (name: string, scopes: readonly string[] | null, indexPath = 'some.build'): Promise<Response> => {
  const url = new URL(`${server.rootUrl}/api/index/v1/task/${indexPath}/artifacts/${name}`);
  if (scopes === null) {
    return server.fetch(url);
  }
  const clientId = `caller-${callers++}`;
  const { accessToken } = await root.createClient({ clientId }, { expires: FUTURE, description: 'for a test', scopes: [...scopes] });
  return server.fetch(await signUrl({ credentials: { clientId, accessToken }, nowMs: server.clock.nowMs(), url, expirySeconds: 60 }));
};
const locationOf = async (response: Promise<Response>): Promise<URL> => {
  const { status, headers } = await response;
  expect(status).toBe(303);
  return new URL(headers.get('location') ?? '');
};
const setAnonymous = (scopes: string[]) => root.updateRole({ roleId: 'anonymous' }, { description: 'nobody', scopes });

beforeAll(async () => {
  dir = await fs.mkdtemp(path.join(os.tmpdir(), 'taskcluster-index-'));
  server = await withServer([auth, objectService, queueService, indexService], { environment: { OBJECTS_FOLDER: dir } });
  root = server.client(authApi, { credentials: ROOT });
  queue = server.client(queueApi, { credentials: ROOT });
  await root.createRole({ roleId: 'anonymous' }, { description: 'nobody', scopes: ['queue:get-artifact:public/*'] });
  taskId = slugid(seededRandom(4));
  await queue.createTask(
    { taskId },
    {
      taskQueueId: 'prov/wt',
      created: inHours(0),
      deadline: inHours(1),
      payload: {},
      metadata: { name: 'n', description: 'd', owner: 'o', source: 'https://src.example' },
    },
  );
  await queue.claimWork({ taskQueueId: 'prov/wt' }, { workerGroup: 'wg', workerId: 'w', tasks: 1 });
  const create = (name: string, body: object) =>
    queue.createArtifact({ taskId, runId: '0', name }, { expires: inHours(1), ...body } as never);
  for (const folder of ['public', 'private']) {
    await create(`${folder}/a b.txt`, { storageType: 's3', contentType: 'text/plain' });
    await create(`${folder}/ref`, { storageType: 'reference', contentType: 'text/plain', url: `https://elsewhere.example/${folder}?x=1` });
    await create(`${folder}/error`, { storageType: 'error', reason: 'file-missing-on-worker', message: 'gone' });
  }
  await server
    .client(indexApi, { credentials: ROOT })
    .insertTask({ namespace: 'some.build' }, { taskId, rank: 0, data: {}, expires: inHours(2) });
});
afterAll(async () => {
  await fs.rm(dir, { recursive: true, force: true });
});

test('of public artifacts lead to the content at once', async () => {
  expect((await locationOf(get('public/ref', null))).href).toBe('https://elsewhere.example/public?x=1');
  const location = await locationOf(get('public/a%20b.txt', null));
  expect(location.pathname).toBe(`/objects/v1/public-artifacts/${taskId}/0/public/a%20b.txt`);
  expect((await locationOf(get('public%2Fa%20b.txt', []))).href).toBe(location.href);
});

test('of public artifacts without content lead to the queue, which says why', async () => {
  for (const [name, status] of [
    ['public/error', 424],
    ['public/missing!', 404],
  ] as const) {
    const location = await locationOf(get(name, null));
    expect(location.href).toBe(`${server.rootUrl}/api/queue/v1/task/${taskId}/artifacts/${encodeURIComponent(name).replace('!', '%21')}`);
    expect((await server.fetch(location)).status).toBe(status);
  }
});

test('of private artifacts lead to the queue with a signature that it accepts, for 15 minutes', async () => {
  const location = await locationOf(get('private/ref', ['queue:get-artifact:private/ref']));
  expect(location.pathname).toBe(`/api/queue/v1/task/${taskId}/artifacts/private%2Fref`);
  expect([...location.searchParams.keys()]).toEqual(['bewit']);
  const redirect = await server.fetch(location);
  expect([redirect.status, redirect.headers.get('location')]).toEqual([303, 'https://elsewhere.example/private?x=1']);
  const missing = await locationOf(get('private/missing', ['queue:get-artifact:private/*']));
  expect((await server.fetch(missing)).status).toBe(404);
  // it is good for that artifact only
  const other = new URL(location);
  other.pathname = other.pathname.replace('ref', 'error');
  expect((await server.fetch(other)).status).toBe(401);
  const bewit = Buffer.from(location.searchParams.get('bewit') ?? '', 'base64url')
    .toString()
    .split('\\');
  expect([bewit[0], Number(bewit[1])]).toEqual(['static/taskcluster/index', Math.floor(server.clock.nowMs() / 1000) + 900]);
});

test('need the scope of the artifact and no other', async () => {
  expect((await get('private/ref', null)).status).toBe(403);
  expect((await get('private/ref', ['index:*', 'queue:get-artifact:private/re'])).status).toBe(403);
  expect((await get('private/ref', ['index:*'], 'not.there')).status).toBe(403);
  expect((await get('public/ref', null, 'not.there')).status).toBe(404);
  expect((await get('private/ref', ['queue:get-artifact:*'], 'not.there')).status).toBe(404);
});

test('follow the anonymous role at once', async () => {
  await setAnonymous(['queue:get-artifact:private/ref']);
  expect((await locationOf(get('private/ref', null))).href).toBe('https://elsewhere.example/private?x=1');
  const signed = await locationOf(get('public/ref', ['queue:get-artifact:public/*']));
  expect(signed.searchParams.has('bewit')).toBe(true);
  expect((await server.fetch(signed)).status).toBe(303);
  await setAnonymous(['queue:get-artifact:public/*']);
  expect((await locationOf(get('public/ref', null))).host).toBe('elsewhere.example');
});

test('take odd names, and refuse those that no URL carries', async () => {
  const name = "public/%é☃'()*?#&=+;/..//x";
  const location = await locationOf(get(encodeURIComponent(name), ['*']));
  expect(decodeURIComponent(location.pathname.split('/artifacts/')[1] ?? '')).toBe(name);
  for (const empty of ['', '%2E', '%2e%2e']) {
    const response = await server.server.app.inject({
      method: 'GET',
      url: `/api/index/v1/task/some.build/artifacts/${empty}`,
      headers: { host: 'taskcluster.test' },
    });
    expect(response.statusCode).toBe(403);
  }
  const { searchParams } = new URL(
    await signUrl({
      credentials: ROOT,
      nowMs: server.clock.nowMs(),
      url: new URL(`${server.rootUrl}/api/index/v1/task/some.build/artifacts/`),
      expirySeconds: 60,
    }),
  );
  const response = await server.fetch(`${server.rootUrl}/api/index/v1/task/some.build/artifacts/?bewit=${searchParams.get('bewit')}`);
  expect([response.status, await response.json()]).toEqual([400, expect.objectContaining({ code: 'InputError' })]);
});

test('of an expired entry are none', async () => {
  server.clock.advance({ hours: 2 });
  expect((await get('public/ref', null)).status).toBe(404);
});
