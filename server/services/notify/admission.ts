/**
 * Whether a message is sent at all. The order is the protocol's: the denylist, then the same message sent before, then how many an address may get.
 * Admissions to one address happen one after the other, in whatever process.
 */
import crypto from 'node:crypto';
import type { NotificationType } from '@tscluster/api/notify/deliveries.ts';
import type { Tx } from '../../db/sql.ts';
import type { NotifyCtx } from './context.ts';
import { getObstacles, lockAddress } from './deliveries.db.ts';

export const SKIPPED = {
  denied: 'The address is on the denylist.',
  duplicate: 'The same message was sent to the address shortly before.',
  limited: 'The address has had as many messages as it may get within some minutes.',
  notConfigured: 'The operator has not configured this channel.',
} as const;
export type SkipReason = keyof typeof SKIPPED;

/** Text that is equal when two messages are the same, whatever the order of their keys. */
const canonical = (value: unknown): string =>
  JSON.stringify(value, (_key, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).toSorted(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );

export const digestOf = (type: NotificationType, identity: unknown): string =>
  crypto.hash('sha256', canonical([type, identity]), 'base64url');

export type Admission =
  | { readonly skip: SkipReason }
  | { readonly skip: undefined; readonly limit: { readonly remaining: number; readonly seconds: number } | undefined };

/** Decides in the transaction that notes the decision. */
export const admit = async (
  tx: Tx,
  ctx: NotifyCtx,
  { type, address, digest }: { type: NotificationType; address: string; digest: string },
): Promise<Admission> => {
  const nowMs = ctx.clock.nowMs();
  const { count, seconds } = ctx.emailLimit;
  await lockAddress(tx, type, address);
  const { isDenied, isDuplicate, admitted } = await getObstacles(tx, {
    type,
    address,
    digest,
    duplicatesSince: new Date(nowMs - ctx.duplicateMs),
    countedSince: new Date(nowMs - seconds * 1000),
  });
  if (isDenied || (type === 'email' && ctx.blockedEmails.has(address))) {
    return { skip: 'denied' };
  }
  if (!ctx.channelOf(type).sender) {
    return { skip: 'notConfigured' };
  }
  if (isDuplicate) {
    return { skip: 'duplicate' };
  }
  if (type !== 'email') {
    return { skip: undefined, limit: undefined };
  }
  return admitted >= count ? { skip: 'limited' } : { skip: undefined, limit: { remaining: count - admitted - 1, seconds } };
};
