/** What the notify service announces: messages that somebody asked it to publish, by a call or by a route of a task. */
import { defineExchanges } from '../define.ts';
import { anyObject, object, optional, raw, schema } from '../schema.ts';

export const notificationMessage = schema(
  'notify',
  'notification-message',
  { title: 'Notification Message' },
  object({
    version: optional(raw<1>({ type: 'integer', enum: [1], description: 'Version of the message format.' })),
    message: anyObject({ description: 'What was sent: any JSON object, or the status of a task whose route asked for it.' }),
  }),
);

export const notifyEvents = defineExchanges({
  service: 'notify',
  version: 'v1',
  title: 'Notify Messages',
  description: 'Notifications sent over the bus, for programs that want to act on them.',
  exchanges: {
    notify: {
      exchange: 'notification',
      title: 'Notification',
      description: 'A notification somebody asked for. It is also published under `route.<routingKey>`.',
      routingKey: [
        {
          name: 'routingKeyKind',
          summary: 'Always `primary`; the other copy begins with `route` instead.',
          constant: 'primary',
          required: true,
        },
        { name: 'topic', summary: 'The routing key that was asked for.', multipleWords: true, required: true },
      ],
      schema: notificationMessage,
    },
  },
});
