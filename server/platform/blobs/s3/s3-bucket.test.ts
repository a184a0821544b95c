import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { S3_ACCESS_KEY, S3_SECRET_KEY, startS3, type TestS3 } from '../../../testing/s3.ts';
import { systemClock } from '../../clock.ts';
import type { Log } from '../../log.ts';
import { openS3Bucket, type S3Bucket } from './s3-bucket.ts';
import { type S3Settings, MAX_PUT_BYTES } from './s3-settings.ts';

const MIB = 1024 ** 2;
let s3: TestS3;
let bucket: S3Bucket;
let logged: string;

const write = (...args: unknown[]): void => void (logged += `${JSON.stringify(args)}\n`);
const log = { debug: write, info: write, warn: write, error: write } as unknown as Log;

const open = (change: Partial<S3Settings> = {}): S3Bucket =>
  openS3Bucket({
    clock: systemClock,
    log,
    settings: {
      bucket: 'bucket-1',
      accessKeyId: S3_ACCESS_KEY,
      secretAccessKey: S3_SECRET_KEY,
      endpoint: s3.endpoint,
      region: undefined,
      forcePathStyle: true,
      useBulkDelete: true,
      configureCors: true,
      maxPutBytes: MAX_PUT_BYTES,
      ...change,
    },
  });

const soon = (): Date => new Date(systemClock.nowMs() + 60_000);
const text = { contentType: 'text/plain' };

beforeAll(async () => {
  s3 = await startS3(['bucket-1']);
  bucket = open();
});
beforeEach(() => {
  logged = '';
});
afterAll(() => s3.close());

test.each(['plain', "a b/c+d'(1)*!~.txt", 'ü/%2F%/x?y=1&z#', 'a//b', '$@:=;,[]{}|^`"<>\\'])('the key %s, there and back', async key => {
  await bucket.put(key, Buffer.from('hello'), text);
  expect(await bucket.head(key)).toMatchObject({ sizeBytes: 5, contentType: 'text/plain', contentEncoding: undefined });
  const opened = await bucket.open(key);
  expect((await buffer(opened?.body as Readable)).toString()).toBe('hello');
  expect(await (await fetch(await bucket.signGet(key, soon()))).text()).toBe('hello');
  expect(await (await fetch(await bucket.plainUrl(key))).text()).toBe('hello');
  const put = await fetch(await bucket.signPut(key, { ...text, contentLength: 3 }, soon()), {
    method: 'PUT',
    headers: { 'content-type': 'text/plain' },
    body: 'new',
  });
  expect(put.status).toBe(200);
  expect((await bucket.head(key))?.sizeBytes).toBe(3);
  expect(await bucket.remove([key])).toEqual(new Map());
  expect(await bucket.head(key)).toBeUndefined();
  expect(await bucket.open(key)).toBeUndefined();
});

test('a URL takes what it was made for, until it expires', async () => {
  const url = await bucket.signPut('strict', { ...text, contentDisposition: 'attachment', contentLength: 5 }, soon());
  const put = async (headers: Record<string, string>, body: string): Promise<number> =>
    (await fetch(url, { method: 'PUT', headers: { 'content-disposition': 'attachment', ...headers }, body })).status;
  expect(await put({ 'content-type': 'text/html' }, 'hello')).toBe(403);
  expect(await put({ 'content-type': 'text/plain' }, 'hello!')).toBe(403);
  expect(await put({ 'content-type': 'text/plain', 'content-disposition': 'inline' }, 'hello')).toBe(403);
  expect(await bucket.head('strict')).toBeUndefined();
  expect(await put({ 'content-type': 'text/plain', 'content-encoding': 'gzip' }, 'hello')).toBe(200);
  expect(await bucket.head('strict')).toMatchObject({ contentEncoding: 'gzip', contentDisposition: 'attachment' });
  const anyLength = await bucket.signPut('strict', text, soon());
  expect((await fetch(anyLength, { method: 'PUT', headers: { 'content-type': 'text/plain' }, body: 'longer' })).status).toBe(200);

  const past = { ...systemClock, nowMs: () => systemClock.nowMs() - 100_000, now: () => new Date(systemClock.nowMs() - 100_000) };
  const late = openS3Bucket({ clock: past, log, settings: bucket.settings });
  const expired = new Date(systemClock.nowMs() - 1_000);
  expect((await fetch(await late.signGet('strict', expired))).status).toBe(403);
  expect((await fetch(await late.signPut('strict', text, expired), { method: 'PUT', headers: text, body: '' })).status).toBe(403);
});

test('ranges, and another disposition', async () => {
  await bucket.put('range', Buffer.from('0123456789'), { contentType: 'text/html', contentEncoding: 'gzip' });
  const url = await bucket.signGet('range', soon(), { contentDisposition: 'attachment' });
  const part = await fetch(url, { headers: { range: 'bytes=2-4', 'accept-encoding': 'identity' } }).catch(() => undefined);
  expect([part?.status, part?.headers.get('content-range'), part?.headers.get('content-disposition')]).toEqual([
    206,
    'bytes 2-4/10',
    'attachment',
  ]);
  await part?.body?.cancel().catch(() => undefined);
});

/** Bytes that nobody holds all of. */
const streamOf = (mib: number, then?: Error): Readable =>
  Readable.from(
    (async function* () {
      for (let i = 0; i < mib; i++) {
        yield Buffer.alloc(MIB, i);
      }
      if (then) {
        throw then;
      }
    })(),
    { objectMode: false },
  );

test('a stream goes up in parts; a small one in one request', async () => {
  const from = s3.requests.length;
  await bucket.upload('parts', streamOf(20), { contentType: 'x/y', contentEncoding: 'gzip' }, 100 * MIB);
  expect(s3.requests.slice(from).filter(request => request.startsWith('PUT /bucket-1/parts?partNumber='))).toHaveLength(3);
  const stored = (await s3.read('bucket-1', 'parts')) as Buffer;
  expect([stored.length, stored[0], stored[20 * MIB - 1]]).toEqual([20 * MIB, 0, 19]);
  expect(await bucket.head('parts')).toMatchObject({ sizeBytes: 20 * MIB, contentType: 'x/y', contentEncoding: 'gzip' });
  await bucket.upload('small', streamOf(1), text, 100 * MIB);
  await bucket.upload('none', streamOf(0), text, 100 * MIB);
  expect(s3.requests.slice(from).filter(request => request.includes('/bucket-1/small'))).toHaveLength(1);
  expect((await bucket.head('none'))?.sizeBytes).toBe(0);
});

test('memory does not grow with a stream', async () => {
  const before = process.memoryUsage();
  let most = 0;
  s3.onRequest(() => {
    most = Math.max(most, process.memoryUsage().arrayBuffers - before.arrayBuffers);
  });
  await bucket.upload('large', streamOf(200), text, 200 * MIB);
  expect((await bucket.head('large'))?.sizeBytes).toBe(200 * MIB);
  expect(most).toBeLessThan(120 * MIB);
  await bucket.remove(['large']);
}, 60_000);

test('a stream that breaks leaves nothing, and its own error is told', async () => {
  const broken = new Error('the source broke');
  await expect(bucket.upload('broken', streamOf(20, broken), text, 100 * MIB)).rejects.toBe(broken);
  expect(await bucket.head('broken')).toBeUndefined();
  expect(await s3.openUploads('bucket-1')).toEqual([]);
});

test('removal: thousands at once, missing ones too; what is left is told', async () => {
  for (const key of ['one', 'kept', 'two & <three>']) {
    await bucket.put(key, Buffer.from('x'), text);
  }
  s3.locked.add('kept');
  const many = Array.from({ length: 1_001 }, (_, i) => `missing/${i}`);
  const from = s3.requests.length;
  expect(await bucket.remove([...many, 'one', 'kept', 'two & <three>'])).toEqual(new Map([['kept', 'AccessDenied']]));
  expect(s3.requests.slice(from)).toHaveLength(2);
  expect([await bucket.head('one'), await bucket.head('two & <three>')]).toEqual([undefined, undefined]);
  expect(await bucket.head('kept')).toBeDefined();
  s3.locked.clear();
  expect(await bucket.remove([])).toEqual(new Map());
  const single = open({ useBulkDelete: false });
  const fromSingle = s3.requests.length;
  expect(await single.remove(['kept', 'missing'])).toEqual(new Map());
  expect(s3.requests.slice(fromSingle).every(request => request.startsWith('DELETE /bucket-1/'))).toBe(true);
  expect(await bucket.head('kept')).toBeUndefined();
});

test('a storage that is away: everything fails with the reason, and works again after', async () => {
  await bucket.put('survivor', Buffer.from('x'), text);
  await s3.stop();
  const away = expect.objectContaining({ code: 'ServiceUnavailable', reason: 'ECONNREFUSED' }) as unknown;
  await expect(bucket.put('k', Buffer.from('x'), text)).rejects.toEqual(away);
  await expect(bucket.head('k')).rejects.toEqual(away);
  await expect(bucket.open('k')).rejects.toEqual(away);
  await expect(bucket.upload('k', streamOf(20), text, 100 * MIB)).rejects.toEqual(away);
  expect(await bucket.remove(['survivor', 'k'])).toEqual(
    new Map([
      ['survivor', 'ECONNREFUSED'],
      ['k', 'ECONNREFUSED'],
    ]),
  );
  // URLs are made without it
  expect(await bucket.signGet('survivor', soon())).toContain('/bucket-1/survivor?');
  await bucket.prepare();
  await s3.start();
  expect(await bucket.head('survivor')).toBeDefined();
}, 60_000);

test('mistakes of the configuration are told, without the keys', async () => {
  const wrongSecret = open({ secretAccessKey: 'another-secret-of-the-key' });
  await expect(wrongSecret.put('k', Buffer.from('x'), text)).rejects.toMatchObject({ reason: 'SignatureDoesNotMatch', status: 403 });
  const unknownKey = open({ accessKeyId: 'ANOTHERACCESSKEYID' });
  await expect(unknownKey.put('k', Buffer.from('x'), text)).rejects.toMatchObject({ reason: 'InvalidAccessKeyId', status: 403 });
  const noBucket = open({ bucket: 'bucket-2' });
  await expect(noBucket.put('k', Buffer.from('x'), text)).rejects.toMatchObject({
    reason: 'NoSuchBucket',
    message: expect.stringContaining('bucket bucket-2 (NoSuchBucket): an operator has to look'),
  });
  await noBucket.prepare();
  expect(logged).toContain('a bucket does not exist');
  for (const secret of [S3_ACCESS_KEY, S3_SECRET_KEY, 'another-secret-of-the-key', 'ANOTHERACCESSKEYID', JSON.stringify(S3_SECRET_KEY)]) {
    expect(logged).not.toContain(secret);
  }
});

test('a bucket is given a rule for browsers, once', async () => {
  const preflight = async (): Promise<string | null> =>
    (
      await fetch(`${s3.endpoint}/bucket-1/x`, {
        method: 'OPTIONS',
        headers: { origin: 'https://ui.example', 'access-control-request-method': 'PUT', 'access-control-request-headers': 'content-type' },
      })
    ).headers.get('access-control-allow-methods');
  await open({ configureCors: false }).prepare();
  expect(logged).toBe('');
  await bucket.prepare();
  expect(logged).toContain('has a rule');
  expect(await preflight()).toContain('PUT');
  logged = '';
  await bucket.prepare();
  expect(logged).toBe('');
});

test('tags', async () => {
  await bucket.put('tagged', Buffer.from('x'), text);
  await bucket.setTags('tagged', { ProjectId: 'a/b', cost: 'none' });
  expect(await s3.tags('bucket-1', 'tagged')).toMatch(/<Key>ProjectId<\/Key>\s*<Value>a\/b<\/Value>/);
});

test('the host names the bucket, or the path does', async () => {
  const urlOf = async (change: Partial<S3Settings>): Promise<string> => (await open(change).signGet('a b/c', soon())).replace(/\?.*/, '');
  expect(await urlOf({ endpoint: 'https://s3.example.com:9000', forcePathStyle: true })).toBe(
    'https://s3.example.com:9000/bucket-1/a%20b/c',
  );
  expect(await urlOf({ endpoint: 'https://s3.example.com:9000', forcePathStyle: false })).toBe(
    'https://bucket-1.s3.example.com:9000/a%20b/c',
  );
  expect(await urlOf({ endpoint: undefined, region: 'eu-central-1', forcePathStyle: false })).toBe(
    'https://bucket-1.s3.eu-central-1.amazonaws.com/a%20b/c',
  );
  expect(await urlOf({ endpoint: undefined, region: 'eu-central-1', forcePathStyle: true })).toBe(
    'https://s3.eu-central-1.amazonaws.com/bucket-1/a%20b/c',
  );
});
