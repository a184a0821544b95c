/**
 * What carries events from the outbox to subscribers. The relay calls `deliver` inside the transaction that deletes the outbox rows: a bus on Postgres
 * writes its rows in it; a broker confirms before it returns. `memory` and `postgres` are here; RabbitMQ joins behind the same interface.
 */
import type { Tx } from '../../db/sql.ts';
import type { BusEvent } from '../events.ts';

export interface Binding {
  /** Full exchange name. */
  readonly exchange: string;
  /** Topic pattern: `*` one word, `#` any number of words. */
  readonly pattern: string;
}

export interface Subscription {
  /** `index/task-completed`: unique, durable, the same in every process that serves it. */
  readonly name: string;
  readonly bindings: readonly Binding[];
  /** Handles one event in a transaction that also notes the delivery: handling twice changes nothing. A throw redelivers, five times at most. */
  readonly handle: (event: BusEvent, tx: Tx) => Promise<void>;
}

export interface Bus {
  /** Takes events in order; when it returns they are safe. Throws when the bus is down: the events stay in the outbox. */
  deliver(tx: Tx, events: readonly BusEvent[]): Promise<void>;
  /** Told after the relay's transaction has committed. */
  delivered(events: readonly BusEvent[]): void;
  /** Starts a durable subscription. Call before the relay starts, so that no event is missed. */
  subscribe(subscription: Subscription): Promise<void>;
  /** Sees every event that passes through this process's relay, after it is safe. Returns how to stop. */
  listen(listener: (event: BusEvent) => void): () => void;
  /** Finishes what is being handled. */
  close(): Promise<void>;
}

/** Whether a routing key matches a topic pattern (AMQP 0-9-1 §3.1.3.3). */
export const topicMatches = (pattern: string, key: string): boolean => {
  const patternWords = pattern.split('.');
  const keyWords = key.split('.');
  const from = (p: number, k: number): boolean => {
    for (; p < patternWords.length; p++, k++) {
      const word = patternWords[p];
      if (word === '#') {
        if (p === patternWords.length - 1) {
          return true;
        }
        for (let rest = k; rest <= keyWords.length; rest++) {
          if (from(p + 1, rest)) {
            return true;
          }
        }
        return false;
      }
      if (k >= keyWords.length || (word !== '*' && word !== keyWords[k])) {
        return false;
      }
    }
    return k === keyWords.length;
  };
  return from(0, 0);
};

/** Whether an event goes to a subscription, by its routing key or any further one. */
export const bindingsMatch = (bindings: readonly Binding[], event: BusEvent): boolean =>
  bindings.some(
    binding =>
      binding.exchange === event.exchange &&
      (topicMatches(binding.pattern, event.routingKey) || event.cc.some(key => topicMatches(binding.pattern, key))),
  );
