/** The bus in memory, for tests of one process: subscribers run right after the relay's commit. */
import type { Db } from '../../db/sql.ts';
import { type Binding, type Bus, type Subscription, bindingsMatch } from './bus.ts';

export const openMemoryBus = (db: Db): Bus & { settled(): Promise<void> } => {
  const subscriptions: Subscription[] = [];
  const bindings = new Map<string, { readonly order: number; readonly wanted: readonly Binding[] }>();
  let changes = 0;
  let work: Promise<void> = Promise.resolve();

  return {
    attach: () => undefined,
    ready: () => undefined,
    prepare: () => Promise.resolve(),
    wants: () => true,
    deliver: () => Promise.resolve(),
    delivered: events => {
      for (const event of events) {
        for (const subscription of subscriptions) {
          if (bindingsMatch(bindings.get(subscription.name)?.wanted ?? [], event)) {
            work = work.then(() => db.tx(tx => subscription.handle(event, tx)));
          }
        }
      }
    },
    subscribe: subscription => {
      subscriptions.push(subscription);
      if (subscription.bindings !== 'stored') {
        bindings.set(subscription.name, { order: 0, wanted: subscription.bindings });
      }
      return Promise.resolve();
    },
    rebind: (tx, name, wanted) => {
      changes += 1;
      const order = changes;
      tx.afterCommit(() => {
        // Postgres lets the next one go on before it answers the commit: the answers may come in another order
        if (order > (bindings.get(name)?.order ?? 0)) {
          bindings.set(name, { order, wanted });
        }
      });
      return Promise.resolve();
    },
    close: () => work,
    settled: () => work,
  };
};
