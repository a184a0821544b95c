/** What auth announces: changes of clients and roles, so that others can drop what they remember of them. */
import { defineExchanges, type RoutingKeyField } from '../define.ts';
import { object, raw, schema, string } from '../schema.ts';
import { CLIENT_ID_PATTERN, PRINTABLE_PATTERN } from '../types.ts';

const version = raw<1>({ enum: [1], description: 'Version of the message format.' });

export const clientMessage = schema(
  'auth',
  'client-message',
  { title: 'Client Message' },
  object({ version, clientId: string({ pattern: CLIENT_ID_PATTERN, description: 'The client.' }) }),
);
export const roleMessage = schema(
  'auth',
  'role-message',
  { title: 'Role Message' },
  object({ version, roleId: string({ pattern: PRINTABLE_PATTERN, description: 'The role.' }) }),
);

const routingKey: readonly RoutingKeyField[] = [
  { name: 'reserved', summary: 'For words to come; `_` for now. Bind with `#`.', multipleWords: true, required: false },
];

export const authEvents = defineExchanges({
  service: 'auth',
  version: 'v1',
  title: 'Auth Events',
  description: 'Changes of clients and roles. The messages say what was changed, not how: read it from the API.',
  exchanges: {
    clientCreated: {
      exchange: 'client-created',
      title: 'Client Created',
      description: 'A client was created.',
      routingKey,
      schema: clientMessage,
    },
    clientUpdated: {
      exchange: 'client-updated',
      title: 'Client Updated',
      description: 'A client was changed, enabled, disabled, or given a new access token.',
      routingKey,
      schema: clientMessage,
    },
    clientDeleted: {
      exchange: 'client-deleted',
      title: 'Client Deleted',
      description: 'A client was deleted. Not sent for clients that are removed because they have expired.',
      routingKey,
      schema: clientMessage,
    },
    roleCreated: { exchange: 'role-created', title: 'Role Created', description: 'A role was created.', routingKey, schema: roleMessage },
    roleUpdated: { exchange: 'role-updated', title: 'Role Updated', description: 'A role was changed.', routingKey, schema: roleMessage },
    roleDeleted: { exchange: 'role-deleted', title: 'Role Deleted', description: 'A role was deleted.', routingKey, schema: roleMessage },
  },
});
