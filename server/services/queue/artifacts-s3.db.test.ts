/** Artifacts on S3: what workers send and readers follow, for both storage types that have bytes. */
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
import { artifactSettings, bucketSettings, startS3, type TestS3 } from '../../testing/s3.ts';
import { presentClock } from '../../testing/clock.ts';
import { seededRandom, type TestServer, withServer } from '../../testing/server.ts';
import { objectService } from '../object/service.ts';
import { artifactExpiry } from './artifacts-expiry.ts';
import type { Ctx } from './ctx.ts';
import { queueService } from './service.ts';

const [PUBLIC, PRIVATE, OBJECTS, MIRROR] = ['public-artifacts', 'private-bucket', 'objects-bucket', 'mirror-bucket'] as const;
const MIB = 1024 ** 2;
let s3: TestS3;
let dir: string;
let server: TestServer;
let queue: Client<typeof queueApi>;
let origin: string;
const random = seededRandom(10);

const start = (environment: Record<string, string> = {}, options: Parameters<typeof withServer>[1] = {}): Promise<TestServer> =>
  withServer([objectService, queueService], {
    clock: presentClock(),
    ...options,
    environment: {
      OBJECTS_FOLDER: dir,
      ...artifactSettings(s3, PUBLIC, PRIVATE),
      AWS_MAX_PUT_BYTES: String(20 * MIB),
      BACKENDS: JSON.stringify({
        s3: { backendType: 'aws', ...bucketSettings(s3, OBJECTS), signGetUrls: true },
      }),
      BACKEND_MAP: '[{"backendId":"s3","when":"all"}]',
      ...environment,
    },
  });

beforeAll(async () => {
  s3 = await startS3([PUBLIC, PRIVATE, OBJECTS, MIRROR]);
  dir = await fs.mkdtemp(path.join(os.tmpdir(), 'taskcluster-artifacts-'));
  server = await start();
  queue = server.client(queueApi);
  origin = await server.server.app.listen({ host: '127.0.0.1', port: 0 });
});
afterAll(async () => {
  await s3.close();
  await fs.rm(dir, { recursive: true, force: true });
});

const overSocket: typeof fetch = (url, init) => fetch((url as string).replace(server.rootUrl, origin), init);
const inMinutes = (minutes: number, of = server): string => new Date(of.clock.nowMs() + minutes * 60_000).toISOString();
let queues = 0;

const aTask = async (of = server): Promise<string> => {
  const client = of.client(queueApi);
  const taskId = slugid(random);
  const taskQueueId = `prov/s3-${queues++}`;
  await client.createTask(
    { taskId },
    {
      taskQueueId,
      created: inMinutes(0, of),
      deadline: inMinutes(60, of),
      expires: inMinutes(3 * 24 * 60, of),
      payload: {},
      metadata: { name: 'n', description: 'd', owner: 'o', source: 'https://src.example' },
    },
  );
  await client.claimWork({ taskQueueId }, { workerGroup: 'wg', workerId: 'w', tasks: 1 });
  return taskId;
};
const create = async (taskId: string, name: string, body: object = {}, of = server): Promise<string> => {
  const request = { storageType: 's3' as const, expires: inMinutes(24 * 60, of), contentType: 'text/plain', ...body };
  const reply = await of.client(queueApi).createArtifact({ taskId, runId: '0', name }, request);
  return (reply as { putUrl: string }).putUrl;
};
const put = (url: string, body: BodyInit, headers: Record<string, string> = {}): Promise<Response> =>
  overSocket(url, { method: 'PUT', headers: { 'content-type': 'text/plain', ...headers }, body });
const urlOf = async (taskId: string, name: string, of = server): Promise<string> =>
  ((await of.client(queueApi).artifact({ taskId, runId: '0', name })) as { url: string }).url;

test('s3: put at the URL, with any encoding; public ones have plain URLs', async () => {
  const taskId = await aTask();
  const putUrl = await create(taskId, 'public/a b.txt', { contentLength: 5 });
  expect(putUrl).toContain(`${s3.endpoint}/${PUBLIC}/${taskId}/0/public/a%20b.txt?`);
  const url = await urlOf(taskId, 'public/a b.txt');
  expect(url).toBe(`${s3.endpoint}/${PUBLIC}/${taskId}/0/public/a%20b.txt`);
  expect((await fetch(url)).status).toBe(404);
  expect((await put(putUrl, 'first')).status).toBe(200);
  expect(await (await fetch(url)).text()).toBe('first');
  expect((await put(putUrl, zlib.gzipSync('second, and longer'), { 'content-encoding': 'gzip' })).status).toBe(200);
  const reply = await fetch(url);
  expect([reply.headers.get('content-type'), reply.headers.get('content-encoding'), await reply.text()]).toEqual([
    'text/plain',
    'gzip',
    'second, and longer',
  ]);
  expect((await put(putUrl, 'x', { 'content-type': 'text/html' })).status).toBe(403);
  expect(new URL(putUrl).searchParams.get('X-Amz-Expires')).toBe('2710');
});

test('s3: what is not public is in the other bucket, under signed URLs', async () => {
  const taskId = await aTask();
  expect((await put(await create(taskId, 'private/x'), 'secret')).status).toBe(200);
  const url = await urlOf(taskId, 'private/x');
  expect(url).toContain(`/${PRIVATE}/${taskId}/0/private/x?`);
  expect(new URL(url).searchParams.get('X-Amz-Expires')).toBe('1800');
  expect(await (await fetch(url)).text()).toBe('secret');
  const response = await server.fetch(await queue.buildSignedUrl('getArtifact', { taskId, runId: '0', name: 'private/x' }));
  expect([response.status, response.headers.get('location')?.split('?')[0]]).toEqual([303, url.split('?')[0]]);
});

test('s3: public URLs are signed, or lead to a CDN, where configured', async () => {
  const signing = await start({ SIGN_PUBLIC_ARTIFACT_URLS: 'true' });
  const [one, two] = [await aTask(signing), await aTask(signing)];
  await create(one, 'public/x', {}, signing);
  expect(await urlOf(one, 'public/x', signing)).toContain('X-Amz-Signature=');
  const cached = await start({ PUBLIC_ARTIFACT_CDN: 'https://cdn.example/' }, { db: signing.db, clock: signing.clock });
  await create(two, 'public/a b', {}, cached);
  expect(await urlOf(two, 'public/a b', cached)).toBe(`https://cdn.example/${two}/0/public/a%20b`);
});

test('s3: what is announced as larger than one request comes through here, compressed or not', async () => {
  const taskId = await aTask();
  const large = Buffer.alloc(21 * MIB, 'x');
  const putUrl = await create(taskId, 'public/large', { contentLength: large.length });
  expect(putUrl).toContain(`${server.rootUrl}/objects/v1/s3%3A${PUBLIC}/`);
  for (const [body, encoding] of [
    [large, 'identity'],
    [zlib.gzipSync(large), 'gzip'],
  ] as const) {
    expect((await put(putUrl, new Uint8Array(body), { 'content-encoding': encoding })).status).toBe(200);
    expect((await s3.read(PUBLIC, `${taskId}/0/public/large`))?.equals(body)).toBe(true);
  }
  expect(Buffer.from(await (await fetch(await urlOf(taskId, 'public/large'))).arrayBuffer()).equals(large)).toBe(true);
  expect((await put(putUrl, 'x', { 'content-type': 'text/html' })).status).toBe(403);
  await s3.stop();
  const away = await put(putUrl, new Uint8Array(large));
  expect([away.status, await away.json()]).toEqual([503, expect.objectContaining({ code: 'ServiceUnavailable' })]);
  await s3.start();
  expect((await put(putUrl, new Uint8Array(large))).status).toBe(200);
}, 60_000);

test('s3: a name that is no key is refused before anything is stored', async () => {
  const taskId = await aTask();
  for (const name of ['public/a/../b', `public/${'x'.repeat(1_010)}`]) {
    const request = { storageType: 's3' as const, expires: inMinutes(60), contentType: 'text/plain' };
    // the client sends no such name; others do
    const url = `${server.rootUrl}/api/queue/v1/task/${taskId}/runs/0/artifacts/${encodeURIComponent(name)}`;
    const reply = await server.fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(request),
    });
    expect(reply.status).toBe(403); // without credentials; the same with them:
    await expect(queue.createArtifact({ taskId, runId: '0', name }, request)).rejects.toMatchObject({
      code: 'InputError',
      statusCode: 400,
    });
  }
  expect((await queue.listArtifacts({ taskId, runId: '0' })).artifacts).toEqual([]);
});

test('what was stored before the buckets were configured is still there, and can be written again', async () => {
  const folder = await withServer([objectService, queueService], { environment: { OBJECTS_FOLDER: dir } });
  const taskId = await aTask(folder);
  await create(taskId, 'public/x', {}, folder);
  const buckets = await start({}, { db: folder.db, clock: folder.clock });
  expect(await urlOf(taskId, 'public/x', buckets)).toContain('/objects/v1/public-artifacts/');
  expect(await create(taskId, 'public/x', {}, buckets)).toContain('/objects/v1/public-artifacts/');
  expect(await create(taskId, 'public/y', {}, buckets)).toContain(`${s3.endpoint}/${PUBLIC}/`);
});

test.each(['s3', 'object'] as const)('our client takes artifacts of type %s there and back', async storageType => {
  const taskId = await aTask();
  const bytes = Buffer.from(random.bytes(50_000));
  const name = 'public/library.bin';
  const common = { queue, objectClient: () => server.client(objectApi), fetch: overSocket, taskId, runId: '0', name } as const;
  await uploadArtifact({
    ...common,
    storageType,
    contentType: 'application/octet-stream',
    contentLength: bytes.length,
    expires: new Date(inMinutes(60)),
    openSource: () => new Response(new Uint8Array(bytes)).body as ReadableStream<Uint8Array>,
  });
  const chunks: Uint8Array[] = [];
  await downloadArtifact({
    ...common,
    openSink: () => new WritableStream({ write: (chunk: Uint8Array) => void chunks.push(chunk) }),
  });
  expect(Buffer.concat(chunks).equals(bytes)).toBe(true);
  const [bucket, key] = storageType === 's3' ? [PUBLIC, `${taskId}/0/${name}`] : [OBJECTS, `t/${taskId}/0/${name}`];
  expect((await s3.read(bucket, key))?.equals(bytes)).toBe(true);
});

test.each([
  ['one after the other', 1],
  ['at once', 0],
])(
  'expiry %s: bytes first, then rows; what is left is tried again, and holds up nothing behind it',
  async (_when, minutes) => {
    const own = await start();
    const taskId = await aTask(own);
    const ctx = own.server.services.get('queue')?.apis?.[0]?.ctx as Ctx;
    const names = Array.from({ length: 9 }, (_, i) => `public/${i}`);
    for (const [i, name] of names.entries()) {
      await put(await create(taskId, name, { expires: inMinutes(10 + i * minutes, own) }, own), 'x');
    }
    const left = async (): Promise<string[]> =>
      (await own.client(queueApi).listArtifacts({ taskId, runId: '0' })).artifacts.map(({ name }) => name);
    const keys = async (): Promise<string[]> => (await s3.keys(PUBLIC)).filter(key => key.startsWith(taskId));
    own.clock.advance({ minutes: 60 });
    await s3.stop();
    expect(await artifactExpiry.run(ctx, 500)).toBe(0);
    expect(await left()).toEqual(names);
    await s3.start();
    names.slice(0, 3).forEach(name => s3.locked.add(`${taskId}/0/${name}`));
    expect(await artifactExpiry.run(ctx, 3)).toBe(3);
    expect(await artifactExpiry.run(ctx, 3)).toBe(3);
    expect(await left()).toEqual(names.slice(0, 3));
    expect(await keys()).toHaveLength(3);
    s3.locked.clear();
    expect(await artifactExpiry.run(ctx, 500)).toBe(3);
    expect([await left(), await keys()]).toEqual([[], []]);
  },
  60_000,
);

test('readers in a region with a mirror are led to the copy there', async () => {
  const mirror = bucketSettings(s3, MIRROR);
  const own = await start(
    { MIRROR_REGIONS: '{"west":["127.0.0.0/8"],"east":[]}', MIRRORS: JSON.stringify({ west: mirror, east: mirror }) },
    { loops: true },
  );
  own.setAnonymousScopes(['queue:get-artifact:*']);
  const taskId = await aTask(own);
  await put(await create(taskId, 'public/x', {}, own), 'hello');
  await put(await create(taskId, 'private/x', {}, own), 'secret');
  const common = { queue: own.client(queueApi), objectClient: () => own.client(objectApi), fetch: overSocket, taskId, runId: '0' } as const;
  await uploadArtifact({
    ...common,
    name: 'public/object',
    storageType: 'object',
    contentType: 'text/plain',
    contentLength: 5,
    expires: new Date(inMinutes(60, own)),
    openSource: () => new Response('world').body as ReadableStream<Uint8Array>,
  });
  const locationOf = async (url: string, headers: Record<string, string>): Promise<string> =>
    (await own.fetch(url, { headers })).headers.get('location') ?? '';
  const get = (name: string, headers: Record<string, string>): Promise<string> =>
    locationOf(`${own.rootUrl}/api/queue/v1/task/${taskId}/artifacts/${name}`, headers);
  const inEast = { 'x-taskcluster-region': 'east' };

  for (const [name, store, text] of [
    ['public/x', PUBLIC, 'hello'],
    ['private/x', PRIVATE, 'secret'],
  ] as const) {
    const led = await get(name, inEast);
    expect(led).toMatch(new RegExp(`^${own.rootUrl}/mirror/v1/east\\?store=s3%3A${store}&`));
    expect(await locationOf(led, {})).toContain(`${s3.endpoint}/${store}/${taskId}/0/${name}`);
    await expect.poll(() => locationOf(led, {}), { timeout: 20_000 }).toContain(`${s3.endpoint}/${MIRROR}/`);
    expect(await (await fetch(await locationOf(led, {}))).text()).toBe(text);
  }
  expect(await get('public/object', inEast)).toContain(`${s3.endpoint}/${OBJECTS}/t/${taskId}/0/public/object`);
  await expect.poll(() => get('public/object', inEast), { timeout: 20_000 }).toContain(`${s3.endpoint}/${MIRROR}/object-s3/`);
  expect(await (await fetch(await get('public/object', inEast))).text()).toBe('world');
  // where the address says so; and not for those who want no cache
  expect(await get('public/x', {})).toContain('/mirror/v1/west?');
  expect(await get('public/x', { ...inEast, 'x-taskcluster-skip-cdn': '1' })).toContain(`${s3.endpoint}/${PUBLIC}/`);
}, 60_000);
