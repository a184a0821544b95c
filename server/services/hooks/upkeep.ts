/** What is forgotten, now and then. */
import { loop } from '../../platform/loop.ts';
import type { Ctx } from './ctx.ts';
import { deleteDoneFires } from './fires.db.ts';
import { deleteOldLastFires } from './last-fires.db.ts';

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;

/** A message that comes again after this is taken for a new one. */
const EVENTS_KNOWN_MS = DAY_MS;
export const forgetEvents = loop<Ctx>({
  name: 'hooks/forget-events',
  everyMs: 10 * MINUTE_MS,
  batch: 1_000,
  run: ({ platform: { db, clock } }, limit) => deleteDoneFires(db, new Date(clock.nowMs() - EVENTS_KNOWN_MS), limit),
});

const LAST_FIRES_MS = 365 * DAY_MS;
export const expireLastFires = loop<Ctx>({
  name: 'hooks/expire-last-fires',
  everyMs: HOUR_MS,
  batch: 1_000,
  run: ({ platform: { db, clock } }, limit) => deleteOldLastFires(db, new Date(clock.nowMs() - LAST_FIRES_MS), limit),
});
