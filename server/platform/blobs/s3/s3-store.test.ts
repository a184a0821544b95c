import { Readable } from 'node:stream';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { bucketSettings, startS3, type TestS3 } from '../../../testing/s3.ts';
import { systemClock } from '../../clock.ts';
import { silentLog } from '../../log.ts';
import { openS3Bucket, type S3Bucket } from './s3-bucket.ts';
import { readS3Settings } from './s3-settings.ts';
import { makeS3Store, makeS3Writer } from './s3-store.ts';

const MIB = 1024 ** 2;
let s3: TestS3;
let bucket: S3Bucket;

beforeAll(async () => {
  s3 = await startS3(['bucket-1']);
  const settings = readS3Settings({ ...bucketSettings(s3, 'bucket-1'), maxPutBytes: 1_000 });
  bucket = openS3Bucket({ settings, clock: systemClock, log: silentLog });
});
afterAll(() => s3.close());

const incoming = { key: 'k', contentType: 'text/plain', contentEncoding: undefined, contentLength: undefined };

test('bytes are taken as announced, and refused else, without a trace', async () => {
  const writer = makeS3Writer({ bucket, clock: systemClock, maxBytes: 30 * MIB });
  const body = (bytes: number): Readable => Readable.from(Array.from({ length: bytes / MIB }, () => Buffer.alloc(MIB)));
  const refusals = [
    [20 * MIB, 21 * MIB, 400, 'WrongLength'],
    [20 * MIB, 19 * MIB, 400, 'WrongLength'],
    [undefined, 31 * MIB, 413, 'TooLarge'],
  ] as const;
  for (const [contentLength, sent, status, code] of refusals) {
    await expect(writer.write({ ...incoming, contentLength }, body(sent))).rejects.toMatchObject({ status, code });
  }
  expect([await bucket.head('k'), await s3.openUploads('bucket-1')]).toEqual([undefined, []]);
  expect((await writer.write(incoming, body(30 * MIB))).etag).not.toBe('');
  expect((await bucket.head('k'))?.sizeBytes).toBe(30 * MIB);
});

test('a process takes only so many at a time', async () => {
  const writer = makeS3Writer({ bucket, clock: systemClock, maxBytes: MIB });
  const bodies = Array.from({ length: 16 }, () => new Readable({ read: () => undefined }));
  const writes = bodies.map((body, i) => writer.write({ ...incoming, key: `many/${i}` }, body));
  await expect(writer.write(incoming, Readable.from([]))).rejects.toMatchObject({ status: 503, code: 'Busy' });
  bodies.forEach(body => {
    body.push('x');
    body.push(null);
  });
  await Promise.all(writes);
  await writer.write(incoming, Readable.from([Buffer.from('x')]));
});

test('URLs lead to the bucket, or here for what is too large', async () => {
  const store = makeS3Store({ name: 's3:bucket-1', bucket, signingSecret: Buffer.alloc(32, 1), origin: 'https://tc.example' });
  const expires = new Date(systemClock.nowMs() + 60_000);
  const put = (length: object): Promise<string> => store.signPut({ key: 'a/b', contentType: 'text/plain', expires, ...length });
  const here = 'https://tc.example/objects/v1/s3%3Abucket-1/a/b?';
  expect(await put({})).toContain(`${s3.endpoint}/bucket-1/a/b?`);
  expect(await put({ contentLength: 1_000 })).toContain(`${s3.endpoint}/bucket-1/a/b?`);
  expect(await put({ contentLength: 1_001 })).toContain(here);
  expect(await put({ expectedLength: 1_001 })).toContain(here);
  expect(store.refuseKey('a/../b')).toContain('".."');
  expect(store.refuseKey('ü'.repeat(513))).toContain('1026 bytes');
  expect(store.refuseKey('ü'.repeat(512))).toBeUndefined();
});
