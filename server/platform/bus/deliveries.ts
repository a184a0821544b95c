/** Handling the rows of `platform.deliveries`: in order, and in one process at a time for each subscription. */
import type { Db } from '../../db/sql.ts';
import type { Clock } from '../clock.ts';
import type { BusEvent } from '../events.ts';
import type { Log } from '../log.ts';
import { HANDLER_IDLE_MS, MAX_ATTEMPTS, MAX_TOGETHER, describeFailure, isFailureOfHandler, pauseMs } from './attempts.ts';
import { type Subscription, handleAll } from './bus.ts';
import { recordDeadLetter } from './dead-letters.db.ts';

export type Outcome =
  | { readonly status: 'handled' }
  /** Nothing waits, or another process handles what does. */
  | { readonly status: 'idle' }
  /** The first event has failed and is due again after `ms`. */
  | { readonly status: 'paused'; readonly ms: number };

interface DeliveriesCtx {
  readonly db: Db;
  readonly clock: Clock;
  readonly log: Log;
}

interface Delivery {
  readonly seq: number;
  readonly event: string;
  readonly attempts: number;
  readonly retryAt: Date | null;
}

const LOCK_NOT_AVAILABLE = '55P03';

/** Handles the first events that wait for a subscription: one, or several where it takes several. Throws when the database is away. */
export const handleNextDeliveries = async (ctx: DeliveriesCtx, subscription: Subscription): Promise<Outcome> => {
  const limit = subscription.handleMany ? MAX_TOGETHER : 1;
  const first = await handleUpTo(ctx, subscription, limit);
  if (!('failed' in first)) {
    return first;
  }
  const { failed, error } = first;
  const [alone, ...others] = failed;
  if (!alone) {
    throw error;
  }
  if (others.length === 0) {
    return recordFailure(ctx, subscription.name, alone, error);
  }
  // whose fault it is shows when each goes alone
  ctx.log.warn({ err: error, subscription: subscription.name, events: failed.length }, 'events failed together, and are tried one by one');
  for (const _ of failed) {
    const each = await handleUpTo(ctx, subscription, 1);
    if ('failed' in each) {
      return each.failed[0] ? recordFailure(ctx, subscription.name, each.failed[0], each.error) : Promise.reject(each.error as Error);
    }
    if (each.status !== 'handled') {
      return each;
    }
  }
  return { status: 'handled' };
};

type Attempt = Outcome | { readonly failed: readonly Delivery[]; readonly error: unknown };

/** One transaction. `failed` is what the handler could not do; throws when the database is away. */
const handleUpTo = async ({ db, clock }: DeliveriesCtx, subscription: Subscription, limit: number): Promise<Attempt> => {
  const { name } = subscription;
  let taken: readonly Delivery[] = [];
  try {
    return await db.tx<Outcome>(
      async tx => {
        taken = [];
        // whoever holds the first row handles the subscription's events; only the first can be waiting for another try
        const rows = await tx<Delivery>`
        select seq, event, attempts, retry_at from platform.deliveries where subscription = ${name}
        order by subscription, seq limit ${limit} for update nowait`;
        const [head] = rows;
        if (!head) {
          return { status: 'idle' };
        }
        const dueInMs = head.retryAt ? head.retryAt.getTime() - clock.nowMs() : 0;
        if (dueInMs > 0) {
          return { status: 'paused', ms: dueInMs };
        }
        taken = head.attempts > 0 ? [head] : rows;
        const events = taken.map(row => JSON.parse(row.event) as BusEvent);
        await handleAll(subscription, events, tx);
        const seqs = taken.map(({ seq }) => seq);
        await tx`delete from platform.deliveries where subscription = ${name} and seq = any(${seqs}::bigint[])`;
        return { status: 'handled' };
      },
      { idleMs: HANDLER_IDLE_MS },
    );
  } catch (error) {
    if (taken.length === 0 && (error as { code?: string }).code === LOCK_NOT_AVAILABLE) {
      return { status: 'idle' };
    }
    if (taken.length === 0 || !isFailureOfHandler(error)) {
      throw error;
    }
    return { failed: taken, error };
  }
};

const recordFailure = async (
  { db, clock, log }: DeliveriesCtx,
  subscription: string,
  { seq, event, attempts }: Delivery,
  error: unknown,
): Promise<Outcome> => {
  const failures = attempts + 1;
  log.error({ err: error, subscription, seq, failures }, 'event handler failed');
  if (failures < MAX_ATTEMPTS) {
    const ms = pauseMs(failures);
    await db`
      update platform.deliveries set attempts = ${failures}, retry_at = ${new Date(clock.nowMs() + ms)}
      where subscription = ${subscription} and seq = ${seq}`;
    return { status: 'paused', ms };
  }
  await db.tx(async tx => {
    const gone = await tx`delete from platform.deliveries where subscription = ${subscription} and seq = ${seq} returning seq`;
    if (gone.length > 0) {
      const { id } = JSON.parse(event) as BusEvent;
      await recordDeadLetter(tx, { subscription, eventId: id, event, error: describeFailure(error), at: clock.now() });
    }
  });
  log.error({ subscription, seq }, 'event given up');
  return { status: 'handled' };
};
