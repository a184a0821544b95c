/** What a hook is made of, as it is sent and as it is stored. */
import { anyObject, boolean, defaulted, object, optional, ref, schema, set, string } from '../schema.ts';

export const hookGroupId = () =>
  string({ minLength: 1, maxLength: 1000, pattern: '^([a-zA-Z0-9-_]*)$', description: 'Group of the hook.' });
export const hookId = () =>
  string({ minLength: 1, maxLength: 1000, pattern: '^([a-zA-Z0-9-_/]*)$', description: 'The hook in its group. May have slashes in it.' });

export const hookMetadata = schema(
  'hooks',
  'hook-metadata',
  { title: 'Hook Metadata', description: 'What people want to know about a hook.' },
  object({
    name: string({ maxLength: 255, description: 'Name for people.' }),
    description: string({ maxLength: 32_768, description: 'What the hook is for, in Markdown.' }),
    owner: string({ format: 'email', maxLength: 255, description: 'Address of the person or team who answers for the hook.' }),
    emailOnError: defaulted(boolean({ description: 'Whether the owner gets mail when a scheduled task cannot be created.' }), true),
  }),
);

export const bindings = schema(
  'hooks',
  'bindings',
  { title: 'Bindings', description: 'Messages that fire the hook.' },
  set(
    object({
      exchange: string({ minLength: 1, description: 'Full name of the exchange.' }),
      routingKeyPattern: string({
        minLength: 1,
        description: 'Pattern of the routing key: `*` is one word, `#` any number of words.',
      }),
    }),
  ),
);

const SCHEDULE = 'When the hook fires: cron patterns of five or six fields, in UTC. `CRON_TZ=<zone> ` in front means another time zone.';
export const schedule = schema('hooks', 'schedule', { title: 'Schedule', description: SCHEDULE }, set(string()));

const task = () => anyObject({ description: 'Template of the task (JSON-e).' });
const TRIGGER_SCHEMA = 'JSON schema of the payloads with which the hook may be fired.';

export const createHookRequest = schema(
  'hooks',
  'create-hook-request',
  { title: 'Hook Creation Request', description: 'A hook. Group and id may be left out, because the URL has them.' },
  object({
    hookGroupId: optional(hookGroupId()),
    hookId: optional(hookId()),
    metadata: ref(hookMetadata),
    task: task(),
    bindings: optional(ref(bindings)),
    schedule: defaulted(set(string(), { description: SCHEDULE }), []),
    triggerSchema: defaulted(anyObject({ description: `${TRIGGER_SCHEMA} Without it only an empty object is accepted.` }), {
      type: 'object',
      additionalProperties: false,
    }),
  }),
);

export const hookDefinition = schema(
  'hooks',
  'hook-definition',
  { title: 'Hook Definition', description: 'A hook as it is stored.' },
  object({
    hookGroupId: hookGroupId(),
    hookId: hookId(),
    metadata: ref(hookMetadata),
    task: task(),
    bindings: optional(ref(bindings)),
    schedule: ref(schedule),
    triggerSchema: anyObject({ description: TRIGGER_SCHEMA }),
  }),
);
