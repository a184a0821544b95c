import { createServer, request as httpRequest, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { systemClock, systemRandom } from '@tscluster/client/clock.ts';
import type { Credentials } from '@tscluster/client/client.ts';
import { hmacSha256, base64 } from '@tscluster/client/digest.ts';
import { signedText } from '@tscluster/client/hawk.ts';
import { withWorker } from '../testing/with-worker.ts';
import { destinationOf, makeAgents, proxyHandler } from './proxy-requests.ts';

// processes start and end while the machine has other things to do
vi.setConfig({ testTimeout: 30_000 });

interface Seen {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

const SCOPES = ['a:scope', 'queue:create-artifact:T/0'];
const agents = makeAgents();
const servers: Server[] = [];
let seen: Seen[] = [];
let answer: RequestListener = (_, response) => response.end('ok');
let rootUrl: string;
let port: number;
let credentials: Credentials = { clientId: 'task-client', accessToken: 'task-token', certificate: JSON.stringify({ scopes: ['a:*'] }) };

const listen = async (handler: RequestListener): Promise<number> => {
  const server = createServer(handler).listen(0, '127.0.0.1');
  servers.push(server);
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
};

beforeAll(async () => {
  const upstream = await listen((request, response) => {
    void (async () => {
      const body = Buffer.concat(await request.toArray()).toString();
      seen.push({ method: request.method ?? '', url: request.url ?? '', headers: request.headers, body });
      answer(request, response);
    })();
  });
  rootUrl = `http://127.0.0.1:${upstream}`;
  port = await listen(
    proxyHandler(
      {
        rootUrl,
        allowsOtherHosts: false,
        authorizedScopes: SCOPES,
        credentials: () => credentials,
        clock: systemClock,
        random: systemRandom,
        signal: new AbortController().signal,
      },
      agents,
    ),
  );
});
afterAll(() => {
  agents.http.destroy();
  for (const server of servers) {
    server.close();
    server.closeAllConnections();
  }
});

/** Sends a request whose path is not touched by any URL parser. */
const send = async (
  path: string,
  { method = 'GET', headers = {}, body = '' }: { method?: string; headers?: Record<string, string>; body?: string } = {},
) => {
  seen = [];
  const request = httpRequest({ host: '127.0.0.1', port, path, method, headers });
  request.end(body);
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  return {
    status: response.statusCode,
    headers: response.headers,
    raw: response.rawHeaders,
    body: Buffer.concat(await response.toArray()).toString(),
  };
};

/** The parts of a header's signature, when its mac is right. */
const verified = ({ headers, method, url }: Seen): { ext: unknown } => {
  const fields = Object.fromEntries(
    [...(headers.authorization ?? '').matchAll(/(\w+)="([^"]*)"/g)].map(([, name, value]) => [name, value]),
  );
  const { hostname, port: upstreamPort } = new URL(rootUrl);
  const { ts = '', nonce = '', ext = '' } = fields;
  const text = signedText({ kind: 'header', ts, nonce, method, resource: url, host: hostname, port: upstreamPort, ext });
  expect(fields['mac']).toBe(base64(hmacSha256(credentials.accessToken, text)));
  expect(fields['id']).toBe(credentials.clientId);
  return { ext: JSON.parse(Buffer.from(ext, 'base64').toString()) };
};

test('an API request is signed with the scopes of the task, and its path arrives byte for byte', async () => {
  const path = '/api/queue/v1/task/T/artifacts/public%2Fa%20b%2e%2E?x=%2F&y=a+b&z';
  const { status, body, headers } = await send(path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"a":1}' });
  expect({ status, body }).toEqual({ status: 200, body: 'ok' });
  expect(seen[0]).toMatchObject({ method: 'POST', url: path, body: '{"a":1}' });
  expect(verified(seen[0]!)).toEqual({ ext: { certificate: { scopes: ['a:*'] }, authorizedScopes: SCOPES } });
  expect(headers['x-taskcluster-authorized-scopes']).toBe(JSON.stringify(SCOPES));
  expect(headers['x-taskcluster-proxy-temp-clientid']).toBe('task-client');
  expect(headers['x-taskcluster-endpoint']).toContain(`${rootUrl}/api/queue/v1/`);
});

test('new credentials are used from the next request on, with the same scopes', async () => {
  credentials = { clientId: 'renewed', accessToken: 'other-token', certificate: JSON.stringify({ scopes: ['b:*'] }) };
  await send('/api/queue/v1/ping');
  expect(verified(seen[0]!)).toEqual({ ext: { certificate: { scopes: ['b:*'] }, authorizedScopes: SCOPES } });
});

test('the caller cannot bring an authorization of its own', async () => {
  await send('/api/queue/v1/ping', { headers: { authorization: 'Hawk id="root"' } });
  verified(seen[0]!);
});

test('redirects and repeated headers are passed on', async () => {
  answer = (_, response) => response.writeHead(303, { location: 'https://elsewhere.example.com/x', 'set-cookie': ['a=1', 'b=2'] }).end();
  const { status, headers } = await send('/api/queue/v1/redirect');
  answer = (_, response) => response.end('ok');
  expect(status).toBe(303);
  expect(headers.location).toBe('https://elsewhere.example.com/x');
  expect(headers['set-cookie']).toEqual(['a=1', 'b=2']);
  expect(seen.length).toBe(1);
});

test('a failing GET is tried again, a POST is not', async () => {
  let failures = 2;
  answer = (_, response) => response.writeHead(failures-- > 0 ? 503 : 200).end('later');
  expect((await send('/api/queue/v1/get')).status).toBe(200);
  expect(seen.length).toBe(3);
  failures = 1;
  expect((await send('/api/queue/v1/post', { method: 'POST', body: 'x' })).status).toBe(503);
  expect(seen.length).toBe(1);
  answer = (_, response) => response.end('ok');
});

test.each([
  ['an Origin', { origin: 'https://evil.example.com' }, 403, 'Origin'],
  ['a null Origin', { origin: 'null' }, 403, 'Origin'],
  ['a foreign Host', { host: 'evil.example.com' }, 403, 'Host'],
  ['another port in its Host', { host: '127.0.0.1:1' }, 403, 'Host'],
])('a request with %s is refused', async (_, headers, status, word) => {
  const reply = await send('/api/queue/v1/ping', { headers: headers as unknown as Record<string, string> });
  expect(reply.status).toBe(status);
  expect(reply.body).toContain(word);
  expect(seen).toEqual([]);
});

test.each([
  ['/credentials', 403],
  ['/api/queue', 404],
  ['/api/queue/v1', 404],
  ['/', 404],
  ['/nothing', 404],
  ['/elsewhere.example.com/path', 403],
])('%s is answered with %i and sent nowhere', async (path, status) => {
  expect((await send(path, { method: 'PUT', body: '{}' })).status).toBe(status);
  expect(seen).toEqual([]);
});

test('paths lead where they should', () => {
  const options = { rootUrl: 'https://tc.example.com', allowsOtherHosts: true };
  const lead = (url: string) => {
    const to = destinationOf(url, options);
    return 'status' in to ? to.status : to.origin.origin + to.resource;
  };
  expect(lead('/queue/v1/task/a%2Fb?c')).toBe('https://tc.example.com/api/queue/v1/task/a%2Fb?c');
  expect(lead('/tc.example.com/api/queue/v1/ping')).toBe('https://tc.example.com/api/queue/v1/ping');
  expect(lead('/other.example.com/a/b?c=%2F')).toBe('https://other.example.com/a/b?c=%2F');
  expect(lead('/other.example.com')).toBe('https://other.example.com/');
  expect(lead('/api/queue/latest/x')).toBe(404);
});

test('a bewit is a signed URL for an hour', async () => {
  const { status, headers, body } = await send('/bewit', { method: 'POST', body: `${rootUrl}/api/queue/v1/task/T/artifacts/x%2Fy` });
  expect(status).toBe(303);
  expect(headers.location).toBe(body);
  const [id, expires, , ext] = Buffer.from(new URL(body).searchParams.get('bewit') ?? '', 'base64url')
    .toString()
    .split('\\');
  expect(id).toBe(credentials.clientId);
  expect(Math.abs(Number(expires) - Date.now() / 1000 - 3600)).toBeLessThan(60);
  expect(JSON.parse(Buffer.from(ext ?? '', 'base64').toString())).toMatchObject({ authorizedScopes: SCOPES });
  expect((await send('/bewit', { method: 'POST', body: 'not a url' })).status).toBe(500);
});

test('bodies are streamed both ways', async () => {
  answer = (_, response) => response.end(seen.at(-1)?.body);
  const body = 'x'.repeat(5_000_000);
  const reply = await send('/api/queue/v1/echo', { method: 'PUT', body });
  answer = (_, response) => response.end('ok');
  expect(reply.body.length).toBe(body.length);
});

test('a task calls the API through its proxy, with its scopes and the right to create artifacts of its run', async () => {
  await using t = await withWorker();
  let ext = '';
  t.queue.intercept = ({ path, headers }) => {
    if (path !== '/api/queue/v1/ping') {
      return undefined;
    }
    ext = /ext="([^"]+)"/.exec(headers.authorization ?? '')?.[1] ?? '';
    return { status: 200, body: { alive: true } };
  };
  const task = t.queue.addTask(
    {
      command: [['/bin/sh', '-ec', 'curl -sf $TASKCLUSTER_PROXY_URL/api/queue/v1/ping']],
      maxRunTime: 60,
      features: { taskclusterProxy: true },
    },
    { scopes: ['one:scope'] },
  );
  await t.queue.resolved(task);
  expect(t.queue.log(task)).toContain('{"alive":true}');
  expect(JSON.parse(Buffer.from(ext, 'base64').toString())).toMatchObject({
    authorizedScopes: ['one:scope', `queue:create-artifact:${task.taskId}/0`],
  });
});
