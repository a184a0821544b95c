/**
 * The bus on RabbitMQ, with the original's conventions: a durable topic exchange per kind of event, further routing keys in the header `CC`, a durable
 * queue `queue/<user>/<subscription>` for each subscription of ours. One connection publishes, where the relay works; another consumes. While the
 * broker is away everything goes on, and the events wait in the outbox.
 */
import type { ChannelModel } from 'amqplib';
import type { Db } from '../../../db/sql.ts';
import { type Clock, type Random, settlesWithin } from '../../clock.ts';
import type { Log } from '../../log.ts';
import type { Metrics } from '../../metrics.ts';
import type { Notifier } from '../../notify.ts';
import type { Bus, Subscription } from '../bus.ts';
import { recordDeadLetter } from '../dead-letters.db.ts';
import { handleNextDeliveries } from '../deliveries.ts';
import { startHousekeeping } from '../housekeeping.ts';
import { readVersion, recordBindings, recordSubscription } from '../subscriptions.db.ts';
import { bindChanges, bindEverything, bindSubscription, makeOneAtATime } from './bindings.ts';
import { type Consumer, startConsumer } from './consumer.ts';
import { CLOSE_MS, type Link, openLink } from './link.ts';
import { type Publisher, openPublisher } from './publisher.ts';
import { deadLetterQueueName, declaredExchanges, queueName, withChannel } from './topology.ts';

const RETRY_MS = 1_000;
/** Bindings that were refused, and deliveries that a bus on Postgres left, are looked at this often. */
const LOOK_MS = 300_000;
/** Notes of handled events are kept until the broker has been back for so long: what it had handed out before comes again. */
const SETTLED_MS = 3_600_000;
const CHANGED = 'bus/subscriptions';
/** What is written beside an event that no queue gets. */
const NOT_PUBLISHED = 'bus/not-published';

export interface AmqpBusOptions {
  readonly db: Db;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: Metrics;
  /** `amqp://user:password@host:port/vhost`, or `amqps://`. */
  readonly url: string;
  readonly abandonedMs: number;
}

export const openAmqpBus = (options: AmqpBusOptions): Bus => {
  const { db, clock, log, url } = options;
  const user = decodeURIComponent(new URL(url).username) || 'guest';
  const ctx = { ...options, user, oneAtATime: makeOneAtATime() };
  const stopping = new AbortController();
  const subscriptions = new Map<string, Subscription>();
  const consumers = new Set<Promise<void>>();
  let notifier: Pick<Notifier, 'notify' | 'onNotify'> | undefined;

  // ---- publishing ----

  let publisher: Publisher | undefined;
  /** The version of the subscriptions that the broker's bindings follow. */
  let boundVersion: number | undefined;
  let publishing: Link | undefined;
  const openPublishing = (): Link =>
    (publishing ??= openLink({
      ...options,
      name: 'publisher',
      onOpen: async connection => {
        publisher = undefined;
        const fresh = await openPublisher(connection, declaredExchanges, clock);
        const version = await readVersion(db);
        await bindEverything(ctx, connection);
        boundVersion = version;
        publisher = fresh;
      },
    }));

  // ---- consuming ----

  let consuming: Link | undefined;
  let consumingSinceMs = Number.POSITIVE_INFINITY;
  const openConsuming = (): Link =>
    (consuming ??= openLink({
      ...options,
      name: 'consumer',
      onOpen: () => {
        consumingSinceMs = clock.nowMs();
        return Promise.resolve();
      },
    }));

  /** What a bus on Postgres had written before there was a broker comes first. */
  const workOffDeliveries = async (subscription: Subscription): Promise<void> => {
    while (!stopping.signal.aborted) {
      const outcome = await handleNextDeliveries(ctx, subscription);
      if (outcome.status === 'idle') {
        return;
      }
      if (outcome.status === 'paused') {
        await clock.sleep(outcome.ms, stopping.signal).catch(() => undefined);
      }
    }
  };

  const consume = async (subscription: Subscription): Promise<void> => {
    while (!stopping.signal.aborted) {
      let consumer: Consumer | undefined;
      const stop = (): void => void consumer?.stop();
      try {
        await workOffDeliveries(subscription);
        const connection = await openConsuming().ready(stopping.signal);
        await bindSubscription(ctx, connection, subscription.name);
        consumer = await startConsumer(ctx, connection, subscription);
        stopping.signal.addEventListener('abort', stop, { once: true });
        if (stopping.signal.aborted) {
          stop();
        }
        await consumer.ended;
      } catch (error) {
        if (!stopping.signal.aborted) {
          log.warn({ err: error, subscription: subscription.name }, 'events of a subscription cannot be consumed at present');
        }
      } finally {
        stopping.signal.removeEventListener('abort', stop);
      }
      await clock.sleep(RETRY_MS, stopping.signal).catch(() => undefined);
    }
  };

  // ---- bindings ----

  let binding: Promise<void> = Promise.resolve();
  /** Follows changes of bindings, one after another. A failure is tried again with the next look, or when the relay has events. */
  const followChanges = (): void => {
    binding = binding
      .then(() => {
        const connection = publishing?.connection ?? consuming?.connection;
        return connection && bindChanges(ctx, connection);
      })
      .catch((error: unknown) => {
        if (!stopping.signal.aborted) {
          log.warn({ err: error }, 'bindings could not be changed yet');
        }
      });
  };
  const look = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      await clock.sleep(LOOK_MS, stopping.signal).catch(() => undefined);
      if (!stopping.signal.aborted) {
        followChanges();
        await Promise.all([...subscriptions.values()].map(workOffDeliveries)).catch((error: unknown) => {
          log.warn({ err: error }, 'deliveries could not be read');
        });
      }
    }
  };
  const looking = look();

  const requireConnection = (link: Link | undefined): ChannelModel => {
    if (!link?.connection) {
      throw new Error('There is no connection to the message broker');
    }
    return link.connection;
  };

  const housekeeping = startHousekeeping({
    ...options,
    served: () => [...subscriptions.keys()],
    mayRepeat: () => !consuming?.connection || clock.nowMs() < consumingSinceMs + SETTLED_MS,
    forget: async name => {
      const connection = requireConnection(publishing?.connection ? publishing : consuming);
      await withChannel(connection, async channel => {
        await channel.deleteQueue(queueName(user, name));
        await channel.deleteQueue(deadLetterQueueName(user, name));
      });
    },
  });

  return {
    attach: given => {
      notifier = given;
      notifier.onNotify(CHANGED, followChanges);
    },
    ready: signal => {
      const link = openPublishing();
      return link.connection ? undefined : link.ready(signal).then(() => undefined);
    },
    prepare: async tx => {
      const version = await readVersion(tx);
      if (version !== boundVersion) {
        await bindChanges(ctx, requireConnection(publishing));
        boundVersion = version;
      }
    },
    wants: () => true,
    deliver: async (tx, events, requireTurn) => {
      if (!publisher || !publishing?.connection) {
        throw new Error('There is no connection to the message broker');
      }
      for (const { event, reason } of await publisher.publish(events, requireTurn)) {
        log.error({ exchange: event.exchange, routingKey: event.routingKey, eventId: event.id, reason }, 'event not published');
        await recordDeadLetter(tx, {
          subscription: NOT_PUBLISHED,
          eventId: event.id,
          event: JSON.stringify(event),
          error: reason,
          at: clock.now(),
        });
      }
    },
    delivered: () => undefined,
    subscribe: async subscription => {
      const { name, bindings } = subscription;
      await recordSubscription(db, name, bindings, clock.now());
      subscriptions.set(name, subscription);
      consumers.add(consume(subscription));
    },
    rebind: async (tx, name, bindings) => {
      if (await recordBindings(tx, name, bindings, clock.now())) {
        tx.afterCommit(() => (notifier ? notifier.notify(CHANGED) : followChanges()));
      }
    },
    close: async () => {
      stopping.abort(new Error('The bus is closing'));
      const finished = Promise.all([...consumers, looking, housekeeping.stop(), binding]);
      // a broker that leaves a question open (it has just started, say) holds nobody up: without a connection all questions end
      await settlesWithin(clock, finished, CLOSE_MS);
      await Promise.all([publishing?.close(), consuming?.close()]);
      await finished;
    },
  };
};
