/** One try to send a message that is in hand, and what is noted of it. */
import type { NotifyCtx } from './context.ts';
import { Refused } from './channels/channel.ts';
import { postponeDelivery, resolveDelivery, type TakenDelivery } from './deliveries.db.ts';

/** A delivery in hand belongs to nobody else for so long. */
export const LEASE_MS = 180_000;
export const ATTEMPT_MS = 60_000;

const FIRST_RETRY_MS = 10_000;
const MAX_RETRY_MS = 3_600_000;
/** Error texts of others, and ours. */
const MAX_REASON = 1_000;

/** What is stored of a message until it was sent. */
export interface Content {
  readonly message: unknown;
  readonly limit?: { readonly remaining: number; readonly seconds: number } | undefined;
}

export type Outcome = { readonly state: 'sent' } | { readonly state: 'waiting' | 'failed'; readonly reason: string };

/** Milliseconds until the next try after so many: 10 s, 20 s, 40 s and so on, an hour at most, spread by a quarter. */
export const retryDelayMs = (attempts: number, random: number): number =>
  Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(attempts - 1, 20)) * (0.75 + random / 2);

const withTimeout = async <T>(ctx: NotifyCtx, ms: number, run: (signal: AbortSignal) => Promise<T>): Promise<T> => {
  const controller = new AbortController();
  const timer = ctx.clock.setTimer(ms, () => controller.abort(new Error(`No answer within ${ms / 1000} seconds.`)));
  const aborted = new Promise<never>((_resolve, reject) => {
    controller.signal.addEventListener('abort', () => reject(controller.signal.reason as Error), { once: true });
  });
  try {
    return await Promise.race([run(controller.signal), aborted]);
  } finally {
    timer.cancel();
  }
};

interface SystemError extends Error {
  readonly code?: string;
  readonly syscall?: string;
}

/** What the record says of an error: what the other side said, but not where in our network it is; that is in the log. */
const reasonOf = (error: unknown): string => {
  let root = error as SystemError;
  while (root.syscall === undefined && root.cause instanceof Error) {
    root = root.cause;
  }
  const text =
    root.syscall === undefined
      ? error instanceof Error
        ? error.message
        : String(error)
      : `It cannot be reached: ${root.code ?? root.name}`;
  return text.slice(0, MAX_REASON);
};

/** Notes that a delivery is over. */
export const conclude = async (ctx: NotifyCtx, delivery: TakenDelivery, state: 'failed' | 'skipped', reason: string): Promise<void> => {
  await resolveDelivery(ctx.db, delivery, { state, reason }, ctx.clock.now());
  ctx.counted({ type: delivery.type, state });
};

/** Notes that a try has failed: another one follows, unless it is too late or useless. */
export const noteFailure = async (ctx: NotifyCtx, delivery: TakenDelivery, error: unknown): Promise<Outcome> => {
  const { deliveryId, type, address, attempts } = delivery;
  const reason = reasonOf(error);
  const isRefused = error instanceof Refused;
  const isLate = ctx.clock.nowMs() - delivery.created.getTime() >= ctx.retryMs;
  if (isRefused || isLate) {
    ctx.log.warn({ err: error, deliveryId, type, address, attempts }, 'notification failed');
    await conclude(ctx, delivery, 'failed', isRefused ? reason : `Given up after ${attempts} attempts: ${reason}`);
    return { state: 'failed', reason };
  }
  const delayMs = retryDelayMs(attempts, ctx.random.float());
  ctx.log.warn({ err: error, deliveryId, type, address, attempts, delayMs }, 'notification not sent yet');
  await postponeDelivery(ctx.db, delivery, reason, new Date(ctx.clock.nowMs() + delayMs));
  return { state: 'waiting', reason };
};

/** Sends a message and notes the outcome. Throws only when that cannot be noted. */
export const attempt = async (
  ctx: NotifyCtx,
  delivery: TakenDelivery,
  { message, limit }: Content,
  timeoutMs: number = ATTEMPT_MS,
): Promise<Outcome> => {
  const { deliveryId, type, address } = delivery;
  const { sender } = ctx.channelOf(type);
  if (!sender) {
    return noteFailure(ctx, delivery, new Error('The channel is not configured any more.'));
  }
  const outgoing = { deliveryId, type, address, message, limit };
  try {
    if ('sendIn' in sender) {
      await ctx.db.tx(async tx => {
        if (await resolveDelivery(tx, delivery, { state: 'sent' }, ctx.clock.now())) {
          await sender.sendIn(tx, outgoing);
        }
      });
    } else {
      const sent = await withTimeout(ctx, timeoutMs, signal => sender.send(outgoing, signal));
      await resolveDelivery(ctx.db, delivery, { state: 'sent', reason: sent?.note }, ctx.clock.now());
    }
  } catch (error) {
    return noteFailure(ctx, delivery, error);
  }
  ctx.counted({ type, state: 'sent' });
  return { state: 'sent' };
};
