import crypto from 'node:crypto';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { objectApi } from '@tscluster/api/object/api.ts';
import type { Client } from '@tscluster/client/client.ts';
import { plainSlugid } from '@tscluster/client/clock.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { lockDigest } from '../../platform/blobs/blobs.db.ts';
import { seededRandom, type TestServer, withServer } from '../../testing/server.ts';
import { objectExpiry, type ExpiryCtx } from './expiry.ts';
import { objectService } from './service.ts';
import { thereAndBack } from './testing.ts';

let dir: string;
let server: TestServer;
let objects: Client<typeof objectApi>;
let origin: string;

const ids = seededRandom(77);
const newId = (): string => plainSlugid(ids);
const inHours = (hours: number): string => new Date(server.clock.nowMs() + hours * 3_600_000).toISOString();

const BACKENDS = JSON.stringify({ main: { backendType: 'local' }, other: { backendType: 'local' } });
const BACKEND_MAP = JSON.stringify([
  { backendId: 'other', when: { name: { regexp: '^other/' } } },
  { backendId: 'main', when: { projectId: { regexp: '^p' } } },
  { backendId: 'main', when: { projectId: 'none' } },
]);
const MIDDLEWARE = JSON.stringify([{ middlewareType: 'cdn', regexp: '^cdn/', baseUrl: 'https://cdn.example/' }]);

const start = (extra: Record<string, string> = {}): Promise<TestServer> =>
  withServer([objectService], { environment: { OBJECTS_FOLDER: dir, BACKENDS, BACKEND_MAP, MIDDLEWARE, ...extra } });

beforeAll(async () => {
  dir = await fs.mkdtemp(path.join(os.tmpdir(), 'taskcluster-objects-'));
  server = await start();
  objects = server.client(objectApi);
  origin = await server.server.app.listen({ host: '127.0.0.1', port: 0 });
});
afterAll(async () => {
  await fs.rm(dir, { recursive: true, force: true });
});

/** The bytes of a URL, over a socket. */
const overSocket = (url: string, init?: RequestInit): Promise<Response> => fetch(url.replace(server.rootUrl, origin), init);

interface Request {
  projectId: string;
  uploadId: string;
  expires: string;
  hashes?: Record<string, unknown>;
  proposedUploadMethods: {
    dataInline?: { contentType: string; objectData: string };
    putUrl?: { contentType: string; contentLength: number };
  };
}
const request = (change: Partial<Request> = {}): Request => ({
  projectId: 'p',
  uploadId: newId(),
  expires: inHours(1),
  proposedUploadMethods: { dataInline: { contentType: 'text/plain', objectData: Buffer.from('hello').toString('base64') } },
  ...change,
});

const refused = (code: string, statusCode: number) => expect.objectContaining({ code, statusCode }) as unknown;

/** Stores `hello` under a name. */
const store = async (name: string, change: Partial<Request> = {}): Promise<Request> => {
  const upload = request(change);
  await objects.createUpload({ name }, upload);
  await objects.finishUpload({ name }, { projectId: upload.projectId, uploadId: upload.uploadId });
  return upload;
};

test.each([
  ['2040-01-01 05:00:00', '2040-01-01T05:00:00.000Z'],
  ['2040-01-01T05:00:00-05', '2040-01-01T10:00:00.000Z'],
])('an object that expires %s', async (expires, read) => {
  await store(`p/expires ${expires}`, { expires });
  expect(await objects.object({ name: `p/expires ${expires}` })).toMatchObject({ expires: read });
});

test('data inline: stored at once, there once finished', async () => {
  const upload = request();
  const name = 'inline/a b.txt';
  expect(await objects.createUpload({ name }, upload)).toEqual({
    projectId: 'p',
    uploadId: upload.uploadId,
    expires: upload.expires,
    uploadMethod: { dataInline: true },
  });
  await expect(objects.object({ name })).rejects.toEqual(refused('ResourceNotFound', 404));
  await expect(objects.startDownload({ name }, { acceptDownloadMethods: { simple: true } })).rejects.toEqual(
    refused('ResourceNotFound', 404),
  );
  await expect(objects.download({ name })).rejects.toEqual(refused('ResourceNotFound', 404));
  const hashes = { sha256: crypto.hash('sha256', 'hello') };
  expect(await objects.finishUpload({ name }, { projectId: 'p', uploadId: upload.uploadId, hashes })).toEqual({});
  expect(await objects.object({ name })).toEqual({ projectId: 'p', expires: upload.expires, hashes });

  const download = (await objects.startDownload({ name }, { acceptDownloadMethods: { getUrl: true, simple: true } })) as { url: string };
  expect(download).toEqual({
    method: 'getUrl',
    url: expect.any(String),
    expires: new Date(server.clock.nowMs() + 60_000).toISOString(),
    hashes,
  });
  const bytes = await overSocket(download.url);
  expect(bytes.headers.get('content-type')).toBe('text/plain');
  expect(await bytes.text()).toBe('hello');
});

test('signed URLs of downloads end', async () => {
  const own = await start();
  const client = own.client(objectApi);
  const upload = { ...request(), expires: new Date(own.clock.nowMs() + 3_600_000).toISOString() };
  await client.createUpload({ name: 'n' }, upload);
  await client.finishUpload({ name: 'n' }, { projectId: 'p', uploadId: upload.uploadId });
  const get = (await client.startDownload({ name: 'n' }, { acceptDownloadMethods: { getUrl: true } })) as { url: string };
  const simple = (await client.startDownload({ name: 'n' }, { acceptDownloadMethods: { simple: true } })) as {
    method: string;
    url: string;
  };
  expect(simple).toEqual({ method: 'simple', url: expect.any(String) });
  const statusOf = async (url: string): Promise<number> => (await own.fetch(url)).status;
  own.clock.advance({ seconds: 120 });
  expect(await statusOf(get.url)).toBe(200);
  own.clock.advance({ ms: 1 });
  expect(await statusOf(get.url)).toBe(403);
  own.clock.advance({ minutes: 27, seconds: 59 });
  expect(await statusOf(simple.url)).toBe(200);
  own.clock.advance({ seconds: 1 });
  expect(await statusOf(simple.url)).toBe(403);
});

test('put: a URL with headers; the same length and type have to be sent', async () => {
  const name = 'put/x';
  const upload = request({ proposedUploadMethods: { putUrl: { contentType: 'text/plain', contentLength: 5 } } });
  const { uploadMethod } = await objects.createUpload({ name }, upload);
  const target = uploadMethod.putUrl;
  expect(target).toEqual({
    url: expect.any(String),
    expires: new Date(server.clock.nowMs() + 45 * 60_000).toISOString(),
    headers: { 'Content-Type': 'text/plain', 'Content-Length': '5', 'Content-Encoding': 'identity' },
  });
  const { url, headers } = target as { url: string; headers: Record<string, string> };
  const finish = { projectId: 'p', uploadId: upload.uploadId };
  await expect(objects.finishUpload({ name }, finish)).rejects.toEqual(refused('InputError', 400));
  expect((await overSocket(url, { method: 'PUT', headers: { ...headers, 'Content-Type': 'text/html' }, body: 'hello' })).status).toBe(403);
  for (const body of ['first', 'hello']) {
    expect((await overSocket(url, { method: 'PUT', headers, body })).status).toBe(200);
  }
  expect(await objects.finishUpload({ name }, finish)).toEqual({});
  const late = await overSocket(url, { method: 'PUT', headers, body: 'later' });
  expect([late.status, await late.json()]).toEqual([409, expect.objectContaining({ code: 'UploadFinished' })]);
  const bytes = await overSocket(
    ((await objects.startDownload({ name }, { acceptDownloadMethods: { simple: true } })) as { url: string }).url,
  );
  expect(await bytes.text()).toBe('hello');
});

test('a URL of an earlier upload of the name writes nothing into a later one', async () => {
  const name = 'again';
  const first = request({ proposedUploadMethods: { putUrl: { contentType: 'text/plain', contentLength: 5 } } });
  const { putUrl } = (await objects.createUpload({ name }, first)).uploadMethod;
  await server.db`delete from object.objects where name = ${name}`;
  await store(name);
  const { url, headers } = putUrl as { url: string; headers: Record<string, string> };
  expect((await overSocket(url, { method: 'PUT', headers, body: 'wrong' })).status).toBe(200);
  const download = (await objects.startDownload({ name }, { acceptDownloadMethods: { getUrl: true } })) as { url: string };
  expect(await (await overSocket(download.url)).text()).toBe('hello');
});

test('both methods proposed: inline wins; none: nothing is chosen', async () => {
  const both = request({
    proposedUploadMethods: { ...request().proposedUploadMethods, putUrl: { contentType: 'text/plain', contentLength: 5 } },
  });
  expect((await objects.createUpload({ name: 'both' }, both)).uploadMethod).toEqual({ dataInline: true });
  const none = request({ proposedUploadMethods: {} });
  expect((await objects.createUpload({ name: 'none' }, none)).uploadMethod).toEqual({});
  // and continued with another method under the same id
  expect(
    (await objects.createUpload({ name: 'none' }, { ...none, proposedUploadMethods: request().proposedUploadMethods })).uploadMethod,
  ).toEqual({
    dataInline: true,
  });
});

test('malformed base64 is read leniently', async () => {
  await store('lenient', { proposedUploadMethods: { dataInline: { contentType: 'text/plain', objectData: 'aGVs bG8=!!' } } });
  const download = (await objects.startDownload({ name: 'lenient' }, { acceptDownloadMethods: { getUrl: true } })) as { url: string };
  expect(await (await overSocket(download.url)).text()).toBe('hello');
});

test.each([
  ['a content type that is none', { dataInline: { contentType: 'nonsense', objectData: '' } }],
  ['a negative length', { putUrl: { contentType: 'text/plain', contentLength: -1 } }],
])('%s is refused and nothing is stored', async (_what, proposedUploadMethods) => {
  const name = 'refused';
  await expect(objects.createUpload({ name }, request({ proposedUploadMethods }))).rejects.toEqual(refused('InputError', 400));
  expect(await server.db`select 1 from object.objects where name = ${name}`).toEqual([]);
});

test('what is too large is refused before anything is stored', async () => {
  const large = { putUrl: { contentType: 'text/plain', contentLength: 10 ** 15 } };
  await expect(objects.createUpload({ name: 'large' }, request({ proposedUploadMethods: large }))).rejects.toEqual(
    refused('InputTooLarge', 413),
  );
  expect(await server.db`select 1 from object.objects where name = 'large'`).toEqual([]);
});

test('data inline is held to the same limit', async () => {
  const own = await start({ OBJECTS_MAX_BYTES: '4' });
  const client = own.client(objectApi);
  const upload = { ...request(), expires: new Date(own.clock.nowMs() + 3_600_000).toISOString() };
  await expect(client.createUpload({ name: 'n' }, upload)).rejects.toEqual(refused('InputTooLarge', 413));
  // it has reserved nothing
  await client.createUpload({ name: 'n' }, { ...upload, uploadId: newId(), proposedUploadMethods: {} });
});

test('data inline that comes while the upload ends is refused', async () => {
  const name = 'inline/late';
  const upload = request();
  await objects.createUpload({ name }, upload);
  const late = Buffer.from('late');
  const [held, released] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const holding = server.db.tx(async tx => {
    await lockDigest(tx, crypto.hash('sha256', late));
    held.resolve();
    await released.promise;
  });
  await held.promise;
  const proposedUploadMethods = { dataInline: { contentType: 'text/plain', objectData: late.toString('base64') } };
  const answer = objects.createUpload({ name }, { ...upload, proposedUploadMethods });
  const checked = expect(answer).rejects.toMatchObject({
    code: 'RequestConflict',
    statusCode: 409,
    message: expect.stringContaining('finished'),
  });
  const waiting = async (): Promise<unknown> =>
    server.db`select 1 as one from pg_locks
      where locktype = 'advisory' and not granted and database = (select oid from pg_database where datname = current_database())`;
  await expect.poll(waiting).toEqual([{ one: 1 }]);
  await objects.finishUpload({ name }, { projectId: 'p', uploadId: upload.uploadId });
  released.resolve();
  await holding;
  await checked;
  const { url } = (await objects.startDownload({ name }, { acceptDownloadMethods: { simple: true } })) as { url: string };
  expect(await (await overSocket(url)).text()).toBe('hello');
});

test('a name of any length has an answer', async () => {
  await expect(objects.createUpload({ name: 'x'.repeat(2_500) }, request())).rejects.toEqual(refused('InputError', 400));
  await store('x'.repeat(2_000));
});

test('requests are checked before anything else', async () => {
  await expect(objects.createUpload({ name: 'schema' }, { ...request(), proposedUploadMethods: { magic: {} } } as never)).rejects.toEqual(
    refused('InputValidationError', 400),
  );
  const tooLong = { dataInline: { contentType: 'text/plain', objectData: 'a'.repeat(10_927) } };
  await expect(objects.createUpload({ name: 'schema' }, request({ proposedUploadMethods: tooLong }))).rejects.toEqual(
    refused('InputValidationError', 400),
  );
  await expect(objects.startDownload({ name: 'schema' }, { acceptDownloadMethods: { simple: false } } as never)).rejects.toEqual(
    refused('InputValidationError', 400),
  );
  for (const hashes of [{ sha256: 'a'.repeat(63) }, { sha256: 'A'.repeat(64) }, { sha512: 'a'.repeat(64) }]) {
    await expect(objects.createUpload({ name: 'schema' }, request({ hashes }))).rejects.toEqual(refused('InputValidationError', 400));
  }
  const unencoded = await server.fetch(`${server.rootUrl}/api/object/v1/upload/a/b`, { method: 'PUT' });
  expect([unencoded.status, await unencoded.json()]).toEqual([404, { error: 'Not found' }]);
});

test('scopes name project and object', async () => {
  const upload = request();
  const name = 'scoped/x';
  const finish = { projectId: 'p', uploadId: upload.uploadId };
  const stranger = server.client(objectApi, { scopes: ['object:upload:q:scoped/x', 'object:upload:p:other', 'object:download:scoped/y'] });
  await expect(stranger.createUpload({ name }, upload)).rejects.toEqual(refused('InsufficientScopes', 403));
  await expect(stranger.finishUpload({ name }, finish)).rejects.toEqual(refused('InsufficientScopes', 403));
  const uploader = server.client(objectApi, { scopes: ['object:upload:p:scoped/x'] });
  await uploader.createUpload({ name }, upload);
  await uploader.finishUpload({ name }, finish);
  for (const client of [stranger, uploader, server.client(objectApi, { scopes: null })]) {
    await expect(client.object({ name })).rejects.toEqual(refused('InsufficientScopes', 403));
    await expect(client.download({ name })).rejects.toEqual(refused('InsufficientScopes', 403));
    await expect(client.startDownload({ name }, { acceptDownloadMethods: { simple: true } })).rejects.toEqual(
      refused('InsufficientScopes', 403),
    );
  }
  const reader = server.client(objectApi, { scopes: ['object:download:scoped/*'] });
  expect(await reader.object({ name })).toMatchObject({ projectId: 'p' });
});

test('no backend for the object', async () => {
  await expect(objects.createUpload({ name: 'nowhere' }, request({ projectId: 'q' }))).rejects.toEqual(refused('NoMatchingBackend', 400));
});

test('an upload is continued with the same properties only', async () => {
  const name = 'continue';
  const upload = request({ hashes: { sha256: 'a'.repeat(64), odd: 7 } });
  await objects.createUpload({ name }, upload);
  const until = async (): Promise<unknown> => (await server.db`select upload_expires from object.objects where name = ${name}`)[0];
  const before = await until();
  server.clock.advance({ seconds: 1 });
  // the same instant in another spelling is the same, and comes back as it was written
  const spelled = upload.expires.replace('Z', '+00:00');
  expect((await objects.createUpload({ name }, { ...upload, expires: spelled })).expires).toBe(spelled);
  expect(await until()).toEqual(before);
  const changes: Partial<Request>[] = [
    { uploadId: newId() },
    { projectId: 'p2' },
    { expires: inHours(2) },
    { hashes: { sha256: 'b'.repeat(64) } },
  ];
  for (const change of changes) {
    await expect(objects.createUpload({ name }, { ...upload, ...change })).rejects.toEqual(refused('RequestConflict', 409));
  }
  await expect(objects.createUpload({ name: 'different' }, { ...upload })).rejects.toEqual(refused('RequestConflict', 409));
  await objects.createUpload({ name }, { ...upload, hashes: { sha512: 'c'.repeat(128) } });
  await objects.finishUpload({ name }, { projectId: 'p', uploadId: upload.uploadId, hashes: { another: 'x' } });
  expect((await objects.object({ name })).hashes).toEqual({ sha256: 'a'.repeat(64), odd: '7', sha512: 'c'.repeat(128), another: 'x' });
  await expect(objects.createUpload({ name }, upload)).rejects.toEqual(refused('RequestConflict', 409));
});

test('the order of checks of finishUpload, and its repeats', async () => {
  const name = 'finish';
  const { uploadId } = request();
  const finish = (change: object = {}) => objects.finishUpload({ name }, { projectId: 'p', uploadId, ...change });
  await expect(finish()).rejects.toEqual(refused('ResourceNotFound', 404));
  await objects.createUpload({ name }, request({ uploadId, hashes: { sha256: 'a'.repeat(64) } }));
  await expect(finish({ projectId: 'p2', uploadId: newId() })).rejects.toEqual(refused('InputError', 400));
  await expect(finish({ uploadId: newId() })).rejects.toEqual(refused('RequestConflict', 409));
  await expect(finish({ hashes: { sha256: 'b'.repeat(64) } })).rejects.toEqual(refused('RequestConflict', 409));
  // refused calls have changed nothing: the upload goes on
  await objects.createUpload({ name }, request({ uploadId, hashes: { sha256: 'a'.repeat(64) } }));
  expect(await finish({ hashes: { sha512: 'c'.repeat(128) } })).toEqual({});
  expect(await finish({ uploadId: newId() })).toEqual({});
  expect(await finish({ hashes: { sha256: 'a'.repeat(64) } })).toEqual({});
  await expect(finish({ hashes: { sha256: 'b'.repeat(64) } })).rejects.toEqual(refused('RequestConflict', 409));
  await expect(finish({ hashes: { another: 'x' } })).rejects.toEqual(refused('RequestConflict', 409));
});

test('an upload id is free again once its upload is finished', async () => {
  const { uploadId } = await store('id/one');
  await store('id/two', { uploadId });
});

test('the method of a download: the service prefers getUrl', async () => {
  await store('methods');
  const start = (acceptDownloadMethods: object) => objects.startDownload({ name: 'methods' }, { acceptDownloadMethods });
  expect(await start({ simple: true, getUrl: true })).toMatchObject({ method: 'getUrl', hashes: {} });
  expect(await start({ simple: true })).toMatchObject({ method: 'simple' });
  await expect(start({})).rejects.toEqual(refused('NoMatchingMethod', 406));
});

test('download redirects, to the CDN where a rule says so', async () => {
  server.setAnonymousScopes(['object:download:*']);
  await store('plain/page one');
  await store('cdn/page one');
  const get = (path_: string): Promise<Response> => server.fetch(`${server.rootUrl}/api/object/v1/download/${path_}`);
  const plain = await get('plain/page%20one');
  expect(plain.status).toBe(303);
  expect(await (await overSocket(plain.headers.get('location') ?? '')).text()).toBe('hello');
  expect((await get('cdn%2Fpage%20one')).headers.get('location')).toBe('https://cdn.example/cdn/page one');
  expect(await objects.startDownload({ name: 'cdn/page one' }, { acceptDownloadMethods: { simple: true } })).toMatchObject({
    url: expect.stringContaining('/objects/v1/object-main/'),
  });
  server.setAnonymousScopes([]);
});

test('HTML is saved, not shown', async () => {
  await store('page', { proposedUploadMethods: { dataInline: { contentType: 'text/html', objectData: 'PGI+' } } });
  const { url } = (await objects.startDownload({ name: 'page' }, { acceptDownloadMethods: { simple: true } })) as { url: string };
  const reply = await overSocket(url);
  expect(reply.headers.get('content-disposition')).toBe('attachment');
  expect(reply.headers.get('content-security-policy')).toBe('sandbox');
});

test('rules choose the backend, and a backend that is gone is told', async () => {
  await store('other/x');
  const own = await withServer([objectService], {
    db: server.db,
    clock: server.clock,
    environment: {
      OBJECTS_FOLDER: dir,
      BACKENDS: JSON.stringify({ main: { backendType: 'local' } }),
      BACKEND_MAP: '[{"backendId":"main","when":"all"}]',
    },
  });
  const client = own.client(objectApi);
  await expect(client.startDownload({ name: 'other/x' }, { acceptDownloadMethods: { simple: true } })).rejects.toEqual(
    refused('InputError', 400),
  );
  await expect(client.download({ name: 'other/x' })).rejects.toEqual(refused('InputError', 400));
  const upload = request();
  await objects.createUpload({ name: 'other/y' }, upload);
  await expect(client.createUpload({ name: 'other/y' }, upload)).rejects.toEqual(refused('RequestConflict', 409));
  await expect(client.finishUpload({ name: 'other/y' }, { projectId: 'p', uploadId: upload.uploadId })).rejects.toEqual(
    refused('InputError', 400),
  );
});

test.each([0, 100, 8_191, 8_192, 300_000])('the client library takes %i bytes there and back', size =>
  thereAndBack(objects, (url, init) => overSocket(url as string, init), seededRandom(size).bytes(size), inHours(1)),
);

test('expired objects and unfinished uploads go, and their names are free again', async () => {
  const own = await start();
  const client = own.client(objectApi);
  const at = (hours: number): string => new Date(own.clock.nowMs() + hours * 3_600_000).toISOString();
  const backends = new Map<string, never>();
  const finishOf = (upload: Request) => ({ projectId: 'p', uploadId: upload.uploadId });
  const [short, long, unfinished, past] = [
    request({ expires: at(1) }),
    request({ expires: at(48) }),
    request({ expires: at(48) }),
    request({ expires: at(-1) }),
  ];
  for (const [name, upload] of Object.entries({ short, long, past })) {
    await client.createUpload({ name }, upload);
    await client.finishUpload({ name }, finishOf(upload));
  }
  await client.createUpload({ name: 'unfinished' }, unfinished);
  // past its time but not removed yet: still there
  expect(await client.startDownload({ name: 'past' }, { acceptDownloadMethods: { simple: true } })).toMatchObject({ method: 'simple' });
  const ctx = { db: own.db, clock: own.clock, log: own.platform.log, backends } as unknown as ExpiryCtx;
  const loops = own.server.services.get('object')?.loops?.map(each => each.name);
  expect(loops).toEqual(['object/expire', 'object/mirror-copies', 'object/mirror-evictions', 'blobs/garbage', 'blobs/leftovers']);
  // rows whose backend is unknown stay
  expect(await objectExpiry.run(ctx, 100)).toBe(0);
  const real = { ...ctx, backends: objectBackends(own) };
  expect(await objectExpiry.run(real, 100)).toBe(1);
  await expect(client.object({ name: 'past' })).rejects.toEqual(refused('ResourceNotFound', 404));
  own.clock.advance({ hours: 25 });
  expect(await objectExpiry.run(real, 1)).toBe(1);
  expect(await objectExpiry.run(real, 100)).toBe(1);
  expect(await objectExpiry.run(real, 100)).toBe(0);
  expect((await own.db<{ name: string }>`select name from object.objects`).map(row => row.name)).toEqual(['long']);
  expect((await own.db`select key from platform.blobs`).length).toBe(1);
  await client.createUpload({ name: 'unfinished' }, request({ expires: at(1) }));
});

/** The backends as the service made them. */
const objectBackends = (own: TestServer): ExpiryCtx['backends'] => {
  const ctx = own.server.services.get('object')?.apis?.[0]?.ctx as ExpiryCtx;
  return ctx.backends;
};

test('the folder has to be given', async () => {
  await expect(withServer([objectService])).rejects.toThrow('OBJECTS_FOLDER is not set');
});
