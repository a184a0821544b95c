import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import zlib from 'node:zlib';
import { objectApi } from '@tscluster/api/object/api.ts';
import { queueApi } from '@tscluster/api/queue/api.ts';
import { downloadArtifact, uploadArtifact } from '@tscluster/client/artifacts.ts';
import type { Client } from '@tscluster/client/client.ts';
import { slugid } from '@tscluster/client/clock.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { BusEvent } from '../../platform/events.ts';
import { seededRandom, type TestServer, withServer } from '../../testing/server.ts';
import { objectService } from '../object/service.ts';
import { artifactExpiry } from './artifacts-expiry.ts';
import type { Ctx } from './ctx.ts';
import { queueService } from './service.ts';

let dir: string;
let server: TestServer;
let queue: Client<typeof queueApi>;
let origin: string;
const random = seededRandom(9);

beforeAll(async () => {
  dir = await fs.mkdtemp(path.join(os.tmpdir(), 'taskcluster-artifacts-'));
  const BACKEND_MAP = JSON.stringify([{ backendId: 'local', when: { projectId: { regexp: '^(?!homeless$)' } } }]);
  server = await withServer([objectService, queueService], { environment: { OBJECTS_FOLDER: dir, BACKEND_MAP } });
  queue = server.client(queueApi);
  origin = await server.server.app.listen({ host: '127.0.0.1', port: 0 });
});
afterAll(async () => {
  await fs.rm(dir, { recursive: true, force: true });
});

const overSocket: typeof fetch = (url, init) => fetch((url as string).replace(server.rootUrl, origin), init);
const inMinutes = (minutes: number): string => new Date(server.clock.nowMs() + minutes * 60_000).toISOString();
const inDay = (): string => inMinutes(24 * 60);
const refused = (code: string, statusCode: number) => expect.objectContaining({ code, statusCode }) as unknown;
const worker = { workerGroup: 'wg', workerId: 'w' };
let queues = 0;

/** A task; claimed unless told otherwise. */
const aTask = async (change: Record<string, unknown> = {}, claim = true): Promise<string> => {
  const taskId = slugid(random);
  const taskQueueId = `prov/q${queues++}`;
  await queue.createTask(
    { taskId },
    {
      taskQueueId,
      created: inMinutes(0),
      deadline: inMinutes(60),
      expires: inMinutes(3 * 24 * 60),
      payload: {},
      metadata: { name: 'n', description: 'd', owner: 'o', source: 'https://src.example' },
      ...change,
    },
  );
  if (claim) {
    await queue.claimWork({ taskQueueId }, { ...worker, tasks: 1 });
  }
  return taskId;
};

const aReference = (change: object = {}) => ({
  storageType: 'reference' as const,
  expires: inDay(),
  contentType: 'text/plain',
  url: 'https://x.example/1',
  ...change,
});
const anError = (change: object = {}) => ({
  storageType: 'error' as const,
  expires: inDay(),
  reason: 'file-missing-on-worker' as const,
  message: 'gone',
  ...change,
});
const create = (taskId: string, name: string, body: object, runId = '0'): Promise<Record<string, unknown>> =>
  queue.createArtifact({ taskId, runId, name }, body as never);
const artifactEvents = async (): Promise<BusEvent[]> =>
  (await server.drain()).filter(event => event.exchange.endsWith('/artifact-created'));

/** An artifact as `curl` gets it. */
const get = async (taskId: string, name: string, headers: Record<string, string> = {}): Promise<Response> =>
  server.fetch(`${server.rootUrl}/api/queue/v1/task/${taskId}/runs/0/artifacts/${name}`, { headers });

test('s3: put at the URL, read at another; put again, the last wins', async () => {
  const taskId = await aTask();
  await server.drain();
  const request = { storageType: 's3', expires: inDay(), contentType: 'text/plain', contentLength: 5 };
  const created = await create(taskId, 'public/a b.txt', request);
  expect(created).toEqual({
    storageType: 's3',
    contentType: 'text/plain',
    expires: inMinutes(45),
    putUrl: expect.stringContaining(`${server.rootUrl}/objects/v1/public-artifacts/${taskId}/0/public/a%20b.txt?`),
  });
  const put = (body: string, headers: Record<string, string> = {}) =>
    overSocket(created['putUrl'] as string, { method: 'PUT', headers: { 'content-type': 'text/plain', ...headers }, body });
  const content = (await queue.artifact({ taskId, runId: '0', name: 'public/a b.txt' })) as { url: string };
  expect(content).toEqual({ storageType: 's3', url: `${server.rootUrl}/objects/v1/public-artifacts/${taskId}/0/public/a%20b.txt` });
  expect((await overSocket(content.url)).status).toBe(404);
  for (const body of ['first', 'second one']) {
    expect((await put(body)).status).toBe(200);
    const reply = await overSocket(content.url);
    expect([reply.status, reply.headers.get('content-type'), await reply.text()]).toEqual([200, 'text/plain', body]);
  }
  expect((await put('x', { 'content-type': 'text/html' })).status).toBe(403);
  expect(await artifactEvents()).toEqual([]);
  expect(await queue.artifactInfo({ taskId, runId: '0', name: 'public/a b.txt' })).toEqual({
    storageType: 's3',
    name: 'public/a b.txt',
    expires: request.expires,
    contentType: 'text/plain',
    contentLength: 5,
  });
});

test('s3: gzip is kept, HTML is shown in a sandbox', async () => {
  const taskId = await aTask();
  const { putUrl } = await create(taskId, 'public/report.html', { storageType: 's3', expires: inDay(), contentType: 'text/html' });
  await overSocket(putUrl as string, {
    method: 'PUT',
    headers: { 'content-type': 'text/html', 'content-encoding': 'gzip' },
    body: zlib.gzipSync('<p>hello'),
  });
  const { url } = (await queue.artifact({ taskId, runId: '0', name: 'public/report.html' })) as { url: string };
  const reply = await overSocket(url);
  expect(Object.fromEntries(reply.headers)).toMatchObject({
    'content-type': 'text/html',
    'content-encoding': 'gzip',
    'content-security-policy': 'sandbox',
    'x-content-type-options': 'nosniff',
  });
  expect(reply.headers.get('content-disposition')).toBeNull();
  expect(await reply.text()).toBe('<p>hello');
});

test('s3: what is not public has a signed URL that ends after 30 minutes', async () => {
  const taskId = await aTask();
  const { putUrl } = await create(taskId, 'private/x', { storageType: 's3', expires: inDay(), contentType: 'text/plain' });
  await overSocket(putUrl as string, { method: 'PUT', headers: { 'content-type': 'text/plain' }, body: 'secret' });
  const { url } = (await queue.artifact({ taskId, runId: '0', name: 'private/x' })) as { url: string };
  expect(url).toContain('/objects/v1/private-artifacts/');
  expect(await (await overSocket(url)).text()).toBe('secret');
  expect((await overSocket(url.replace(/\?.*/, ''))).status).toBe(403);
  expect((await overSocket(url.replace('private-artifacts', 'public-artifacts'))).status).toBe(403);
  server.clock.advance({ minutes: 30, ms: 1 });
  expect((await overSocket(url)).status).toBe(403);
});

test('s3: the URL to put to ends, and a repeat gives another', async () => {
  const taskId = await aTask();
  const request = { storageType: 's3', expires: inDay(), contentType: 'text/plain' };
  const first = (await create(taskId, 'public/x', request))['putUrl'] as string;
  const put = (url: string) => overSocket(url, { method: 'PUT', headers: { 'content-type': 'text/plain' }, body: 'x' });
  server.clock.advance({ minutes: 45, seconds: 10 });
  expect((await put(first)).status).toBe(200);
  server.clock.advance({ ms: 1 });
  expect((await put(first)).status).toBe(403);
  const second = (await create(taskId, 'public/x', request))['putUrl'] as string;
  expect((await put(second)).status).toBe(200);
});

test('reference, link and error: stored and announced at once', async () => {
  const taskId = await aTask({ routes: ['r1'] });
  await server.drain();
  expect(await create(taskId, 'public/ref', aReference())).toEqual({ storageType: 'reference' });
  expect(await create(taskId, 'public/link', { storageType: 'link', expires: inDay(), artifact: 'public/ref' })).toEqual({
    storageType: 'link',
  });
  expect(await create(taskId, 'public/err', anError())).toEqual({ storageType: 'error' });
  const events = await artifactEvents();
  expect(events.map(event => (event.payload as { artifact: object }).artifact)).toEqual([
    { storageType: 'reference', name: 'public/ref', expires: inDay(), contentType: 'text/plain' },
    { storageType: 'link', name: 'public/link', expires: inDay(), contentType: 'application/binary' },
    { storageType: 'error', name: 'public/err', expires: inDay(), contentType: 'application/binary' },
  ]);
  expect(events[0]).toMatchObject({
    exchange: 'exchange/taskcluster-queue/v1/artifact-created',
    cc: ['route.r1'],
    payload: { version: 1, runId: 0, ...worker, status: { taskId, state: 'running' } },
  });
  expect(Object.keys(events[0]?.payload as object).sort()).toEqual(['artifact', 'runId', 'status', 'version', 'workerGroup', 'workerId']);
  expect(events[0]?.routingKey).toMatch(new RegExp(`^primary\\.${taskId}\\.0\\.wg\\.w\\.prov\\.q\\d+\\.-\\.${taskId}\\._$`));
});

test('what a repeat may change, and that it is announced again', async () => {
  const taskId = await aTask();
  const name = 'public/x';
  await create(taskId, name, aReference());
  await server.drain();
  await create(taskId, name, aReference({ url: 'https://x.example/2', expires: inMinutes(25 * 60) }));
  expect(await artifactEvents()).toHaveLength(1);
  for (const body of [
    aReference({ contentType: 'text/html', expires: inMinutes(25 * 60) }),
    aReference(),
    anError({ expires: inMinutes(25 * 60) }),
    { storageType: 's3', expires: inMinutes(25 * 60), contentType: 'text/plain' },
  ]) {
    await expect(create(taskId, name, body)).rejects.toEqual(refused('RequestConflict', 409));
  }
  expect(await queue.artifact({ taskId, runId: '0', name })).toEqual({ storageType: 'reference', url: 'https://x.example/2' });
  const link = { storageType: 'link', expires: inMinutes(25 * 60), artifact: 'public/y' };
  await create(taskId, name, link);
  await expect(create(taskId, name, { ...link, artifact: 'public/z' })).rejects.toEqual(refused('RequestConflict', 409));
  await expect(create(taskId, name, aReference({ expires: inMinutes(25 * 60) }))).rejects.toEqual(refused('RequestConflict', 409));
  expect(await queue.artifactInfo({ taskId, runId: '0', name })).toEqual({
    storageType: 'link',
    name,
    expires: inMinutes(25 * 60),
    contentType: 'text/plain',
  });
  expect(await artifactEvents()).toHaveLength(1);
});

test('who creates the same artifact at the same moment', async () => {
  const taskId = await aTask();
  await server.drain();
  const outcomes = await Promise.allSettled(
    Array.from({ length: 10 }, (_, i) => create(taskId, 'public/race', anError({ message: i < 5 ? 'one' : 'two' }))),
  );
  const won = outcomes.filter(outcome => outcome.status === 'fulfilled').length;
  expect(won).toBe(5);
  expect(await artifactEvents()).toHaveLength(5);
});

test('the checks of a creation', async () => {
  const claimed = await aTask();
  const pending = await aTask({}, false);
  const missing = slugid(random);
  const cases: [string, string, object, string, string, number][] = [
    [pending, '0', aReference(), 'public/x', 'InputError', 400],
    [claimed, '1', aReference(), 'public/x', 'InputError', 400],
    [claimed, '0', { ...aReference(), storageType: 's3', url: undefined, contentLength: 1e30 }, 'public/x', 'InputError', 400],
    [claimed, '99999999999', aReference(), 'public/x', 'InputError', 400],
    [missing, '0', aReference(), 'public/x', 'InputError', 400],
    [claimed, '0', aReference({ expires: inMinutes(-16) }), 'public/x', 'InputError', 400],
    [claimed, '0', aReference({ expires: inMinutes(3 * 24 * 60 + 1) }), 'public/x', 'InputError', 400],
    [claimed, '0', aReference(), 'x'.repeat(1025), 'InputError', 400],
    [claimed, '0', { storageType: 'azure', expires: inDay() }, 'public/x', 'InputValidationError', 400],
    [claimed, '0', { ...aReference(), contentLength: 5 }, 'public/x', 'InputValidationError', 400],
    [claimed, '0', anError({ reason: 'because' }), 'public/x', 'InputValidationError', 400],
    [claimed, '0', anError({ message: 'x'.repeat(4097) }), 'public/x', 'InputValidationError', 400],
    [claimed, 'x', aReference(), 'public/x', 'InvalidRequestArguments', 400],
  ];
  for (const [taskId, runId, body, name, code, status] of cases) {
    await expect(create(taskId, name, body, runId)).rejects.toEqual(refused(code, status));
  }
  const stranger = server.client(queueApi, { scopes: [`queue:create-artifact:${claimed}/1`] });
  await expect(stranger.createArtifact({ taskId: missing, runId: '0', name: 'x' }, { storageType: 'nonsense' } as never)).rejects.toEqual(
    refused('InsufficientScopes', 403),
  );
  expect((await queue.listArtifacts({ taskId: claimed, runId: '0' })).artifacts).toEqual([]);
  // the edges are inside
  await create(claimed, 'x'.repeat(1024), aReference({ expires: inMinutes(3 * 24 * 60) }));
  await create(claimed, 'public/past', aReference({ expires: inMinutes(-15) }));
  await create(claimed, 'public/zeros', aReference(), '00');
  await expect(create(claimed, 'public/zeros', anError(), '0')).rejects.toEqual(refused('RequestConflict', 409));
});

test('runs that are over take no artifacts, except a while after they were given up', async () => {
  const [completed, failed, given] = [await aTask(), await aTask(), await aTask()];
  await queue.reportCompleted({ taskId: completed, runId: '0' });
  await queue.reportFailed({ taskId: failed, runId: '0' });
  await queue.reportException({ taskId: given, runId: '0' }, { reason: 'worker-shutdown' });
  await expect(create(completed, 'public/a', anError())).rejects.toEqual(refused('RequestConflict', 409));
  await expect(create(failed, 'public/a', anError())).rejects.toEqual(refused('RequestConflict', 409));
  await create(given, 'public/a', anError());
  expect(await queue.listLatestArtifacts({ taskId: given })).toEqual({ artifacts: [] });
  await expect(queue.latestArtifact({ taskId: given, name: 'public/a' })).rejects.toEqual(refused('ResourceNotFound', 404));
  await expect(queue.latestArtifactInfo({ taskId: given, name: 'public/a' })).rejects.toEqual(refused('ResourceNotFound', 404));
  expect(await queue.artifactInfo({ taskId: given, runId: '0', name: 'public/a' })).toMatchObject({ name: 'public/a' });
  server.clock.advance({ minutes: 25 });
  await expect(create(given, 'public/b', anError())).rejects.toEqual(refused('RequestConflict', 409));
});

test('object: reserved, uploaded with own credentials, finished, read', async () => {
  const taskId = await aTask({ projectId: 'proj/x' });
  await server.drain();
  const name = 'public/o b j';
  const objectName = `t/${taskId}/0/${name}`;
  const request = { storageType: 'object', expires: inDay(), contentType: 'text/plain', contentLength: 5 };
  const created = await create(taskId, name, request);
  expect(created).toEqual({
    storageType: 'object',
    name: objectName,
    projectId: 'proj/x',
    uploadId: expect.stringMatching(/^[A-Za-z0-9_-]{22}$/),
    expires: request.expires,
    credentials: { clientId: `artifact-upload/${taskId}/0/on/wg/w`, accessToken: expect.any(String), certificate: expect.any(String) },
  });
  const { uploadId, credentials } = created as {
    uploadId: string;
    credentials: { clientId: string; accessToken: string; certificate: string };
  };
  expect(JSON.parse(credentials.certificate)).toMatchObject({
    scopes: [`object:upload:proj/x:${objectName}`],
    start: server.clock.nowMs(),
    expiry: server.clock.nowMs() + 24 * 3_600_000,
  });
  // a repeat goes on with the same upload
  expect(await create(taskId, name, request)).toMatchObject({ uploadId });
  expect(await create(taskId, name, { ...request, expires: inMinutes(48 * 60) })).toMatchObject({ uploadId, expires: request.expires });
  await expect(create(taskId, name, { ...request, expires: inMinutes(60) })).rejects.toEqual(refused('RequestConflict', 409));

  const finish = (id: string, of = name) => queue.finishArtifact({ taskId, runId: '0', name: of }, { uploadId: id });
  await expect(queue.artifact({ taskId, runId: '0', name })).rejects.toEqual(refused('ResourceNotFound', 404));
  await expect(queue.artifactInfo({ taskId, runId: '0', name })).rejects.toEqual(refused('ResourceNotFound', 404));
  expect((await queue.listArtifacts({ taskId, runId: '0' })).artifacts).toMatchObject([{ name, contentLength: 5 }]);
  await expect(finish(slugid(random))).rejects.toEqual(refused('InputError', 400));
  await expect(finish(uploadId)).rejects.toEqual(refused('InputError', 400));
  await expect(finish(uploadId, 'public/none')).rejects.toEqual(refused('ResourceNotFound', 404));
  expect(await artifactEvents()).toEqual([]);

  const objects = server.client(objectApi, { scopes: [`object:upload:proj/x:${objectName}`] });
  const upload = { projectId: 'proj/x', uploadId, expires: created['expires'] as string };
  const dataInline = { contentType: 'text/plain', objectData: Buffer.from('hello').toString('base64') };
  await objects.createUpload({ name: objectName }, { ...upload, proposedUploadMethods: { dataInline } });
  await objects.finishUpload({ name: objectName }, { projectId: 'proj/x', uploadId });
  for (const id of [uploadId, uploadId, slugid(random)]) {
    expect(await finish(id)).toBeUndefined();
    expect((await artifactEvents()).map(event => (event.payload as { artifact: object }).artifact)).toEqual([
      { storageType: 'object', name, expires: request.expires, contentType: 'text/plain' },
    ]);
  }
  await expect(create(taskId, name, request)).rejects.toEqual(refused('RequestConflict', 409));
  const content = (await queue.artifact({ taskId, runId: '0', name })) as { credentials: { certificate: string } };
  expect(content).toEqual({
    storageType: 'object',
    name: objectName,
    credentials: {
      clientId: `artifact-download/${taskId}/0/public/o_b_j`,
      accessToken: expect.any(String),
      certificate: expect.any(String),
    },
  });
  expect(JSON.parse(content.credentials.certificate)).toMatchObject({
    scopes: [`object:download:${objectName}`],
    expiry: server.clock.nowMs() + 3_600_000,
  });
  server.setAnonymousScopes(['queue:get-artifact:public/*']);
  const reply = await get(taskId, 'public/o%20b%20j');
  expect([reply.status, reply.headers.get('x-taskcluster-artifact-storage-type')]).toEqual([303, 'object']);
  expect(await (await overSocket(reply.headers.get('location') ?? '')).text()).toBe('hello');
  await server.db`delete from object.objects where name = ${objectName}`;
  expect((await get(taskId, 'public/o%20b%20j')).status).toBe(404);
  server.setAnonymousScopes([]);
});

test('object: what the object service refuses leaves no artifact behind', async () => {
  const request = { storageType: 'object', expires: inDay(), contentType: 'text/plain' };
  const homeless = await aTask({ projectId: 'homeless' });
  await expect(create(homeless, 'public/o', request)).rejects.toMatchObject({
    code: 'InputError',
    statusCode: 400,
    message: expect.stringContaining(`takes no object t/${homeless}/0/public/o: No backend takes the object`),
  });
  expect((await queue.listArtifacts({ taskId: homeless, runId: '0' })).artifacts).toEqual([]);
  // the name is free for another type
  await create(homeless, 'public/o', anError());

  const taskId = await aTask();
  const name = `t/${taskId}/0/public/o`;
  const other = { projectId: 'none', uploadId: slugid(random), expires: inDay(), proposedUploadMethods: {} };
  await server.client(objectApi).createUpload({ name }, other);
  await expect(create(taskId, 'public/o', request)).rejects.toEqual(refused('RequestConflict', 409));
  expect((await queue.listArtifacts({ taskId, runId: '0' })).artifacts).toEqual([]);
});

test('object: what was reserved stays when a repeat is refused', async () => {
  const taskId = await aTask();
  const request = { storageType: 'object', expires: inDay(), contentType: 'text/plain' };
  const { uploadId, name, projectId } = (await create(taskId, 'public/o', request)) as {
    uploadId: string;
    name: string;
    projectId: string;
  };
  const objects = server.client(objectApi);
  const proposedUploadMethods = { dataInline: { contentType: 'text/plain', objectData: '' } };
  await objects.createUpload({ name }, { projectId, uploadId, expires: request.expires, proposedUploadMethods });
  await objects.finishUpload({ name }, { projectId, uploadId });
  await expect(create(taskId, 'public/o', request)).rejects.toEqual(refused('RequestConflict', 409));
  await queue.finishArtifact({ taskId, runId: '0', name: 'public/o' }, { uploadId });
  expect(await queue.artifactInfo({ taskId, runId: '0', name: 'public/o' })).toMatchObject({ storageType: 'object' });
});

test('what is where nothing is configured any more is not found', async () => {
  const environment = {
    OBJECTS_FOLDER: dir,
    BACKENDS: '{"old":{"backendType":"local"}}',
    BACKEND_MAP: '[{"backendId":"old","when":"all"}]',
  };
  const own = await withServer([objectService, queueService], { environment, db: server.db, clock: server.clock });
  const taskId = await aTask();
  const run = { taskId, runId: '0' };
  const request = { storageType: 'object' as const, expires: inDay(), contentType: 'text/plain' };
  const { uploadId, name, projectId } = (await own.client(queueApi).createArtifact({ ...run, name: 'public/o' }, request)) as {
    uploadId: string;
    name: string;
    projectId: string;
  };
  const proposedUploadMethods = { dataInline: { contentType: 'text/plain', objectData: '' } };
  await own.client(objectApi).createUpload({ name }, { projectId, uploadId, expires: request.expires, proposedUploadMethods });
  await own.client(objectApi).finishUpload({ name }, { projectId, uploadId });
  await own.client(queueApi).finishArtifact({ ...run, name: 'public/o' }, { uploadId });
  await expect(queue.getArtifact({ ...run, name: 'public/o' })).rejects.toEqual(refused('ResourceNotFound', 404));

  const s3 = { storageType: 's3' as const, expires: inDay(), contentType: 'text/plain' };
  await create(taskId, 'public/s', s3);
  await server.db`update queue.artifacts set details = '{"bucket":"s3:gone","key":"k"}' where task_id = ${taskId} and name = 'public/s'`;
  const gone = { code: 'ResourceNotFound', statusCode: 404, message: expect.stringContaining('s3:gone, which is not configured') };
  await expect(queue.artifact({ ...run, name: 'public/s' })).rejects.toMatchObject(gone);
  await expect(create(taskId, 'public/s', s3)).rejects.toMatchObject(gone);
});

test('only objects are finished', async () => {
  const taskId = await aTask();
  await create(taskId, 'public/ref', aReference());
  const finish = queue.finishArtifact({ taskId, runId: '0', name: 'public/ref' }, { uploadId: slugid(random) });
  await expect(finish).rejects.toEqual(refused('InputError', 400));
  const stranger = server.client(queueApi, { scopes: [] });
  await expect(stranger.finishArtifact({ taskId, runId: '0', name: 'public/ref' }, { uploadId: 'x' })).rejects.toEqual(
    refused('InsufficientScopes', 403),
  );
});

test('getArtifact redirects, or tells why there is nothing', async () => {
  server.setAnonymousScopes(['queue:get-artifact:public/*']);
  const taskId = await aTask();
  await create(taskId, 'public/ref', aReference());
  await create(taskId, 'public/err', anError());
  await create(taskId, 'public/s3', { storageType: 's3', expires: inDay(), contentType: 'text/plain' });
  await create(taskId, 'public/link', { storageType: 'link', expires: inDay(), artifact: 'public/ref' });
  const redirects = await Promise.all(
    ['ref', 'link', 's3'].map(async name => {
      const reply = await get(taskId, `public/${name}`);
      const storageType = reply.headers.get('x-taskcluster-artifact-storage-type');
      return [reply.status, storageType, reply.headers.get('location'), await reply.json()];
    }),
  );
  const s3 = `${server.rootUrl}/objects/v1/public-artifacts/${taskId}/0/public/s3`;
  expect(redirects).toEqual([
    [303, 'reference', 'https://x.example/1', { storageType: 'reference', url: 'https://x.example/1' }],
    [303, 'reference', 'https://x.example/1', { storageType: 'reference', url: 'https://x.example/1' }],
    [303, 's3', s3, { storageType: 's3', url: s3 }],
  ]);
  const error = await get(taskId, 'public/err');
  expect([error.status, error.headers.get('x-taskcluster-artifact-storage-type'), await error.json()]).toEqual([
    424,
    'error',
    { reason: 'file-missing-on-worker', message: 'gone' },
  ]);
  expect(await queue.artifact({ taskId, runId: '0', name: 'public/err' })).toEqual({
    storageType: 'error',
    reason: 'file-missing-on-worker',
    message: 'gone',
  });
  const latest = await server.fetch(`${server.rootUrl}/api/queue/v1/task/${taskId}/artifacts/public/ref`);
  expect([latest.status, latest.headers.get('location')]).toEqual([303, 'https://x.example/1']);
  expect(await queue.latestArtifact({ taskId, name: 'public/link' })).toEqual({ storageType: 'reference', url: 'https://x.example/1' });
  expect((await get(taskId, 'public/none')).status).toBe(404);
  expect((await get(slugid(random), 'public/none')).status).toBe(404);
  server.setAnonymousScopes([]);
});

test('links: each name needs its scope before it is looked up, and a circle is told', async () => {
  const taskId = await aTask();
  const link = (name: string, artifact: string) => create(taskId, name, { storageType: 'link', expires: inDay(), artifact });
  await link('public/a', 'private/b');
  await link('private/b', 'private/c');
  await create(taskId, 'private/c', aReference());
  await link('public/dangling', 'public/none');
  await link('public/loop1', 'public/loop2');
  await link('public/loop2', 'public/loop1');
  await link('public/self', 'public/self');
  const read = (client: Client<typeof queueApi>, name: string) => client.artifact({ taskId, runId: '0', name });
  expect(await read(queue, 'public/a')).toEqual({ storageType: 'reference', url: 'https://x.example/1' });
  const some = server.client(queueApi, { scopes: ['queue:get-artifact:public/*', 'queue:get-artifact:private/b'] });
  await expect(read(some, 'public/a')).rejects.toMatchObject({
    statusCode: 403,
    message: expect.stringContaining('queue:get-artifact:private/c'),
  });
  await expect(read(some, 'private/none')).rejects.toEqual(refused('InsufficientScopes', 403));
  await expect(read(some, 'public/dangling')).rejects.toEqual(refused('ResourceNotFound', 404));
  for (const name of ['public/loop1', 'public/self']) {
    await expect(read(some, name)).rejects.toEqual(refused('InputError', 400));
  }
  expect(await queue.artifactInfo({ taskId, runId: '0', name: 'public/dangling' })).toMatchObject({ storageType: 'link' });
});

test('which is checked first: the scope or the task', async () => {
  const stranger = server.client(queueApi, { scopes: [] });
  const missing = { taskId: slugid(random), name: 'public/x' };
  await expect(stranger.getLatestArtifact(missing)).rejects.toEqual(refused('InsufficientScopes', 403));
  await expect(stranger.latestArtifact(missing)).rejects.toEqual(refused('ResourceNotFound', 404));
  const unscheduled = await aTask({ dependencies: [await aTask()] }, false);
  await expect(queue.latestArtifact({ taskId: unscheduled, name: 'x' })).rejects.toEqual(refused('ResourceNotFound', 404));
  await expect(queue.getLatestArtifact({ taskId: unscheduled, name: 'x' })).rejects.toEqual(refused('ResourceNotFound', 404));
  await expect(queue.listLatestArtifacts({ taskId: unscheduled })).rejects.toEqual(refused('ResourceNotFound', 404));
});

test('what has expired is told, and listed until it is removed', async () => {
  const taskId = await aTask();
  await create(taskId, 'public/x', aReference({ expires: inMinutes(1) }));
  await create(taskId, 'public/link', { storageType: 'link', expires: inDay(), artifact: 'public/x' });
  server.clock.advance({ minutes: 2 });
  for (const name of ['public/x', 'public/link']) {
    await expect(queue.artifact({ taskId, runId: '0', name })).rejects.toEqual(refused('ResourceExpired', 410));
    await expect(queue.getLatestArtifact({ taskId, name })).rejects.toEqual(refused('ResourceExpired', 410));
  }
  expect(await queue.artifactInfo({ taskId, runId: '0', name: 'public/x' })).toMatchObject({ name: 'public/x' });
  expect((await queue.listArtifacts({ taskId, runId: '0' })).artifacts).toHaveLength(2);
});

test.each([
  ['2040-01-01 05:00:00.1234567', '2040-01-01T05:00:00.123Z'],
  ['2040-01-01t05:00:00z', '2040-01-01T05:00:00.000Z'],
  ['2040-01-01T05:00:00-05', '2040-01-01T10:00:00.000Z'],
  ['2040-01-01T05:00:00+0130', '2040-01-01T03:30:00.000Z'],
])('an artifact expires %s', async (expires, read) => {
  const taskId = await aTask({ expires: '2041-01-01T00:00:00Z' });
  await create(taskId, 'public/x', { ...aReference(), expires });
  expect(await queue.artifactInfo({ taskId, runId: '0', name: 'public/x' })).toMatchObject({ expires: read });
});

test('lists are ordered as the protocol has it and paged by name', async () => {
  const taskId = await aTask();
  const names = ['private/z', 'public/a', 'public/A', 'public/a-b', 'public/aa', 'public/b', 'public/0', 'public/_'];
  for (const name of names) {
    await create(taskId, name, aReference());
  }
  const all = (await queue.listArtifacts({ taskId, runId: '0' })).artifacts.map(artifact => artifact.name);
  expect(all).toEqual(['private/z', 'public/_', 'public/0', 'public/a', 'public/A', 'public/aa', 'public/a-b', 'public/b']);
  const walked: string[] = [];
  let continuationToken: string | undefined;
  let pages = 0;
  do {
    const page = await queue.listLatestArtifacts(
      { taskId },
      { limit: '3', ...(continuationToken === undefined ? {} : { continuationToken }) },
    );
    walked.push(...page.artifacts.map(artifact => artifact.name));
    continuationToken = page.continuationToken;
    pages += 1;
  } while (continuationToken !== undefined);
  expect([walked, pages]).toEqual([all, 3]);
  expect(await queue.listArtifacts({ taskId, runId: '0' }, { limit: '0' })).toEqual({ artifacts: [] });
  for (const foreign of ['!!', 'abc']) {
    const { artifacts } = await queue.listArtifacts({ taskId, runId: '0' }, { continuationToken: foreign });
    expect(artifacts.map(artifact => artifact.name)).toEqual(all);
  }
  await expect(queue.listArtifacts({ taskId, runId: '1' })).rejects.toEqual(refused('ResourceNotFound', 404));
  await expect(queue.listArtifacts({ taskId: slugid(random), runId: '0' })).rejects.toEqual(refused('ResourceNotFound', 404));
  await expect(queue.artifactInfo({ taskId, runId: '0', name: 'public/none' })).rejects.toEqual(refused('ResourceNotFound', 404));
});

test('a cache in front of public artifacts', async () => {
  const own = await withServer([objectService, queueService], {
    db: server.db,
    clock: server.clock,
    environment: { OBJECTS_FOLDER: dir, PUBLIC_ARTIFACT_CDN: 'https://cdn.example/' },
  });
  const taskId = await aTask();
  for (const name of ['public/a b', 'private/x']) {
    await create(taskId, name, { storageType: 's3', expires: inDay(), contentType: 'text/plain' });
  }
  own.setAnonymousScopes(['queue:get-artifact:*']);
  const locationOf = async (name: string, headers: Record<string, string> = {}): Promise<string | null> =>
    (await own.fetch(`${own.rootUrl}/api/queue/v1/task/${taskId}/runs/0/artifacts/${name}`, { headers })).headers.get('location');
  expect(await locationOf('public/a%20b')).toBe(`https://cdn.example/${taskId}/0/public/a%20b`);
  expect(await locationOf('public/a%20b', { 'x-taskcluster-skip-cdn': '1' })).toContain('/objects/v1/public-artifacts/');
  expect(await locationOf('private/x')).toContain('/objects/v1/private-artifacts/');
});

test('public artifacts are signed where the installation wants it', async () => {
  const own = await withServer([objectService, queueService], {
    db: server.db,
    clock: server.clock,
    environment: { OBJECTS_FOLDER: dir, SIGN_PUBLIC_ARTIFACT_URLS: 'true', OBJECTS_ORIGIN: 'https://bytes.example' },
  });
  const taskId = await aTask();
  await create(taskId, 'public/x', { storageType: 's3', expires: inDay(), contentType: 'text/plain' });
  const { url } = (await own.client(queueApi).artifact({ taskId, runId: '0', name: 'public/x' })) as { url: string };
  expect(url).toMatch(/^https:\/\/bytes\.example\/objects\/v1\/public-artifacts\/.*&signature=/);
  const plain = await own.fetch(`${own.rootUrl}/objects/v1/public-artifacts/${taskId}/0/public/x`);
  expect([plain.status, await plain.json()]).toEqual([403, expect.objectContaining({ code: 'SignatureMissing' })]);
});

test('expired artifacts are removed in batches, their bytes with them', async () => {
  const taskId = await aTask();
  const ctx = server.server.services.get('queue')?.apis?.[0]?.ctx as Ctx;
  await server.db`delete from queue.artifacts`;
  const { putUrl } = await create(taskId, 'public/s3', { storageType: 's3', expires: inMinutes(10), contentType: 'text/plain' });
  await overSocket(putUrl as string, { method: 'PUT', headers: { 'content-type': 'text/plain' }, body: 'bytes' });
  await create(taskId, 'public/ref', aReference({ expires: inMinutes(10) }));
  await create(taskId, 'public/kept', aReference());
  const key = `${taskId}/0/public/s3`;
  server.clock.advance({ minutes: 40 });
  expect(await artifactExpiry.run(ctx, 100)).toBe(0);
  server.clock.advance({ ms: 1 });
  expect(await server.db`select 1 from platform.blobs where key = ${key}`).toHaveLength(1);
  expect(await artifactExpiry.run(ctx, 1)).toBe(1);
  expect(await artifactExpiry.run(ctx, 100)).toBe(1);
  expect(await server.db`select 1 from platform.blobs where key = ${key}`).toEqual([]);
  expect((await queue.listArtifacts({ taskId, runId: '0' })).artifacts.map(artifact => artifact.name)).toEqual(['public/kept']);
});

test.each(['s3', 'object'] as const)('the client library takes an artifact of type %s there and back', async storageType => {
  const taskId = await aTask();
  const bytes = Buffer.from(random.bytes(20_000));
  const common = { queue, objectClient: () => server.client(objectApi), taskId, runId: '0', name: 'public/lib', fetch: overSocket };
  await uploadArtifact({
    ...common,
    storageType,
    expires: new Date(inDay()),
    contentType: 'application/octet-stream',
    contentLength: bytes.length,
    openSource: () => new Response(new Uint8Array(bytes)).body as ReadableStream<Uint8Array>,
  });
  const chunks: Uint8Array[] = [];
  const received = await downloadArtifact({
    ...common,
    openSink: () => new WritableStream({ write: chunk => void chunks.push(chunk) }),
  });
  expect(received).toMatchObject({ storageType, sizeBytes: 20_000, contentType: 'application/octet-stream' });
  expect(Buffer.concat(chunks).equals(bytes)).toBe(true);
});
