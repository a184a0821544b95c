/** The object service on S3: the same as on the local folder, and what only S3 can do to it. */
import crypto from 'node:crypto';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { objectApi } from '@tscluster/api/object/api.ts';
import type { Client } from '@tscluster/client/client.ts';
import { plainSlugid } from '@tscluster/client/clock.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Log } from '../../platform/log.ts';
import { bucketSettings, S3_ACCESS_KEY, S3_SECRET_KEY, startS3, type TestS3 } from '../../testing/s3.ts';
import { presentClock } from '../../testing/clock.ts';
import { seededRandom, type TestServer, withServer } from '../../testing/server.ts';
import { objectExpiry, type ExpiryCtx } from './expiry.ts';
import { objectService } from './service.ts';
import { thereAndBack } from './testing.ts';

const BUCKET = 'objects-1';
const MIB = 1024 ** 2;
let s3: TestS3;
let dir: string;
let server: TestServer;
let objects: Client<typeof objectApi>;
let origin: string;
let logged = '';

const ids = seededRandom(78);
const newId = (): string => plainSlugid(ids);
const inHours = (hours: number, from = server): string => new Date(from.clock.nowMs() + hours * 3_600_000).toISOString();
const refused = (code: string, statusCode: number) => expect.objectContaining({ code, statusCode }) as unknown;

const aws = (change: object = {}): object => ({
  backendType: 'aws',
  ...bucketSettings(s3, BUCKET),
  signGetUrls: true,
  ...change,
});

const write = (...args: unknown[]): void => void (logged += `${JSON.stringify(args)}\n`);
const log = { debug: write, info: write, warn: write, error: write } as unknown as Log;

const start = (backends: object, options: Parameters<typeof withServer>[1] = {}): Promise<TestServer> =>
  withServer([objectService], {
    log,
    clock: presentClock(),
    ...options,
    environment: {
      OBJECTS_FOLDER: dir,
      BACKENDS: JSON.stringify(backends),
      BACKEND_MAP: JSON.stringify([
        { backendId: 'local', when: { projectId: 'local' } },
        { backendId: 'open', when: { projectId: 'open' } },
        { backendId: 's3', when: 'all' },
      ]),
      OBJECTS_MAX_BYTES: String(200 * MIB),
      ...options.environment,
    },
  });
const allBackends = () => ({ local: { backendType: 'local' }, open: aws({ signGetUrls: false }), s3: aws({ maxPutBytes: 10 * MIB }) });

beforeAll(async () => {
  s3 = await startS3([BUCKET]);
  dir = await fs.mkdtemp(path.join(os.tmpdir(), 'taskcluster-objects-'));
  server = await start(allBackends());
  objects = server.client(objectApi);
  origin = await server.server.app.listen({ host: '127.0.0.1', port: 0 });
});
afterAll(async () => {
  await s3.close();
  await fs.rm(dir, { recursive: true, force: true });
});

const overSocket: typeof fetch = (url, init) => fetch((url as string).replace(server.rootUrl, origin), init);

interface Wanted {
  projectId?: string;
  uploadId?: string;
  expires?: string;
  dataInline?: { contentType: string; objectData: string };
  putUrl?: { contentType: string; contentLength: number };
}
const request = ({ projectId = 'p', uploadId = newId(), expires = inHours(1), ...proposedUploadMethods }: Wanted = {}) => ({
  projectId,
  uploadId,
  expires,
  proposedUploadMethods,
});
const inline = (text: string, contentType = 'text/plain') => ({
  dataInline: { contentType, objectData: Buffer.from(text).toString('base64') },
});

const store = async (name: string, wanted: Wanted = inline('hello'), client = objects): Promise<void> => {
  const upload = request(wanted);
  await client.createUpload({ name }, upload);
  await client.finishUpload({ name }, { projectId: upload.projectId, uploadId: upload.uploadId });
};
const urlOf = async (name: string, method: 'simple' | 'getUrl' = 'simple', client = objects): Promise<string> =>
  ((await client.startDownload({ name }, { acceptDownloadMethods: { [method]: true } })) as { url: string }).url;

test('data inline goes to the bucket under the name of the object', async () => {
  const name = "t/a b/c+d'(1).txt";
  await store(name);
  expect((await s3.read(BUCKET, name))?.toString()).toBe('hello');
  expect(await objects.startDownload({ name }, { acceptDownloadMethods: { getUrl: true, simple: true } })).toEqual({
    method: 'getUrl',
    url: expect.stringContaining(`${s3.endpoint}/${BUCKET}/t/a%20b/c%2Bd%27%281%29.txt?`),
    expires: new Date(server.clock.nowMs() + 60_000).toISOString(),
    hashes: {},
  });
  const getUrl = await urlOf(name, 'getUrl');
  expect(new URL(getUrl).searchParams.get('X-Amz-Expires')).toBe('120');
  const reply = await fetch(getUrl);
  expect([reply.headers.get('content-type'), await reply.text()]).toEqual(['text/plain', 'hello']);
  const simple = await urlOf(name);
  expect(new URL(simple).searchParams.get('X-Amz-Expires')).toBe('1800');
  expect(await (await fetch(simple, { headers: { range: 'bytes=1-2' } })).text()).toBe('el');
  server.setAnonymousScopes(['object:download:*']);
  const redirect = await server.fetch(`${server.rootUrl}/api/object/v1/download/${encodeURIComponent(name)}`);
  expect([redirect.status, redirect.headers.get('location')]).toEqual([303, expect.stringContaining(`${s3.endpoint}/${BUCKET}/t/a%20b/`)]);
  server.setAnonymousScopes([]);
});

test('put: a URL of S3 with headers; there once something was put', async () => {
  const name = 'put/x';
  const upload = request({ putUrl: { contentType: 'text/plain', contentLength: 5 } });
  const { putUrl } = (await objects.createUpload({ name }, upload)).uploadMethod;
  expect(putUrl).toEqual({
    url: expect.stringContaining(`${s3.endpoint}/${BUCKET}/put/x?`),
    expires: new Date(server.clock.nowMs() + 45 * 60_000).toISOString(),
    headers: { 'Content-Type': 'text/plain', 'Content-Length': '5', 'Content-Encoding': 'identity' },
  });
  const { url, headers } = putUrl as { url: string; headers: Record<string, string> };
  expect(new URL(url).searchParams.get('X-Amz-Expires')).toBe('2710');
  const finish = { projectId: 'p', uploadId: upload.uploadId };
  await expect(objects.finishUpload({ name }, finish)).rejects.toEqual(refused('InputError', 400));
  expect((await fetch(url, { method: 'PUT', headers: { ...headers, 'Content-Type': 'text/html' }, body: 'hello' })).status).toBe(403);
  expect((await fetch(url, { method: 'PUT', headers, body: 'hello' })).status).toBe(200);
  expect(await objects.finishUpload({ name }, finish)).toEqual({});
  expect(await objects.finishUpload({ name }, finish)).toEqual({});
  expect(await (await fetch(await urlOf(name))).text()).toBe('hello');
});

test('an empty object, put and gotten', async () => {
  const upload = request({ putUrl: { contentType: 'text/plain', contentLength: 0 } });
  const { putUrl } = (await objects.createUpload({ name: 'empty' }, upload)).uploadMethod;
  const put = (body: string): Promise<Response> =>
    fetch(putUrl?.url ?? '', { method: 'PUT', headers: { 'content-type': 'text/plain' }, body });
  expect((await put('x')).status).toBe(403);
  expect((await put('')).status).toBe(200);
  await objects.finishUpload({ name: 'empty' }, { projectId: 'p', uploadId: upload.uploadId });
  expect(await (await fetch(await urlOf('empty'))).text()).toBe('');
});

test('what is too large for one request comes through here, in parts', async () => {
  const name = 'large object';
  const size = 25 * MIB;
  const bytes = crypto.randomBytes(size);
  const upload = request({ putUrl: { contentType: 'text/plain', contentLength: size } });
  const { putUrl } = (await objects.createUpload({ name }, upload)).uploadMethod;
  const { url, headers } = putUrl as { url: string; headers: Record<string, string> };
  expect(url).toContain(`${server.rootUrl}/objects/v1/object-s3/large%20object?`);
  const short = await overSocket(url, { method: 'PUT', headers, body: new Uint8Array(size - 1) }).catch(() => undefined);
  expect(short?.status ?? 403).toBe(403);
  // the sender goes away half way
  const abort = new AbortController();
  const half = new ReadableStream<Uint8Array>({
    start: controller => controller.enqueue(bytes.subarray(0, 12 * MIB)),
    pull: () => new Promise<void>(resolve => setImmediate(() => resolve(abort.abort()))),
  });
  await expect(overSocket(url, { method: 'PUT', headers, body: half, duplex: 'half', signal: abort.signal } as never)).rejects.toThrow();
  await expect.poll(() => s3.openUploads(BUCKET)).toEqual([]);
  expect(await s3.read(BUCKET, name)).toBeUndefined();
  const put = (): Promise<Response> => overSocket(url, { method: 'PUT', headers, body: new Uint8Array(bytes) });
  expect((await put()).status).toBe(200);
  await objects.finishUpload({ name }, { projectId: 'p', uploadId: upload.uploadId });
  expect(s3.requests.filter(each => each.startsWith(`PUT /${BUCKET}/large%20object?partNumber=`)).length).toBeGreaterThanOrEqual(4);
  const stored = (await s3.read(BUCKET, name)) as Buffer;
  expect(stored.equals(bytes)).toBe(true);
  const late = await put();
  expect([late.status, await late.json()]).toEqual([409, expect.objectContaining({ code: 'UploadFinished' })]);
  const over = request({ putUrl: { contentType: 'text/plain', contentLength: 200 * MIB + 1 } });
  await expect(objects.createUpload({ name: 'over' }, over)).rejects.toEqual(refused('InputTooLarge', 413));
}, 60_000);

test.each([0, 8_191, 8_192, 11 * MIB])('the client library takes %i bytes there and back', size =>
  thereAndBack(objects, overSocket, crypto.randomBytes(size), inHours(1)),
);

test('a backend whose bucket is public gives plain URLs', async () => {
  await store('open/a b', { projectId: 'open', ...inline('hello') });
  for (const method of ['simple', 'getUrl'] as const) {
    const url = await urlOf('open/a b', method);
    expect(url).toBe(`${s3.endpoint}/${BUCKET}/open/a%20b`);
    expect(await (await fetch(url)).text()).toBe('hello');
  }
});

test('HTML is saved, not shown', async () => {
  await store('page', inline('<b>', 'text/html; charset=utf-8'));
  expect((await fetch(await urlOf('page'))).headers.get('content-disposition')).toBe('attachment');
});

test('an object stays where it was made, whatever the map says later', async () => {
  await store('moved/local', { projectId: 'local', ...inline('in the folder') });
  await store('moved/s3', inline('in the bucket'));
  const turned = await start(allBackends(), {
    db: server.db,
    clock: server.clock,
    environment: {
      BACKEND_MAP: JSON.stringify([
        { backendId: 's3', when: { projectId: 'local' } },
        { backendId: 'local', when: 'all' },
      ]),
    },
  });
  const client = turned.client(objectApi);
  expect(await urlOf('moved/local', 'simple', client)).toContain('/objects/v1/object-local/');
  expect(await urlOf('moved/s3', 'simple', client)).toContain(`${s3.endpoint}/${BUCKET}/moved/s3`);
  await store('moved/new', { projectId: 'local', ...inline('x') }, client);
  expect(await urlOf('moved/new', 'simple', objects)).toContain(`${s3.endpoint}/${BUCKET}/moved/new`);
});

test.each(['a/../b', 'x/.', `long/${'x'.repeat(1_020)}`])('the name %s cannot be a key', async name => {
  await expect(objects.createUpload({ name }, request(inline('x')))).rejects.toEqual(refused('InputError', 400));
  expect(await server.db`select 1 from object.objects where name = ${name}`).toEqual([]);
});

test('on Amazon S3 objects are tagged, and HTML is stored as an attachment', async () => {
  const before = process.env['AWS_ENDPOINT_URL_S3'];
  process.env['AWS_ENDPOINT_URL_S3'] = s3.endpoint; // what the SDK takes for Amazon
  try {
    const own = await start(
      { s3: aws({ endpoint: undefined, tags: { cost: 'none' } }) },
      {
        environment: { BACKEND_MAP: '[{"backendId":"s3","when":"all"}]' },
      },
    );
    const client = own.client(objectApi);
    const upload = request({ projectId: 'proj/ect', expires: inHours(1, own), putUrl: { contentType: 'text/html', contentLength: 3 } });
    const { putUrl } = (await client.createUpload({ name: 'real' }, upload)).uploadMethod;
    expect(putUrl?.headers).toEqual({
      'Content-Type': 'text/html',
      'Content-Length': '3',
      'Content-Encoding': 'identity',
      'Content-Disposition': 'attachment',
    });
    const finish = { projectId: 'proj/ect', uploadId: upload.uploadId };
    await expect(client.finishUpload({ name: 'real' }, finish)).rejects.toEqual(refused('InputError', 400));
    expect((await fetch(putUrl?.url ?? '', { method: 'PUT', headers: putUrl?.headers ?? {}, body: '<b>' })).status).toBe(200);
    await client.finishUpload({ name: 'real' }, finish);
    expect(s3.requests).toContain(`GET /${BUCKET}/?location=`);
    const tags = await s3.tags(BUCKET, 'real');
    expect(tags).toMatch(/<Key>cost<\/Key>\s*<Value>none<\/Value>/);
    expect(tags).toMatch(/<Key>ProjectId<\/Key>\s*<Value>proj\/ect<\/Value>/);
    const url = await urlOf('real', 'simple', client);
    expect(new URL(url).searchParams.get('response-content-disposition')).toBeNull();
    expect((await fetch(url)).headers.get('content-disposition')).toBe('attachment');
  } finally {
    if (before === undefined) {
      delete process.env['AWS_ENDPOINT_URL_S3'];
    } else {
      process.env['AWS_ENDPOINT_URL_S3'] = before;
    }
  }
});

test('while the storage is away, callers are told so and nothing is lost', async () => {
  await store('outage/there');
  const upload = request(inline('hello'));
  await objects.createUpload({ name: 'outage/going on' }, upload);
  await s3.stop();
  const away = expect.objectContaining({
    code: 'ServiceUnavailable',
    statusCode: 503,
    message: expect.stringContaining(`${BUCKET} cannot be reached now (ECONNREFUSED). Nothing is lost: try again later.`),
  }) as unknown;
  const finish = () => objects.finishUpload({ name: 'outage/going on' }, { projectId: 'p', uploadId: upload.uploadId });
  await expect(finish()).rejects.toEqual(away);
  const late = request(inline('late'));
  await expect(objects.createUpload({ name: 'outage/late' }, late)).rejects.toEqual(away);
  // what needs no answer of the storage goes on
  expect(await objects.object({ name: 'outage/there' })).toMatchObject({ projectId: 'p' });
  expect(await urlOf('outage/there')).toContain(s3.endpoint);
  await store('outage/local', { projectId: 'local', ...inline('x') });
  await s3.start();
  expect(await finish()).toEqual({});
  await objects.createUpload({ name: 'outage/late' }, late);
  await objects.finishUpload({ name: 'outage/late' }, { projectId: 'p', uploadId: late.uploadId });
  expect(await (await fetch(await urlOf('outage/late'))).text()).toBe('late');
}, 60_000);

const expiryCtx = (own: TestServer): ExpiryCtx => {
  const ctx = own.server.services.get('object')?.apis?.[0]?.ctx as ExpiryCtx;
  return { db: own.db, clock: own.clock, log, backends: ctx.backends };
};

test('expiry: bytes in one request, then rows; what cannot be removed is kept and tried again', async () => {
  const own = await start(allBackends());
  const client = own.client(objectApi);
  const ctx = expiryCtx(own);
  const names = Array.from({ length: 30 }, (_, i) => `expiring/${i}`);
  for (const name of names) {
    await store(name, { expires: inHours(1, own), ...inline('x') }, client);
  }
  await store('staying', { expires: inHours(30, own), ...inline('x') }, client);
  await client.createUpload({ name: 'abandoned' }, request({ expires: inHours(30, own), ...inline('x') }));
  const left = async (): Promise<string[]> =>
    (await own.db<{ name: string }>`select name from object.objects order by name`).map(({ name }) => name);

  own.clock.advance({ hours: 2 });
  await s3.stop();
  expect(await objectExpiry.run(ctx, 1_000)).toBe(0);
  expect(await left()).toHaveLength(32);
  // what is being removed is not there any more, and its name not free yet
  await expect(client.object({ name: 'expiring/1' })).rejects.toEqual(refused('ResourceNotFound', 404));
  await expect(client.createUpload({ name: 'expiring/1' }, request(inline('x')))).rejects.toEqual(refused('RequestConflict', 409));
  await s3.start();
  expect(await objectExpiry.run(ctx, 1_000)).toBe(0); // not at once again
  own.clock.advance({ minutes: 11 });
  s3.locked.add('expiring/7');
  const from = s3.requests.length;
  expect(await objectExpiry.run(ctx, 1_000)).toBe(30);
  expect(s3.requests.slice(from)).toHaveLength(1);
  expect(await left()).toEqual(['abandoned', 'expiring/7', 'staying']);
  expect(logged).toContain('"name":"expiring/7","reason":"AccessDenied"');
  s3.locked.clear();
  own.clock.advance({ hours: 23 });
  expect(await objectExpiry.run(ctx, 1_000)).toBe(2);
  expect(await left()).toEqual(['staying']);
  expect((await s3.keys(BUCKET)).filter(key => names.includes(key) || key === 'abandoned')).toEqual([]);
  expect(await s3.read(BUCKET, 'staying')).toBeDefined();
}, 60_000);

test('what can never be removed holds up nothing behind it', async () => {
  const own = await start(allBackends());
  const client = own.client(objectApi);
  const ctx = expiryCtx(own);
  for (let i = 0; i < 9; i++) {
    await store(`blocked/${i}`, { expires: inHours(1 + i / 60, own), ...inline('x') }, client);
  }
  [0, 1, 2, 3].forEach(i => s3.locked.add(`blocked/${i}`));
  own.clock.advance({ hours: 2 });
  const counts: number[] = [];
  for (let run = 0; run < 5; run++) {
    counts.push(await objectExpiry.run(ctx, 3));
    own.clock.advance({ minutes: 11 });
  }
  expect(counts).toEqual([0, 3, 3, 0, 0]);
  expect((await own.db<{ name: string }>`select name from object.objects order by name`).map(({ name }) => name)).toEqual(
    [0, 1, 2, 3].map(i => `blocked/${i}`),
  );
  s3.locked.clear();
  expect(await objectExpiry.run(ctx, 3)).toBe(3);
  own.clock.advance({ minutes: 11 });
  expect(await objectExpiry.run(ctx, 3)).toBe(1);
});

test('several loops at once, and one that dies half way: every object goes once', async () => {
  const own = await start(allBackends());
  const client = own.client(objectApi);
  const ctx = expiryCtx(own);
  for (let i = 0; i < 20; i++) {
    await store(`shared/${i}`, { expires: inHours(1, own), ...inline('x') }, client);
  }
  own.clock.advance({ hours: 2 });
  const dying = { ...ctx, backends: new Map([['s3', { backendId: 's3', remove: () => Promise.reject(new Error('killed')) } as never]]) };
  expect(await objectExpiry.run(dying, 5)).toBe(0);
  const counts = await Promise.all([1, 2, 3].map(() => objectExpiry.run(ctx, 10)));
  expect(counts.reduce((sum, count) => sum + count)).toBe(15);
  own.clock.advance({ minutes: 11 });
  expect(await objectExpiry.run(ctx, 10)).toBe(5);
  expect(await own.db`select name from object.objects`).toEqual([]);
});

test('no key is in any log line', () => {
  expect(logged).toContain('ECONNREFUSED');
  for (const secret of [S3_ACCESS_KEY, S3_SECRET_KEY, JSON.stringify(S3_SECRET_KEY).slice(1, -1)]) {
    expect(logged).not.toContain(secret);
  }
});

test.each([
  [{ bucket: undefined }, 'the backend "s3" needs the name of a bucket: bucket'],
  [{ accessKeyId: '' }, 'the backend "s3" needs the id of an access key: accessKeyId'],
  [{ secretAccessKey: 7 }, 'the backend "s3" needs the secret of the access key: secretAccessKey'],
  [{ signGetUrls: undefined }, 'the backend "s3" needs true or false as its signGetUrls'],
  [{ endpoint: 'nowhere' }, 'the backend "s3" needs a URL such as https://s3.example.com as its endpoint'],
  [{ tags: { a: 'b' } }, 'the backend "s3" has tags and an endpoint'],
  [{ endpoint: undefined, tags: { ProjectId: 'b' } }, 'the backend "s3" needs as its tags'],
  [{ s3ForcePathStyle: 'yes' }, 'the backend "s3" needs true or false as its s3ForcePathStyle'],
  [{ region: 1 }, 'the backend "s3" needs text as its region'],
  [{ maxPutBytes: 0 }, 'the backend "s3" needs a number of bytes as its maxPutBytes'],
  [{ passphrase: 'secret' }, 'the backend "s3" has options that the type aws does not know: passphrase'],
])('the configuration %j stops the start, and shows no key', async (change, message) => {
  const problem = (await start({ ...allBackends(), s3: aws(change) }).catch((error: unknown) => error)) as Error;
  expect(problem.message).toContain(message);
  expect(problem.message).toContain('BACKENDS ');
  expect(problem.message).not.toContain(S3_ACCESS_KEY);
  expect(problem.message).not.toContain('the/secret');
});

test.each([
  [{ PUBLIC_ARTIFACT_BUCKET: 'a-bucket' }, 'PUBLIC_ARTIFACT_BUCKET and PRIVATE_ARTIFACT_BUCKET belong together'],
  [{ PUBLIC_ARTIFACT_BUCKET: 'same', PRIVATE_ARTIFACT_BUCKET: 'same' }, 'are the same'],
  [
    { PUBLIC_ARTIFACT_BUCKET: 'one', PRIVATE_ARTIFACT_BUCKET: 'two', AWS_ACCESS_KEY_ID: 'K' },
    'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY',
  ],
])('buckets of artifacts: %j is refused', async (environment, message) => {
  await expect(start(allBackends(), { environment: environment as Record<string, string> })).rejects.toThrow(message);
});
