/** The bus on a real RabbitMQ. The other side is plain `amqplib`, as any consumer of Taskcluster's messages has it. */
import { readFileSync } from 'node:fs';
import amqplib, { type ConsumeMessage } from 'amqplib';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import { exchangeName } from '@tscluster/api/define.ts';
import { queueEvents } from '@tscluster/api/queue/events.ts';
import { makeFastClock } from '../../../testing/clock.ts';
import { describeWith } from '../../../testing/programs.ts';
import { type TestRabbitmq, BUS_USER, startRabbitmq } from '../../../testing/rabbitmq.ts';
import { testDatabase } from '../../../testing/template.ts';
import { systemClock, systemRandom } from '../../clock.ts';
import type { BusEvent } from '../../events.ts';
import { silentLog } from '../../log.ts';
import { makeMetrics } from '../../metrics.ts';
import { openLink } from './link.ts';
import { EXCHANGE, event, listenTo, numbers, openBus, openStranger, recorder, relayOn, write } from './testing.ts';

/** Where pauses would take long. Everything that waits for an answer of the broker is impatient on it, too. */
const fastClock = makeFastClock(10);

describeWith('rabbitmq-server', 'rabbitmq-server', 'the bus on RabbitMQ', () => {
  let rabbit: TestRabbitmq;
  beforeAll(async () => {
    rabbit = await startRabbitmq();
  }, 180_000);
  afterAll(() => rabbit?.close());

  it('hands a subscription its events, in order', async () => {
    const { db } = await testDatabase();
    const { url } = await rabbit.makeVhost();
    const bus = openBus(db, url);
    const subscription = recorder('test/one');
    await bus.subscribe(subscription);
    const relay = relayOn(db, bus);
    await write(db, event(1), event(2));
    await write(db, event(3));
    await relay.drain();
    await expect.poll(() => numbers(subscription.got)).toEqual([1, 2, 3]);
    expect(subscription.got[0]).toEqual({ id: expect.stringMatching(/^\d+-0$/), ...event(1) });
  });

  it('ends at any moment of connecting', async () => {
    const { name, url } = await rabbit.makeVhost();
    for (const turns of [0, 1, 2, 4, 8, 16, 32, 64]) {
      const link = openLink({
        url,
        name: 'test',
        clock: systemClock,
        random: systemRandom,
        log: silentLog,
        metrics: makeMetrics(),
        onOpen: () => Promise.resolve(),
      });
      for (let i = 0; i < turns; i++) {
        await new Promise<void>(resolve => void setImmediate(resolve));
      }
      await link.close();
      expect(link.connection).toBeUndefined();
    }
    const left = async (): Promise<number> =>
      (await rabbit.api<unknown[]>('GET', `/vhosts/${encodeURIComponent(name)}/connections`)).length;
    await expect.poll(left).toBe(0);
  });

  it('sends what any consumer of Taskcluster expects, on a durable topic exchange for each kind of event', async () => {
    const { db } = await testDatabase();
    const vhost = await rabbit.makeVhost();
    const bus = openBus(db, vhost.url);
    const relay = relayOn(db, bus);
    await relay.drain();
    const names = Object.values(queueEvents.exchanges).map(({ exchange }) => exchangeName(queueEvents, exchange));
    expect(names).toContain('exchange/taskcluster-queue/v1/task-pending');
    const strangers = await Promise.all(names.map(name => listenTo(vhost.url, name, '#')));
    await write(
      db,
      ...names.map((exchange, n) => event(n, { exchange, cc: ['route.index.a.b', 'route.cc.two'], payload: { n, text: 'ü' } })),
    );
    await relay.drain();
    for (const [n, got] of strangers.entries()) {
      await expect.poll(() => got.length).toBe(1);
      const { fields, properties, content } = got[0] as ConsumeMessage;
      expect(content.toString('utf8')).toBe(JSON.stringify({ n, text: 'ü' }));
      expect(fields).toMatchObject({ exchange: names[n], routingKey: `primary.task-${n}`, redelivered: false });
      expect(properties).toMatchObject({
        contentType: 'application/json',
        contentEncoding: 'utf-8',
        deliveryMode: 2,
        messageId: expect.stringMatching(new RegExp(`^\\d+-${n}$`)),
        headers: { CC: ['route.index.a.b', 'route.cc.two'] },
      });
    }
    for (const name of names) {
      const declared = await rabbit.api('GET', `/exchanges/${encodeURIComponent(vhost.name)}/${encodeURIComponent(name)}`);
      expect(declared).toMatchObject({ type: 'topic', durable: true, auto_delete: false, internal: false, arguments: {} });
    }
  });

  it('reaches who is bound to a further routing key, once, and keeps the header a list when there is none', async () => {
    const { db } = await testDatabase();
    const { url } = await rabbit.makeVhost();
    const bus = openBus(db, url);
    const relay = relayOn(db, bus);
    await relay.drain();
    const byRoute = await listenTo(url, EXCHANGE, 'route.index.#');
    const byEither = await listenTo(url, EXCHANGE, '#');
    await write(db, event(1, { cc: ['route.index.x'] }), event(2));
    await relay.drain();
    await expect.poll(() => byEither.length).toBe(2);
    await expect.poll(() => byRoute.length).toBe(1);
    expect(byEither.map(({ properties }) => properties.headers)).toEqual([{ CC: ['route.index.x'] }, { CC: [] }]);
    expect(byRoute[0]?.fields.routingKey).toBe('primary.task-1');
  });

  it('repeats an event that fails, then puts it aside with the reason, and goes on', async () => {
    const { db } = await testDatabase();
    const vhost = await rabbit.makeVhost();
    const bus = openBus(db, vhost.url, fastClock);
    const tries: unknown[] = [];
    await bus.subscribe(
      recorder('test/fails', {
        handle: async (each, tx) => {
          const { n } = each.payload as { n: number };
          tries.push(n);
          await tx`insert into platform.dead_letters (subscription, event_id, event, error, at) values ('test', 'x', 'x', 'x', to_timestamp(0))`;
          if (n === 1 || (n === 2 && tries.filter(other => other === 2).length < 3)) {
            throw new Error(`no ${n} today`);
          }
        },
      }),
    );
    const relay = relayOn(db, bus);
    await write(db, event(1, { cc: ['route.x'] }), event(2), event(3));
    await relay.drain();
    await expect.poll(() => tries).toEqual([1, 1, 1, 1, 1, 2, 2, 2, 3]);
    const connection = await amqplib.connect(vhost.url);
    onTestFinished(() => connection.close());
    const channel = await connection.createChannel();
    const dead = await channel.get(`queue/${BUS_USER}/test/fails/dead-letters`);
    expect(dead).toMatchObject({
      properties: {
        contentType: 'application/json',
        messageId: expect.stringMatching(/^\d+-0$/),
        headers: {
          'x-error': expect.stringContaining('Error: no 1 today'),
          'x-original-exchange': EXCHANGE,
          'x-original-routing-key': 'primary.task-1',
          'x-original-cc': ['route.x'],
        },
      },
    });
    expect(dead && dead.content.toString()).toBe('{"n":1}');
    // what failed had no effect
    await expect.poll(async () => (await db`select 1 from platform.dead_letters`).length).toBe(2);
  });

  it('follows changed bindings: from the commit on, for every process', async () => {
    const { db } = await testDatabase();
    const vhost = await rabbit.makeVhost();
    const [bus, other] = [openBus(db, vhost.url), openBus(db, vhost.url)];
    const subscription = recorder('test/rebound', { bindings: [{ exchange: EXCHANGE, pattern: 'primary.task-1' }] });
    await bus.subscribe(subscription);
    const relay = relayOn(db, bus);
    await write(db, event(1), event(2));
    await relay.drain();
    await db.tx(tx => other.rebind(tx, 'test/rebound', [{ exchange: EXCHANGE, pattern: 'primary.task-2' }]));
    await write(db, event(1), event(2));
    await relay.drain();
    await db
      .tx(async tx => {
        await bus.rebind(tx, 'test/rebound', []);
        throw new Error('not committed');
      })
      .catch(() => undefined);
    await write(db, event(1), event(2));
    await relay.drain();
    await expect.poll(() => numbers(subscription.got)).toEqual([1, 2, 2]);
    const bindings = await rabbit.api<{ source: string; routing_key: string }[]>(
      'GET',
      `/queues/${encodeURIComponent(vhost.name)}/${encodeURIComponent(`queue/${BUS_USER}/test/rebound`)}/bindings`,
    );
    expect(bindings.filter(({ source }) => source !== '').map(each => each.routing_key)).toEqual(['primary.task-2']);
  });

  it('binds to exchanges of others as soon as they exist, and meanwhile says what is refused', async () => {
    const { db } = await testDatabase();
    const { url } = await rabbit.makeVhost();
    const bus = openBus(db, url);
    const subscription = recorder('test/foreign', { bindings: 'stored' });
    await bus.subscribe(subscription);
    const relay = relayOn(db, bus);
    await relay.drain();
    const wanted = [
      { exchange: 'exchange/pushes/v1', pattern: '#' },
      { exchange: EXCHANGE, pattern: '#' },
      { exchange: EXCHANGE, pattern: 'x'.repeat(300) },
    ];
    await db.tx(tx => bus.rebind(tx, 'test/foreign', wanted));
    await write(db, event(1));
    await relay.drain();
    await expect.poll(() => numbers(subscription.got)).toEqual([1]);
    const [row] = await db<{ refused: string }>`select refused from platform.subscriptions where name = 'test/foreign'`;
    expect(JSON.parse(row?.refused ?? '')).toEqual([
      { ...wanted[2], reason: expect.stringContaining('255') },
      { ...wanted[0], reason: expect.stringContaining('NOT_FOUND') },
    ]);

    const connection = await amqplib.connect(url);
    onTestFinished(() => connection.close());
    const channel = await connection.createConfirmChannel();
    await channel.assertExchange('exchange/pushes/v1', 'topic');
    await db.tx(tx => bus.rebind(tx, 'test/foreign', wanted.slice(0, 1)));
    await relay.drain();
    await write(db, event(2));
    await relay.drain();
    // no id: each is an event of its own; an id of ours is not taken for ours; not JSON: put aside at once
    const { id } = subscription.got[0] as BusEvent;
    channel.publish('exchange/pushes/v1', 'a.b', Buffer.from('nonsense'), {});
    channel.publish('exchange/pushes/v1', 'a.b', Buffer.from('{"n":10}'), {});
    channel.publish('exchange/pushes/v1', 'a.b', Buffer.from('{"n":10}'), {});
    channel.publish('exchange/pushes/v1', 'a.b', Buffer.from('{"n":11}'), { messageId: id });
    channel.publish('exchange/pushes/v1', 'a.b', Buffer.from('{"n":11}'), { messageId: id });
    await channel.waitForConfirms();
    await expect.poll(() => numbers(subscription.got)).toEqual([1, 10, 10, 11]);
    expect((await channel.checkQueue(`queue/${BUS_USER}/test/foreign/dead-letters`)).messageCount).toBe(1);
  });

  it('lets nothing of the events of one bad kind stop the others', async () => {
    const { db } = await testDatabase();
    const { url } = await rabbit.makeVhost();
    const bus = openBus(db, url);
    const subscription = recorder('test/good');
    await bus.subscribe(subscription);
    const relay = relayOn(db, bus);
    await write(
      db,
      event(1),
      event(2, { routingKey: 'x'.repeat(256) }),
      event(3, { exchange: 'exchange/taskcluster-nobody-knows/v1/x' }),
      event(4, { cc: Array.from({ length: 400 }, (_, i) => `route.${'x'.repeat(200)}.${i}`) }),
      event(5),
    );
    await relay.drain();
    await expect.poll(() => numbers(subscription.got)).toEqual([1, 5]);
    const rows = await db<{ event: string; error: string }>`select event, error from platform.dead_letters order by id`;
    expect(rows.map(row => (JSON.parse(row.event) as { payload: unknown }).payload)).toEqual([{ n: 2 }, { n: 4 }]);
    expect(rows[0]?.error).toContain('255');
  });

  it('goes on when a queue of somebody else is full and refuses messages', async () => {
    const { db } = await testDatabase();
    const { url } = await rabbit.makeVhost();
    const bus = openBus(db, url);
    const subscription = recorder('test/unhindered');
    await bus.subscribe(subscription);
    const relay = relayOn(db, bus);
    await relay.drain();
    const connection = await amqplib.connect(url);
    onTestFinished(() => connection.close());
    const channel = await connection.createChannel();
    await channel.assertQueue('full', { exclusive: true, arguments: { 'x-max-length': 1, 'x-overflow': 'reject-publish' } });
    await channel.bindQueue('full', EXCHANGE, '#');
    await write(db, event(1), event(2), event(3));
    await relay.drain();
    await expect.poll(() => numbers(subscription.got)).toEqual([1, 2, 3]);
    const refused = await db<{ error: string }>`select error from platform.dead_letters where subscription = 'bus/not-published'`;
    expect(refused.map(({ error }) => error)).toEqual(Array(2).fill('a queue of the message broker refuses it'));
  });

  it('works with the permissions that the page for operators gives, and a password of any characters', async () => {
    const page = readFileSync(new URL('../../../../docs/operators/rabbitmq.md', import.meta.url), 'utf8');
    const [configure, writing, read] = [...page.matchAll(/'(\^\([^']*)'/g)].map(([, pattern]) =>
      pattern?.replace('queue/taskcluster/', 'queue/least/'),
    );
    const { db } = await testDatabase();
    const vhost = await rabbit.makeVhost();
    await rabbit.api('PUT', '/users/least', { password: 'pässwörd', tags: '' });
    await rabbit.api('PUT', `/permissions/${encodeURIComponent(vhost.name)}/least`, { configure, write: writing, read });
    const url = new URL(vhost.url);
    url.username = 'least';
    url.password = 'pässwörd';
    const bus = openBus(db, url.href, fastClock);
    const got: number[] = [];
    await bus.subscribe(
      recorder('test/least', {
        handle: each => {
          const { n } = each.payload as { n: number };
          got.push(n);
          return n === 1 ? Promise.reject(new Error('always')) : Promise.resolve();
        },
      }),
    );
    const relay = relayOn(db, bus);
    await write(db, event(1), event(2));
    await relay.drain();
    await expect.poll(() => got).toEqual([1, 1, 1, 1, 1, 2]);
    await expect
      .poll(async () => (await (await openStranger(vhost.url)).checkQueue('queue/least/test/least/dead-letters')).messageCount)
      .toBe(1);
  });
});
