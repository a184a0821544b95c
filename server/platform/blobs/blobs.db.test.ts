import crypto from 'node:crypto';
import fs from 'node:fs/promises';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import zlib from 'node:zlib';
import * as fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type TestServer, withServer } from '../../testing/server.ts';
import { defineService, type Platform } from '../service.ts';
import { type BlobFolder, openBlobFolder } from './blob-folder.ts';
import { makeBlobRoute } from './blob-routes.ts';
import type { BlobStore } from './blob-store.ts';
import { sealBlob } from './blobs.db.ts';
import { makeLocalStore } from './local-store.ts';

let dir: string;
let server: TestServer;
let folder: BlobFolder;
let origin: string;
let store: BlobStore;
let publicStore: BlobStore;

const MAX_BYTES = 1_000_000;

beforeAll(async () => {
  dir = await fs.mkdtemp(path.join(os.tmpdir(), 'taskcluster-blobs-'));
  const service = defineService({
    name: 'blobs',
    settings: {},
    start: async ({ db, clock, random, log, metrics, signingSecret }: Platform) => {
      folder = await openBlobFolder({ folder: dir, db, clock, random, maxBytes: MAX_BYTES });
      return { routes: [makeBlobRoute({ db, clock, log, metrics, folder, maxBytes: MAX_BYTES, signingSecret, publicStores: ['public'] })] };
    },
  });
  server = await withServer([service]);
  origin = await server.server.app.listen({ host: '127.0.0.1', port: 0 });
  const { db, clock, platform } = server;
  const open = (name: string): BlobStore => makeLocalStore({ name, db, clock, signingSecret: platform.signingSecret, origin });
  [store, publicStore] = [open('private'), open('public')];
});
afterAll(async () => {
  await fs.rm(dir, { recursive: true, force: true });
});

interface Reply {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: Buffer;
}

/** A request with exactly these headers: `fetch` would add its own. */
const send = (
  method: string,
  url: string,
  headers: http.OutgoingHttpHeaders = {},
  body: Buffer | Readable = Buffer.alloc(0),
): Promise<Reply> =>
  new Promise((resolve, reject) => {
    const request = http.request(url, { method, headers, agent: false }, response => {
      buffer(response).then(bytes => resolve({ status: response.statusCode ?? 0, headers: response.headers, body: bytes }), reject);
    });
    request.on('error', reject);
    if (body instanceof Readable) {
      body.pipe(request);
    } else {
      request.end(body);
    }
  });
const codeOf = (reply: Reply): unknown => [reply.status, (JSON.parse(reply.body.toString()) as { code: string }).code];

const soon = (): Date => new Date(server.clock.nowMs() + 60_000);
const signPut = (key: string, contentType = 'text/plain', contentLength?: number): Promise<string> =>
  store.signPut({ key, contentType, expires: soon(), ...(contentLength === undefined ? {} : { contentLength }) });
const signGet = (key: string, attachment = false): Promise<string> => store.signGet({ key, expires: soon(), attachment });
const store5 = async (key: string, text: string, headers: http.OutgoingHttpHeaders = {}): Promise<Reply> =>
  send('PUT', await signPut(key), { 'content-type': 'text/plain', ...headers }, Buffer.from(text));

const filesOf = async (sub: string): Promise<string[]> =>
  (await fs.readdir(path.join(dir, sub), { recursive: true, withFileTypes: true }))
    .filter(entry => entry.isFile())
    .map(entry => entry.name);

test('what is put is got, with its type and a strong ETag', async () => {
  const put = await store5('a/hello.txt', 'hello');
  const digest = crypto.hash('sha256', 'hello');
  expect(put).toMatchObject({ status: 200, headers: { etag: `"${digest}"`, 'access-control-allow-origin': '*' } });
  const get = await send('GET', await signGet('a/hello.txt'));
  expect(get).toMatchObject({
    status: 200,
    headers: {
      'content-type': 'text/plain',
      'content-length': '5',
      'content-security-policy': 'sandbox',
      'x-content-type-options': 'nosniff',
      'access-control-allow-origin': '*',
      'accept-ranges': 'bytes',
      etag: `"${digest}"`,
    },
  });
  expect(get.headers['content-encoding']).toBeUndefined();
  expect(get.body.toString()).toBe('hello');
  expect(await filesOf('objects')).toContain(digest);
  expect(await filesOf('tmp')).toEqual([]);
});

test('the last put wins, and equal bytes are kept once', async () => {
  await store5('twice', 'first');
  await store5('twice', 'second');
  await store5('other', 'second');
  expect((await send('GET', await signGet('twice'))).body.toString()).toBe('second');
  expect((await filesOf('objects')).filter(name => name === crypto.hash('sha256', 'second'))).toHaveLength(1);
});

test('HEAD tells the same without the bytes', async () => {
  await store5('head', 'hello');
  const head = await send('HEAD', await signGet('head'));
  expect(head).toMatchObject({ status: 200, headers: { 'content-length': '5', 'content-type': 'text/plain' } });
  expect(head.body.length).toBe(0);
});

test('an empty blob', async () => {
  expect((await store5('empty', '')).status).toBe(200);
  expect(await send('GET', await signGet('empty'))).toMatchObject({
    status: 200,
    headers: { 'content-length': '0' },
    body: Buffer.alloc(0),
  });
});

test('ranges', async () => {
  await store5('range', '0123456789');
  const url = await signGet('range');
  const part = await send('GET', url, { range: 'bytes=2-4' });
  expect(part).toMatchObject({ status: 206, headers: { 'content-range': 'bytes 2-4/10', 'content-length': '3' } });
  expect(part.body.toString()).toBe('234');
  expect(await send('HEAD', url, { range: 'bytes=-1' })).toMatchObject({ status: 206, headers: { 'content-range': 'bytes 9-9/10' } });
  const beyond = await send('GET', url, { range: 'bytes=10-' });
  expect(codeOf(beyond)).toEqual([416, 'RangeNotSatisfiable']);
  expect(beyond.headers['content-range']).toBe('bytes */10');
  expect((await send('GET', url, { range: 'bytes=0-1', 'if-range': '"another"' })).status).toBe(200);
  expect((await send('GET', url, { range: 'bytes=0-1', 'if-range': part.headers.etag })).status).toBe(206);
  expect((await send('GET', url, { 'if-none-match': part.headers.etag })).status).toBe(304);
});

test('an encoding is kept, and undone for those who do not accept it', async () => {
  const text = 'line\n'.repeat(10_000);
  const zipped = zlib.gzipSync(text);
  const put = await send('PUT', await signPut('log'), { 'content-type': 'text/plain', 'content-encoding': 'gzip' }, zipped);
  expect(put.status).toBe(200);
  const url = await signGet('log');
  for (const headers of [{}, { 'accept-encoding': 'gzip, deflate' }]) {
    const raw = await send('GET', url, headers);
    expect(raw.headers).toMatchObject({ 'content-encoding': 'gzip', 'content-length': String(zipped.length), vary: 'Accept-Encoding' });
    expect(raw.body.equals(zipped)).toBe(true);
  }
  const decoded = await send('GET', url, { 'accept-encoding': 'identity', range: 'bytes=0-3' });
  expect(decoded).toMatchObject({ status: 200, headers: { 'accept-ranges': 'none' } });
  expect(decoded.headers['content-encoding']).toBeUndefined();
  expect(decoded.headers['content-length']).toBeUndefined();
  expect(decoded.body.toString()).toBe(text);
  expect((await send('HEAD', url, { 'accept-encoding': 'identity' })).status).toBe(200);
});

test('identity is no encoding', async () => {
  await store5('identity', 'x', { 'content-encoding': 'identity' });
  expect((await send('GET', await signGet('identity'))).headers['content-encoding']).toBeUndefined();
});

test('HTML is saved instead of shown where the URL says so', async () => {
  await send('PUT', await signPut('page', 'text/html; charset=utf-8'), { 'content-type': 'text/html; charset=utf-8' }, Buffer.from('<p>'));
  expect((await send('GET', await signGet('page', true))).headers['content-disposition']).toBe('attachment');
  expect((await send('GET', await signGet('page'))).headers['content-disposition']).toBeUndefined();
  await store5('plain', 'x');
  expect((await send('GET', await signGet('plain', true))).headers['content-disposition']).toBeUndefined();
});

test('a URL takes what it was made for', async () => {
  const url = await signPut('strict', 'text/plain', 5);
  const plain = { 'content-type': 'text/plain' };
  expect(codeOf(await send('PUT', url, { 'content-type': 'text/html' }, Buffer.from('hello')))).toEqual([403, 'SignatureDoesNotMatch']);
  expect(codeOf(await send('PUT', url, {}, Buffer.from('hello')))).toEqual([403, 'SignatureDoesNotMatch']);
  expect(codeOf(await send('PUT', url, plain, Buffer.from('hello!')))).toEqual([403, 'SignatureDoesNotMatch']);
  const chunked = { ...plain, 'transfer-encoding': 'chunked' };
  expect(codeOf(await send('PUT', url, chunked, Readable.from([Buffer.from('hell')])))).toEqual([400, 'WrongLength']);
  expect(codeOf(await send('PUT', url, chunked, Readable.from([Buffer.from('hello!')])))).toEqual([400, 'WrongLength']);
  expect(codeOf(await send('PUT', url, { ...plain, 'content-encoding': 'a b' }, Buffer.from('hello')))).toEqual([400, 'InvalidHeader']);
  expect(codeOf(await send('GET', await signGet('strict')))).toEqual([404, 'NotFound']);
  expect((await send('PUT', url, chunked, Readable.from([Buffer.from('hello')]))).status).toBe(200);
  expect(await filesOf('tmp')).toEqual([]);
});

test.each(['', 'binary', 'two words', 'text/plain;', 'grün'])('the content type %j is kept, though it is none', async contentType => {
  const key = `type/${contentType}`;
  const stored = await send('PUT', await signPut(key, contentType), { 'content-type': contentType }, Buffer.from('hello'));
  expect(stored.status).toBe(200);
  expect(await send('GET', await signGet(key))).toMatchObject({
    status: 200,
    headers: { 'content-type': contentType === '' ? 'application/octet-stream' : contentType },
    body: Buffer.from('hello'),
  });
});

test.each(['/objects/v1/public/a%00b', '/objects/v1/public/?key=a%00b', '/objects/v1/pu%00blic/a'])('%s names nothing', async path => {
  for (const method of ['GET', 'PUT']) {
    expect(codeOf(await send(method, origin + path))).toEqual([404, 'NotFound']);
  }
});

test('more than the limit is refused', async () => {
  const reply = await send('PUT', await signPut('large'), { 'content-type': 'text/plain' }, Buffer.alloc(MAX_BYTES + 1));
  expect(codeOf(reply)).toEqual([413, 'TooLarge']);
  const chunked = { 'content-type': 'text/plain', 'transfer-encoding': 'chunked' };
  const unannounced = await send('PUT', await signPut('large'), chunked, Readable.from([Buffer.alloc(MAX_BYTES), Buffer.alloc(1)]));
  expect(codeOf(unannounced)).toEqual([413, 'TooLarge']);
  expect(await filesOf('tmp')).toEqual([]);
});

test('without a valid signature nothing is given or taken', async () => {
  await store5('secret', 'x');
  const url = await signGet('secret');
  expect(codeOf(await send('GET', await store.plainUrl('secret')))).toEqual([403, 'SignatureMissing']);
  expect(codeOf(await send('PUT', await store.plainUrl('secret')))).toEqual([403, 'SignatureMissing']);
  expect(codeOf(await send('PUT', await publicStore.plainUrl('secret')))).toEqual([403, 'SignatureMissing']);
  expect(codeOf(await send('GET', url.replace('secret', 'other')))).toEqual([403, 'SignatureDoesNotMatch']);
  expect(codeOf(await send('PUT', url))).toEqual([403, 'SignatureDoesNotMatch']);
  const late = await store.signGet({ key: 'secret', expires: new Date(server.clock.nowMs() - 1) });
  expect(codeOf(await send('GET', late))).toEqual([403, 'UrlExpired']);
  const latePut = await store.signPut({ key: 'secret', contentType: 'text/plain', expires: new Date(server.clock.nowMs() - 1) });
  expect(codeOf(await send('PUT', latePut, { 'content-type': 'text/plain' }))).toEqual([403, 'UrlExpired']);
  expect(codeOf(await send('GET', `${origin}/objects/v1/private`))).toEqual([404, 'NotFound']);
  expect(codeOf(await send('POST', url))).toEqual([405, 'MethodNotAllowed']);
});

test('a file that was lost is told', async () => {
  await store5('lost', 'lost bytes');
  const digest = crypto.hash('sha256', 'lost bytes');
  await fs.rm(path.join(dir, 'objects', digest.slice(0, 2), digest));
  expect(codeOf(await send('GET', await signGet('lost')))).toEqual([404, 'NotFound']);
  // and put again it is there again
  await store5('lost', 'lost bytes');
  expect((await send('GET', await signGet('lost'))).body.toString()).toBe('lost bytes');
});

test('a public store is read without a signature', async () => {
  const url = await publicStore.signPut({ key: 't/0/public/../x', contentType: 'text/plain', expires: soon() });
  await send('PUT', url, { 'content-type': 'text/plain' }, Buffer.from('open'));
  expect((await send('GET', await publicStore.plainUrl('t/0/public/../x'))).body.toString()).toBe('open');
});

test('browsers may ask from anywhere', async () => {
  const reply = await send('OPTIONS', await signPut('x'), {
    origin: 'https://ui.example',
    'access-control-request-headers': 'content-type',
  });
  expect(reply).toMatchObject({
    status: 204,
    headers: {
      'access-control-allow-origin': '*',
      'access-control-allow-methods': 'GET, HEAD, PUT',
      'access-control-allow-headers': 'content-type',
    },
  });
});

test('a sealed blob is not replaced', async () => {
  await store5('sealed', 'kept');
  await server.db.tx(tx => sealBlob(tx, 'private', 'sealed'));
  expect(codeOf(await store5('sealed', 'other'))).toEqual([409, 'UploadFinished']);
  // sealed while the bytes are on their way
  const late = folder.write(
    { store: 'private', key: 'sealed', contentType: 'text/plain', contentEncoding: undefined },
    Readable.from([Buffer.from('late')]),
  );
  await expect(late).rejects.toMatchObject({ status: 409, code: 'UploadFinished' });
  expect((await send('GET', await signGet('sealed'))).body.toString()).toBe('kept');
});

test('an upload that breaks off leaves what was there', async () => {
  await store5('broken', 'before');
  const url = new URL(await signPut('broken'));
  const aborted = new Promise<void>(resolve => {
    const request = http.request(url, { method: 'PUT', headers: { 'content-type': 'text/plain', 'content-length': '100' }, agent: false });
    request.on('error', () => resolve());
    request.on('close', () => resolve());
    request.write('half', () => setImmediate(() => request.destroy()));
  });
  await aborted;
  await expect.poll(() => filesOf('tmp')).toEqual([]);
  expect((await send('GET', await signGet('broken'))).body.toString()).toBe('before');
});

test('bytes of a body that breaks off are refused', async () => {
  const body = new Readable({ read: () => undefined });
  const write = folder.write({ store: 'private', key: 'gone', contentType: 'text/plain', contentEncoding: undefined }, body);
  body.push('part');
  body.destroy(Object.assign(new Error('aborted'), { code: 'ECONNRESET' }));
  await expect(write).rejects.toMatchObject({ status: 400, code: 'Aborted' });
});

test('a body that stands still is given up', async () => {
  const body = new Readable({ read: () => undefined });
  const write = folder.write({ store: 'private', key: 'still', contentType: 'text/plain', contentEncoding: undefined }, body);
  let isOver = false;
  write.catch(() => (isOver = true));
  while (!isOver) {
    await server.clock.tick({ seconds: 121 }); // the watch begins some turns after the file is there
  }
  await expect(write).rejects.toMatchObject({ status: 408, code: 'Stalled' });
  expect(await filesOf('tmp')).toEqual([]);
});

test('files are removed once no key needs them, and not before an hour is over', async () => {
  const digest = crypto.hash('sha256', 'shared');
  await store5('one', 'shared');
  await store5('two', 'shared');
  await store.remove(['one', 'missing']);
  server.clock.advance({ minutes: 61 });
  while ((await folder.collect(10)) > 0) {
    // until nothing is left to look at
  }
  expect(await filesOf('objects')).toContain(digest);
  await store.remove(['two']);
  await folder.collect(10);
  expect(await filesOf('objects')).toContain(digest);
  server.clock.advance({ minutes: 61 });
  await folder.collect(10);
  expect(await filesOf('objects')).not.toContain(digest);
  expect(codeOf(await send('GET', await signGet('two')))).toEqual([404, 'NotFound']);
  const garbage = await server.db`select digest from platform.blob_garbage where digest = ${digest}`;
  expect(garbage).toEqual([]);
});

test('a file whose write crashed before its row is found and removed', async () => {
  const digest = crypto.hash('sha256', 'crashed');
  await server.db`insert into platform.blob_garbage (digest, since) values (${digest}, ${server.clock.now()})`;
  const file = path.join(dir, 'objects', digest.slice(0, 2), digest);
  await fs.mkdir(path.dirname(file), { recursive: true });
  await fs.writeFile(file, 'crashed');
  server.clock.advance({ minutes: 61 });
  await folder.collect(10);
  expect(await filesOf('objects')).not.toContain(digest);
});

test('who reads while others write gets all of one of them', async () => {
  const bodies = Array.from({ length: 8 }, (_, i) => String(i).repeat(100_000));
  const [putUrl, getUrl] = [await signPut('contended'), await signGet('contended')];
  await send('PUT', putUrl, { 'content-type': 'text/plain' }, Buffer.from(bodies[0] as string));
  const writes = bodies.map(body => send('PUT', putUrl, { 'content-type': 'text/plain' }, Buffer.from(body)));
  const reads = Array.from({ length: 16 }, () => send('GET', getUrl));
  expect((await Promise.all(writes)).map(reply => reply.status)).toEqual(bodies.map(() => 200));
  for (const read of await Promise.all(reads)) {
    expect(bodies).toContain(read.body.toString());
  }
});

test('whatever is put, removed and collected at the same time: nothing in use is lost, nothing else stays', async () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('put' as const), key: fc.nat(2), body: fc.nat(3) }),
    fc.record({ kind: fc.constant('remove' as const), key: fc.nat(2) }),
    fc.record({ kind: fc.constant('collect' as const) }),
  );
  const lanes = fc.array(fc.array(step, { maxLength: 5 }), { minLength: 3, maxLength: 3 });
  await fc.assert(
    fc.asyncProperty(fc.array(lanes, { minLength: 1, maxLength: 4 }), async rounds => {
      const has = new Map<string, string>();
      // keys belong to one lane each, bytes to all
      const work = async (steps: (typeof rounds)[number][number], lane: number): Promise<void> => {
        for (const each of steps) {
          const key = 'key' in each ? `random/${lane}/${each.key}` : '';
          if (each.kind === 'put') {
            const body = `body ${each.body}`;
            await folder.write({ store: 'private', key, contentType: 't', contentEncoding: undefined }, Readable.from([Buffer.from(body)]));
            has.set(key, body);
          } else if (each.kind === 'remove') {
            await store.remove([key]);
            has.delete(key);
          } else {
            await folder.collect(100);
          }
        }
      };
      for (const round of rounds) {
        server.clock.advance({ minutes: 61 }); // not in the middle of a write: none takes an hour
        await Promise.all(round.map(work));
      }
      for (const [key, body] of has) {
        expect((await send('GET', await signGet(key))).body.toString()).toBe(body);
      }
      server.clock.advance({ minutes: 61 });
      await folder.collect(1_000);
      const rows = await server.db<{ digest: string }>`select distinct digest from platform.blobs`;
      expect((await filesOf('objects')).sort()).toEqual(rows.map(row => row.digest).sort());
      await store.remove([...has.keys()]);
    }),
    { numRuns: 25 },
  );
});

test('what interrupted uploads left is removed after an hour', async () => {
  const [old, fresh] = [path.join(dir, 'tmp', 'old'), path.join(dir, 'tmp', 'fresh')];
  await fs.writeFile(old, '');
  await fs.writeFile(fresh, '');
  const now = server.clock.nowMs() / 1000;
  await fs.utimes(old, now, now - 3_601);
  await fs.utimes(fresh, now, now - 3_500);
  expect(await folder.removeLeftovers(10)).toBe(1);
  expect(await filesOf('tmp')).toEqual(['fresh']);
  await fs.rm(fresh);
});
