/**
 * What carries events from the outbox to subscribers. The relay calls `deliver` inside the transaction that deletes the outbox rows: a bus on Postgres
 * writes its rows in it; a broker confirms before it returns. `memory`, `postgres` and `amqp` are behind this interface; `open.ts` chooses.
 */
import { routingKeyMatches } from '@tscluster/api/routing-key.ts';
import type { Tx } from '../../db/sql.ts';
import type { BusEvent } from '../events.ts';
import type { Notifier } from '../notify.ts';

export interface Binding {
  /** Full exchange name. */
  readonly exchange: string;
  /** Topic pattern: `*` one word, `#` any number of words. */
  readonly pattern: string;
}

export interface Subscription {
  /** `index/task-completed`: unique, durable, the same in every process that serves it. */
  readonly name: string;
  /** `stored`: those that `rebind` has recorded, none before; for a service that changes them while it runs. */
  readonly bindings: readonly Binding[] | 'stored';
  /**
   * Handles one event in a transaction that also notes the delivery: handling twice changes nothing. Events come one at a time and in order, however
   * many processes serve the subscription. A throw redelivers after a pause, five times at most; then the event is put aside.
   */
  readonly handle: (event: BusEvent, tx: Tx) => Promise<void>;
  /** Several at once, in order and in one transaction, where the bus has them; for those who gain by it. A throw redelivers them one by one. */
  readonly handleMany?: (events: readonly BusEvent[], tx: Tx) => Promise<void>;
}

export interface Bus {
  /** Lets the bus wake its like in other processes, and be woken. Called once, before `subscribe`. */
  attach(notifier: Pick<Notifier, 'notify' | 'onNotify'>): void;
  /** Resolves when the bus can take events, and rejects when `signal` aborts before; undefined when it can now. */
  ready(signal: AbortSignal): Promise<void> | undefined;
  /** Called in the relay's transaction once it has taken its rows: learns which subscriptions have changed up to now. */
  prepare(tx: Tx): Promise<void>;
  /** Whether anybody may want events of this outbox text; false only when nobody does, so that they need not be looked at. */
  wants(msg: string): boolean;
  /**
   * Takes events in order; when it returns they are safe. Throws when the bus is down: the events stay in the outbox. What leaves the database calls
   * `requireTurn` before each event: it throws once another relay may be at work, so that a process that was paused does not send after it.
   */
  deliver(tx: Tx, events: readonly BusEvent[], requireTurn: () => void): Promise<void>;
  /** Told after the relay's transaction has committed. */
  delivered(events: readonly BusEvent[]): void;
  /** Starts a durable subscription. Call before the relay starts, so that no event is missed. */
  subscribe(subscription: Subscription): Promise<void>;
  /** Replaces the bindings of a subscription when `tx` commits; events committed after it follow the new ones. */
  rebind(tx: Tx, name: string, bindings: readonly Binding[]): Promise<void>;
  /** Finishes what is being handled. */
  close(): Promise<void>;
}

/** Whether an event goes to a subscription, by its routing key or any further one. */
export const bindingsMatch = (bindings: readonly Binding[], event: BusEvent): boolean =>
  bindings.some(
    binding =>
      binding.exchange === event.exchange &&
      (routingKeyMatches(binding.pattern, event.routingKey) || event.cc.some(key => routingKeyMatches(binding.pattern, key))),
  );

/** Hands events to a subscription's handler, in one transaction: several only to one that takes several. */
export const handleAll = async (subscription: Subscription, events: readonly BusEvent[], tx: Tx): Promise<void> => {
  if (subscription.handleMany) {
    await subscription.handleMany(events, tx);
    return;
  }
  for (const event of events) {
    await subscription.handle(event, tx);
  }
};

/**
 * A quick look at an outbox text: false only when none of its events can match a binding. Most events carry no route, and most bindings begin with one:
 * the words of a pattern before its first wildcard stand in the text as they are.
 */
export const makeGlance = (bindings: readonly Binding[]): ((msg: string) => boolean) => {
  const needles = new Map<string, Set<string>>();
  for (const { exchange, pattern } of bindings) {
    const fixed = /^[ !$-)+-[\]-~]*/.exec(pattern)?.[0] ?? ''; // what JSON writes in one way only, without wildcards
    const begun = `"${fixed.slice(0, fixed === pattern ? undefined : fixed.lastIndexOf('.') + 1)}`;
    const key = `"exchange":${JSON.stringify(exchange)}`;
    needles.set(key, (needles.get(key) ?? new Set()).add(begun));
  }
  return msg => {
    for (const [exchange, beginnings] of needles) {
      if (msg.includes(exchange)) {
        for (const begun of beginnings) {
          if (msg.includes(begun)) {
            return true;
          }
        }
      }
    }
    return false;
  };
};
