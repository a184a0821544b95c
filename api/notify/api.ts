import { defineApi } from '../define.ts';
import { heartbeatMethods, pingMethods } from '../operational.ts';
import { delivery, deliveryMethods } from './deliveries.ts';
import { denylistMethods } from './denylist.ts';
import { messageMethods, newMessageMethods } from './messages.ts';

export const notifyApi = defineApi({
  service: 'notify',
  version: 'v1',
  title: 'Notify Service',
  description: [
    'Tells people and programs what happened: by email, Matrix, Slack, IRC, webhooks and messages on the bus. Routes of tasks ask for it, such as `notify.email.somebody@example.com.on-failed`, or a call does.',
    '',
    'Every message is recorded before it is tried, and tried again when the other side does not answer.',
  ].join('\n'),
  errorCodes: { DenylistedAddress: 400 },
  schemas: [delivery],
  methods: { ...pingMethods, ...messageMethods, ...denylistMethods, ...newMessageMethods, ...deliveryMethods, ...heartbeatMethods },
});
