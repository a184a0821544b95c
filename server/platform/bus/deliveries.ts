/** Handling the rows of `platform.deliveries`: in order, and in one process at a time for each subscription. */
import { type Db, type Query, type Tx, isConnectionError, isIdleTimeout, isRetryable } from '../../db/sql.ts';
import type { Clock } from '../clock.ts';
import type { BusEvent } from '../events.ts';
import type { Log } from '../log.ts';
import { HANDLER_IDLE_MS, MAX_ATTEMPTS, MAX_TOGETHER, describeFailure, pauseMs } from './attempts.ts';
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
  let taken: Delivery | undefined;
  try {
    return await ctx.db.tx(tx => handleInTurn(ctx, subscription, tx, row => (taken = row)), { idleMs: HANDLER_IDLE_MS });
  } catch (error) {
    if ((error as { code?: string }).code === LOCK_NOT_AVAILABLE) {
      return { status: 'idle' };
    }
    const head = taken;
    if (head && isIdleTimeout(error)) {
      // the handler's transaction was ended under it
      return ctx.db.tx(tx => recordFailure(ctx, tx, subscription.name, head, error));
    }
    throw error;
  }
};

const handleInTurn = async (
  ctx: DeliveriesCtx,
  subscription: Subscription,
  tx: Tx,
  onTaken: (head: Delivery) => void,
): Promise<Outcome> => {
  const { clock, log } = ctx;
  const { name } = subscription;
  // whoever holds the first row handles the subscription's events, until its failure is noted too; only the first can be waiting for another try
  const rows = await tx<Delivery>`
    select seq, event, attempts, retry_at from platform.deliveries where subscription = ${name}
    order by subscription, seq limit ${subscription.handleMany ? MAX_TOGETHER : 1} for update nowait`;
  const [head] = rows;
  if (!head) {
    return { status: 'idle' };
  }
  const dueInMs = head.retryAt ? head.retryAt.getTime() - clock.nowMs() : 0;
  if (dueInMs > 0) {
    return { status: 'paused', ms: dueInMs };
  }
  onTaken(head);
  const problem = await handleOrUndo(tx, subscription, head.attempts > 0 ? [head] : rows);
  if (!problem) {
    return { status: 'handled' };
  }
  if (head.attempts > 0 || rows.length === 1) {
    return recordFailure(ctx, tx, name, head, problem.error);
  }
  // whose fault it is shows when each goes alone
  log.warn({ err: problem.error, subscription: name, events: rows.length }, 'events failed together, and are tried one by one');
  for (const row of rows) {
    const own = await handleOrUndo(tx, subscription, [row]);
    if (own) {
      return recordFailure(ctx, tx, name, row, own.error);
    }
  }
  return { status: 'handled' };
};

/** Handles and deletes; or has had no effect, and answers with the handler's error. Throws what is nobody's fault. */
const handleOrUndo = async (tx: Tx, subscription: Subscription, rows: readonly Delivery[]): Promise<{ error: unknown } | undefined> => {
  const callbacks: (() => void)[] = [];
  const inner = Object.assign(((strings, ...values) => tx(strings, ...values)) as Query, {
    run: tx.run,
    afterCommit: (callback: () => void) => void callbacks.push(callback),
  }) as unknown as Tx;
  const events = rows.map(row => JSON.parse(row.event) as BusEvent);
  await tx`savepoint handling`;
  try {
    await handleAll(subscription, events, inner);
    const seqs = rows.map(({ seq }) => seq);
    await tx`delete from platform.deliveries where subscription = ${subscription.name} and seq = any(${seqs}::bigint[])`;
  } catch (error) {
    if (isConnectionError(error) || isIdleTimeout(error) || isRetryable(error)) {
      throw error;
    }
    await tx`rollback to savepoint handling`;
    return { error };
  }
  callbacks.forEach(callback => tx.afterCommit(callback));
  return undefined;
};

const recordFailure = async (
  { clock, log }: DeliveriesCtx,
  tx: Tx,
  subscription: string,
  { seq, event, attempts }: Delivery,
  error: unknown,
): Promise<Outcome> => {
  const failures = attempts + 1;
  log.error({ err: error, subscription, seq, failures }, 'event handler failed');
  if (failures < MAX_ATTEMPTS) {
    const ms = pauseMs(failures);
    await tx`
      update platform.deliveries set attempts = ${failures}, retry_at = ${new Date(clock.nowMs() + ms)}
      where subscription = ${subscription} and seq = ${seq}`;
    return { status: 'paused', ms };
  }
  await tx`delete from platform.deliveries where subscription = ${subscription} and seq = ${seq}`;
  const { id } = JSON.parse(event) as BusEvent;
  await recordDeadLetter(tx, { subscription, eventId: id, event, error: describeFailure(error), at: clock.now() });
  tx.afterCommit(() => log.error({ subscription, seq }, 'event given up'));
  return { status: 'handled' };
};
