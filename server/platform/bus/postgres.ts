/**
 * The bus on Postgres: an event becomes one row per subscription that wants it, in the relay's own transaction; a consumer handles rows in order and
 * deletes each in the transaction of its effect. So an event is handled exactly once even when processes die at any point.
 *
 * Several processes may serve a subscription: whoever holds the lock of its first row handles it, the others wait. Which subscriptions there are is
 * kept in memory and compared by version in the relay's transaction, so that an event committed after a change follows the change.
 */
import type { Db, Tx } from '../../db/sql.ts';
import { json } from '../../db/sql.ts';
import type { Clock } from '../clock.ts';
import type { BusEvent } from '../events.ts';
import type { Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import type { Notifier } from '../notify.ts';
import { type Waker, makeWaker } from '../waker.ts';
import { type Bus, type Subscription, bindingsMatch, makeGlance } from './bus.ts';
import { handleNextDeliveries } from './deliveries.ts';
import { startHousekeeping } from './housekeeping.ts';
import { type SubscriptionRow, listSubscriptions, readVersion, recordBindings, recordSubscription } from './subscriptions.db.ts';

const RETRY_MS = 1_000;
/** The safety net for deliveries whose notification was lost, and for those left by a process that died. */
const POLL_MS = 5_000;

export interface PostgresBusOptions {
  readonly db: Db;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  /** A subscription that nobody has served for so long is removed, with what waits for it. */
  readonly abandonedMs: number;
}

export const openPostgresBus = (options: PostgresBusOptions): Bus => {
  const { db, clock, log } = options;
  const wakers = new Map<string, Waker>();
  /** Subscriptions that got events in the transaction under way. */
  const served = new Set<string>();
  const stopping = new AbortController();
  const consumers: Promise<void>[] = [];
  const housekeeping = startHousekeeping({ ...options, served: () => [...wakers.keys()] });
  let notifier: Pick<Notifier, 'notify' | 'onNotify'> | undefined;
  let known:
    | { readonly version: number; readonly subscriptions: readonly SubscriptionRow[]; readonly glance: (msg: string) => boolean }
    | undefined;

  const consume = async (subscription: Subscription, waker: Waker): Promise<void> => {
    while (!stopping.signal.aborted) {
      try {
        const outcome = await handleNextDeliveries(options, subscription);
        if (outcome.status === 'idle') {
          await waker.wait(POLL_MS);
        } else if (outcome.status === 'paused') {
          await clock.sleep(outcome.ms, stopping.signal).catch(() => undefined);
        }
      } catch (error) {
        if (!stopping.signal.aborted) {
          log.error({ err: error, subscription: subscription.name }, 'event consumer failed');
          await clock.sleep(RETRY_MS, stopping.signal).catch(() => undefined);
        }
      }
    }
  };

  return {
    attach: given => {
      notifier = given;
    },
    ready: () => undefined,
    prepare: async tx => {
      const version = await readVersion(tx);
      if (known?.version !== version) {
        const subscriptions = await listSubscriptions(tx);
        known = { version, subscriptions, glance: makeGlance(subscriptions.flatMap(({ bindings }) => bindings)) };
      }
    },
    wants: msg => known === undefined || known.glance(msg),
    deliver: async (tx, events) => {
      served.clear();
      for (const { name, bindings } of known?.subscriptions ?? []) {
        const wanted = events.filter(event => bindingsMatch(bindings, event));
        if (wanted.length > 0 && (await insertDeliveries(tx, name, wanted))) {
          served.add(name);
        }
      }
    },
    delivered: () => {
      for (const name of served) {
        if (notifier) {
          notifier.notify(wakeName(name));
        } else {
          wakers.get(name)?.wake();
        }
      }
      served.clear();
    },
    subscribe: async subscription => {
      const { name, bindings } = subscription;
      await recordSubscription(db, name, bindings, clock.now());
      const waker = makeWaker(clock, stopping.signal);
      wakers.set(name, waker);
      notifier?.onNotify(wakeName(name), waker.wake);
      consumers.push(consume(subscription, waker));
    },
    rebind: async (tx, name, bindings) => void (await recordBindings(tx, name, bindings, clock.now())),
    close: async () => {
      stopping.abort(new Error('The bus is closing'));
      await Promise.all([...consumers, housekeeping.stop()]);
    },
  };
};

const wakeName = (subscription: string): string => `bus/${subscription}`;

/** False when the subscription has just been removed. */
const insertDeliveries = async (tx: Tx, subscription: string, events: readonly BusEvent[]): Promise<boolean> => {
  const rows = await tx<{ seq: number }>`
    with wanting as (select name from platform.subscriptions where name = ${subscription} for key share),
    written as (
      insert into platform.deliveries (subscription, event_id, event)
      select w.name, e.value ->> 'id', e.value::text from wanting w, json_array_elements(${json(events)}::json) with ordinality e
      order by e.ordinality returning seq
    )
    select seq from written limit 1`;
  return rows.length > 0;
};
