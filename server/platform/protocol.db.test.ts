/** What every answer has in common, whatever the method: headers, verbs, the paths at the root. */
import { authApi } from '@tscluster/api/auth/api.ts';
import { beforeAll, describe, expect, test } from 'vitest';
import { auth } from '../services/auth/service.ts';
import { ROOT } from '../services/auth/testing.ts';
import { type TestServer, withServer } from '../testing/server.ts';

let server: TestServer;
beforeAll(async () => {
  server = await withServer([auth]);
});
const get = (path: string, options: RequestInit = {}): Promise<Response> => server.fetch(`http://taskcluster.test${path}`, options);
const PATHS = ['/api/auth/v1/ping', '/api/auth/v1/scopes/current', '/api/auth/v1/nowhere', '/api/none/v1/ping'];

describe('answers below /api', () => {
  test('may be read from anywhere, and are not stored; errors and what is not there, too', async () => {
    for (const path of PATHS) {
      const { headers } = await get(path);
      expect({ path, ...Object.fromEntries(headers) }).toMatchObject({
        path,
        'access-control-allow-origin': '*',
        'access-control-max-age': '900',
        'access-control-allow-methods': 'OPTIONS,GET,HEAD,POST,PUT,DELETE,TRACE,CONNECT',
        'access-control-request-method': '*',
        'access-control-allow-headers': 'X-Requested-With,Content-Type,Authorization,Accept,Origin,Cache-Control',
        'cache-control': 'no-store no-cache must-revalidate',
        vary: 'Accept-Encoding',
        'x-content-type-options': 'nosniff',
        'content-security-policy': expect.stringMatching(
          /^(?=.*default-src 'none')(?=.*frame-ancestors 'none')(?=.*report-uri \/__cspreport__)/,
        ) as string,
        'content-type': 'application/json; charset=utf-8',
      });
      expect(headers.get('x-powered-by')).toBeNull();
      expect(headers.get('access-control-allow-credentials')).toBeNull();
    }
  });

  test('have the trace of the request, and an id of their own', async () => {
    const [first, second] = [await get('/api/auth/v1/ping'), await get('/api/auth/v1/ping')];
    const ids = [first, second].flatMap(({ headers }) => [headers.get('x-for-trace-id'), headers.get('x-for-request-id')]);
    expect(new Set(ids).size).toBe(4);
    for (const id of ids) {
      expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    }
    const traced = await get('/api/auth/v1/ping', { headers: { 'x-taskcluster-trace-id': 'mine' } });
    expect(traced.headers.get('x-for-trace-id')).toBe('mine');
  });

  test('to OPTIONS tell the verbs of a path; HEAD is answered like GET, without a body', async () => {
    for (const [path, allowed] of [
      ['/ping', 'GET, HEAD'],
      ['/clients/x', 'GET, HEAD, PUT, POST, DELETE'],
    ] as const) {
      const reply = await get(`/api/auth/v1${path}`, { method: 'OPTIONS' });
      const text = await reply.text();
      expect([reply.status, text]).toEqual([200, reply.headers.get('allow')]);
      expect(new Set(text.split(', '))).toEqual(new Set(allowed.split(', ')));
    }
    expect((await get('/api/auth/v1/nowhere', { method: 'OPTIONS' })).status).toBe(404);
    const head = await get('/api/auth/v1/scopes/current', { method: 'HEAD' });
    expect([head.status, await head.text()]).toEqual([403, '']);
  });

  test('of methods without scopes do not look at credentials, and take no query', async () => {
    const broken = { headers: { authorization: 'Hawk nonsense' } };
    for (const path of ['/ping', '/__version__', '/__heartbeat__', '/__lbheartbeat__']) {
      expect((await get(`/api/auth/v1${path}`, broken)).status).toBe(200);
      const reply = await get(`/api/auth/v1${path}?x=1`);
      expect([reply.status, ((await reply.json()) as { code: string }).code]).toEqual([400, 'InvalidRequestArguments']);
    }
    const { alive, uptime } = (await (await get('/api/auth/v1/ping')).json()) as { alive: boolean; uptime: number };
    expect([alive, typeof uptime]).toEqual([true, 'number']);
    expect((await get('/api/auth/v1/ping?bewit=x')).status).toBe(200);
  });

  test('of lists whose path has one slash too many or too few are the same', async () => {
    const list = (path: string) => get(path, { headers: { authorization: 'Hawk' } }).then(({ status }) => status);
    expect([await list('/api/auth/v1/clients'), await list('/api/auth/v1/clients/')]).toEqual([401, 401]);
    expect([await list('/api/auth/v1/clients//'), await list('/api/auth/v1//clients'), await list('/api/auth/v1/Clients/')]).toEqual([
      404, 404, 404,
    ]);
  });

  test('without credentials are 403, with invalid ones 401 and how to authenticate', async () => {
    const bare = await get('/api/auth/v1/scopes/current');
    expect([bare.status, bare.headers.get('www-authenticate')]).toEqual([403, null]);
    const broken = await get('/api/auth/v1/scopes/current', { headers: { authorization: 'Basic x' } });
    expect([broken.status, broken.headers.get('www-authenticate')]).toEqual([401, 'hawk']);
    const empty = await get('/api/auth/v1/scopes/current', { headers: { authorization: '' } });
    expect(empty.status).toBe(403);
  });

  test('to a query with brackets or repetitions are 400', async () => {
    await server
      .client(authApi, { credentials: ROOT })
      .createRole({ roleId: 'anonymous' }, { scopes: ['auth:list-clients'], description: '' });
    expect((await get('/api/auth/v1/clients/?limit=1')).status).toBe(200);
    for (const query of [
      'limit[]=1',
      'limit%5B0%5D=1',
      'limit=1&limit=2',
      'continuationToken=',
      'limit=-1',
      'limit=1.5',
      'limit=',
      'other=1',
    ]) {
      const reply = await get(`/api/auth/v1/clients/?${query}`);
      const { code } = (await reply.json()) as { code?: string };
      expect([query, reply.status, code]).toEqual([query, 400, 'InvalidRequestArguments']);
    }
  });
});

describe('paths at the root', () => {
  test('answer any verb, without CORS headers and whoever asks', async () => {
    for (const path of ['/__version__', '/__heartbeat__', '/__lbheartbeat__', '/robots.txt']) {
      for (const method of ['GET', 'POST', 'PUT', 'DELETE']) {
        const { status, headers } = await get(path, { method });
        expect([path, method, status, headers.get('access-control-allow-origin'), headers.get('cache-control')]).toEqual([
          path,
          method,
          200,
          null,
          null,
        ]);
      }
    }
    expect((await get('/robots.txt')).headers.get('content-type')).toMatch(/^text\/plain/);
  });
});

describe('where TLS is forced', () => {
  test('who reads without is sent to https, who writes is refused, load balancers are answered', async () => {
    const forced = await withServer([auth], { forceTls: true });
    const ask = (path: string, proto: string | undefined, method = 'GET') =>
      forced.fetch(`http://elsewhere.test${path}`, {
        method,
        redirect: 'manual',
        headers: proto === undefined ? {} : { 'x-forwarded-proto': proto },
      });
    for (const proto of ['http', undefined]) {
      const reading = await ask('/api/auth/v1/ping?x=1', proto);
      expect([reading.status, reading.headers.get('location')]).toEqual([301, `${forced.rootUrl}/api/auth/v1/ping?x=1`]);
      expect((await ask('/api/auth/v1/scopes/expand', proto, 'POST')).status).toBe(403);
      expect((await ask('/__lbheartbeat__', proto)).status).toBe(200);
    }
    const secure = await ask('/api/auth/v1/ping', 'https');
    expect([secure.status, secure.headers.get('strict-transport-security')]).toEqual([200, 'max-age=7776000; includeSubDomains']);
    expect((await get('/api/auth/v1/ping')).headers.get('strict-transport-security')).toBeNull();
  });
});
