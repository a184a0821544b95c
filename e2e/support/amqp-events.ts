/** What the message broker delivers: a durable queue of the test's own, bound to every exchange of the queue, read as any consumer reads one. */
import amqplib, { type ChannelModel } from 'amqplib';
import { type DeliveredEvent, type EventSource, countUndelivered, queueExchanges } from './events.ts';
import { waitFor } from './processes.ts';

const QUEUE = 'queue/taskcluster/e2e-everything';
const DELIVERY_MS = 120_000;
const RECONNECT_MS = 200;

export interface AmqpEvents {
  readonly source: EventSource;
  /** Deliveries of an event that had been delivered before: the broker may repeat, with the same id. */
  readonly repeats: () => number;
  close(): Promise<void>;
}

/** Makes the queue, and consumes from it whenever the broker is there. */
export const collectAmqpEvents = async (url: string): Promise<AmqpEvents> => {
  let events: DeliveredEvent[] = [];
  const seen = new Map<string, string>();
  let repeats = 0;
  let seq = 0;
  let closing = false;
  let connection: ChannelModel | undefined;
  let tellReady: () => void;
  const ready = new Promise<void>(resolve => (tellReady = resolve));

  const consume = async (): Promise<void> => {
    connection = await amqplib.connect(url);
    const closed = new Promise<void>(resolve => void connection?.once('close', () => resolve()));
    connection.on('error', () => undefined); // `close` follows
    const channel = await connection.createChannel();
    channel.on('error', () => undefined);
    await channel.assertQueue(QUEUE, { durable: true, arguments: { 'x-queue-type': 'quorum' } });
    for (const exchange of queueExchanges) {
      await channel.assertExchange(exchange, 'topic', { durable: true });
      await channel.bindQueue(QUEUE, exchange, '#');
    }
    await channel.prefetch(200);
    await channel.consume(QUEUE, message => {
      if (!message) {
        connection?.close().catch(() => undefined); // the queue is away: start anew
        return;
      }
      const { exchange, routingKey } = message.fields;
      const eventId = String(message.properties.messageId);
      const content = message.content.toString();
      const before = seen.get(eventId);
      if (before === undefined) {
        seen.set(eventId, content);
        seq += 1;
        const payload = JSON.parse(content) as DeliveredEvent['payload'];
        events.push({ seq, eventId, exchange: exchange.slice(exchange.lastIndexOf('/') + 1), routingKey, payload });
      } else {
        repeats += 1;
        if (before !== content) {
          throw new Error(`Event ${eventId} came with two contents`);
        }
      }
      channel.ack(message);
    });
    tellReady();
    await closed;
  };

  const consuming = (async () => {
    while (!closing) {
      await consume().catch(() => undefined);
      await new Promise(resolve => setTimeout(resolve, RECONNECT_MS));
    }
  })();
  await ready;

  return {
    source: async installation => {
      const database = await installation.connectDatabase();
      try {
        await waitFor('the delivery of all events to the broker', DELIVERY_MS, async () => (await countUndelivered(database)) === 0);
      } finally {
        await database.end();
      }
      await waitFor('the delivery of all events by the broker', DELIVERY_MS, async () => {
        const channel = await connection?.createChannel();
        channel?.on('error', () => undefined);
        const queue = await channel?.checkQueue(QUEUE);
        await channel?.close();
        const before = seq;
        await new Promise(resolve => setTimeout(resolve, 300));
        return queue?.messageCount === 0 && before === seq;
      });
      const taken = events;
      events = [];
      return taken;
    },
    repeats: () => repeats,
    close: async () => {
      closing = true;
      await connection?.close().catch(() => undefined);
      await consuming;
    },
  };
};
