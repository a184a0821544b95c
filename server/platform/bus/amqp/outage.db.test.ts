/** Brokers that stop, die and come back, and processes that do, under a stream of events; an audit counts what arrived. */
import type { GetMessage } from 'amqplib';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import { Worker } from 'node:worker_threads';
import type { Db } from '../../../db/sql.ts';
import { makeFakeClock } from '../../../testing/clock.ts';
import { describeWith } from '../../../testing/programs.ts';
import { type TestRabbitmq, type Vhost, BUS_USER, startRabbitmq } from '../../../testing/rabbitmq.ts';
import { testDatabase } from '../../../testing/template.ts';
import type { Subscription } from '../bus.ts';
import { EXCHANGE, event, numbers, openBus, openStranger, recorder, relayOn, write } from './testing.ts';

const TASKS = 7;

interface Noted {
  readonly task: number;
  readonly n: number;
}
const noteOf = (each: { readonly payload: unknown }): Noted => each.payload as Noted;

/** Writes events of several tasks until it is stopped; answers with how many each task has. */
const startWriting = (db: Db): (() => Promise<number[]>) => {
  const counts = Array<number>(TASKS).fill(0);
  let isStopped = false;
  const write1 = async (task: number): Promise<void> => {
    for (let n = 0; !isStopped; n++) {
      await write(db, event(n, { routingKey: `primary.task-${task}`, payload: { task, n } }));
      counts[task] = n + 1;
      await new Promise(resolve => {
        setTimeout(resolve, 40); // some 150 a second: slower than they are handled
      });
    }
  };
  const writers = counts.map((_, task) => write1(task));
  return async () => {
    isStopped = true;
    await Promise.all(writers);
    return counts;
  };
};

/** Each task's numbers, in the order in which they came first. */
const byTask = (seen: readonly Noted[]): number[][] =>
  Array.from({ length: TASKS }, (_, task) => [...new Set(seen.filter(each => each.task === task).map(({ n }) => n))]);
const upTo = (counts: readonly number[]): number[][] => counts.map(count => Array.from({ length: count }, (_, n) => n));

describeWith('rabbitmq-server', 'rabbitmq-server', 'the bus on a RabbitMQ with outages', () => {
  let rabbit: TestRabbitmq;
  beforeAll(async () => {
    rabbit = await startRabbitmq();
  }, 180_000);
  afterAll(() => rabbit?.close());

  /** Everything in a queue, taken away. */
  const takeAll = async (url: string, queue: string): Promise<GetMessage[]> => {
    const channel = await openStranger(url);
    const messages: GetMessage[] = [];
    for (let message = await channel.get(queue, { noAck: true }); message; message = await channel.get(queue, { noAck: true })) {
      messages.push(message);
    }
    return messages;
  };
  /** A subscription whose effect is a row, so that what a crash undoes is undone. */
  const rowPerEvent = async (db: Db): Promise<{ effects(): Promise<Noted[]>; handle: Subscription['handle'] }> => {
    await db`create table effects (seq bigint generated always as identity, task int not null, n int not null)`;
    return {
      effects: () => db<Noted>`select task, n from effects order by seq`,
      handle: async (each, tx) => {
        const { task, n } = noteOf(each);
        await tx`insert into effects (task, n) values (${task}, ${n})`;
      },
    };
  };
  const queueOf = (
    vhost: Vhost,
    subscription: string,
  ): Promise<{
    type: string;
    arguments: Record<string, unknown>;
    consumer_details: { active: boolean; channel_details: { connection_name?: string } }[];
  }> => rabbit.api('GET', `/queues/${encodeURIComponent(vhost.name)}/${encodeURIComponent(`queue/${BUS_USER}/${subscription}`)}`);

  /** The connection of the consumer that the broker gives messages to. */
  const activeConnection = async (vhost: Vhost, subscription: string): Promise<string | undefined> => {
    const { consumer_details: consumers } = await queueOf(vhost, subscription);
    return consumers.find(({ active }) => active)?.channel_details.connection_name;
  };

  it('loses nothing and keeps order when the broker is killed, and when it stops and starts', { timeout: 240_000 }, async () => {
    const { db } = await testDatabase();
    const vhost = await rabbit.makeVhost();
    const bus = openBus(db, vhost.url);
    const { effects, handle } = await rowPerEvent(db);
    await bus.subscribe(recorder('test/audit', { handle }));
    const relay = relayOn(db, bus);
    await relay.drain();
    const channel = await openStranger(vhost.url);
    await channel.assertQueue('stranger', { durable: true });
    await channel.bindQueue('stranger', EXCHANGE, '#');

    const stopWriting = startWriting(db);
    const someMore = async (): Promise<void> => {
      const before = (await effects()).length;
      await expect.poll(async () => (await effects()).length).toBeGreaterThan(before + 300);
    };
    await someMore();
    await rabbit.kill();
    await rabbit.start();
    await someMore();
    await rabbit.stop();
    await expect.poll(async () => (await db`select 1 from platform.outbox`).length).toBeGreaterThan(100);
    await rabbit.start();
    await someMore();
    const counts = await stopWriting();
    await relay.drain();
    const total = counts.reduce((sum, count) => sum + count, 0);
    await expect.poll(async () => (await effects()).length, { timeout: 120_000 }).toBe(total);
    expect(byTask(await effects())).toEqual(upTo(counts));

    const messages = await takeAll(vhost.url, 'stranger');
    const ids = new Map<string, string>();
    for (const { content, properties } of messages) {
      const text = content.toString();
      expect(ids.get(properties.messageId as string) ?? text).toBe(text);
      ids.set(properties.messageId as string, text);
    }
    expect(ids.size).toBe(total);
    expect(byTask(messages.map(({ content }) => JSON.parse(content.toString()) as Noted))).toEqual(upTo(counts));
    expect(await queueOf(vhost, 'test/audit')).toMatchObject({ type: 'quorum', arguments: { 'x-single-active-consumer': true } });
  });

  it('has several processes handle each event once and in order, also when their connections break', { timeout: 120_000 }, async () => {
    const { db } = await testDatabase();
    const vhost = await rabbit.makeVhost();
    const { effects, handle } = await rowPerEvent(db);
    const handled = [0, 0, 0];
    for (const i of handled.keys()) {
      await openBus(db, vhost.url).subscribe(
        recorder('test/shared', {
          handle: async (each, tx) => {
            handled[i] = (handled[i] ?? 0) + 1;
            await handle(each, tx);
          },
        }),
      );
    }
    const relay = relayOn(db, openBus(db, vhost.url));
    const stopWriting = startWriting(db);
    const broken = new Set<string>();
    for (let i = 0; i < 5; i++) {
      const before = (await effects()).length;
      await expect.poll(async () => (await effects()).length).toBeGreaterThan(before + 50);
      let active: string | undefined;
      await expect
        .poll(async () => {
          active = await activeConnection(vhost, 'test/shared');
          return active !== undefined && !broken.has(active);
        })
        .toBe(true);
      broken.add(active ?? '');
      await rabbit.api('DELETE', `/connections/${encodeURIComponent(active ?? '')}`);
    }
    const counts = await stopWriting();
    await relay.drain();
    const total = counts.reduce((sum, count) => sum + count, 0);
    await expect.poll(async () => (await effects()).length).toBe(total);
    expect(byTask(await effects())).toEqual(upTo(counts));
    expect(handled.filter(count => count > 0).length).toBeGreaterThan(1);
  });

  it('begins without a broker, and drains a long backlog in bounded memory once it comes', { timeout: 240_000 }, async () => {
    const { db, connection } = await testDatabase();
    const vhost = await rabbit.makeVhost();
    await rabbit.stop();
    const bus = openBus(db, vhost.url);
    const subscription = recorder('test/patient', { bindings: [{ exchange: EXCHANGE, pattern: 'primary.task-39999' }] });
    await bus.subscribe(subscription);
    const channelOpens = rabbit.start();
    // 40,000 events of 4 kB, that no process could hold at once
    await db`
      insert into platform.outbox (msg)
      select json_build_object('exchange', ${EXCHANGE}::text, 'routingKey', 'primary.task-' || n, 'cc', '[]'::json,
        'payload', json_build_object('n', n, 'padding', repeat('x', 4000)))::text from generate_series(0, 39999) n`;
    await channelOpens;
    const channel = await openStranger(vhost.url);
    await channel.assertQueue('count', { durable: true, arguments: { 'x-max-length': 10 } });
    await channel.assertExchange(EXCHANGE, 'topic', { durable: true });
    await channel.bindQueue('count', EXCHANGE, '#');
    const mostBytes = new Float64Array(new SharedArrayBuffer(8));
    const worker = new Worker(new URL('./drain.testing.ts', import.meta.url), {
      workerData: { connection, url: vhost.url, mostBytes },
      resourceLimits: { maxOldGenerationSizeMb: 64 },
    });
    onTestFinished(async () => void (await worker.terminate()));
    const status = await new Promise((resolve, reject) => {
      worker.once('exit', resolve);
      worker.once('error', reject); // out of memory, for one
    });
    expect(status).toBe(0);
    expect(mostBytes[0]).toBeLessThan(64 * 1024 * 1024);
    await expect.poll(() => numbers(subscription.got)).toEqual([39_999]);
    const last = await takeAll(vhost.url, 'count');
    expect(last.map(({ content }) => (JSON.parse(content.toString()) as { n: number }).n)).toEqual(
      Array.from({ length: 10 }, (_, i) => 39_990 + i),
    );
  });

  it('lets another process relay when one cannot reach the broker', { timeout: 90_000 }, async () => {
    const { db } = await testDatabase();
    const vhost = await rabbit.makeVhost();
    const cutOff = openBus(db, vhost.url.replace(`:${rabbit.port}/`, ':1/'));
    relayOn(db, cutOff);
    const bus = openBus(db, vhost.url);
    const subscription = recorder('test/reachable');
    await bus.subscribe(subscription);
    await write(db, event(1));
    relayOn(db, bus);
    await expect.poll(() => numbers(subscription.got)).toEqual([1]);
  });

  it('first handles what a bus on Postgres had taken', async () => {
    const { db } = await testDatabase();
    const vhost = await rabbit.makeVhost();
    await db`insert into platform.subscriptions (name, bindings) values ('test/moved', '[]')`;
    for (const n of [1, 2, 3]) {
      const left = { id: `${n}-0`, ...event(n) };
      await db`insert into platform.deliveries (subscription, event_id, event) values ('test/moved', ${left.id}, ${JSON.stringify(left)})`;
    }
    const bus = openBus(db, vhost.url);
    const relay = relayOn(db, bus);
    await write(db, event(0, { routingKey: 'too early for the subscription' }));
    await relay.drain();
    const subscription = recorder('test/moved');
    await bus.subscribe(subscription);
    await write(db, event(4));
    await relay.drain();
    await expect.poll(() => numbers(subscription.got)).toEqual([1, 2, 3, 4]);
    expect(await db`select seq from platform.deliveries`).toEqual([]);
  });

  it('removes the queues of a subscription that nobody serves any more', async () => {
    const { db } = await testDatabase();
    const vhost = await rabbit.makeVhost();
    const gone = openBus(db, vhost.url);
    await gone.subscribe(recorder('test/gone'));
    await relayOn(db, gone).drain();
    await gone.close();
    const clock = makeFakeClock();
    const bus = openBus(db, vhost.url, clock);
    await bus.subscribe(recorder('test/alive'));
    const names = async (): Promise<string[]> =>
      (await rabbit.api<{ name: string }[]>('GET', `/queues/${encodeURIComponent(vhost.name)}`)).map(({ name }) => name).toSorted();
    const own = (name: string): string[] => [`queue/${BUS_USER}/${name}`, `queue/${BUS_USER}/${name}/dead-letters`];
    const namesLater = async (): Promise<string[]> => {
      await clock.tick({ seconds: 1 }); // what fails is tried again
      return names();
    };
    await expect.poll(namesLater).toEqual([...own('test/alive'), ...own('test/gone')]);
    clock.advance({ days: 8 });
    await expect
      .poll(async () => {
        await clock.tick({ minutes: 10 });
        return [await names(), await db`select name from platform.subscriptions`];
      })
      .toEqual([own('test/alive'), [{ name: 'test/alive' }]]);
  });
});
