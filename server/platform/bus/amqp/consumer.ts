/**
 * Handles the messages of one subscription: one at a time, in order. The broker gives them to one consumer of the queue only, over all processes, and
 * hands out again what was not acknowledged; `platform.handled` makes a repeat change nothing. So the next event begins only when the one before has
 * had its effect, here or in a process that was lost, and order holds.
 */
import type { Counter } from 'prom-client';
import type { ChannelModel, ConfirmChannel, ConsumeMessage, Options } from 'amqplib';
import type { Db } from '../../../db/sql.ts';
import type { Clock, Random } from '../../clock.ts';
import type { BusEvent } from '../../events.ts';
import type { Log } from '../../log.ts';
import type { Metrics } from '../../metrics.ts';
import { HANDLER_IDLE_MS, MAX_ATTEMPTS, MAX_TOGETHER, describeFailure, isFailureOfHandler, pauseMs } from '../attempts.ts';
import { type Subscription, handleAll } from '../bus.ts';
import { noteHandled } from '../handled.db.ts';
import { toEvent } from './message.ts';
import { deadLetterQueueName, queueName } from './topology.ts';

/** Messages that wait in the process; more for those who take several at once. */
const PREFETCH = 10;
const DATABASE_RETRY_MS = 1_000;

export interface ConsumerCtx {
  readonly db: Db;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly user: string;
}

export interface Consumer {
  /** Resolves when the channel is gone, and nothing is being handled any more. */
  readonly ended: Promise<void>;
  /** Finishes the event under way; the rest goes back to the queue. */
  stop(): Promise<void>;
}

/** Starts to consume. The queue must exist. */
export const startConsumer = async (ctx: ConsumerCtx, connection: ChannelModel, subscription: Subscription): Promise<Consumer> => {
  const { log, user } = ctx;
  const queue = queueName(user, subscription.name);
  const channel = await connection.createConfirmChannel();
  const stopping = new AbortController();
  const waiting: ConsumeMessage[] = [];
  let work: Promise<void> | undefined;

  const workOff = async (): Promise<void> => {
    while (waiting.length > 0 && !stopping.signal.aborted) {
      const messages = waiting.splice(0, subscription.handleMany ? MAX_TOGETHER : 1);
      if (!(await handleTogether(ctx, channel, subscription, messages, stopping.signal))) {
        for (const message of messages) {
          await handleMessage(ctx, channel, subscription, message, stopping.signal);
        }
      }
    }
    work = undefined;
  };
  const ended = new Promise<void>(resolve => {
    channel.once('close', () => {
      stopping.abort(new Error('The channel has closed'));
      resolve();
    });
  });
  channel.on('error', (error: Error) => log.warn({ err: error, subscription: subscription.name }, 'consumer lost its channel'));
  await channel.prefetch(subscription.handleMany ? MAX_TOGETHER : PREFETCH);
  await channel.consume(queue, message => {
    if (message === null) {
      // the queue was deleted, or moved: begin again
      log.warn({ subscription: subscription.name }, 'the message broker has ended the consumer');
      channel.close().catch(() => undefined);
      return;
    }
    waiting.push(message);
    work ??= workOff();
  });

  return {
    ended: ended.then(() => work),
    stop: async () => {
      stopping.abort(new Error('The bus is closing'));
      await work;
      await channel.close().catch(() => undefined); // closed already
    },
  };
};

const countHandled = (metrics: Metrics): Counter<'subscription'> =>
  metrics.counter('bus_events_handled_total', 'Events from the message broker that were handled', ['subscription']);

/** Several messages in one transaction; false when that is not for these, or has failed, and each must go alone. */
const handleTogether = async (
  { db, clock, random, log, metrics }: ConsumerCtx,
  channel: ConfirmChannel,
  subscription: Subscription,
  messages: readonly ConsumeMessage[],
  signal: AbortSignal,
): Promise<boolean> => {
  const { name } = subscription;
  const last = messages.at(-1);
  if (!subscription.handleMany || !last || messages.length === 1) {
    return false;
  }
  try {
    const events = messages.map(message => toEvent(message, random));
    await db.tx(
      async tx => {
        const fresh = await noteHandled(tx, name, events, clock.now());
        if (fresh.length > 0) {
          await handleAll(subscription, fresh, tx);
        }
      },
      { idleMs: HANDLER_IDLE_MS },
    );
  } catch (error) {
    log.warn({ err: error, subscription: name, events: messages.length }, 'events failed together, and are tried one by one');
    return false;
  }
  countHandled(metrics).inc({ subscription: name }, messages.length);
  if (!signal.aborted) {
    channel.ack(last, true); // and all before it
  }
  return true;
};

/** Ends when the message is handled or put aside, and acknowledged; or when `signal` aborts. */
const handleMessage = async (
  ctx: ConsumerCtx,
  channel: ConfirmChannel,
  subscription: Subscription,
  message: ConsumeMessage,
  signal: AbortSignal,
): Promise<void> => {
  const { db, clock, random, log, metrics } = ctx;
  const { name } = subscription;
  const ack = (): void => {
    if (!signal.aborted) {
      channel.ack(message);
    }
  };

  let event: BusEvent;
  try {
    event = toEvent(message, random);
  } catch (error) {
    await putAside(ctx, channel, name, message, error, signal, ack);
    return;
  }
  for (let failures = 0; !signal.aborted;) {
    try {
      await db.tx(
        async tx => {
          const fresh = await noteHandled(tx, name, [event], clock.now());
          if (fresh.length > 0) {
            await handleAll(subscription, fresh, tx);
          }
        },
        { idleMs: HANDLER_IDLE_MS },
      );
      countHandled(metrics).inc({ subscription: name });
      ack();
      return;
    } catch (error) {
      if (!isFailureOfHandler(error)) {
        log.warn({ err: error, subscription: name }, 'event waits for the database');
        await clock.sleep(DATABASE_RETRY_MS, signal).catch(() => undefined);
        continue;
      }
      failures += 1;
      log.error({ err: error, subscription: name, eventId: event.id, failures }, 'event handler failed');
      if (failures >= MAX_ATTEMPTS) {
        await putAside(ctx, channel, name, message, error, signal, ack);
        return;
      }
      await clock.sleep(pauseMs(failures), signal).catch(() => undefined);
    }
  }
};

/** Moves a message to the subscription's queue of dead letters, as it is, with the reason in its headers. */
const putAside = async (
  { clock, log, metrics, user }: ConsumerCtx,
  channel: ConfirmChannel,
  subscription: string,
  message: ConsumeMessage,
  error: unknown,
  signal: AbortSignal,
  ack: () => void,
): Promise<void> => {
  const { content, fields, properties } = message;
  const { CC, ...headers } = (properties.headers ?? {}) as Record<string, unknown>;
  const deadLetters = metrics.counter('bus_dead_letters_total', 'Events that were given up', ['subscription']);
  const options: Options.Publish = {
    persistent: true,
    contentType: properties.contentType as string,
    contentEncoding: properties.contentEncoding as string,
    messageId: properties.messageId as string,
    headers: {
      ...headers,
      // as `CC` the broker would deliver to these queues
      'x-original-cc': CC ?? [],
      'x-original-exchange': fields.exchange,
      'x-original-routing-key': fields.routingKey,
      'x-error': describeFailure(error),
      'x-failed-at': clock.now().toISOString(),
    },
  };
  if (signal.aborted) {
    return; // it stays in the queue
  }
  try {
    await new Promise<void>((resolve, reject) => {
      channel.sendToQueue(deadLetterQueueName(user, subscription), content, options, problem =>
        problem ? reject(problem as Error) : resolve(),
      );
    });
  } catch (problem) {
    log.warn({ err: problem, subscription }, 'event could not be put aside');
    return;
  }
  ack();
  deadLetters.inc({ subscription });
  log.error({ subscription, eventId: properties.messageId as string, err: error }, 'event given up');
};
