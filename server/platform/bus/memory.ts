/** The bus in memory, for tests of one process: subscribers run right after the relay's commit. */
import type { Db } from '../../db/sql.ts';
import { type Bus, type Subscription, bindingsMatch } from './bus.ts';

export const openMemoryBus = (db: Db): Bus & { settled(): Promise<void> } => {
  const subscriptions: Subscription[] = [];
  let work: Promise<void> = Promise.resolve();

  return {
    wants: () => true,
    deliver: () => Promise.resolve(),
    delivered: events => {
      for (const event of events) {
        for (const subscription of subscriptions) {
          if (bindingsMatch(subscription.bindings, event)) {
            work = work.then(() => db.tx(tx => subscription.handle(event, tx)));
          }
        }
      }
    },
    subscribe: subscription => {
      subscriptions.push(subscription);
      return Promise.resolve();
    },
    rebind: (tx, name, bindings) => {
      tx.afterCommit(() => {
        const index = subscriptions.findIndex(subscription => subscription.name === name);
        const found = subscriptions[index];
        if (found) {
          subscriptions[index] = { ...found, bindings };
        }
      });
      return Promise.resolve();
    },
    close: () => work,
    settled: () => work,
  };
};
