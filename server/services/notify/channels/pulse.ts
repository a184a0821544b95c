/** Messages on the bus: a row of our own outbox, so that each is published exactly once. */
import { notifyEvents } from '@tscluster/api/notify/events.ts';
import type { PulseMessage } from '@tscluster/api/notify/messages.ts';
import { MAX_ROUTING_KEY_BYTES } from '@tscluster/api/routing-key.ts';
import { publish } from '../../../platform/events.ts';
import { defineChannel } from './channel.ts';

/** `primary.` is the longer of the two prefixes. */
const MAX_BYTES = MAX_ROUTING_KEY_BYTES - 'primary.'.length;

export const pulseChannel = defineChannel({
  name: 'pulse',
  types: ['pulse'],
  settings: {},
  checkAddress: address =>
    address === '' || Buffer.byteLength(address) > MAX_BYTES ? `a routing key has 1 to ${MAX_BYTES} bytes` : undefined,
  identity: (address, { message }: Pick<PulseMessage, 'message'>) => [address, message],
  subject: () => 'pulse message',
  aboutTask: ({ status }) => ({ message: status }),
  aboutGroup: ({ summary }) => ({ message: { ...summary } }),
  open: ({ log }) => ({
    sendIn: async (tx, { address, message }) => {
      await publish(tx, notifyEvents, 'notify', {
        key: { topic: address },
        cc: [`route.${address}`],
        message: { message: message.message },
      });
      tx.afterCommit(() => log.info({ routingKey: address }, 'pulse'));
    },
  }),
});
