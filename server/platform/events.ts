/**
 * Events are rows of the transaction that caused them. `publish(tx, …)` writes to the outbox and does not compile outside a transaction; hot
 * statements insert the same text themselves. A relay (`relay.ts`) hands them to the bus at least once, in order per task.
 */
import type { Exchange, Exchanges } from '@tscluster/api/define.ts';
import { exchangeName } from '@tscluster/api/define.ts';
import { type RoutingKeyValues, buildRoutingKey } from '@tscluster/api/routing-key.ts';
import type { Static } from 'typebox';
import type { Tx } from '../db/sql.ts';

/** An event as it lies in the outbox. */
export interface OutboxEvent {
  /** The exchange's full name. */
  readonly exchange: string;
  readonly routingKey: string;
  /** Further routing keys. */
  readonly cc: readonly string[];
  readonly payload: unknown;
}

/** An event on the bus. The id is the AMQP `messageId`, the event stream's `id`, and the key on which consumers deduplicate. */
export interface BusEvent extends OutboxEvent {
  readonly id: string;
}

/** Writes one event to the outbox, in the transaction that causes it. `version: 1` is added to the payload. */
export const publish = async <E extends Record<string, Exchange>, K extends keyof E & string>(
  tx: Tx,
  exchanges: Exchanges<E>,
  name: K,
  event: {
    readonly key?: RoutingKeyValues;
    readonly cc?: readonly string[];
    readonly message: Omit<Static<E[K]['schema']>, 'version'>;
  },
): Promise<void> => {
  const exchange = exchanges.exchanges[name] as Exchange;
  await publishAll(tx, [
    {
      exchange: exchangeName(exchanges, exchange.exchange),
      routingKey: buildRoutingKey(exchange, event.key ?? {}),
      cc: event.cc ?? [],
      payload: { ...event.message, version: 1 },
    },
  ]);
};

/** Writes finished events, as one row. */
export const publishAll = async (tx: Tx, events: readonly OutboxEvent[]): Promise<void> => {
  if (events.length > 0) {
    await tx`insert into platform.outbox (msg) values (${events.map(event => JSON.stringify(event)).join(',')})`;
    tx.afterCommit(() => outboxWritten());
  }
};

// The relay of this process is woken after each commit that wrote events; relays of other processes look when they are notified, or after a while.
const writtenCallbacks = new Set<() => void>();
const outboxWritten = (): void => writtenCallbacks.forEach(callback => callback());

/** Registers who is told that this process has committed events. Returns how to stop. */
export const onOutboxWritten = (callback: () => void): (() => void) => {
  writtenCallbacks.add(callback);
  return () => writtenCallbacks.delete(callback);
};

/** For hot paths that insert into the outbox in their own statement: call after the commit. */
export const notifyOutbox = (): void => outboxWritten();
