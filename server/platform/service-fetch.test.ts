import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { makeServiceFetch } from './service-fetch.ts';

interface Seen {
  readonly method: string | undefined;
  readonly url: string | undefined;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: string;
}

const servers: http.Server[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    await new Promise(resolve => server.close(resolve));
  }
});

const listen = async (answer: (seen: Seen, response: http.ServerResponse) => void): Promise<string> => {
  const server = http.createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const { method, url, headers } = request;
      answer({ method, url, headers, body: Buffer.concat(chunks).toString() }, response);
    });
  });
  servers.push(server);
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
};

const echo = (seen: Seen, response: http.ServerResponse): void =>
  void response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(seen));

const noLocal = (() => Promise.reject(new Error('not here'))) as typeof fetch;

test('a service of this process is called without a socket, another one where it is', async () => {
  const [auth, others] = [await listen(echo), await listen((_, response) => void response.end('others'))];
  const called: string[] = [];
  const local = (async (url: URL) => {
    called.push(url.pathname);
    return new Response('here');
  }) as unknown as typeof fetch;
  const send = makeServiceFetch({ local, isLocal: service => service === 'queue', internalUrls: { auth, '*': others } });
  expect(await (await send('https://tc.example.com/api/queue/v1/ping')).text()).toBe('here');
  expect(called).toEqual(['/api/queue/v1/ping']);
  expect(await (await send('https://tc.example.com/api/index/v1/ping')).text()).toBe('others');
  const seen = (await (
    await send('https://tc.example.com/api/auth/v1/x?y=%2F', {
      method: 'POST',
      headers: { authorization: 'Hawk x', 'content-type': 'application/json' },
      body: '{"ü":1}',
    })
  ).json()) as Seen;
  expect(seen).toMatchObject({
    method: 'POST',
    url: '/api/auth/v1/x?y=%2F',
    body: '{"ü":1}',
    headers: {
      host: 'tc.example.com',
      'x-forwarded-port': '443',
      'x-forwarded-proto': 'https',
      'content-type': 'application/json',
      'content-length': '8',
    },
  });
});

test('the public port goes along', async () => {
  const base = await listen(echo);
  const send = makeServiceFetch({ local: noLocal, isLocal: () => false, internalUrls: { '*': base } });
  const { headers } = (await (await send('http://localhost:8080/api/auth/v1/x')).json()) as Seen;
  expect(headers).toMatchObject({ host: 'localhost:8080', 'x-forwarded-port': '8080', 'x-forwarded-proto': 'http' });
});

test('without an address inside the root URL is called', async () => {
  const rootUrl = await listen(echo);
  const send = makeServiceFetch({ local: noLocal, isLocal: () => false, internalUrls: { queue: 'http://127.0.0.1:1' } });
  expect(((await (await send(`${rootUrl}/api/auth/v1/x`)).json()) as Seen).url).toBe('/api/auth/v1/x');
});

test('statuses, headers and empty answers come back as they are', async () => {
  const base = await listen(({ url }, response) => {
    if (url?.endsWith('nothing')) {
      response.writeHead(204).end();
    } else {
      response.writeHead(303, { location: 'https://elsewhere/', 'set-cookie': ['a=1', 'b=2'] }).end('moved');
    }
  });
  const send = makeServiceFetch({ local: noLocal, isLocal: () => false, internalUrls: { '*': base } });
  const nothing = await send('http://x/api/auth/v1/nothing');
  expect([nothing.status, nothing.body]).toEqual([204, null]);
  const moved = await send('http://x/api/auth/v1/moved');
  expect([moved.status, moved.headers.get('location'), moved.headers.getSetCookie(), await moved.text()]).toEqual([
    303,
    'https://elsewhere/',
    ['a=1', 'b=2'],
    'moved',
  ]);
});

test('what breaks is an error: nobody there, a connection cut before and during the answer, a signal', async () => {
  const base = await listen(({ url }, response) => {
    if (url?.endsWith('before')) {
      response.destroy();
    } else if (url?.endsWith('during')) {
      response.writeHead(200, { 'content-length': '100' });
      response.write('half', () => response.destroy());
    }
  });
  const send = makeServiceFetch({ local: noLocal, isLocal: () => false, internalUrls: { auth: base, '*': 'http://127.0.0.1:1' } });
  await expect(send('http://x/api/index/v1/x')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  await expect(send('http://x/api/auth/v1/before')).rejects.toMatchObject({ code: 'ECONNRESET' });
  const during = await send('http://x/api/auth/v1/during');
  await expect(during.text()).rejects.toThrow();
  const abort = new AbortController();
  const waiting = send('http://x/api/auth/v1/never', { signal: abort.signal });
  abort.abort(new Error('enough'));
  await expect(waiting).rejects.toThrow('enough');
});
