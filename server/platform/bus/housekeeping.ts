/**
 * What keeps the bus's tables small: notes of handled events go after a day, events given up after a month, and a subscription that no process has
 * served for a while goes with everything that waits for it. Any number of processes may do this.
 */
import { textArray } from '../../db/arrays.ts';
import { type Db, json } from '../../db/sql.ts';
import type { Clock } from '../clock.ts';
import type { Log } from '../log.ts';
import { loop, run, type RunningLoop } from '../loop.ts';
import type { Metrics } from '../metrics.ts';
import { expireDeadLetters } from './dead-letters.db.ts';
import { expireHandled } from './handled.db.ts';
import { BROKER_IDLE_MS, lockSubscription, raiseVersion } from './subscriptions.db.ts';

const DAY_MS = 24 * 3_600_000;
const HANDLED_MS = DAY_MS;
const DEAD_LETTER_MS = 30 * DAY_MS;
/** After a long stop of everything, the processes that serve the other subscriptions get this long to come back. */
const GRACE_MS = 3_600_000;

interface HousekeepingOptions {
  readonly db: Db;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly abandonedMs: number;
  /** Names of the subscriptions that this process serves. */
  readonly served: () => readonly string[];
  /** Whether repeats of events may still come that nobody has been able to deliver for a while. */
  readonly mayRepeat?: () => boolean;
  /** Removes what the broker has for a subscription. */
  readonly forget?: (name: string) => Promise<void>;
}

interface HousekeepingCtx extends HousekeepingOptions {
  readonly startedMs: number;
}

/** One round; `limit` rows of each kind at most. Answers with the most that it did of any kind. */
const keepHouse = async (ctx: HousekeepingCtx, limit: number): Promise<number> => {
  const { db, clock } = ctx;
  const now = clock.nowMs();
  await db`update platform.subscriptions set seen = ${new Date(now)} where name = any(${textArray(ctx.served())}::text[]) or seen is null`;
  const counts = [
    ctx.mayRepeat?.() ? 0 : await expireHandled(db, new Date(now - HANDLED_MS), limit),
    await expireDeadLetters(db, new Date(now - DEAD_LETTER_MS), limit),
    now < ctx.startedMs + GRACE_MS ? 0 : await removeAbandoned(ctx, new Date(now - ctx.abandonedMs), limit),
  ];
  return Math.max(...counts);
};

/** Deletes up to `limit` waiting events of one abandoned subscription, and then itself. */
const removeAbandoned = async ({ db, log, forget }: HousekeepingCtx, before: Date, limit: number): Promise<number> => {
  const [abandoned] = await db<{ name: string; bindings: string }>`
    select name, bindings from platform.subscriptions where seen < ${before} order by name limit 1`;
  if (!abandoned) {
    return 0;
  }
  const { name, bindings } = abandoned;
  if (bindings !== '[]') {
    log.warn({ subscription: name, bindings, before }, 'nobody serves this subscription any more: it is removed');
    await db.tx(async tx => {
      await raiseVersion(tx);
      await tx`update platform.subscriptions set bindings = ${json([])} where name = ${name} and seen < ${before}`;
    });
  }
  const deleted = await db`
    delete from platform.deliveries where subscription = ${name} and seq in (
      select seq from platform.deliveries where subscription = ${name}
        and exists (select from platform.subscriptions where name = ${name} and seen < ${before})
      order by seq limit ${limit})
    returning seq`;
  if (deleted.length < limit) {
    await db.tx(
      async tx => {
        await lockSubscription(tx, name); // who is about to declare its queues again finds that it is gone
        await forget?.(name);
        await raiseVersion(tx);
        await tx`delete from platform.subscriptions where name = ${name} and seen < ${before}`;
      },
      { idleMs: BROKER_IDLE_MS },
    );
  }
  return limit; // there may be another
};

const housekeeping = loop<HousekeepingCtx>({ name: 'bus/housekeeping', everyMs: 600_000, batch: 5_000, run: keepHouse });

export const startHousekeeping = (options: HousekeepingOptions): RunningLoop =>
  run(housekeeping, { ...options, startedMs: options.clock.nowMs() }).start(options);
