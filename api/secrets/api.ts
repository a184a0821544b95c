/** The secrets service: an encrypted store for JSON objects that tasks need and nobody else may see. */
import { defineApi, methods } from '../define.ts';
import { anyObject, dateTime, object, optional, schema, set, string, type TypeOf } from '../schema.ts';
import { heartbeatMethods, pingMethods } from '../operational.ts';
import { continuationToken, paging } from '../types.ts';

export const secret = schema(
  'secrets',
  'secret',
  { title: 'Secret', description: 'The value and until when it can be read.' },
  object({
    secret: anyObject({ description: 'The value: any JSON object.' }),
    expires: dateTime({ description: 'From then on the secret is as good as deleted.' }),
  }),
);
export type Secret = TypeOf<typeof secret>;

export const secretList = schema(
  'secrets',
  'secret-list',
  { title: 'List of Secrets' },
  object({
    secrets: set(string(), { description: 'Names, in order.' }),
    continuationToken: optional(continuationToken()),
  }),
);

const HIDDEN = '(OMITTED)';
/** More than any date has. */
const MAX_SHOWN = 64;

/** The payload of `set` as it may be shown: what may be the value, or a part of it in the wrong place, is left out. */
export const hideSecret = (payload: unknown): unknown => {
  if (payload === null || typeof payload !== 'object' || Array.isArray(payload)) {
    return HIDDEN;
  }
  return Object.fromEntries(
    Object.entries(payload).map(([key, value]): [string, unknown] => [
      key,
      key === 'expires' && typeof value === 'string' && value.length <= MAX_SHOWN ? value : HIDDEN,
    ]),
  );
};

const common = { category: 'Secrets Service', stability: 'stable' } as const;
const named = { ...common, route: '/secret/<name>', splat: ['name'] } as const;

const secretsMethods = methods({
  set: {
    ...named,
    method: 'put',
    title: 'Set Secret',
    description:
      'Stores a secret under a name, in place of whatever was there. The value is encrypted; it appears in no log, no error and no history. The name is the rest of the path and may have slashes.',
    scopes: 'secrets:set:<name>',
    input: secret,
    bodyWithoutSchema: true,
    redact: hideSecret,
  },
  remove: {
    ...named,
    method: 'delete',
    title: 'Delete Secret',
    description: 'Deletes a secret. Succeeds also when there is none.',
    scopes: 'secrets:set:<name>',
    bodyWithoutSchema: true,
  },
  get: {
    ...named,
    method: 'get',
    title: 'Read Secret',
    description: 'The value of a secret and when it expires. An expired secret is not found.',
    scopes: 'secrets:get:<name>',
    output: secret,
  },
  list: {
    ...common,
    method: 'get',
    route: '/secrets',
    query: paging,
    title: 'List Secrets',
    description: 'The names of all secrets, in order, never the values. Paged: go on while there is a `continuationToken`.',
    scopes: 'secrets:list-secrets',
    output: secretList,
  },
});

export const secretsApi = defineApi({
  service: 'secrets',
  version: 'v1',
  title: 'Secrets Service',
  description:
    'Keeps JSON objects encrypted until they expire, and gives them to whoever has the scope for the name. Tasks read their passwords and tokens here instead of carrying them in their definition, which everybody can read.',
  methods: { ...pingMethods, ...secretsMethods, ...heartbeatMethods },
});
