/** Mirrors: who is sent where, what is copied, and what goes again. Originals and mirrors are on real servers that speak S3, and in a real folder. */
import crypto from 'node:crypto';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { objectApi } from '@tscluster/api/object/api.ts';
import { plainSlugid } from '@tscluster/client/clock.ts';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Log } from '../../../platform/log.ts';
import { signMirrorUrl } from '../../../platform/mirror/mirror-url.ts';
import { bucketSettings, S3_ACCESS_KEY, S3_SECRET_KEY, startS3, type TestS3 } from '../../../testing/s3.ts';
import { presentClock } from '../../../testing/clock.ts';
import { seededRandom, type TestServer, withServer } from '../../../testing/server.ts';
import { objectExpiry } from '../expiry.ts';
import type { ObjectCtx } from '../handlers.ts';
import { objectService } from '../service.ts';
import { mirrorCopier } from './copier.ts';
import { mirrorEvictions } from './evictions.ts';
import { makeMirrorMetrics, type MirrorCtx, openMirrors } from './mirror.ts';
import { readMirrors } from './settings.ts';

const [HOME, WEST, EAST] = ['home-bucket', 'west-bucket', 'east-bucket'] as const;
const KIB = 1024;
const MIB = 1024 ** 2;
let home: TestS3;
let away: TestS3;
let dir: string;
let server: TestServer;
let ctx: MirrorCtx;
let logged = '';

const write = (...args: unknown[]): void => void (logged += `${JSON.stringify(args)}\n`);
const log = { debug: write, info: write, warn: write, error: write } as unknown as Log;
const ids = seededRandom(5);

const bucket = (s3: TestS3, name: string, change: object = {}): object => ({
  ...bucketSettings(s3, name),
  ...change,
});
const mirrors = () => ({
  west: bucket(away, WEST, { maxObjectBytes: 20 * MIB, maxBytes: 1_000 * MIB, keepSeconds: 86_400 }),
  east: bucket(away, EAST, { maxBytes: 100 * KIB }),
});

const start = (environment: Record<string, string> = {}, options: Parameters<typeof withServer>[1] = {}): Promise<TestServer> =>
  withServer([objectService], {
    log,
    clock: presentClock(),
    ...options,
    environment: {
      OBJECTS_FOLDER: dir,
      BACKENDS: JSON.stringify({
        local: { backendType: 'local' },
        s3: { backendType: 'aws', signGetUrls: true, ...bucket(home, HOME) },
      }),
      BACKEND_MAP: '[{"backendId":"local","when":{"projectId":"local"}},{"backendId":"s3","when":"all"}]',
      MIDDLEWARE: '[{"middlewareType":"cdn","regexp":"^cdn/","baseUrl":"https://cdn.example/"}]',
      MIRROR_REGIONS: JSON.stringify({ west: ['10.1.0.0/16', '2001:db8::/32'], east: [] }),
      MIRRORS: JSON.stringify(mirrors()),
      ...environment,
    },
  });

/** The backends as the service made them. */
const backendsOf = (own: TestServer): ObjectCtx['backends'] => {
  const served = own.server.services.get('object')?.apis?.[0]?.ctx as ObjectCtx;
  return served.backends;
};

/** What the service's loops get. */
const ctxOf = (own: TestServer): MirrorCtx => {
  const backends = backendsOf(own);
  return {
    db: own.db,
    clock: own.clock,
    log,
    mirrors: openMirrors(readMirrors(mirrors()), { clock: own.clock, log }),
    sources: new Map([...backends].map(([id, backend]) => [`object-${id}`, backend.source])),
    newAttempt: () => plainSlugid(ids),
    metrics: makeMirrorMetrics(own.platform.metrics),
    wakeCopier: () => undefined,
  };
};

beforeAll(async () => {
  [home, away] = await Promise.all([startS3([HOME]), startS3([WEST, EAST])]);
  dir = await fs.mkdtemp(path.join(os.tmpdir(), 'taskcluster-mirror-'));
  server = await start();
  server.setAnonymousScopes(['object:download:*']);
  ctx = ctxOf(server);
});
beforeEach(() => {
  logged = '';
});
afterAll(async () => {
  await Promise.all([home.close(), away.close()]);
  await fs.rm(dir, { recursive: true, force: true });
});

const store = async (
  name: string,
  body: Buffer | string = 'hello',
  { projectId = 'p', contentType = 'text/plain', hours = 48, of = server } = {},
) => {
  const objects = of.client(objectApi);
  const bytes = Buffer.from(body);
  const uploadId = plainSlugid(ids);
  const isSmall = bytes.length < 8_192;
  const upload = {
    projectId,
    uploadId,
    expires: new Date(of.clock.nowMs() + hours * 3_600_000).toISOString(),
    proposedUploadMethods: isSmall
      ? { dataInline: { contentType, objectData: bytes.toString('base64') } }
      : { putUrl: { contentType, contentLength: bytes.length } },
  };
  const { uploadMethod } = await objects.createUpload({ name }, upload);
  if (uploadMethod.putUrl) {
    const { url, headers } = uploadMethod.putUrl;
    expect((await fetch(url, { method: 'PUT', headers, body: new Uint8Array(bytes) })).status).toBe(200);
  }
  await objects.finishUpload({ name }, { projectId, uploadId });
};

/** Where a reader in a region is sent. */
const sentTo = async (name: string, region?: string, of = server): Promise<string> => {
  const reply = await of.fetch(`${of.rootUrl}/api/object/v1/download/${encodeURIComponent(name)}`, {
    headers: region === undefined ? {} : { 'x-taskcluster-region': region },
  });
  expect(reply.status).toBe(303);
  return reply.headers.get('location') as string;
};
const isCopy = (url: string, in_: string = WEST): boolean => url.startsWith(`${away.endpoint}/${in_}/`);
const copy = async (limit = 100): Promise<number> => mirrorCopier.run(ctx, limit);
/** Makes a copy in the region and sees that it is given. */
const storeAndCopy = async (name: string, body: Buffer | string = 'hello', options: Parameters<typeof store>[2] = {}): Promise<string> => {
  await store(name, body, options);
  await sentTo(name, 'west');
  expect(await copy()).toBe(1);
  const url = await sentTo(name, 'west');
  expect(isCopy(url)).toBe(true);
  return url;
};
const rows = (key: string) =>
  server.db<{
    mirror: string;
    state: string;
    failures: number;
  }>`select mirror, state, failures from object.copies where key = ${key} order by mirror`;
const counted = async (metric: string, labels: Record<string, string>): Promise<number> => {
  const values = (await server.platform.metrics.registry.getSingleMetric(metric)?.get())?.values ?? [];
  return (
    values.find(value => Object.entries(labels).every(([name, label]) => (value.labels as Record<string, string>)[name] === label))
      ?.value ?? 0
  );
};

test('the first reader gets the original, and those after it the copy of their region', async () => {
  const name = "first/a b+c'(1).txt";
  await store(name);
  expect(await sentTo(name, 'west')).toContain(`${home.endpoint}/${HOME}/first/a%20b`);
  expect(await sentTo(name, 'west')).toContain(home.endpoint);
  expect(await copy()).toBe(1);
  expect(await copy()).toBe(0);
  const url = await sentTo(name, 'west');
  expect(url).toMatch(new RegExp(`^${away.endpoint}/${WEST}/object-s3/[^/]+/first/a%20b`));
  expect(new URL(url).searchParams.get('X-Amz-Expires')).toBe('1800');
  const reply = await fetch(url);
  expect([reply.headers.get('content-type'), await reply.text()]).toEqual(['text/plain', 'hello']);
  // readers elsewhere, and nowhere, are not concerned
  expect(await sentTo(name)).toContain(home.endpoint);
  expect(await sentTo(name, 'mars')).toContain(home.endpoint);
  expect(await sentTo(name, 'east')).toContain(home.endpoint);
  expect(await copy()).toBe(1);
  expect(isCopy(await sentTo(name, 'east'), EAST)).toBe(true);
  expect(await counted('object_mirror_requests_total', { mirror: 'west', outcome: 'miss' })).toBe(1);
  expect(await counted('object_mirror_requests_total', { mirror: 'west', outcome: 'pending' })).toBe(1);
  expect(await counted('object_mirror_requests_total', { mirror: 'west', outcome: 'hit' })).toBe(1);
  expect(await counted('object_mirror_given_bytes_total', { mirror: 'west' })).toBe(5);
});

test('startDownload gives the copy as well, by both methods and with the hashes', async () => {
  await storeAndCopy('both methods');
  const download = async (method: 'simple' | 'getUrl') => {
    const reply = await server.fetch(`${server.rootUrl}/api/object/v1/start-download/${encodeURIComponent('both methods')}`, {
      method: 'PUT',
      headers: { 'content-type': 'application/json', 'x-taskcluster-region': 'west' },
      body: JSON.stringify({ acceptDownloadMethods: { [method]: true } }),
    });
    return (await reply.json()) as { method: string; url: string; expires?: string; hashes?: object };
  };
  const [simple, getUrl] = [await download('simple'), await download('getUrl')];
  expect([isCopy(simple.url), isCopy(getUrl.url)]).toEqual([true, true]);
  expect(getUrl).toMatchObject({ method: 'getUrl', hashes: {}, expires: new Date(server.clock.nowMs() + 60_000).toISOString() });
  expect(new URL(getUrl.url).searchParams.get('X-Amz-Expires')).toBe('120');
});

test('the address tells the region too, and a CDN comes before any mirror', async () => {
  const proxied = await start({}, { db: server.db, clock: server.clock, forceTls: true });
  proxied.setAnonymousScopes(['object:download:*']);
  await storeAndCopy('by address');
  const from = async (address: string, name = 'by address'): Promise<string> =>
    (
      await proxied.fetch(`${proxied.rootUrl}/api/object/v1/download/${encodeURIComponent(name)}`, {
        headers: { 'x-forwarded-for': address, 'x-forwarded-proto': 'https' },
      })
    ).headers.get('location') as string;
  expect([isCopy(await from('10.1.2.3')), isCopy(await from('2001:db8::7')), isCopy(await from('10.2.0.1'))]).toEqual([true, true, false]);
  await store('cdn/x');
  expect(await from('10.1.2.3', 'cdn/x')).toBe('https://cdn.example/cdn/x');
  expect(await rows('cdn/x')).toEqual([]);
});

test('objects of the local folder are copied, with what browsers are told', async () => {
  await storeAndCopy('local/page', '<b>', { projectId: 'local', contentType: 'text/html' });
  const reply = await fetch(await sentTo('local/page', 'west'));
  expect([reply.headers.get('content-type'), reply.headers.get('content-disposition'), await reply.text()]).toEqual([
    'text/html',
    'attachment',
    '<b>',
  ]);
});

test('large ones are streamed in parts; too large ones are never copied', async () => {
  const bytes = crypto.randomBytes(18 * MIB);
  const url = await storeAndCopy('large', bytes);
  expect(Buffer.from(await (await fetch(url)).arrayBuffer()).equals(bytes)).toBe(true);
  expect(away.requests.filter(each => /^PUT \/west-bucket\/object-s3\/[^/]+\/large\?partNumber=/.test(each))).toHaveLength(3);
  await store('too large', Buffer.alloc(20 * MIB + 1));
  await sentTo('too large', 'west');
  const from = home.requests.length;
  expect(await copy()).toBe(1);
  expect(home.requests.slice(from)).toEqual([`HEAD /${HOME}/too%20large`]);
  for (let i = 0; i < 2; i++) {
    expect(isCopy(await sentTo('too large', 'west'))).toBe(false);
    expect(await copy()).toBe(0);
  }
  expect(await rows('too large')).toMatchObject([{ state: 'refused' }]);
  expect(await counted('object_mirror_copies_total', { mirror: 'west', outcome: 'refused' })).toBe(1);
}, 60_000);

test('many readers at once, in several processes, order one copy', async () => {
  const other = await start({}, { db: server.db, clock: server.clock });
  other.setAnonymousScopes(['object:download:*']);
  const body = crypto.randomBytes(100_000);
  await store('wanted by many', body);
  await Promise.all(Array.from({ length: 20 }, (_, i) => sentTo('wanted by many', 'west', i % 2 ? other : server)));
  const from = home.requests.length;
  const counts = await Promise.all([copy(), mirrorCopier.run(ctxOf(other), 100), copy()]);
  expect(counts.toSorted()).toEqual([0, 0, 1]);
  expect(home.requests.slice(from).filter(each => each.startsWith('GET'))).toHaveLength(1);
  expect(isCopy(await sentTo('wanted by many', 'west', other))).toBe(true);
});

test('who dies half way is followed by another, and leaves nothing', async () => {
  await store('dying', crypto.randomBytes(50_000));
  await sentTo('dying', 'west');
  // it has stored the bytes, and died before it said so
  const attempt = 'the-one-that-died-0000';
  await server.db`update object.copies set attempt = ${attempt}, due = ${new Date(server.clock.nowMs() + 600_000)} where key = 'dying'`;
  await ctx.mirrors.get('west')?.bucket.put(`object-s3/${attempt}/dying`, Buffer.from('half'), { contentType: 'text/plain' });
  expect(await copy()).toBe(0);
  server.clock.advance({ minutes: 10, ms: 1 });
  expect(await copy()).toBe(1);
  const url = await sentTo('dying', 'west');
  expect(isCopy(url)).toBe(true);
  expect((await away.keys(WEST)).filter(key => key.endsWith('/dying'))).toHaveLength(1);
});

test('a mirror that is away: readers get originals, copies are tried again later', async () => {
  await storeAndCopy('away/there');
  await store('away/new');
  await sentTo('away/new', 'west');
  await away.stop();
  expect(await copy()).toBe(1);
  expect(await rows('away/new')).toMatchObject([{ state: 'wanted', failures: 1 }]);
  expect(await copy()).toBe(0);
  server.clock.advance({ seconds: 61 }); // it is time to look at the copy again
  expect(isCopy(await sentTo('away/there', 'west'))).toBe(false);
  expect(logged).toContain('a mirror cannot be looked at');
  const looks = away.requests.length;
  await away.start();
  expect(isCopy(await sentTo('away/there', 'west'))).toBe(false); // left alone for a while
  expect(away.requests.length).toBe(looks);
  server.clock.advance({ seconds: 31 });
  expect(isCopy(await sentTo('away/there', 'west'))).toBe(true);
  expect(await copy()).toBe(1);
  expect(isCopy(await sentTo('away/new', 'west'))).toBe(true);
  expect(logged).not.toContain(S3_SECRET_KEY);
  expect(logged).not.toContain(S3_ACCESS_KEY);
}, 60_000);

test('an original that is away: the copy is still given, until it is to be looked at', async () => {
  await storeAndCopy('outage');
  await home.stop();
  expect(isCopy(await sentTo('outage', 'west'))).toBe(true);
  await home.start();
});

test('after eight failures in a row a copy is not tried for a day', async () => {
  await store('unlucky');
  await sentTo('unlucky', 'west');
  await home.stop();
  for (let i = 1; i <= 8; i++) {
    expect(await copy()).toBe(1);
    server.clock.advance({ hours: 1, ms: 1 });
  }
  expect(await rows('unlucky')).toMatchObject([{ state: 'refused', failures: 8 }]);
  expect(await copy()).toBe(0);
  await home.start();
  await sentTo('unlucky', 'west');
  expect(await rows('unlucky')).toMatchObject([{ state: 'refused' }]);
  server.clock.advance({ hours: 24 });
  await sentTo('unlucky', 'west');
  expect(await copy()).toBe(1);
  expect(isCopy(await sentTo('unlucky', 'west'))).toBe(true);
}, 60_000);

test('a copy that was lost is noticed and made again', async () => {
  await storeAndCopy('lost');
  const keyOf = async (): Promise<string> => (await away.keys(WEST)).find(key => key.endsWith('/lost')) as string;
  await away.lose(WEST, await keyOf());
  server.clock.advance({ seconds: 61 });
  const from = away.requests.length;
  const replies = await Promise.all(Array.from({ length: 10 }, () => sentTo('lost', 'west')));
  expect(replies.some(url => isCopy(url))).toBe(false);
  expect(away.requests.slice(from).filter(each => each.startsWith('HEAD')).length).toBe(1);
  expect(await copy()).toBe(1);
  expect(await (await fetch(await sentTo('lost', 'west'))).text()).toBe('hello');
});

test('an original that was replaced is copied again', async () => {
  await storeAndCopy('replaced');
  const original = ctx.sources.get('object-s3');
  expect((await original?.look('replaced'))?.sizeBytes).toBe(5);
  const backends = backendsOf(server);
  await backends
    .get('s3')
    ?.upload(
      { name: 'replaced', projectId: 'p', data: {}, hashes: {} },
      { dataInline: { contentType: 'text/plain', bytes: Buffer.from('other') } },
    );
  server.clock.advance({ seconds: 61 });
  expect(isCopy(await sentTo('replaced', 'west'))).toBe(false);
  expect(await copy()).toBe(1);
  expect(await (await fetch(await sentTo('replaced', 'west'))).text()).toBe('other');
  expect((await away.keys(WEST)).filter(key => key.endsWith('/replaced'))).toHaveLength(1);
});

test('copies go with their objects, also one that is just being made', async () => {
  const own = await start();
  own.setAnonymousScopes(['object:download:*']);
  const ownCtx = ctxOf(own);
  const backends = backendsOf(own);
  await store('brief', 'hello', { hours: 1, of: own });
  await sentTo('brief', 'west', own);
  expect(await mirrorCopier.run(ownCtx, 10)).toBe(1);
  await store('in the making', crypto.randomBytes(50_000), { hours: 1, of: own });
  await sentTo('in the making', 'west', own);
  let expired = false;
  home.onRequest(async request => {
    if (!expired && request.method === 'GET' && request.url?.includes('in%20the%20making')) {
      expired = true;
      own.clock.advance({ hours: 2 });
      await objectExpiry.run({ db: own.db, clock: own.clock, log, backends }, 10);
      await mirrorEvictions.run(ownCtx, 100);
    }
  });
  await mirrorCopier.run(ownCtx, 10);
  expect(expired).toBe(true);
  await mirrorEvictions.run(ownCtx, 100);
  expect(await own.db`select 1 from object.copies`).toEqual([]);
  expect((await away.keys(WEST)).filter(key => /\/(brief|in the making)$/.test(key))).toEqual([]);
  expect(await away.openUploads(WEST)).toEqual([]);
  // the name may be used again, for something else
  await store('brief', 'another', { of: own });
  expect(isCopy(await sentTo('brief', 'west', own))).toBe(false);
  await mirrorCopier.run(ownCtx, 10);
  expect(await (await fetch(await sentTo('brief', 'west', own))).text()).toBe('another');
});

test('what is not read goes after a while, what is read stays', async () => {
  await storeAndCopy('kept/read');
  await storeAndCopy('kept/unread');
  for (let hours = 0; hours < 25; hours += 5) {
    server.clock.advance({ hours: 5 });
    expect(isCopy(await sentTo('kept/read', 'west'))).toBe(true);
    await mirrorEvictions.run(ctx, 1_000);
  }
  expect(await rows('kept/read')).toMatchObject([{ state: 'ready' }]);
  expect(await rows('kept/unread')).toEqual([]);
  expect((await away.keys(WEST)).filter(key => key.includes('/kept/')).map(key => key.split('/').at(-1))).toEqual(['read']);
});

test('a mirror that is full lets go of what was not read for longest, in batches', async () => {
  const names = Array.from({ length: 14 }, (_, i) => `full/${i}`);
  for (const name of names) {
    await store(name, Buffer.alloc(10 * KIB, name));
    await sentTo(name, 'east');
    server.clock.advance({ minutes: 6 });
    await copy();
  }
  await sentTo('full/0', 'east'); // read again
  expect(await mirrorEvictions.run(ctx, 2)).toBe(2);
  expect(await mirrorEvictions.run(ctx, 100)).toBe(3);
  expect(await mirrorEvictions.run(ctx, 100)).toBe(0);
  const left = (await away.keys(EAST)).filter(key => key.includes('/full/')).map(key => key.split('/').at(-1));
  expect(left.toSorted((a, b) => Number(a) - Number(b))).toEqual(['0', ...names.slice(6).map(name => name.slice(5))]);
  expect(await counted('object_mirror_stored_bytes', { mirror: 'east' })).toBe(90 * KIB);
  expect(await counted('object_mirror_stored_copies', { mirror: 'east' })).toBe(9);
  // larger than all of it
  await store('full/whole', Buffer.alloc(101 * KIB));
  await sentTo('full/whole', 'east');
  await copy();
  expect(await rows('full/whole')).toMatchObject([{ state: 'refused' }]);
});

test('copies that cannot be removed are tried again', async () => {
  await storeAndCopy('stuck');
  const key = (await away.keys(WEST)).find(each => each.endsWith('/stuck')) as string;
  away.locked.add(key);
  server.clock.advance({ hours: 25 });
  await mirrorEvictions.run(ctx, 1_000);
  expect(await rows('stuck')).toMatchObject([{ state: 'removing' }]);
  expect(isCopy(await sentTo('stuck', 'west'))).toBe(false);
  away.locked.clear();
  await mirrorEvictions.run(ctx, 1_000);
  expect(await rows('stuck')).toMatchObject([{ state: 'removing' }]); // not at once
  server.clock.advance({ minutes: 11 });
  await mirrorEvictions.run(ctx, 1_000);
  expect(await rows('stuck')).toEqual([]);
});

test('what is about to expire, or has a name too long for a copy, is not copied', async () => {
  await store('short-lived', 'x', { hours: 0.01 });
  await sentTo('short-lived', 'west');
  const long = `${'x'.repeat(100)}/`.repeat(10);
  await store(long);
  await sentTo(long, 'west');
  expect([await rows('short-lived'), await rows(long)]).toEqual([[], []]);
});

test('the route for others: a signed URL leads to the copy, or to the original', async () => {
  await storeAndCopy('routed');
  const secret = server.platform.signingSecret;
  const sign = (change: object = {}): string =>
    signMirrorUrl(server.rootUrl, secret, {
      region: 'west',
      store: 'public-artifacts',
      key: 'task/0/public/x',
      untilMs: server.clock.nowMs() + 60_000,
      expiresMs: server.clock.nowMs() + 3_600_000,
      ...change,
    });
  const get = (url: string, method = 'GET') => server.fetch(url, { method });
  const original = await get(sign());
  expect([original.status, original.headers.get('location')]).toEqual([
    303,
    `${server.rootUrl}/objects/v1/public-artifacts/task/0/public/x`,
  ]);
  expect((await get(sign({ region: 'mars' }))).headers.get('location')).toBe(original.headers.get('location'));
  expect((await get(sign({ store: 'private-artifacts' }), 'HEAD')).headers.get('location')).toContain('signature=');
  expect((await get(sign().replace('west', 'east'))).status).toBe(403);
  expect((await get(sign({ untilMs: 1 }))).status).toBe(403);
  expect((await get(sign({ store: 'nowhere' }))).status).toBe(404);
  expect((await get(sign(), 'POST')).status).toBe(405);
  expect((await get(sign(), 'OPTIONS')).headers.get('access-control-allow-origin')).toBe('*');
  expect((await get(`${server.rootUrl}/mirror/v1/west`)).status).toBe(403);
  await server.db`delete from object.copies where key = 'task/0/public/x'`;
});

test.each([
  [{ MIRRORS: '{}' }, 'MIRROR_REGIONS has the region "west", for which MIRRORS has no bucket'],
  [{ MIRROR_REGIONS: '{"west":[]}' }, 'MIRRORS has a bucket for "east", which is not in MIRROR_REGIONS'],
  [{ MIRROR_REGIONS: '{"west":["10.0.0.0/64"],"east":[]}' }, 'has for west the address range "10.0.0.0/64"'],
  [
    { MIRRORS: '{"west":{"bucket":"b","accessKeyId":"THEKEYID"}}' },
    'the mirror of "west" needs the secret of the access key: secretAccessKey',
  ],
  [{ MIRRORS: '{"west":{"password":"THEKEYID"}}' }, 'the mirror of "west" has options that do not exist: password'],
  [
    { MIRRORS: '{"west":{"bucket":"b","accessKeyId":"THEKEYID","secretAccessKey":"s","maxBytes":0}}' },
    'the mirror of "west" needs a whole number from 1 as its maxBytes',
  ],
  [{ MIRRORS: '[]' }, 'must be an object from region'],
])('the configuration %j stops the start', async (environment, message) => {
  const problem = (await start(environment as Record<string, string>).catch((error: unknown) => error)) as Error;
  expect(problem.message).toContain(message);
  expect(problem.message).not.toContain('THEKEYID');
});
