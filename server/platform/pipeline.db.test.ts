import net from 'node:net';
import zlib from 'node:zlib';
import { authApi } from '@tscluster/api/auth/api.ts';
import { defineApi } from '@tscluster/api/define.ts';
import { object, schema, set, string, defaulted } from '@tscluster/api/schema.ts';
import { beforeAll, describe, expect, it } from 'vitest';
import { type TestServer, withServer } from '../testing/server.ts';
import { apiError, conflict } from './errors.ts';
import { HttpReply, type Service, serve } from './service.ts';

const words = { title: 'T', description: 'D', category: 'C', stability: 'stable' } as const;
const Input = schema('test', 'input', { title: 'Input' }, object({ names: set(string()), kind: defaulted(string(), 'plain') }));
const Output = schema('test', 'output', { title: 'Output' }, object({ said: string() }));
const testApi = defineApi({
  service: 'test',
  version: 'v1',
  title: 'Test',
  description: 'A service for tests',
  methods: {
    open: { ...words, method: 'get', route: '/open', output: Output },
    automatic: {
      ...words,
      method: 'post',
      route: '/automatic/<id>',
      params: { id: /^[a-z]+$/ },
      query: { limit: /^[0-9]+$/ },
      scopes: 'test:automatic:<id>',
      input: Input,
      output: Output,
    },
    inHandler: {
      ...words,
      method: 'post',
      route: '/in-handler',
      scopes: { AllOf: [{ for: 'name', in: 'names', each: 'test:<name>' }] },
      input: Input,
      output: Output,
    },
    forgetful: { ...words, method: 'get', route: '/forgetful', scopes: 'test:<x>', output: Output },
    nothing: { ...words, method: 'delete', route: '/nothing' },
    wrong: { ...words, method: 'get', route: '/wrong', output: Output },
    moved: { ...words, method: 'get', route: '/moved/<path>', splat: ['path'], query: { mark: /./s }, output: 'blob' },
    fails: { ...words, method: 'put', route: '/fails', input: Input, redact: () => ({ hidden: true }) },
    unheard: { ...words, method: 'get', route: '/unheard' },
    late: { ...words, method: 'get', route: '/late' },
  },
});

/** Tells how things stand with `late`; `proceed` lets it look at its signal. */
const late = { began: Promise.withResolvers<void>(), proceed: Promise.withResolvers<void>(), reason: Promise.withResolvers<unknown>() };

const testService: Service = {
  name: 'test',
  settings: {},
  start: () => ({
    apis: [
      serve(
        testApi,
        {
          open: () => Promise.resolve({ said: 'hello' }),
          automatic: ({ body, params }) => Promise.resolve({ said: `${params.id} ${body.names.join()} ${body.kind}` }),
          inHandler: async ({ body, authorize, caller }) => {
            await authorize({ names: body.names });
            return { said: (await caller()).clientId };
          },
          forgetful: () => Promise.resolve({ said: 'oops' }),
          nothing: () => Promise.resolve(),
          wrong: () => Promise.resolve({ said: 1 } as never),
          moved: ({ params }) => Promise.resolve(new HttpReply(303, { location: `http://x/${params.path}` }, { path: params.path })),
          fails: () => Promise.resolve(conflict('It is {{how}}', { how: 'taken' })),
          unheard: () => Promise.resolve(apiError('Unheard', 'a code that the service has not declared')),
          late: async ({ signal }) => {
            late.began.resolve();
            await late.proceed.promise;
            late.reason.resolve(signal().reason);
          },
        },
        {},
      ),
    ],
  }),
};

let server: TestServer;
beforeAll(async () => {
  server = await withServer([testService]);
});

type Reply = { status: number; headers: Headers; body: { code?: string; message: string; requestInfo: unknown; said?: string } };
const call = async (method: string, path: string, options: { body?: string; type?: string | null; as?: string } = {}): Promise<Reply> => {
  const headers: Record<string, string> = {};
  if (options.as !== undefined) {
    headers['authorization'] = `Hawk id="${options.as}", ts="1", nonce="x", mac="x"`;
  }
  if (options.body !== undefined && options.type !== null) {
    headers['content-type'] = options.type ?? 'application/json';
  }
  const response = await server.fetch(`http://taskcluster.test/api/test/v1${path}`, {
    method,
    headers,
    ...(options.body === undefined ? {} : { body: options.body }),
  });
  const text = await response.text();
  return { status: response.status, headers: response.headers, body: (text ? JSON.parse(text) : undefined) as Reply['body'] };
};
const codeOf = async (reply: Promise<Reply>): Promise<[number, string | undefined]> => {
  const { status, body } = await reply;
  return [status, body?.code];
};
const GOOD = JSON.stringify({ names: ['a'] });

describe('the request pipeline', () => {
  beforeAll(() => {
    server.client(testApi, { clientId: 'holder', scopes: ['test:automatic:*', 'test:a'] });
    server.client(testApi, { clientId: 'nobody', scopes: [] });
  });

  it('parses JSON before it looks at credentials', async () => {
    expect(await codeOf(call('POST', '/automatic/x', { body: '{' }))).toEqual([400, 'MalformedPayload']);
    expect(await codeOf(call('POST', '/automatic/x', { body: '5' }))).toEqual([400, 'MalformedPayload']);
    expect(await codeOf(call('POST', '/automatic/x', { body: 'null' }))).toEqual([400, 'MalformedPayload']);
    expect((await call('POST', '/automatic/x', { body: '{"a": ' })).body.requestInfo).toMatchObject({
      payload: '{"a": ',
      params: { id: 'x' },
    });
    expect((await call('GET', '/moved/x?mark=secret&other=1')).body.requestInfo).toEqual({
      method: 'moved',
      params: { path: 'x' },
      payload: {},
      time: expect.any(String) as string,
    });
  });

  it('authorises before it checks parameters, query and body where the URL is enough', async () => {
    expect(await codeOf(call('POST', '/automatic/BAD?x=1', { body: '{}' }))).toEqual([403, 'InsufficientScopes']);
    expect(await codeOf(call('POST', '/automatic/BAD?x=1', { body: '{}', as: 'unknown' }))).toEqual([401, 'AuthenticationFailed']);
    expect(await codeOf(call('POST', '/automatic/BAD?x=1', { body: '{}', as: 'holder' }))).toEqual([400, 'InvalidRequestArguments']);
    expect(await codeOf(call('POST', '/automatic/x?x=1', { body: '{}', as: 'holder' }))).toEqual([400, 'InvalidRequestArguments']);
    expect(await codeOf(call('POST', '/automatic/x', { body: '{}', as: 'holder' }))).toEqual([400, 'InputValidationError']);
  });

  it('authorises in the handler after the body was checked', async () => {
    expect(await codeOf(call('POST', '/in-handler', { body: '{}', as: 'nobody' }))).toEqual([400, 'InputValidationError']);
    expect(await codeOf(call('POST', '/in-handler', { body: GOOD, as: 'nobody' }))).toEqual([403, 'InsufficientScopes']);
    expect((await call('POST', '/in-handler', { body: GOOD, as: 'holder' })).body).toEqual({ said: 'holder' });
  });

  it('names each problem of parameters and query', async () => {
    const params = await call('POST', '/automatic/B%2FD', { body: GOOD, as: 'holder' });
    expect(params.body.message).toContain(
      "Invalid URL patterns:\nURL parameter 'id' given as 'B/D' must match regular expression: '/^[a-z]+$/'",
    );
    const query = await call('POST', '/automatic/x?limit=no&limit=1&other=1', { body: GOOD, as: 'holder' });
    expect(query.body.message).toMatch(
      /limit="no" does not match expression: \/\^\[0-9\]\+\$\/\nQuery-string parameter: limit must be a string!\nQuery-string parameter: other is not supported!/,
    );
    expect((await call('POST', '/automatic/x?limit=1&bewit=zzz', { body: GOOD })).status).toBe(401);
  });

  it('writes defaults into the body, and echoes it in errors unless it is redacted', async () => {
    expect((await call('POST', '/automatic/x', { body: GOOD, as: 'holder', type: 'application/json; charset=utf-8' })).body).toEqual({
      said: 'x a plain',
    });
    const bad = await call('POST', '/automatic/x', { body: '{"names":["a","a"],"zzz":1}', as: 'holder' });
    expect(bad.body.message).toContain('* data must NOT have additional properties: "zzz"');
    expect(bad.body.message).toContain('* data/names must NOT have duplicate items (items ## 1 and 0 are identical)');
    expect(bad.body.requestInfo).toMatchObject({ method: 'automatic', params: { id: 'x' }, payload: { names: ['a', 'a'], kind: 'plain' } });
    const failed = await call('PUT', '/fails', { body: GOOD });
    expect(failed.status).toBe(409);
    expect(failed.body.message).toMatch(
      /^It is taken\n\n---\n\n\* method: {5}fails\n\* errorCode: {2}RequestConflict\n\* statusCode: 409\n\* time: {7}\d{4}-/,
    );
    expect(failed.body.requestInfo).toMatchObject({ payload: { hidden: true } });
  });

  it('wants JSON where a method takes a body, and takes an empty one as {}', async () => {
    for (const type of [null, 'text/plain']) {
      expect(await codeOf(call('POST', '/in-handler', { body: GOOD, type }))).toEqual([400, 'MalformedPayload']);
    }
    expect(await codeOf(call('POST', '/in-handler', { body: '' }))).toEqual([400, 'InputValidationError']);
    expect((await call('DELETE', '/nothing', { body: '{"ignored":1}' })).status).toBe(204);
  });

  it('refuses NUL characters, naming the place', async () => {
    const reply = await call('POST', '/in-handler', { body: '{"names":["a\\u0000"]}', as: 'holder' });
    expect([reply.status, reply.body.code]).toEqual([400, 'InputError']);
    expect(reply.body.message).toContain('data/names/0');
  });

  it('says which scopes are missing', async () => {
    const { body } = await call('POST', '/in-handler', { body: '{"names":["a","b"]}', as: 'holder' });
    expect(body.message).toContain(
      'Client ID holder does not have sufficient scopes and is missing the following scopes:\n\n```\n{\n  "AllOf": [\n    "test:b"\n  ]\n}\n```'.replace(
        '{\n  "AllOf": [\n    "test:b"\n  ]\n}',
        'test:b',
      ),
    );
  });

  it('refuses two authentication schemes at once', async () => {
    const reply = await call('POST', '/automatic/x?bewit=abc', { body: GOOD, as: 'holder' });
    expect([reply.status, reply.body.code, reply.headers.get('www-authenticate')]).toEqual([401, 'AuthenticationFailed', 'hawk']);
    // a public method does not look at credentials at all
    expect((await call('GET', '/open', { as: 'unknown' })).body).toEqual({ said: 'hello' });
  });

  it('answers 500 with an incident for what must not happen', async () => {
    for (const path of ['/forgetful', '/wrong', '/unheard']) {
      const reply = await call('GET', path, { as: 'holder' });
      expect([reply.status, reply.body.code]).toEqual([500, 'InternalServerError']);
      expect(reply.body.message).toMatch(/^Internal Server Error, incidentId [0-9a-f-]{36}\./);
    }
  });

  it('refuses what is too large', async () => {
    const reply = await call('POST', '/in-handler', { body: `{"names":["${'x'.repeat(10 * 1024 * 1024)}"]}` });
    expect([reply.status, reply.body.code]).toEqual([413, 'InputTooLarge']);
    expect(reply.body.requestInfo).toMatchObject({ method: 'inHandler' });
    expect(reply.body.requestInfo).not.toHaveProperty('payload');
  });

  it('answers a sender that is still sending', async () => {
    const { app } = server.server;
    await app.listen({ port: 0, host: '127.0.0.1' });
    const size = 11 * 1024 * 1024;
    const reply = await new Promise<string>((resolve, reject) => {
      const socket = net.connect((app.server.address() as net.AddressInfo).port, '127.0.0.1', () => {
        socket.write(`POST http://x/api/test/v1/in-handler HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n`);
        socket.write(`content-length: ${size}\r\n\r\n${' '.repeat(size)}`);
      });
      let text = '';
      socket.setEncoding('utf8');
      socket.on('data', (chunk: string) => (text += chunk));
      socket.on('error', reject);
      socket.on('end', () => resolve(text));
    });
    expect(reply).toMatch(/^HTTP\/1.1 413 [^]*"code":"InputTooLarge"/);
  });

  it('takes a content type that cannot be understood for none', async () => {
    for (const type of ['foo', ';', 'application/jsonx']) {
      expect(await codeOf(call('POST', '/in-handler', { body: GOOD, type }))).toEqual([400, 'MalformedPayload']);
      expect((await call('DELETE', '/nothing', { body: 'anything', type })).status).toBe(204);
    }
  });

  it('parses the JSON body even where none is taken', async () => {
    for (const method of ['GET', 'DELETE']) {
      const path = method === 'GET' ? '/open' : '/nothing';
      expect(await codeOf(call(method, path, { body: '{"a"' }))).toEqual([400, 'MalformedPayload']);
      expect((await call(method, path, { body: '{"a":1}' })).status).toBeLessThan(300);
    }
  });

  it('does not take what every object has for a query key', async () => {
    for (const key of ['constructor', '__proto__', 'toString']) {
      expect(await codeOf(call('POST', `/automatic/x?${key}=1`, { body: GOOD, as: 'holder' }))).toEqual([400, 'InvalidRequestArguments']);
    }
  });

  it('refuses NUL characters in parameters and query', async () => {
    expect(await codeOf(call('GET', '/moved/a%00'))).toEqual([400, 'InvalidRequestArguments']);
    expect(await codeOf(call('GET', '/moved/a?mark=%00'))).toEqual([400, 'InvalidRequestArguments']);
    expect(await codeOf(call('GET', '/moved/a?mark=x'))).toEqual([303, undefined]);
  });

  it('answers other paths and verbs as the protocol does', async () => {
    for (const [verb, path] of [
      ['GET', '/nowhere'],
      ['POST', '/open'],
    ] as const) {
      const reply = await call(verb, path);
      expect([reply.status, reply.body]).toEqual([404, { error: 'Not found' }]);
      expect(reply.headers.get('access-control-allow-origin')).toBe('*');
    }
    for (const path of ['/api/test/v1/open', '/api/nowhere/v1/x', '/__heartbeat__', '/robots.txt', '/references/manifest.json', '/x']) {
      const { headers } = await server.fetch(`http://taskcluster.test${path}`, {
        method: 'PUT',
        headers: { 'x-taskcluster-trace-id': 'abc' },
      });
      expect(headers.get('x-for-trace-id')).toBe('abc');
      expect(headers.get('x-for-request-id')).toMatch(/^[0-9a-f-]{36}$/);
      expect(headers.get('x-content-type-options')).toBe('nosniff');
    }
    const options = await server.fetch('http://taskcluster.test/api/test/v1/open', { method: 'OPTIONS' });
    expect([options.status, options.headers.get('allow'), await options.text()]).toEqual([200, 'GET, HEAD', 'GET, HEAD']);
    const head = await server.fetch('http://taskcluster.test/api/test/v1/open', { method: 'HEAD' });
    expect([head.status, await head.text()]).toEqual([200, '']);
    expect((await server.fetch('http://taskcluster.test/api/test/v1/moved/%zz')).status).toBe(400);
    const moved = await call('GET', '/moved/a%2Fb//');
    expect([moved.status, moved.headers.get('location'), moved.body]).toEqual([303, 'http://x/a/b//', { path: 'a/b//' }]);
  });

  it('compresses what is large', async () => {
    const reply = async (url: string, payload?: string) => {
      const headers = { 'accept-encoding': 'gzip', 'content-type': 'application/json' };
      const answer = await server.server.app.inject({
        method: payload === undefined ? 'GET' : 'POST',
        url,
        headers,
        ...(payload !== undefined && { payload }),
      });
      return { ...answer, vary: answer.headers['vary'], encoding: answer.headers['content-encoding'], bytes: answer.rawPayload };
    };
    const large = await reply('/api/test/v1/in-handler', JSON.stringify({ names: 'x'.repeat(2000) }));
    expect([large.encoding, large.vary]).toEqual(['gzip', 'Accept-Encoding']);
    expect(JSON.parse(zlib.gunzipSync(large.bytes).toString())).toMatchObject({ code: 'InputValidationError' });
    expect((await reply('/references/references.json')).encoding).toBe('gzip');
    const small = await reply('/api/test/v1/open');
    expect([small.encoding, small.vary]).toEqual([undefined, 'Accept-Encoding']);
  });

  it('sends the common headers', async () => {
    const { headers } = await call('GET', '/open');
    expect(headers.get('content-type')).toBe('application/json; charset=utf-8');
    expect(headers.get('cache-control')).toBe('no-store no-cache must-revalidate');
    expect(headers.get('vary')).toMatch(/accept-encoding/i);
    expect(headers.get('x-content-type-options')).toBe('nosniff');
    expect(headers.get('x-for-request-id')).toMatch(/^[0-9a-f-]{36}$/);
    expect(headers.get('x-for-trace-id')).toMatch(/^[0-9a-f-]{36}$/);
  });
});

it('tells a handler that waits when the connection is closed, also when it was before the handler asked', async () => {
  const listening = await withServer([testService]);
  const { port } = new URL(await listening.server.app.listen({ host: '127.0.0.1', port: 0 }));
  const accepted = new Promise<net.Socket>(resolve => listening.server.app.server.once('connection', resolve));
  const socket = net.connect(Number(port), '127.0.0.1');
  socket.write('GET /api/test/v1/late HTTP/1.1\r\nHost: x\r\n\r\n');
  await late.began.promise;
  const closed = accepted.then(each => new Promise(resolve => each.once('close', resolve)));
  socket.resetAndDestroy();
  await closed;
  late.proceed.resolve();
  expect(await late.reason.promise).toEqual(new Error('The connection was closed'));
  await listening.close();
});

describe('operational endpoints', () => {
  it('answer at the root and as methods', async () => {
    const at = async (path: string) => {
      const response = await server.fetch(`http://taskcluster.test${path}`);
      return [response.status, await response.text()];
    };
    expect(await at('/__heartbeat__')).toEqual([200, '{}']);
    expect(await at('/__version__')).toEqual([200, '{"version":"dev","commit":"","source":"","build":""}']);
    expect(await at('/robots.txt')).toEqual([200, 'User-Agent: *\nDisallow: /\n']);
    expect(await at('/api/none/v1/ping')).toEqual([404, '{"error":"Not found"}']);
    const [status, text] = await at('/references/manifest.json');
    expect(status).toBe(200);
    expect((JSON.parse(String(text)) as { references: string[] }).references).toContain(
      `http://taskcluster.test/references/${authApi.service}/v1/api.json`,
    );
  });
});
