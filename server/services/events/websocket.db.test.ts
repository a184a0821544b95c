import http from 'node:http';
import type net from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { GROUP, type Received, type ServedEvents, TASK, anEvent, numbersOf, serveEvents, wanting } from './testing.ts';

const opened: WebSocket[] = [];
afterEach(() => opened.splice(0).forEach(webSocket => webSocket.terminate()));

interface Socket {
  next(): Promise<Received | undefined>;
  take(count: number): Promise<Received[]>;
  send(message: unknown): void;
  readonly webSocket: WebSocket;
  readonly closed: Promise<{ code: number; reason: string }>;
}

const open = async (served: ServedEvents, query: string, headers: Record<string, string> = {}): Promise<Socket> => {
  const webSocket = new WebSocket(`${served.origin.replace('http', 'ws')}/api/events/v1/connect?${query}`, { headers });
  opened.push(webSocket);
  const waiting: ((received: Received | undefined) => void)[] = [];
  const received: (Received | undefined)[] = [];
  const put = (each: Received | undefined): void => {
    const first = waiting.shift();
    if (first) {
      first(each);
    } else {
      received.push(each);
    }
  };
  webSocket.on('message', (data: Buffer) => {
    const { event, id, data: value } = JSON.parse(data.toString()) as { event: string; id?: string; data: unknown };
    put({ event, id, data: value });
  });
  const closed = new Promise<{ code: number; reason: string }>(resolve =>
    webSocket.on('close', (code, reason) => {
      put(undefined);
      resolve({ code, reason: reason.toString() });
    }),
  );
  await new Promise<void>((resolve, reject) => {
    webSocket.once('open', resolve);
    webSocket.once('error', reject);
  });
  const next: Socket['next'] = () =>
    received.length > 0 ? Promise.resolve(received.shift()) : new Promise(resolve => waiting.push(resolve));
  const take: Socket['take'] = async count => {
    const taken: Received[] = [];
    while (taken.length < count) {
      const each = await next();
      if (!each) {
        throw new Error('The socket was closed');
      }
      taken.push(each);
    }
    return taken;
  };
  return {
    next,
    take,
    send: message => webSocket.send(typeof message === 'string' ? message : JSON.stringify(message)),
    webSocket,
    closed,
  };
};

/** The status and body with which a WebSocket is refused. */
const refusedWith = (served: ServedEvents, path: string, headers: Record<string, string> = {}): Promise<{ status: number; body: string }> =>
  new Promise((resolve, reject) => {
    const request = http.get(`${served.origin}${path}`, {
      headers: {
        connection: 'Upgrade',
        upgrade: 'websocket',
        'sec-websocket-version': '13',
        'sec-websocket-key': 'AAAAAAAAAAAAAAAAAAAAAA==',
        ...headers,
      },
    });
    request.once('response', response => {
      let body = '';
      response.on('data', (chunk: Buffer) => (body += chunk.toString()));
      response.once('end', () => resolve({ status: response.statusCode ?? 0, body }));
    });
    request.once('upgrade', (_response, socket) => {
      socket.destroy();
      reject(new Error('It was not refused'));
    });
    request.once('error', reject);
  });

const listenersOf = async ({ server }: ServedEvents): Promise<number> =>
  (await server.platform.metrics.registry.getSingleMetric('events_listeners')?.get())?.values[0]?.value ?? -1;
/** How many handshakes were to begin. */
const acceptedOf = async ({ server }: ServedEvents): Promise<number> =>
  ((await server.platform.metrics.registry.getSingleMetric('http_requests_total')?.get())?.values ?? [])
    .filter(({ labels }) => String(labels['status']) === '101')
    .reduce((sum, { value }) => sum + value, 0);
const untilListeners = async (served: ServedEvents, count: number): Promise<void> => {
  while ((await listenersOf(served)) !== count) {
    await new Promise(resolve => setImmediate(resolve));
  }
};

describe('a WebSocket', () => {
  let served: ServedEvents;
  beforeAll(async () => {
    served = await serveEvents();
  });
  afterAll(() => served.closeAll());

  it('has the very events, ids and data of an event stream', async () => {
    await served.publish(anEvent(1), anEvent(2));
    const query = `${wanting('taskDefined', 'taskPending')}&lastEventId=0`;
    const [socket, stream] = [await open(served, query), await served.listen(query)];
    await served.publish(anEvent(3, { exchange: 'taskPending', cc: ['route.ü'] }), anEvent(4, { exchange: 'taskFailed' }));
    const got = await socket.take(4);
    expect(got).toEqual(await stream.take(4));
    expect(got.map(({ event, id }) => [event, id])).toEqual([
      ['ready', '0'],
      ['message', '1-0'],
      ['message', '1-1'],
      ['message', '2-0'],
    ]);
    await served.server.clock.tick({ seconds: 15 });
    expect(await socket.next()).toEqual(await stream.next());
    socket.webSocket.close();
    expect((await socket.closed).code).toBe(1005);
    await served.closeAll();
    await untilListeners(served, 0);
  });

  it('may say later what it wants, and change it', async () => {
    const socket = await open(served, '');
    const start = await socket.next();
    expect(start).toMatchObject({ event: 'ready' });
    await served.publish(anEvent(1));
    // until the stream has passed it: what is not yet handed out follows the new wishes
    let ping = start;
    while (ping?.id === start?.id) {
      await served.server.clock.tick({ seconds: 15 });
      ping = await socket.next();
    }
    socket.send({ taskGroupId: GROUP });
    expect(await socket.next()).toMatchObject({ event: 'ready' });
    await served.publish(anEvent(2));
    expect(numbersOf(await socket.take(1))).toEqual([2]);
    socket.send({ bindings: [{ exchange: 'exchange/taskcluster-queue/v1/task-failed', routingKeyPattern: `primary.${TASK}.#` }] });
    const changed = await socket.next();
    await served.publish(anEvent(3));
    await served.publish(anEvent(4, { exchange: 'taskFailed' }));
    expect(numbersOf(await socket.take(1))).toEqual([4]);
    // the id of a ready is where what was said begins to hold
    const again = await open(served, `taskGroupId=${GROUP}&lastEventId=${changed?.id}`);
    expect(numbersOf(await again.take(3))).toEqual([3, 4]);
    for (const { webSocket } of [socket, again]) {
      webSocket.close();
    }
    await untilListeners(served, 0);
  });

  it.each([
    ['no JSON', 'x', /^The message is not valid, error: /],
    ['no object', 'null', /^The message is not valid, error: it must be an object with bindings, taskGroupId or taskId$/],
    ['a list', [{ exchange: 'x', routingKey: '#' }], /^The message is not valid, error: it must be an object/],
    ['bindings that are none', { bindings: [{ exchange: 'x', routingKey: '#' }] }, /there is no exchange 'x'/],
    ['no list', { bindings: 5 }, /^bindings must be a list$/],
    ['no slugid', { taskId: '"' }, /^taskId must be a slugid$/],
    ['too many', { bindings: Array.from({ length: 101 }, () => 1) }, /may have 100$/],
  ])('is told what was wrong with its message, and closed: %s', async (_what, message, text) => {
    const socket = await open(served, wanting('taskDefined'));
    await socket.next();
    socket.send(message);
    expect(await socket.next()).toEqual({
      event: 'error',
      id: undefined,
      data: { code: 'InvalidRequestArguments', message: expect.stringMatching(text) as string },
    });
    expect(await socket.closed).toEqual({ code: 1008, reason: 'InvalidRequestArguments' });
    await untilListeners(served, 0);
  });

  it('is closed for a message that is too large, or broken, and ignores binary ones', async () => {
    const large = await open(served, wanting('taskDefined'));
    large.send('x'.repeat(70_000));
    expect((await large.closed).code).toBe(1009);
    const broken = await open(served, wanting('taskDefined'));
    (broken.webSocket as unknown as { _socket: net.Socket })._socket.write(Buffer.from([0xff, 0xff, 0xff]));
    expect((await broken.closed).code).toBe(1002);
    const binary = await open(served, wanting('taskDefined'));
    await binary.next();
    binary.webSocket.send(Buffer.from('{'), { binary: true });
    await served.publish(anEvent(1));
    expect(numbersOf(await binary.take(1))).toEqual([1]);
    binary.webSocket.terminate();
    await untilListeners(served, 0);
  });

  it('is refused like any request, by status and JSON', async () => {
    const connect = '/api/events/v1/connect';
    served.server.setAnonymousScopes([]);
    const refused = await refusedWith(served, `${connect}?${wanting('taskDefined')}`);
    served.server.setAnonymousScopes(['web:read-pulse']);
    expect(refused).toMatchObject({ status: 403, body: expect.stringContaining('"InsufficientScopes"') as string });
    expect(await refusedWith(served, `${connect}?bindings=7`)).toMatchObject({ status: 400 });
    expect(await refusedWith(served, `${connect}?${wanting('taskDefined')}&lastEventId=99999`)).toMatchObject({ status: 410 });
    expect(await refusedWith(served, `${connect}x`)).toEqual({ status: 404, body: '{"error":"Not found"}' });
    // methods and paths that know no WebSockets answer as if none had been asked for
    expect(await refusedWith(served, '/api/events/v1/ping')).toMatchObject({ status: 200 });
    expect(await refusedWith(served, '/nothing')).toMatchObject({ status: 404 });
    // a handshake that fails gives its place back
    expect(await refusedWith(served, `${connect}?${wanting('taskDefined')}`, { 'sec-websocket-key': 'short' })).toMatchObject({
      status: 400,
    });
    await untilListeners(served, 0);
    // neither does it keep its place when the connection itself was not offered
    expect(await refusedWith(served, `${connect}?${wanting('taskDefined')}`, { connection: 'close' })).toEqual({ status: 426, body: '' });
    await untilListeners(served, 0);
    // what some clients offer with any request is no reason to refuse it
    expect(await refusedWith(served, '/api/events/v1/ping', { upgrade: 'h2c', 'http2-settings': 'AAMAAABkAAQAAP__' })).toMatchObject({
      status: 200,
    });
  });

  it('takes a signed URL, as a browser has to use', async () => {
    const caller = served.server.client(
      {
        service: 'events',
        version: 'v1',
        title: '',
        description: '',
        methods: {
          connect: {
            method: 'get',
            route: '/connect',
            query: { taskId: /./ },
            title: '',
            description: '',
            category: '',
            stability: 'stable',
          },
        },
      },
      { scopes: ['web:read-pulse'], clientId: 'browser' },
    );
    served.server.setAnonymousScopes([]);
    const url = new URL(await caller.buildSignedUrl('connect', {}, { query: { taskId: TASK } }));
    const socket = await open(served, url.search.slice(1));
    expect(await socket.next()).toMatchObject({ event: 'ready' });
    const stream = await served.listen(url.search.slice(1));
    expect(await stream.next()).toMatchObject({ event: 'ready' });
    served.server.setAnonymousScopes(['web:read-pulse']);
    socket.webSocket.close();
    await served.closeAll();
  });

  it('that is gone before it is accepted gives its place back', async () => {
    const { server } = served.server.server.app;
    const accepted = await acceptedOf(served);
    server.once('upgrade', (_request, socket) => void socket.destroy());
    await expect(open(served, wanting('taskDefined'))).rejects.toThrow('socket hang up');
    while ((await acceptedOf(served)) === accepted) {
      await new Promise(resolve => setImmediate(resolve));
    }
    expect(await listenersOf(served)).toBe(0);
  });

  it('that goes away without a word is noticed', async () => {
    const socket = await open(served, wanting('taskDefined'));
    await socket.next();
    socket.webSocket.terminate();
    await untilListeners(served, 0);
  });
});

describe('a WebSocket that does not read', () => {
  it('is cut off with the same words, and does not hold up the others', async () => {
    const served = await serveEvents({ environment: { EVENTS_MAX_QUEUED_BYTES: '65536' } });
    const slow = await open(served, wanting('taskDefined'));
    await slow.next();
    slow.webSocket.pause();
    for (let n = 1; n <= 20; n++) {
      await served.publish(...Array.from({ length: 20 }, (_, i) => anEvent(n * 100 + i, { padding: 50_000 })));
    }
    const fast = await open(served, `${wanting('taskDefined')}&lastEventId=0`);
    expect(numbersOf(await fast.take(401)).length).toBe(400);
    expect(await listenersOf(served)).toBe(2);
    while ((await listenersOf(served)) === 2) {
      await served.server.clock.tick({ seconds: 1 });
    }
    slow.webSocket.resume();
    const received: (Received | undefined)[] = [];
    for (let each = await slow.next(); each; each = await slow.next()) {
      received.push(each);
    }
    expect(received.at(-1)).toMatchObject({ event: 'error', data: { code: 'SlowReader' } });
    expect(await slow.closed).toEqual({ code: 1000, reason: 'SlowReader' });
    const lastId = received.findLast(each => each?.id)?.id;
    const resumed = await open(served, `${wanting('taskDefined')}&lastEventId=${lastId}`);
    const rest = 400 - numbersOf(received as Received[]).length;
    expect(numbersOf(await resumed.take(rest + 1)).at(-1)).toBe(2019);
    fast.webSocket.close();
    resumed.webSocket.close();
  });

  it('is not read from when it asks on and on, and is cut off', async () => {
    const served = await serveEvents({ environment: { EVENTS_MAX_QUEUED_BYTES: '65536', EVENTS_MAX_STALL_SECONDS: '1' } });
    const slow = await open(served, '');
    await slow.next();
    slow.webSocket.pause();
    const asked = 1_000_000;
    const wish = Buffer.from([0x81, 0x82, 0, 0, 0, 0, ...Buffer.from('{}')]);
    (slow.webSocket as unknown as { _socket: net.Socket })._socket.write(Buffer.alloc(asked * wish.length, wish));
    while ((await listenersOf(served)) === 1) {
      await served.server.clock.tick({ ms: 10 });
    }
    slow.webSocket.resume();
    let answered = 0;
    let last: Received | undefined;
    for (let each = await slow.next(); each; each = await slow.next()) {
      answered += each.event === 'ready' ? 1 : 0;
      last = each;
    }
    expect(last).toMatchObject({ event: 'error', data: { code: 'SlowReader' } });
    expect(answered).toBeLessThan(asked);
    expect(await slow.closed).toEqual({ code: 1000, reason: 'SlowReader' });
  });

  it('is told when the server shuts down', async () => {
    const served = await serveEvents();
    const socket = await open(served, wanting('taskDefined'));
    await socket.next();
    await served.server.close();
    expect(await socket.next()).toMatchObject({ event: 'error', data: { code: 'ServiceUnavailable' } });
    expect(await socket.closed).toEqual({ code: 1001, reason: 'ServiceUnavailable' });
  });
});
