/** The index service: finds tasks by a dotted path, and remembers what ran there. */
import { authApi } from '@tscluster/api/auth/api.ts';
import { indexApi } from '@tscluster/api/index/api.ts';
import { queueApi } from '@tscluster/api/queue/api.ts';
import { run } from '../../platform/loop.ts';
import { defineService, serve } from '../../platform/service.ts';
import { entryExpiry, historyExpiry, namespaceExpiry } from './expiry.ts';
import { type IndexCtx, indexHandlers } from './handlers.ts';
import { endedRuns, retryLoop } from './indexing.ts';
import { makeIndexStore } from './store.ts';

export const indexService = defineService({
  name: 'index',
  settings: {},
  start: platform => {
    const { db, clock, log } = platform;
    const store = makeIndexStore({ read: platform.openLane('index-read'), write: platform.openLane('index-write') }, clock);
    // a redirect waits for these, and there is another one where they fail
    const options = { retries: 0 };
    const ctx: IndexCtx = {
      db,
      clock,
      store,
      auth: platform.client(authApi, 'index', options),
      queue: platform.client(queueApi, 'index', options),
    };
    const indexing = { db, clock, log, queue: ctx.queue };
    return {
      apis: [serve(indexApi, indexHandlers, ctx)],
      loops: [
        run(entryExpiry, { db, clock }),
        run(namespaceExpiry, { db, clock }),
        run(historyExpiry, { db, clock }),
        run(retryLoop, indexing),
      ],
      subscriptions: [endedRuns(indexing)],
      close: () => store.drain(),
    };
  },
});
