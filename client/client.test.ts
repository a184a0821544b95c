import { describe, expect, test } from 'vitest';
import { Type } from 'typebox';
import { defineApi } from '@tscluster/api/define.ts';
import { ApiCallError, ConnectionError, createClient, type ClientOptions } from './client.ts';
import { makeClock, type Random } from './clock.ts';

const api = defineApi({
  service: 'things',
  version: 'v1',
  title: 'Things',
  description: '',
  methods: {
    ping: { method: 'get', route: '/ping', title: '', description: '', category: '', stability: 'stable', output: Type.Object({}) },
    thing: {
      method: 'get',
      route: '/thing/<id>',
      title: '',
      description: '',
      category: '',
      stability: 'stable',
      output: Type.Object({ id: Type.String() }),
    },
    listThings: {
      method: 'get',
      route: '/things/<folder>',
      optional: ['folder'],
      query: { limit: /^[0-9]+$/, continuationToken: /./ },
      title: '',
      description: '',
      category: '',
      stability: 'stable',
      output: Type.Object({}),
    },
    putThing: {
      method: 'put',
      route: '/thing/<id>/<name>',
      splat: ['name'],
      title: '',
      description: '',
      category: '',
      stability: 'stable',
      input: Type.Object({ size: Type.Number() }),
    },
    readThing: { method: 'get', route: '/read/<id>', title: '', description: '', category: '', stability: 'stable', output: 'blob' },
  },
});

interface Seen {
  method: string;
  url: string;
  headers: Headers;
  body: string | undefined;
}

/** A client whose answers are given one after the other, and what it sent and how long it slept. */
const withAnswers = (answers: (Response | Error)[], options: Partial<ClientOptions> = {}) => {
  const seen: Seen[] = [];
  const sleeps: number[] = [];
  const clock = makeClock(
    () => 1_894_708_800_000,
    (ms, callback, timer) => {
      // the timeout of an attempt is unreferenced; only sleeps end at once
      if (!timer?.unref) {
        sleeps.push(ms);
        queueMicrotask(callback);
      }
      return { cancel: () => undefined };
    },
  );
  const random: Random = { bytes: count => new Uint8Array(count), float: () => 0.5 };
  const fetch = (async (url: string, init: RequestInit) => {
    seen.push({ method: init.method ?? '', url, headers: new Headers(init.headers), body: init.body as string | undefined });
    const answer = answers.shift();
    if (answer instanceof Error) {
      throw answer;
    }
    return answer as Response;
  }) as unknown as typeof globalThis.fetch;
  return { client: createClient(api, { rootUrl: 'https://tc.example.net/', fetch, clock, random, ...options }), seen, sleeps };
};

const json = (body: unknown, status = 200): Response =>
  new Response(JSON.stringify(body), { status, headers: { 'content-type': 'application/json; charset=utf-8' } });

describe('a call', () => {
  test('encodes parameters completely and sends a body only to methods that take one', async () => {
    const { client, seen } = withAnswers([json({ id: 'x' }), new Response(null, { status: 204 })]);
    expect(await client.thing({ id: "a/b c!'()*" })).toEqual({ id: 'x' });
    expect(await client.putThing({ id: 'a', name: '' }, { size: 1 })).toBeUndefined();
    expect(seen.map(({ method, url, body }) => [method, url, body])).toEqual([
      ['GET', 'https://tc.example.net/api/things/v1/thing/a%2Fb%20c%21%27%28%29%2A', undefined],
      ['PUT', 'https://tc.example.net/api/things/v1/thing/a/', '{"size":1}'],
    ]);
    expect(seen[0]?.headers.get('content-type')).toBeNull();
    expect(seen[1]?.headers.get('content-type')).toBe('application/json');
    expect(seen[1]?.headers.get('authorization')).toBeNull();
  });

  test('leaves out a missing optional parameter and encodes the query as a form', async () => {
    const { client, seen } = withAnswers([json({}), json({})]);
    await client.listThings({}, { limit: '5' });
    await client.listThings({ folder: 'f' }, { continuationToken: 'a b=' });
    expect(seen.map(({ url }) => url.replace('https://tc.example.net/api/things/v1', ''))).toEqual([
      '/things?limit=5',
      '/things/f?continuationToken=a+b%3D',
    ]);
  });

  test('refuses what cannot be sent', async () => {
    const { client } = withAnswers([]);
    await expect(client.thing({ id: '..' })).rejects.toThrow('the parameter id may not be ".."');
    await expect(client.thing({ id: '' })).rejects.toThrow('thing: the parameter id is missing.');
    await expect(client.listThings({}, { limits: '1' } as never)).rejects.toThrow(
      'no query option "limits"; it has: limit, continuationToken',
    );
    await expect(client.putThing({ id: 'a', name: 'b' }, undefined as never)).rejects.toThrow('putThing needs a body');
  });

  test('is signed, each attempt anew, with certificate and authorized scopes in ext', async () => {
    const certificate = JSON.stringify({ version: 1, seed: 's' });
    const credentials = { clientId: 'me', accessToken: 'no-secret', certificate };
    const { client, seen } = withAnswers([json({})], { credentials: () => credentials, authorizedScopes: ['a'], traceId: 'trace' });
    await client.ping();
    const header = seen[0]?.headers.get('authorization') ?? '';
    expect(header).toMatch(/^Hawk id="me", ts="1894708800", nonce="AAAAAA", ext="[^"]+", mac="[^"]+"$/);
    const ext = /ext="([^"]+)"/.exec(header)?.[1] ?? '';
    expect(JSON.parse(atob(ext))).toEqual({ certificate: { version: 1, seed: 's' }, authorizedScopes: ['a'] });
    expect(seen[0]?.headers.get('x-taskcluster-trace-id')).toBe('trace');
  });
});

describe('a failing call', () => {
  test('is repeated on 5xx and connection errors with growing delays, then fails with the last answer', async () => {
    const refused = new TypeError('fetch failed', { cause: Object.assign(new Error('connect refused'), { code: 'ECONNREFUSED' }) });
    const { client, seen, sleeps } = withAnswers([json({}, 500), refused, json({ id: 'x' })]);
    expect(await client.thing({ id: 'x' })).toEqual({ id: 'x' });
    expect(seen).toHaveLength(3);
    expect(sleeps).toEqual([200, 400]);

    const down = withAnswers([refused, refused], { retries: 1 });
    const error = await down.client.ping().catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(ConnectionError);
    expect(error).toMatchObject({ code: 'ECONNREFUSED', message: 'ping: no answer from https://tc.example.net: connect refused' });
  });

  test('gives up after five retries', async () => {
    const { client, seen, sleeps } = withAnswers(
      Array.from({ length: 6 }, () => json({ code: 'InternalServerError', message: 'oops' }, 500)),
    );
    await expect(client.ping()).rejects.toMatchObject({ code: 'InternalServerError', statusCode: 500 });
    expect(seen).toHaveLength(6);
    expect(sleeps).toEqual([200, 400, 800, 1600, 3200]);
  });

  test('is not repeated on 4xx', async () => {
    const { client, seen } = withAnswers([json({ code: 'ResourceNotFound', message: 'no such thing' }, 404)]);
    const error = await client.thing({ id: 'x' }).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(ApiCallError);
    expect(error).toMatchObject({
      code: 'ResourceNotFound',
      statusCode: 404,
      message: 'no such thing',
      body: { code: 'ResourceNotFound' },
    });
    expect(seen).toHaveLength(1);
  });

  test('keeps the code UnknownError for an answer that is not ours', async () => {
    const { client } = withAnswers([new Response('<h1>Bad Request</h1>', { status: 400 }), json({ error: 'Not found' }, 404)]);
    await expect(client.ping()).rejects.toMatchObject({
      code: 'UnknownError',
      message: expect.stringContaining('<h1>Bad Request</h1>') as string,
    });
    await expect(client.ping()).rejects.toMatchObject({ code: 'UnknownError', statusCode: 404 });
  });

  test('does not follow redirects', async () => {
    const redirect = () =>
      new Response('{"url":"https://x/"}', { status: 303, headers: { location: '/there', 'content-type': 'application/json' } });
    const { client } = withAnswers([redirect(), redirect()]);
    await expect(client.ping()).rejects.toMatchObject({ code: 'UnexpectedRedirect', statusCode: 303 });
    expect(await client.readThing({ id: 'x' })).toMatchObject({
      statusCode: 303,
      location: 'https://tc.example.net/there',
      body: { url: 'https://x/' },
      stream: null,
    });
  });

  test('ends with the reason of its signal', async () => {
    const abort = new AbortController();
    abort.abort(new Error('enough'));
    const { client, seen } = withAnswers([], { signal: abort.signal });
    await expect(client.ping()).rejects.toThrow('enough');
    expect(seen).toHaveLength(0);
  });

  test('counts an answer that does not come in time as a connection error', async () => {
    const clock = makeClock(
      () => 0,
      (_, callback) => {
        queueMicrotask(callback);
        return { cancel: () => undefined };
      },
    );
    const fetch = ((_: string, init: RequestInit) =>
      new Promise((_resolve, reject) => {
        init.signal?.throwIfAborted();
        init.signal?.addEventListener('abort', () => reject(init.signal?.reason as Error));
      })) as unknown as typeof globalThis.fetch;
    const { client } = withAnswers([], { clock, fetch, retries: 0, timeoutMs: 50 });
    await expect(client.ping()).rejects.toMatchObject({ code: 'TimeoutError', message: expect.stringContaining('within 50 ms') as string });
  });
});

describe('URLs', () => {
  test('are built with and without a signature', async () => {
    const { client } = withAnswers([], { credentials: { clientId: 'tester', accessToken: 'no-secret' } });
    expect(client.buildUrl('thing', { id: 'a/b' })).toBe('https://tc.example.net/api/things/v1/thing/a%2Fb');
    const signed = await client.buildSignedUrl('listThings', {}, { query: { limit: '2' }, expirySeconds: 60 });
    expect(signed).toMatch(/^https:\/\/tc\.example\.net\/api\/things\/v1\/things\?limit=2&bewit=[\w-]+$/);
    const bewit = signed.replace(/.*bewit=/, '');
    expect(atob(bewit.replaceAll('-', '+').replaceAll('_', '/')).split('\\').slice(0, 2)).toEqual(['tester', '1894708860']);
  });

  test('cannot be signed for other methods or without credentials', async () => {
    const { client } = withAnswers([]);
    await expect(client.buildSignedUrl('thing', { id: 'a' })).rejects.toThrow('needs credentials');
    await expect(client.buildSignedUrl('putThing', { id: 'a', name: 'b' })).rejects.toThrow('only GET can be signed');
  });
});
