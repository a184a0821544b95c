/** What the hooks service announces: that a hook was created, changed or removed. */
import { defineExchanges, type RoutingKeyField } from '../define.ts';
import { object, schema, string } from '../schema.ts';

export const hookChanged = schema(
  'hooks',
  'pulse-hook-changed-message',
  { title: 'Hook Changed Message', description: 'Names the hook; read what it is now from the API.' },
  object(
    { hookGroupId: string({ description: 'Group of the hook.' }), hookId: string({ description: 'The hook in it.' }) },
    { open: true },
  ),
);

const routingKey: readonly RoutingKeyField[] = [
  { name: 'reserved', summary: 'For words to come; `_` for now. Bind with `#`.', multipleWords: true, required: false },
];

export const hooksEvents = defineExchanges({
  service: 'hooks',
  version: 'v1',
  title: 'Hooks Events',
  description: 'Changes of hooks. The messages say which hook was changed, not how: read it from the API.',
  exchanges: {
    hookCreated: { exchange: 'hook-created', title: 'Hook Created', description: 'A hook was created.', routingKey, schema: hookChanged },
    hookUpdated: { exchange: 'hook-updated', title: 'Hook Updated', description: 'A hook was changed.', routingKey, schema: hookChanged },
    hookDeleted: { exchange: 'hook-deleted', title: 'Hook Deleted', description: 'A hook was removed.', routingKey, schema: hookChanged },
  },
});
