/**
 * The schemas of the documents themselves: of references, manifests, and of the `actions.json` that decision tasks write. They describe formats and
 * no values of ours, so they stand here as data.
 */

import { HTTP_VERBS } from './types.ts';

export interface CommonSchema {
  readonly $id: string;
  readonly $schema: string;
  readonly [keyword: string]: unknown;
}

const DRAFT_6 = 'http://json-schema.org/draft-06/schema#';
const METADATA_METASCHEMA = '/schemas/common/metadata-metaschema.json#';
const common = (name: string): string => `/schemas/common/${name}.json#`;

const PARAMETER_NAME = { type: 'string', pattern: '^[a-zA-Z][a-zA-Z0-9_]*$' };
const SCOPE_TEXT = { type: 'string', pattern: '^[\\x20-\\x7e]*$' };
const text = (description: string) => ({ type: 'string', description });
const closed = (properties: Record<string, unknown>, required: readonly string[]) => ({
  type: 'object',
  properties,
  additionalProperties: false,
  required,
});
const uniqueArray = (items: unknown, description?: string) => ({
  type: 'array',
  uniqueItems: true,
  items,
  ...(description === undefined ? {} : { description }),
});

// ---- schemas of schemas ----

const metaschema: CommonSchema = { $id: common('metaschema'), $schema: DRAFT_6, $ref: DRAFT_6 };

const metadataMetaschema: CommonSchema = {
  $id: common('metadata-metaschema'),
  $schema: common('metaschema'),
  title: 'Schema with Metadata',
  description: 'A schema of a kind of document, which says by `metadata` which kind and which version of it.',
  allOf: [{ $ref: './metaschema.json#' }, { $ref: '#/definitions/topLevelMetadata' }],
  definitions: {
    topLevelMetadata: {
      type: 'object',
      properties: {
        metadata: {
          ...closed({ name: text('The kind of document.'), version: { type: 'integer', description: 'The version of its format.' } }, [
            'version',
            'name',
          ]),
          description: 'What documents with this schema are.',
        },
      },
      additionalProperties: true,
      required: ['metadata'],
    },
  },
};

// ---- references ----

const template = (name: string) => ({ $ref: `#/definitions/scopeExpressionTemplate${name}` });
const listTemplate = (key: 'AllOf' | 'AnyOf', description: string) => ({
  description,
  ...closed({ [key]: uniqueArray({ $ref: '#/definitions/scopeExpressionTemplate' }) }, [key]),
});

const serviceName = {
  type: 'string',
  pattern: '^[a-z][a-z0-9_-]*$',
  minLength: 1,
  maxLength: 22,
  description: 'The service that this is about.',
};
const apiVersion = { type: 'string', pattern: '^v[0-9]+$', description: 'The version of its interface.' };
const schemaLink = { type: 'string', format: 'uri', description: 'The schema of this document.' };

const apiReference: CommonSchema = {
  $id: common('api-reference-v0'),
  $schema: METADATA_METASCHEMA,
  metadata: { name: 'api', version: 0 },
  title: 'API Reference',
  description: 'The methods of one service.',
  ...closed(
    {
      $schema: schemaLink,
      apiVersion,
      serviceName,
      title: text('Name of the API.'),
      description: text('What it is for, in Markdown.'),
      entries: uniqueArray(
        closed(
          {
            type: { type: 'string', enum: ['function'], description: 'The kind of entry.' },
            method: {
              type: 'string',
              enum: HTTP_VERBS,
              description: 'The verb of HTTP, in lower case.',
            },
            route: text('Path below the API of the service, with parameters as `<name>`.'),
            args: uniqueArray({ type: 'string' }, 'The parameters of the route, in order.'),
            query: uniqueArray({ type: 'string' }, 'The keys that the query may have.'),
            name: text('Name of the method.'),
            stability: { type: 'string', enum: ['deprecated', 'experimental', 'stable'], description: 'How much to rely on it.' },
            category: text('Where it stands in the documentation.'),
            scopes: {
              oneOf: ['String', 'AnyOf', 'AllOf', 'If'].map(template),
              description: 'What the caller needs. Without it anybody may call.',
            },
            input: text('Schema of the body, relative to the schemas of the service.'),
            output: {
              type: 'string',
              oneOf: [{ type: 'string' }, { type: 'string', enum: ['blob'] }],
              description: 'Schema of the answer, relative to the schemas of the service; `blob` is not JSON.',
            },
            title: text('What it does, in a few words.'),
            description: text('What it does, in Markdown.'),
          },
          ['type', 'method', 'route', 'args', 'name', 'stability', 'title', 'description', 'category'],
        ),
        'The methods.',
      ),
    },
    ['apiVersion', '$schema', 'title', 'description', 'serviceName', 'entries'],
  ),
  definitions: {
    scopeExpressionTemplate: {
      description: 'A scope expression with parameters.',
      oneOf: [
        ...['String', 'AnyOf', 'AllOf', 'If'].map(template),
        {
          description: 'One scope for each value of a list.',
          ...closed({ for: PARAMETER_NAME, in: PARAMETER_NAME, each: SCOPE_TEXT }, ['for', 'each', 'in']),
        },
      ],
    },
    scopeExpressionTemplateString: { ...SCOPE_TEXT, description: 'A scope, with parameters as `<name>`.' },
    scopeExpressionTemplateAnyOf: listTemplate('AnyOf', 'At least one of these.'),
    scopeExpressionTemplateAllOf: listTemplate('AllOf', 'All of these.'),
    scopeExpressionTemplateIf: {
      description: 'One thing or another, as a parameter says.',
      ...closed(
        {
          if: PARAMETER_NAME,
          then: { $ref: '#/definitions/scopeExpressionTemplate' },
          else: { $ref: '#/definitions/scopeExpressionTemplate' },
        },
        ['if', 'then'],
      ),
    },
  },
};

const exchangesReference: CommonSchema = {
  $id: common('exchanges-reference-v0'),
  $schema: METADATA_METASCHEMA,
  metadata: { name: 'exchanges', version: 0 },
  title: 'Exchange Reference',
  description: 'What one service announces.',
  ...closed(
    {
      $schema: schemaLink,
      apiVersion,
      serviceName,
      title: text('Name of the set of exchanges.'),
      description: text('What they are for, in Markdown.'),
      exchangePrefix: text('Comes before the names of the exchanges.'),
      entries: uniqueArray(
        closed(
          {
            type: { type: 'string', const: 'topic-exchange', description: 'The kind of entry.' },
            exchange: text('Name of the exchange, without the prefix.'),
            name: text('Name for programs.'),
            title: text('What it announces, in a few words.'),
            description: text('What it announces, in Markdown.'),
            routingKey: uniqueArray(
              closed(
                {
                  name: text('Name of the part.'),
                  summary: text('What it holds.'),
                  constant: text('The value, where it is always the same.'),
                  multipleWords: { type: 'boolean', description: 'Whether it can have dots in it.' },
                  required: { type: 'boolean', description: 'Whether it always has a value; otherwise it can be `_`.' },
                },
                ['name', 'summary', 'multipleWords', 'required'],
              ),
              'The parts of the routing key, which dots separate.',
            ),
            schema: text('Schema of the messages, relative to the schemas of the service.'),
          },
          ['type', 'exchange', 'name', 'title', 'description', 'routingKey', 'schema'],
        ),
        'The exchanges.',
      ),
    },
    ['apiVersion', '$schema', 'serviceName', 'title', 'description', 'exchangePrefix', 'entries'],
  ),
};

// ---- manifests ----

const versions = (description: string) => ({
  default: [],
  ...uniqueArray(
    closed({ version: { type: 'string', pattern: '^v[0-9][0-9]*$' }, reference: text('Where the reference is.') }, [
      'version',
      'reference',
    ]),
    description,
  ),
});

const manifestV2: CommonSchema = {
  $id: common('manifest-v2'),
  $schema: DRAFT_6,
  title: 'Manifest, Version 2',
  description: 'The older list of references, by service.',
  ...closed(
    {
      services: {
        default: [],
        ...uniqueArray(
          closed(
            {
              serviceName: { type: 'string', pattern: '^[a-z][a-z0-9_-]*$' },
              apis: versions('References of its APIs.'),
              pulse: versions('References of its exchanges.'),
            },
            ['serviceName'],
          ),
          'The services.',
        ),
      },
    },
    ['services'],
  ),
};

const manifestV3: CommonSchema = {
  $id: common('manifest-v3'),
  $schema: METADATA_METASCHEMA,
  metadata: { name: 'manifest', version: 3 },
  title: 'Manifest',
  description: 'The list of all references of a deployment.',
  // `formt` is the published spelling; readers compare it as it is.
  ...closed({ references: uniqueArray({ type: 'string', formt: 'uri' }, 'Where the references are.') }, ['references']),
};

// ---- actions.json ----

const part = (name: string) => ({ $ref: `#/definitions/${name}` });
const action = (kind: 'task' | 'hook', description: string, own: Record<string, unknown>) => ({
  title: kind === 'task' ? 'Task Action' : 'Hook Action',
  description,
  ...closed(
    {
      kind: { enum: [kind] },
      name: part('name'),
      title: part('title'),
      description: part('description'),
      context: part('context'),
      schema: part('schema'),
      extra: part('extra'),
      ...own,
    },
    ['kind', 'title', 'description', ...Object.keys(own)],
  ),
});

const actionSchema: CommonSchema = {
  $id: common('action-schema-v1'),
  $schema: DRAFT_6,
  title: 'Actions',
  description: 'What people can do with the tasks of a group: the content of the artifact `public/actions.json` of a decision task.',
  ...closed(
    {
      version: { type: 'integer', enum: [1], description: 'Version of the format.' },
      actions: uniqueArray(
        {
          anyOf: [
            action('task', 'Creates a task.', { task: { type: 'object', description: 'The task, as a JSON-e template.' } }),
            action('hook', 'Triggers a hook.', {
              hookGroupId: text('Group of the hook.'),
              hookId: text('The hook within its group.'),
              hookPayload: { type: 'object', description: 'What the hook is given, as a JSON-e template.' },
            }),
          ],
        },
        'The actions; where two of the same name fit, the first is used.',
      ),
      variables: { type: 'object', additionalProperties: true, description: 'Values for all templates.' },
    },
    ['version', 'actions', 'variables'],
  ),
  definitions: {
    name: { type: 'string', maxLength: 255, description: 'Name for programs. Actions of the same name do the same in different contexts.' },
    title: { type: 'string', maxLength: 255, description: 'Name for people.' },
    description: { type: 'string', maxLength: 4096, description: 'What it does, in Markdown.' },
    context: {
      default: [],
      ...uniqueArray(
        { type: 'object', additionalProperties: { type: 'string', maxLength: 4096 } },
        'The action fits tasks that have all the tags of one of these sets. With an empty list it fits the group as a whole.',
      ),
    },
    schema: { description: 'Schema of the input that is asked for. Without it there is no input.' },
    extra: { type: 'object', description: 'Free data.' },
  },
};

export const commonSchemas: readonly CommonSchema[] = [
  metaschema,
  metadataMetaschema,
  apiReference,
  exchangesReference,
  manifestV2,
  manifestV3,
  actionSchema,
];
