/** What the notify service does on its own besides sending. */
import type { Db } from '../../db/sql.ts';
import type { Clock } from '../../platform/clock.ts';
import { loop } from '../../platform/loop.ts';
import { deleteOldDeliveries } from './deliveries.db.ts';

export const purgeDeliveries = loop<{ readonly db: Db; readonly clock: Clock; readonly retentionMs: number }>({
  name: 'notify/purge-deliveries',
  everyMs: 3_600_000,
  batch: 1_000,
  run: ({ db, clock, retentionMs }, limit) => deleteOldDeliveries(db, new Date(clock.nowMs() - retentionMs), limit),
});
