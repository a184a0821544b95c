/** What became of messages: one record each, whether a call or a route of a task asked for it. */
import { methods } from '../define.ts';
import { array, dateTime, integer, object, optional, ref, schema, string, stringEnum, type TypeOf } from '../schema.ts';
import { continuationToken, paging, param, slugid } from '../types.ts';

export const NOTIFICATION_TYPES = ['email', 'pulse', 'matrix-room', 'slack-channel', 'irc-user', 'irc-channel', 'webhook'] as const;
export type NotificationType = (typeof NOTIFICATION_TYPES)[number];

export const DELIVERY_STATES = ['waiting', 'sent', 'skipped', 'failed'] as const;
export type DeliveryState = (typeof DELIVERY_STATES)[number];

export const delivery = schema(
  'notify',
  'delivery',
  { title: 'Delivery', description: 'One message to one address, and what became of it.' },
  object({
    deliveryId: slugid({ description: 'The delivery.' }),
    notificationType: stringEnum(NOTIFICATION_TYPES, { description: 'The channel.' }),
    notificationAddress: string({ description: 'Where it goes.' }),
    state: stringEnum(DELIVERY_STATES, {
      description:
        '`waiting`: to be tried, or tried again; `sent`; `skipped`: not sent, on purpose; `failed`: given up. All but the first are final.',
    }),
    reason: optional(string({ description: 'Why it was skipped or has failed, or what went wrong the last time.' })),
    subject: optional(string({ description: 'The first line of what was sent, once that is known.' })),
    clientId: optional(string({ description: 'Who called the API for it. Absent where a route asked for it.' })),
    route: optional(string({ description: 'The route of a task that asked for it.' })),
    taskId: optional(slugid({ description: 'The task it is about.' })),
    taskGroupId: optional(slugid({ description: 'The group of that task, or the group it is about.' })),
    attempts: integer({ minimum: 0, description: 'How often it was tried.' }),
    created: dateTime({ description: 'When it was asked for.' }),
    nextAttempt: optional(dateTime({ description: 'When it is tried next. Absent when it is not.' })),
    resolved: optional(dateTime({ description: 'When its state became final.' })),
  }),
);
export type Delivery = TypeOf<typeof delivery>;

export const deliveryList = schema(
  'notify',
  'delivery-list',
  { title: 'List of Deliveries' },
  object({
    deliveries: array(ref(delivery), { description: 'The newest first.' }),
    continuationToken: optional(continuationToken()),
  }),
);

const common = { category: 'Deliveries', stability: 'experimental', method: 'get', query: paging, output: deliveryList } as const;
const KEPT = 'The newest come first. Records are kept for some weeks; texts only until they are sent.';

export const deliveryMethods = methods({
  listTaskDeliveries: {
    ...common,
    route: '/deliveries/task/<taskId>',
    params: { taskId: param.slugid },
    title: 'List Deliveries of a Task',
    description: `What was sent because of the routes of a task, and what was not and why. ${KEPT}`,
    scopes: 'notify:list-deliveries:task:<taskId>',
  },
  listTaskGroupDeliveries: {
    ...common,
    route: '/deliveries/task-group/<taskGroupId>',
    params: { taskGroupId: param.slugid },
    title: 'List Deliveries of a Task Group',
    description: `What was sent because of the routes of all tasks of a group, and about the group itself. ${KEPT}`,
    scopes: 'notify:list-deliveries:task-group:<taskGroupId>',
  },
  listAddressDeliveries: {
    ...common,
    route: '/deliveries/address/<notificationType>/<notificationAddress>',
    params: { notificationType: new RegExp(`^(${NOTIFICATION_TYPES.join('|')})$`) },
    splat: ['notificationAddress'],
    title: 'List Deliveries to an Address',
    description: `What was sent to one address, whoever asked for it, and what was not and why. ${KEPT}`,
    scopes: 'notify:list-deliveries:address:<notificationType>:<notificationAddress>',
  },
});
