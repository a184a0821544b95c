import net from 'node:net';
import { queueEvents } from '@tscluster/api/queue/events.ts';
import { describe, expect, it } from 'vitest';
import { EVENT_LOG } from '../../platform/event-log.ts';
import { testDatabase } from '../../testing/template.ts';
import { type Received, anEvent, announce, numbersOf, refusal, serveEvents, wanting } from './testing.ts';

const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i);

/** Reads until the message about `n`. */
const readUntil = async (stream: { take(count: number): Promise<Received[]> }, n: number): Promise<Received[]> => {
  const received: Received[] = [];
  while (numbersOf(received).at(-1) !== n) {
    received.push(...(await stream.take(1)));
  }
  return received;
};

describe('a listener that reads', () => {
  it('gets everything in order, also what was announced while it caught up, and more at once than may be queued', async () => {
    const served = await serveEvents({ environment: { EVENTS_MAX_QUEUED_BYTES: '4096' } });
    await served.publish(...range(1, 300).map(n => anEvent(n, { padding: 500 })));
    const stream = await served.listen(`${wanting('taskDefined')}&lastEventId=0`);
    const publishing = (async () => {
      for (let n = 301; n <= 400; n++) {
        await served.publish(anEvent(n, { padding: 100 }));
      }
      // one that is larger than what may be queued
      await served.publish(anEvent(401, { padding: 20_000 }), anEvent(402));
    })();
    const received = await readUntil(stream, 402);
    await publishing;
    expect(numbersOf(received)).toEqual(range(1, 402));
    expect(received.filter(({ event }) => event === 'error')).toEqual([]);
    await served.closeAll();
  });

  it('gets each event once, however its connections end', async () => {
    const served = await serveEvents({ environment: { EVENTS_MAX_QUEUED_BYTES: '8192' } });
    let isDone = false;
    const publishing = (async () => {
      for (let n = 1; n <= 400; n += 4) {
        await announce(
          served.server.db,
          range(n, n + 3).map(each => anEvent(each, { padding: 300 })),
        );
        await served.server.drain();
      }
      isDone = true;
    })();
    const got: number[] = [];
    let id = '0';
    for (let turn = 0; got.at(-1) !== 400; turn++) {
      const stream = await served.listen(`${wanting('taskDefined')}&lastEventId=${id}`);
      for (const each of await stream.take(1 + (turn % 7))) {
        got.push(...numbersOf([each]));
        id = each.id ?? id;
      }
      await stream.close();
    }
    await publishing;
    expect(isDone).toBe(true);
    expect(got).toEqual(range(1, 400));
  });

  it('has every task’s events in the order in which things happened', async () => {
    const served = await serveEvents();
    const stream = await served.listen(wanting('taskDefined', 'taskPending', 'taskRunning', 'taskCompleted'));
    await stream.next();
    const tasks = ['A', 'B', 'C', 'D'].map(letter => `${letter}nqiD3XvTPyq4CIk4qHqyQ`);
    await Promise.all(
      tasks.map(async (taskId, t) => {
        for (const [i, exchange] of (['taskDefined', 'taskPending', 'taskRunning', 'taskCompleted'] as const).entries()) {
          await announce(served.server.db, [anEvent(t * 10 + i, { taskId, exchange })]);
        }
      }),
    );
    await served.server.drain();
    const received = await stream.take(16);
    for (const t of tasks.keys()) {
      expect(numbersOf(received).filter(n => Math.floor(n / 10) === t)).toEqual(range(t * 10, t * 10 + 3));
    }
    await served.closeAll();
  });
});

describe('a listener that does not read', () => {
  /** A connection whose bytes are left where they are. */
  const connectIdly = async (origin: string, query: string): Promise<net.Socket> => {
    const { hostname, port } = new URL(origin);
    const socket = net.connect({ host: hostname, port: Number(port) });
    socket.pause();
    await new Promise(resolve => socket.once('connect', resolve));
    socket.write(`GET /api/events/v1/connect?${query} HTTP/1.1\r\nhost: ${hostname}:${port}\r\nconnection: close\r\n\r\n`);
    return socket;
  };

  it('is cut off after a while, is told so if it reads after all, and can go on where it was', async () => {
    const served = await serveEvents({ environment: { EVENTS_MAX_QUEUED_BYTES: '65536', EVENTS_MAX_STALL_SECONDS: '30' } });
    const slow = await connectIdly(served.origin, wanting('taskDefined'));
    const fast = await served.listen(wanting('taskDefined'));
    await fast.next();
    // more than the buffers of both sockets and the queue hold
    const last = 400;
    for (let n = 1; n <= last; n += 20) {
      await served.publish(...range(n, n + 19).map(each => anEvent(each, { padding: 50_000 })));
    }
    expect(numbersOf(await readUntil(fast, last))).toEqual(range(1, last));
    const listeners = async (): Promise<number> =>
      (await served.server.platform.metrics.registry.getSingleMetric('events_listeners')?.get())?.values[0]?.value ?? -1;
    expect(await listeners()).toBe(2);
    while ((await listeners()) === 2) {
      await served.server.clock.tick({ seconds: 1 });
    }
    let text = '';
    slow.on('data', (chunk: Buffer) => (text += chunk.toString()));
    slow.resume();
    await new Promise(resolve => slow.once('close', resolve).once('end', resolve));
    slow.destroy();
    expect(text.slice(text.lastIndexOf('event: '))).toContain('event: error\ndata: {"code":"SlowReader","message":"The connection took');
    const ids = [...text.matchAll(/^id: (.*)\r?$/gm)].map(match => match[1]);
    const numbers = [...text.matchAll(/"n":(\d+)/g)].map(match => Number(match[1]));
    expect(numbers.length).toBeLessThan(last);
    expect(numbers).toEqual(range(1, numbers.length));
    const resumed = await served.listen(`${wanting('taskDefined')}&lastEventId=${ids.at(-1)}`);
    expect(numbersOf(await readUntil(resumed, last))).toEqual(range(numbers.length + 1, last));
    await served.closeAll();
  });

  it('does not keep the server from closing', async () => {
    const served = await serveEvents();
    const silent = await connectIdly(served.origin, wanting('taskDefined'));
    const stream = await served.listen(wanting('taskDefined'));
    await stream.next();
    await served.server.close();
    expect(await stream.rest()).toEqual([
      { event: 'error', id: undefined, data: { code: 'ServiceUnavailable', message: expect.stringContaining('shutting down') as string } },
    ]);
    silent.destroy();
  });
});

describe('limits', () => {
  it('hold for each caller and for the process, and places are given back', async () => {
    const served = await serveEvents({ environment: { EVENTS_MAX_CONNECTIONS: '3', EVENTS_MAX_CONNECTIONS_PER_CALLER: '2' } });
    const of = (clientId: string): Record<string, string> => {
      served.server.client(
        { service: 'x', version: 'v1', title: '', description: '', methods: {} },
        { clientId, scopes: ['web:read-pulse'] },
      );
      return { authorization: `Hawk id="${clientId}", ts="1", nonce="a", mac="b"` };
    };
    const query = wanting('taskDefined');
    const first = await served.listen(query);
    await served.listen(query);
    expect(await refusal(await served.get(query))).toMatchObject({
      status: 429,
      code: 'TooManyConnections',
      message: expect.stringContaining('There are 2 connections of address 127.0.0.1') as string,
    });
    const other = await served.listen(query, of('someone'));
    expect(await refusal(await served.get(query, of('another')))).toMatchObject({ status: 503, code: 'ServiceUnavailable' });
    // what is refused for another reason takes no place
    for (let i = 0; i < 5; i++) {
      expect((await served.get(`${query}&lastEventId=99`, of('another'))).status).toBe(410);
    }
    await other.close();
    await first.close();
    let again = await served.get(query);
    while (again.status !== 200) {
      await again.text();
      again = await served.get(query);
    }
    await again.body?.cancel();
    await served.closeAll();
  });
});

describe('the end of a connection', () => {
  it('comes after its longest life', async () => {
    const served = await serveEvents({ environment: { EVENTS_MAX_CONNECTION_SECONDS: '40' } });
    const stream = await served.listen(wanting('taskDefined'));
    await served.server.clock.tick({ seconds: 39 });
    await served.publish(anEvent(1));
    await readUntil(stream, 1);
    await served.server.clock.tick({ seconds: 1 });
    expect((await stream.rest()).at(-1)).toMatchObject({ event: 'error', data: { code: 'ConnectionTooOld' } });
  });

  it('does not come because the database was away for a moment', async () => {
    const served = await serveEvents();
    const stream = await served.listen(wanting('taskDefined'));
    await stream.next();
    await served.server.db`alter table platform.event_log rename to event_log_away`;
    served.server.platform.notify(EVENT_LOG);
    await served.server.clock.tick({ seconds: 3 });
    await served.server.db`alter table platform.event_log_away rename to event_log`;
    const publishing = served.publish(anEvent(1));
    const reading = readUntil(stream, 1);
    let isRead = false;
    void reading.then(() => (isRead = true));
    while (!isRead) {
      await served.server.clock.tick({ seconds: 1 });
    }
    await publishing;
    expect(numbersOf(await reading)).toEqual([1]);
    await served.closeAll();
  });
});

describe('several processes on one database', () => {
  it('hand out the same events with the same ids, whichever relays', async () => {
    const { db } = await testDatabase();
    const one = await serveEvents({ db, relay: true, alone: false });
    const two = await serveEvents({ db, relay: false, alone: false });
    const query = wanting(...(Object.keys(queueEvents.exchanges) as (keyof typeof queueEvents.exchanges)[]));
    const streams = [await one.listen(query), await two.listen(query)];
    for (const stream of streams) {
      expect(await stream.next()).toMatchObject({ event: 'ready', id: '0' });
    }
    await announce(db, [anEvent(1), anEvent(2)]);
    await announce(db, [anEvent(3, { exchange: 'taskCompleted' })]);
    await one.server.drain();
    await one.server.clock.tick({ ms: 50 }); // notifications are collected for a moment
    const [a, b] = await Promise.all(streams.map(stream => stream.take(3)));
    expect(b).toEqual(a);
    expect(numbersOf(a as Received[])).toEqual([1, 2, 3]);
    // a listener of the one goes on at the other
    await one.closeAll();
    await announce(db, [anEvent(4)]);
    await one.server.drain();
    await one.server.clock.tick({ ms: 50 });
    const moved = await two.listen(`${query}&lastEventId=${a?.[1]?.id}`);
    expect(numbersOf(await moved.take(3))).toEqual([3, 4]);
    await two.closeAll();
  });
});
