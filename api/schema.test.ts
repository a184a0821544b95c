import { describe, expect, expectTypeOf, test } from 'vitest';
import type { MessageOf, MethodBody, MethodInput, MethodOutput, MethodParams, MethodQuery, ScopeParams } from './define.ts';
import { queueApi } from './queue/api.ts';
import type { queueEvents } from './queue/events.ts';
import {
  array,
  constant,
  dateTime,
  defaulted,
  definitionOf,
  definitions,
  integer,
  map,
  object,
  oneOf,
  optional,
  propertyOf,
  ref,
  schema,
  set,
  string,
  stringEnum,
  word,
  type FilledOf,
  type TypeOf,
} from './schema.ts';
import type { Priority } from './types.ts';

describe('spelling', () => {
  test('objects are closed, list what is required, and have their properties by name', () => {
    const emitted = object({
      b: string(),
      a: optional(integer()),
      c: defaulted(string(), 'x'),
      d: defaulted(integer(), 1, { listed: true }),
    });
    expect(JSON.stringify(emitted)).toBe(
      '{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"},"c":{"type":"string","default":"x"},"d":{"type":"integer","default":1}},"additionalProperties":false,"required":["b","d"]}',
    );
    expect(object({}, { open: true })).toEqual({ type: 'object', properties: {}, additionalProperties: true, required: [] });
  });

  test('words, constants, maps and lists', () => {
    expect(stringEnum(['a', 'b'])).toEqual({ type: 'string', enum: ['a', 'b'] });
    expect(word('a')).toEqual({ type: 'string', enum: ['a'] });
    expect(constant('a')).toEqual({ const: 'a' });
    expect(map(string())).toEqual({ type: 'object', additionalProperties: { type: 'string' } });
    expect(set(dateTime())).toEqual({ type: 'array', uniqueItems: true, items: { type: 'string', format: 'date-time' } });
    expect(array(string())).toEqual({ type: 'array', items: { type: 'string' } });
    expect(oneOf([string(), integer()])).toEqual({ oneOf: [{ type: 'string' }, { type: 'integer' }] });
  });

  test('published schemas have an id, and references to them are relative', () => {
    const thing = schema('queue', 'thing', { title: 'Thing' }, object({ a: string() }));
    expect(thing).toMatchObject({ $id: '/schemas/queue/v1/thing.json#', $schema: '/schemas/common/metaschema.json#', title: 'Thing' });
    expect(ref(thing)).toEqual({ $ref: 'thing.json#' });
    expect(propertyOf(thing, 'a', { default: 'x' })).toEqual({ $ref: 'thing.json#/properties/a', default: 'x' });
    const parts = definitions('queue', 'parts', { title: 'Parts' }, { one: string() });
    expect(definitionOf(parts, 'one')).toEqual({ $ref: 'parts.json#/definitions/one' });
  });
});

// These hold when the type check passes; there is nothing to run.
describe('types', () => {
  type Methods = typeof queueApi.methods;

  test('a sender may leave out what has a default, a handler sees it', () => {
    type Sent = MethodInput<Methods['createTask']>;
    type Seen = MethodBody<Methods['createTask']>;
    expectTypeOf<Sent['priority']>().toEqualTypeOf<Priority | undefined>();
    expectTypeOf<Seen['priority']>().toEqualTypeOf<Priority>();
    expectTypeOf<Seen['expires']>().toEqualTypeOf<string | undefined>();
    expectTypeOf<Seen['payload']>().toEqualTypeOf<Record<string, unknown>>();
    expectTypeOf<MethodBody<Methods['claimWork']>['tasks']>().toEqualTypeOf<number>();
    expectTypeOf<MethodBody<Methods['tasks']>>().toEqualTypeOf<{ taskIds: string[] }>();
    const sent: Sent = { created: '', deadline: '', payload: {}, metadata: { name: '', description: '', owner: '', source: '' } };
    expect(queueApi.methods.createTask.input).toHaveProperty('required', ['created', 'deadline', 'metadata', 'payload']);
    expect(Object.keys(sent)).toHaveLength(4);
  });

  test('references carry the type of what they lead to', () => {
    const thing = schema('x', 'thing', { title: 'Thing' }, object({ a: optional(string()), b: defaulted(integer(), 1) }));
    const user = object({ thing: ref(thing), a: propertyOf(thing, 'a') });
    expectTypeOf<TypeOf<typeof user>>().toEqualTypeOf<{ thing: { a?: string | undefined; b?: number | undefined }; a: string }>();
    expectTypeOf<FilledOf<typeof user>>().toEqualTypeOf<{ thing: { b: number; a?: string | undefined }; a: string }>();
  });

  test('what follows from a method and from an exchange', () => {
    expectTypeOf<MethodOutput<Methods['status']>['status']['state']>().toEqualTypeOf<
      'unscheduled' | 'pending' | 'running' | 'completed' | 'failed' | 'exception'
    >();
    expectTypeOf<MethodOutput<Methods['finishArtifact']>>().toEqualTypeOf<undefined>();
    expectTypeOf<MethodParams<Methods['getArtifact']>>().toEqualTypeOf<{ taskId: string; runId: string; name: string }>();
    expectTypeOf<MethodQuery<Methods['listWorkers']>>().toEqualTypeOf<{
      continuationToken?: string | undefined;
      limit?: string | undefined;
      quarantined?: string | undefined;
    }>();
    expectTypeOf<keyof ScopeParams<Methods['cancelTask']['scopes']>>().toEqualTypeOf<
      'schedulerId' | 'taskGroupId' | 'taskId' | 'projectId'
    >();
    expectTypeOf<ScopeParams<Methods['createTask']['scopes']>['priorities']>().toEqualTypeOf<readonly string[]>();
    expectTypeOf<MessageOf<typeof queueEvents.exchanges.taskRunning>['runId']>().toEqualTypeOf<number>();
  });
});
