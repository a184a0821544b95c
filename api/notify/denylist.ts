/** Where nothing is sent to, however it was asked for. */
import { methods } from '../define.ts';
import { object, optional, ref, schema, set, string, stringEnum, type TypeOf } from '../schema.ts';
import { continuationToken, paging } from '../types.ts';

export const DENIABLE_TYPES = ['email', 'pulse', 'matrix-room', 'slack-channel'] as const;

export const notificationAddress = schema(
  'notify',
  'notification-address',
  { title: 'Notification Address' },
  object({
    notificationType: stringEnum(DENIABLE_TYPES, { description: 'The channel.' }),
    notificationAddress: string({
      description: 'Email address, routing key, room or channel; exactly as it is written in requests and routes.',
    }),
  }),
);
export type NotificationAddress = TypeOf<typeof notificationAddress>;

export const notificationAddressList = schema(
  'notify',
  'notification-address-list',
  { title: 'List of Notification Addresses' },
  object({
    addresses: set(ref(notificationAddress), { description: 'By type, then by address.' }),
    continuationToken: optional(continuationToken()),
  }),
);

const common = { category: 'Denylist', stability: 'experimental', scopes: 'notify:manage-denylist' } as const;

export const denylistMethods = methods({
  addDenylistAddress: {
    ...common,
    method: 'post',
    route: '/denylist/add',
    title: 'Deny an Address',
    description: 'From now on nothing is sent to the address. Adding it again changes nothing.',
    input: notificationAddress,
    bodyWithoutSchema: true,
  },
  deleteDenylistAddress: {
    ...common,
    method: 'delete',
    route: '/denylist/delete',
    title: 'Allow an Address Again',
    description: 'Takes an address off the denylist. Succeeds also when it is not on it. Give the address in the body.',
    input: notificationAddress,
    bodyWithoutSchema: true,
  },
  listDenylist: {
    ...common,
    method: 'get',
    route: '/denylist/list',
    query: paging,
    title: 'List Denied Addresses',
    description: 'All addresses on the denylist, in order. Paged: go on while there is a `continuationToken`.',
    output: notificationAddressList,
  },
});
