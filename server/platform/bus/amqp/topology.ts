/** Exchanges, queues and bindings: their names and how they are declared. */
import { exchanges } from '@tscluster/api/all.ts';
import { exchangeName } from '@tscluster/api/define.ts';
import type { Channel, ChannelModel, Options } from 'amqplib';
import type { Binding } from '../bus.ts';
import type { RefusedBinding } from '../subscriptions.db.ts';

/** Full names of the exchanges of all services. */
export const declaredExchanges: readonly string[] = exchanges.flatMap(each =>
  Object.values(each.exchanges).map(({ exchange }) => exchangeName(each, exchange)),
);

/** The queue of a subscription: `queue/<user>/<subscription>`, below what that user may configure. */
export const queueName = (user: string, subscription: string): string => `queue/${user}/${subscription}`;
/** Where a subscription's events go that were given up. */
export const deadLetterQueueName = (user: string, subscription: string): string => `${queueName(user, subscription)}/dead-letters`;

/** A message that was handed out so often without an answer takes its process with it, and is put aside. */
const DELIVERY_LIMIT = 20;
const MAX_DEAD_LETTERS = 10_000;
const MAX_DEAD_LETTER_BYTES = 256 * 1024 * 1024;

/** Whether the broker has quorum queues that can hand dead letters on safely: RabbitMQ from 3.10. */
export const offersQuorumQueues = (properties: { readonly product?: string; readonly version?: string }): boolean => {
  const [major = 0, minor = 0] = (properties.version ?? '').split('.').map(Number);
  return properties.product === 'RabbitMQ' && (major > 3 || (major === 3 && minor >= 10));
};

/** One consumer at a time, so that order holds over all processes; the next takes over when it goes. */
const queueOptions = (quorum: boolean, deadLetterQueue: string): Options.AssertQueue => ({
  durable: true,
  arguments: {
    'x-single-active-consumer': true,
    'x-dead-letter-exchange': '',
    'x-dead-letter-routing-key': deadLetterQueue,
    ...(quorum
      ? {
          'x-queue-type': 'quorum',
          'x-delivery-limit': DELIVERY_LIMIT,
          // dead letters are confirmed too; this needs the other overflow behaviour, although nothing limits the queue
          'x-dead-letter-strategy': 'at-least-once',
          'x-overflow': 'reject-publish',
        }
      : {}),
  },
});

const deadLetterOptions = (quorum: boolean): Options.AssertQueue => ({
  durable: true,
  arguments: {
    'x-max-length': MAX_DEAD_LETTERS,
    'x-max-length-bytes': MAX_DEAD_LETTER_BYTES,
    ...(quorum ? { 'x-queue-type': 'quorum' } : {}),
  },
});

export const declareExchanges = async (channel: Channel, names: readonly string[]): Promise<void> => {
  for (const name of names) {
    await channel.assertExchange(name, 'topic', { durable: true, internal: false, autoDelete: false });
  }
};

/** Declares the queues of a subscription; on a channel that may close when the broker has a queue of that name with other arguments. */
export const declareQueues = async (channel: Channel, user: string, subscription: string): Promise<void> => {
  const quorum = offersQuorumQueues(channel.connection.serverProperties);
  const deadLetters = deadLetterQueueName(user, subscription);
  await channel.assertQueue(deadLetters, deadLetterOptions(quorum));
  await channel.assertQueue(queueName(user, subscription), queueOptions(quorum, deadLetters));
};

/** Runs on a channel of its own, because a refusal closes it. */
export const withChannel = async <T>(connection: ChannelModel, use: (channel: Channel) => Promise<T>): Promise<T> => {
  const channel = await connection.createChannel();
  channel.on('error', () => undefined); // the call that caused it rejects
  try {
    return await use(channel);
  } finally {
    await channel.close().catch(() => undefined); // closed by the broker already
  }
};

/** What closes a channel, but not the connection: access refused, not found, locked, precondition failed. */
const CHANNEL_ERRORS = [403, 404, 405, 406];

/** The broker's word about one binding; undefined for a lost connection. */
const refusal = (error: unknown): string | undefined => {
  const { code, message } = error as { code?: number; message: string };
  return code !== undefined && CHANNEL_ERRORS.includes(code) ? message : undefined;
};

const MAX_NAME_BYTES = 255;
/** Why a binding cannot even be sent; the client library would wait for its answer for ever. */
const unsendable = ({ exchange, pattern }: Binding): string | undefined =>
  [exchange, pattern].some(text => Buffer.byteLength(text) > MAX_NAME_BYTES)
    ? `exchange and pattern may have ${MAX_NAME_BYTES} bytes each`
    : undefined;

/** Binds a queue; answers with the bindings that the broker refused. */
export const bindAll = async (connection: ChannelModel, queue: string, bindings: readonly Binding[]): Promise<RefusedBinding[]> => {
  const refused: RefusedBinding[] = [];
  for (const each of bindings) {
    const reason = unsendable(each);
    if (reason !== undefined) {
      refused.push({ ...each, reason });
    }
  }
  let left = bindings.filter(each => unsendable(each) === undefined);
  while (left.length > 0) {
    left = await withChannel(connection, async channel => {
      for (const [i, { exchange, pattern }] of left.entries()) {
        try {
          await channel.bindQueue(queue, exchange, pattern);
        } catch (error) {
          const reason = refusal(error);
          if (reason === undefined) {
            throw error;
          }
          refused.push({ exchange, pattern, reason });
          return left.slice(i + 1);
        }
      }
      return [];
    });
  }
  return refused;
};

/** Removes bindings; one that is gone already, or whose exchange is, counts as removed. */
export const unbindAll = async (connection: ChannelModel, queue: string, bindings: readonly Binding[]): Promise<void> => {
  let left = bindings.filter(each => unsendable(each) === undefined);
  while (left.length > 0) {
    left = await withChannel(connection, async channel => {
      for (const [i, { exchange, pattern }] of left.entries()) {
        try {
          await channel.unbindQueue(queue, exchange, pattern);
        } catch (error) {
          if (refusal(error) === undefined) {
            throw error;
          }
          return left.slice(i + 1);
        }
      }
      return [];
    });
  }
};
