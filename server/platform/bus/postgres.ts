/**
 * The bus on Postgres: an event becomes one row per subscription that wants it, in the relay's own transaction; a consumer handles rows in order and
 * deletes each in the transaction of its effect. So an event is handled exactly once even when processes die at any point.
 */
import type { Db, Tx } from '../../db/sql.ts';
import { json } from '../../db/sql.ts';
import type { Clock } from '../clock.ts';
import type { BusEvent } from '../events.ts';
import type { Log } from '../log.ts';
import { type Waker, makeWaker } from '../waker.ts';
import { type Binding, type Bus, type Subscription, bindingsMatch } from './bus.ts';

const MAX_ATTEMPTS = 5;
/** Events in one transaction, for those who take several. */
const MAX_TOGETHER = 100;
const RETRY_MS = 1_000;
/** The safety net for deliveries written by another process. */
const POLL_MS = 5_000;

export const openPostgresBus = (db: Db, clock: Clock, log: Log): Bus => {
  const wakers = new Map<string, Waker>();
  /** Subscriptions that got events in the transaction under way. */
  const served = new Set<string>();
  const stopping = new AbortController();
  const consumers: Promise<void>[] = [];
  let known: { name: string; bindings: readonly Binding[] }[] | undefined;

  const subscriptions = async (tx: Tx): Promise<{ name: string; bindings: readonly Binding[] }[]> => {
    known ??= (await tx<{ name: string; bindings: string }>`select name, bindings from platform.subscriptions`).map(row => ({
      name: row.name,
      bindings: JSON.parse(row.bindings) as Binding[],
    }));
    return known;
  };

  /** Handles up to `limit` of the events that wait, in one transaction; answers with how many those were. */
  const handleNext = async (subscription: Subscription, limit: number): Promise<number> => {
    let seqs: number[] = [];
    try {
      return await db.tx(async tx => {
        const rows = await tx<{ seq: number; event: string }>`
          select seq, event from platform.deliveries where subscription = ${subscription.name}
          order by subscription, seq limit ${limit} for update skip locked`;
        seqs = rows.map(row => row.seq);
        const events = rows.map(row => JSON.parse(row.event) as BusEvent);
        const [first] = events;
        if (first) {
          await (subscription.handleMany ? subscription.handleMany(events, tx) : subscription.handle(first, tx));
          await tx`delete from platform.deliveries where subscription = ${subscription.name} and seq = any(${seqs}::bigint[])`;
        }
        return rows.length;
      });
    } catch (error) {
      log.error({ err: error, subscription: subscription.name, seqs }, 'event handler failed');
      if (seqs.length > 1) {
        // whose fault it is shows when each goes alone
        for (const _ of seqs) {
          await handleNext(subscription, 1);
        }
        return seqs.length;
      }
      const [seq] = seqs;
      if (seq !== undefined) {
        const [row] = await db<{ attempts: number }>`
          update platform.deliveries set attempts = attempts + 1
          where subscription = ${subscription.name} and seq = ${seq} returning attempts`;
        if (row && row.attempts >= MAX_ATTEMPTS) {
          await db`delete from platform.deliveries where subscription = ${subscription.name} and seq = ${seq}`;
          log.error({ subscription: subscription.name, seq }, 'event given up');
          return 1;
        }
      }
      await clock.sleep(RETRY_MS, stopping.signal);
      return 1;
    }
  };

  const consume = async (subscription: Subscription): Promise<void> => {
    const waker = makeWaker(clock, stopping.signal);
    wakers.set(subscription.name, waker);
    while (!stopping.signal.aborted) {
      try {
        if ((await handleNext(subscription, subscription.handleMany ? MAX_TOGETHER : 1)) === 0) {
          await waker.wait(POLL_MS);
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
    wants: msg =>
      known === undefined || known.some(({ bindings }) => bindings.some(({ exchange }) => msg.includes(`"exchange":"${exchange}"`))),
    deliver: async (tx, events) => {
      for (const { name, bindings } of await subscriptions(tx)) {
        const wanted = events.filter(event => bindingsMatch(bindings, event));
        if (wanted.length > 0) {
          served.add(name);
          await tx`
            insert into platform.deliveries (subscription, event_id, event)
            select ${name}, e.value ->> 'id', e.value::text from json_array_elements(${json(wanted)}::json) with ordinality e order by e.ordinality`;
        }
      }
    },
    delivered: () => {
      for (const name of served) {
        wakers.get(name)?.wake();
      }
      served.clear();
    },
    subscribe: async subscription => {
      await db`
        insert into platform.subscriptions (name, bindings) values (${subscription.name}, ${json(subscription.bindings)})
        on conflict (name) do update set bindings = excluded.bindings`;
      known = undefined;
      consumers.push(consume(subscription));
    },
    rebind: async (tx, name, bindings) => {
      await tx`update platform.subscriptions set bindings = ${json(bindings)} where name = ${name}`;
      tx.afterCommit(() => {
        known = undefined;
      });
    },
    close: async () => {
      stopping.abort(new Error('The bus is closing'));
      await Promise.all(consumers);
    },
  };
};
