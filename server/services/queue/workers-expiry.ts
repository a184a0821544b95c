/** Forgets workers and task queues some time after they were seen last. A quarantined worker is kept for as long as the quarantine lasts. */
import type { Db } from '../../db/sql.ts';
import type { Clock } from '../../platform/clock.ts';
import { loop } from '../../platform/loop.ts';
import { deleteExpiredTaskQueues } from './task-queues.db.ts';
import { deleteExpiredWorkers } from './workers.db.ts';

const EXPIRATION_DELAY_MS = 30 * 60_000;

export const workerInfoExpiry = loop<{ readonly platform: { readonly db: Db; readonly clock: Clock } }>({
  name: 'queue/expire-worker-info',
  everyMs: 3_600_000,
  batch: 1_000,
  run: async ({ platform: { db, clock } }, limit) => {
    const now = clock.now();
    const before = new Date(now.getTime() - EXPIRATION_DELAY_MS);
    const workers = await deleteExpiredWorkers(db, before, now, limit);
    return workers === limit ? limit : workers + (await deleteExpiredTaskQueues(db, before, limit - workers));
  },
});
