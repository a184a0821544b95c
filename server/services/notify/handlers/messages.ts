/** Messages that are asked for by a call: recorded, then tried at once. What does not get through is tried again by the loop. */
import type { notifyApi } from '@tscluster/api/notify/api.ts';
import type { NotificationType } from '@tscluster/api/notify/deliveries.ts';
import { slugid } from '../../../platform/clock.ts';
import { apiError, inputError } from '../../../platform/errors.ts';
import { type Handlers, HttpReply } from '../../../platform/service.ts';
import { admit, digestOf, SKIPPED } from '../admission.ts';
import { attempt, type Content, LEASE_MS } from '../attempt.ts';
import type { NotifyCtx } from '../context.ts';
import { insertAdmitted, insertSkipped, type TakenDelivery } from '../deliveries.db.ts';

/** The caller waits; clients give up after 30 seconds. */
const FIRST_ATTEMPT_MS = 20_000;

/** Bare as the protocol has it. */
export const ok = (): HttpReply => new HttpReply(200, { 'content-type': 'text/plain; charset=utf-8' }, 'OK');

const deniedAddress = (type: NotificationType, address: string): never =>
  apiError('DenylistedAddress', '{{type}} {{address}} is on the denylist: nothing is sent there.', { type, address });

/** Sends one message, or says why not. */
const send = async (
  ctx: NotifyCtx,
  caller: { readonly clientId: string },
  type: NotificationType,
  address: string,
  message: object,
): Promise<HttpReply | undefined> => {
  const { channel } = ctx.channelOf(type);
  const problem = channel.checkAddress(address, type);
  if (problem !== undefined) {
    inputError('The message cannot be sent: {{problem}}.', { problem });
  }
  const now = ctx.clock.now();
  const digest = digestOf(type, channel.identity(address, message));
  const row = { deliveryId: slugid(ctx.random), type, address, subject: channel.subject(message), clientId: caller.clientId, created: now };
  const due = new Date(now.getTime() + LEASE_MS);
  const admitted = await ctx.db.tx(async (tx): Promise<{ skip: keyof typeof SKIPPED } | { taken: TakenDelivery; content: Content }> => {
    const admission = await admit(tx, ctx, { type, address, digest });
    if (admission.skip !== undefined) {
      await insertSkipped(tx, row, SKIPPED[admission.skip]);
      return { skip: admission.skip };
    }
    const content: Content = { message, limit: admission.limit };
    return { taken: await insertAdmitted(tx, { ...row, content, digest, due }), content };
  });
  if ('skip' in admitted) {
    ctx.counted({ type, state: 'skipped' });
    if (admitted.skip === 'denied') {
      deniedAddress(type, address);
    }
    if (admitted.skip === 'notConfigured') {
      ctx.log.warn({ type, address }, 'notification not sent: the channel is not configured');
    }
    return undefined;
  }
  const outcome = await attempt(ctx, admitted.taken, admitted.content, FIRST_ATTEMPT_MS);
  if (outcome.state === 'failed') {
    inputError('The message was not sent to {{type}} {{address}}: {{reason}}', { type, address, reason: outcome.reason });
  }
  return ok();
};

type MessageHandlers = Pick<Handlers<typeof notifyApi, NotifyCtx>, 'email' | 'pulse' | 'matrix' | 'slack' | 'irc' | 'webhook'>;

export const messageHandlers: MessageHandlers = {
  async email({ ctx, body, authorize, caller }) {
    await authorize({ address: body.address });
    return send(ctx, await caller(), 'email', body.address, body);
  },

  async pulse({ ctx, body, authorize, caller }) {
    await authorize({ routingKey: body.routingKey });
    return send(ctx, await caller(), 'pulse', body.routingKey, body);
  },

  async matrix({ ctx, body, authorize, caller }) {
    await authorize({ roomId: body.roomId });
    return send(ctx, await caller(), 'matrix-room', body.roomId, body);
  },

  async slack({ ctx, body, authorize, caller }) {
    await authorize({ channelId: body.channelId });
    return send(ctx, await caller(), 'slack-channel', body.channelId, body);
  },

  async irc({ ctx, body, authorize, caller }) {
    const isChannel = 'channel' in body;
    const address = isChannel ? body.channel : body.user;
    await authorize({ isChannel, channel: address, user: address });
    return send(ctx, await caller(), isChannel ? 'irc-channel' : 'irc-user', address, { message: body.message });
  },

  async webhook({ ctx, body, authorize, caller }) {
    await authorize({ name: body.name });
    return send(ctx, await caller(), 'webhook', body.name, { event: 'message', payload: body.payload });
  },
};
