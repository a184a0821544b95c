/** What the tests of this bus share: a process of ours, and a stranger with plain `amqplib`. All is closed with the test. */
import amqplib, { type Channel, type ConsumeMessage } from 'amqplib';
import { onTestFinished } from 'vitest';
import { exchangeName } from '@tscluster/api/define.ts';
import { queueEvents } from '@tscluster/api/queue/events.ts';
import type { Db } from '../../../db/sql.ts';
import { type Clock, systemClock, systemRandom } from '../../clock.ts';
import { type BusEvent, type OutboxEvent, publishAll } from '../../events.ts';
import { silentLog } from '../../log.ts';
import { makeMetrics } from '../../metrics.ts';
import { openNotifier } from '../../notify.ts';
import { type Relay, startRelay } from '../../relay.ts';
import type { Bus, Subscription } from '../bus.ts';
import { openAmqpBus } from './amqp.ts';

export const EXCHANGE = exchangeName(queueEvents, 'task-completed');

export const event = (n: number, more: Partial<OutboxEvent> = {}): OutboxEvent => ({
  exchange: EXCHANGE,
  routingKey: `primary.task-${n}`,
  cc: [],
  payload: { n },
  ...more,
});
export const numbers = (events: readonly BusEvent[]): unknown[] => events.map(each => (each.payload as { n: number }).n);
export const write = (db: Db, ...events: OutboxEvent[]): Promise<void> => db.tx(tx => publishAll(tx, events));

/** The bus of one process. */
export const openBus = (db: Db, url: string, clock: Clock = systemClock): Bus => {
  const bus = openAmqpBus({
    db,
    url,
    clock,
    random: systemRandom,
    log: silentLog,
    metrics: makeMetrics(),
    abandonedMs: 7 * 24 * 3_600_000,
  });
  const notifier = openNotifier({ db, clock: systemClock, random: systemRandom, log: silentLog });
  bus.attach(notifier);
  onTestFinished(async () => {
    await bus.close();
    await notifier.close();
  });
  return bus;
};

export const relayOn = (db: Db, bus: Bus): Relay => {
  const keep = { keepSeconds: 60, keepRows: 100 };
  const relay = startRelay({ db, bus, clock: systemClock, log: silentLog, metrics: makeMetrics(), keep });
  onTestFinished(() => relay.stop());
  return relay;
};

/** A channel of somebody else. */
export const openStranger = async (url: string): Promise<Channel> => {
  const connection = await amqplib.connect(url);
  connection.on('error', () => undefined); // the broker may be killed
  onTestFinished(() => connection.close().catch(() => undefined));
  return connection.createChannel();
};

/** What a queue of a stranger gets from an exchange. */
export const listenTo = async (url: string, exchange: string, pattern: string): Promise<ConsumeMessage[]> => {
  const channel = await openStranger(url);
  const { queue } = await channel.assertQueue('', { exclusive: true });
  await channel.bindQueue(queue, exchange, pattern);
  const got: ConsumeMessage[] = [];
  await channel.consume(queue, message => message && got.push(message), { noAck: true });
  return got;
};

/** A subscription that remembers what it handled. */
export const recorder = (name: string, more: Partial<Subscription> = {}): Subscription & { got: BusEvent[] } => {
  const got: BusEvent[] = [];
  const handle = (each: BusEvent): Promise<void> => {
    got.push(each);
    return Promise.resolve();
  };
  return { name, bindings: [{ exchange: EXCHANGE, pattern: '#' }], handle, ...more, got };
};
