/**
 * Task definitions that nobody may create, each wrong in one way, with what the caller is told: the error's code, and the field it must name.
 * `<…>` stands for ids that the test makes.
 */

type Definition = Readonly<Record<string, unknown>> & { readonly metadata: Readonly<Record<string, unknown>> };

export interface MalformedTask {
  readonly what: string;
  /** The body that is sent. */
  readonly body: (good: Definition, world: World) => string;
  readonly contentType?: string;
  readonly code: 'InputValidationError' | 'InputError' | 'MalformedPayload';
  /** Words of the message; the first names the field. */
  readonly says: readonly string[];
}

/** What some of them refer to. */
export interface World {
  readonly nowMs: number;
  /** A task that expires in two hours. */
  readonly shortLivedTaskId: string;
  readonly unknownTaskId: string;
}

const without = (object: Readonly<Record<string, unknown>>, key: string): object =>
  Object.fromEntries(Object.entries(object).filter(([name]) => name !== key));

/** One field has a value that its schema refuses. */
const field = (name: string, value: unknown, ...says: string[]): MalformedTask => ({
  what: `${name}: ${(JSON.stringify(value) ?? 'undefined').slice(0, 40)}`,
  body: good => JSON.stringify({ ...good, [name]: value }),
  code: 'InputValidationError',
  says: [`data/${name}`, ...says],
});

/** One field of the metadata has. */
const metadata = (name: string, value: unknown, ...says: string[]): MalformedTask => ({
  what: `metadata.${name}: ${JSON.stringify(value).slice(0, 40)}`,
  body: good => JSON.stringify({ ...good, metadata: { ...good.metadata, [name]: value } }),
  code: 'InputValidationError',
  says: [`data/metadata/${name}`, ...says],
});

const missing = (name: string): MalformedTask => ({
  what: `no ${name}`,
  body: good => JSON.stringify(without(good, name)),
  code: 'InputValidationError',
  says: [`data must have required property '${name}'`],
});

const missingMetadata = (name: string): MalformedTask => ({
  what: `no metadata.${name}`,
  body: good => JSON.stringify({ ...good, metadata: without(good.metadata, name) }),
  code: 'InputValidationError',
  says: [`data/metadata must have required property '${name}'`],
});

/** There is a field that does not exist. */
const unknown = (name: string, value: unknown): MalformedTask => ({
  what: `unknown field ${name}`,
  body: good => JSON.stringify({ ...good, [name]: value }),
  code: 'InputValidationError',
  says: [`"${name}"`, 'must NOT have additional properties'],
});

/** The queue is given in halves. */
const halves = (provisionerId: unknown, workerType: unknown, wrong: string): MalformedTask => ({
  what: `provisionerId ${String(provisionerId)}, workerType ${String(workerType)}`,
  body: good => JSON.stringify({ ...without(good, 'taskQueueId'), provisionerId, workerType }),
  code: 'InputValidationError',
  says: [`data/${wrong}`],
});

/** It has the right form, but makes no sense. */
const senseless = (what: string, change: (world: World) => object, ...says: string[]): MalformedTask => ({
  what,
  body: (good, world) => JSON.stringify({ ...good, ...change(world) }),
  code: 'InputError',
  says,
});

const raw = (what: string, body: string, code: MalformedTask['code'], says: string, contentType = 'application/json'): MalformedTask => ({
  what,
  body: () => body,
  contentType,
  code,
  says: [says],
});

const at = (nowMs: number, minutes: number): string => new Date(nowMs + minutes * 60_000).toISOString();
const DAY_MINUTES = 24 * 60;
const SLUGID = 'AAAAAAAATAAAAAAAAAAAAA'; // not one: the version digit is at another place

export const MALFORMED_TASKS: readonly MalformedTask[] = [
  missing('created'),
  missing('deadline'),
  missing('metadata'),
  { ...missing('payload'), says: ['data/payload', 'must be object'] }, // its default is filled in first
  missingMetadata('name'),
  missingMetadata('description'),
  missingMetadata('owner'),
  missingMetadata('source'),
  unknown('command', ['true']),
  unknown('runs', []),
  unknown('provisionerID', 'local'),
  {
    ...unknown('colour', 'green'),
    what: 'unknown field in metadata',
    body: good => JSON.stringify({ ...good, metadata: { ...good.metadata, colour: 'green' } }),
    says: ['data/metadata', '"colour"'],
  },

  field('created', 'yesterday', 'date-time'),
  field('created', 1_700_000_000_000, 'must be string'),
  field('created', null, 'must be string'),
  field('created', '2026-13-01T00:00:00.000Z', 'date-time'),
  field('created', '2026-02-30T00:00:00.000Z', 'date-time'),
  field('deadline', '', 'date-time'),
  field('deadline', '2026-01-01', 'date-time'),
  field('deadline', false, 'must be string'),
  field('deadline', '2026-01-01T25:00:00Z', 'date-time'),
  field('expires', 'never', 'date-time'),
  field('expires', 0, 'must be string'),
  field('expires', null, 'must be string'),

  field('taskQueueId', 'no-slash', 'pattern'),
  field('taskQueueId', 'a/b/c', 'pattern'),
  field('taskQueueId', 'local/Process', 'pattern'),
  field('taskQueueId', 'local/-process', 'pattern'),
  field('taskQueueId', `local/${'x'.repeat(39)}`, 'pattern'),
  field('taskQueueId', 7, 'must be string'),
  field('taskQueueId', '', 'pattern'),
  halves('has space', 'process', 'provisionerId'),
  halves('', 'process', 'provisionerId'),
  halves('p'.repeat(39), 'process', 'provisionerId'),
  halves('local', 'Process', 'workerType'),
  halves('local', '1st', 'workerType'),
  halves('local', 'process-', 'workerType'),
  halves(null, 'process', 'provisionerId'),

  field('schedulerId', '', 'fewer than 1'),
  field('schedulerId', 's'.repeat(39), 'more than 38'),
  field('schedulerId', 'a b', 'pattern'),
  field('schedulerId', null, 'must be string'),
  field('projectId', '', 'fewer than 1'),
  field('projectId', 'p'.repeat(501), 'more than 500'),
  field('projectId', 'a b', 'pattern'),
  field('projectId', 7, 'must be string'),
  field('taskGroupId', 'group', 'pattern'),
  field('taskGroupId', '', 'pattern'),
  field('taskGroupId', SLUGID, 'pattern'),
  field('taskGroupId', null, 'must be string'),

  field('dependencies', SLUGID, 'must be array'),
  { ...field('dependencies', [5], 'must be string'), says: ['data/dependencies/0', 'must be string'] },
  { ...field('dependencies', ['first'], 'pattern'), says: ['data/dependencies/0', 'pattern'] },
  {
    ...field('dependencies', [], ''),
    what: 'a dependency twice',
    body: (good, { shortLivedTaskId: id }) => JSON.stringify({ ...good, dependencies: [id, id] }),
    says: ['data/dependencies', 'duplicate'],
  },
  field('requires', 'any', 'allowed values'),
  field('requires', null, 'must be string'),

  field('routes', 'index.x', 'must be array'),
  { ...field('routes', [''], ''), says: ['data/routes/0', 'fewer than 1'] },
  { ...field('routes', ['ok', 'r'.repeat(250)], ''), says: ['data/routes/1', 'more than 249'] },
  field('routes', ['same', 'same'], 'duplicate'),
  field(
    'routes',
    Array.from({ length: 65 }, (_, i) => `route.${i}`),
    'more than 64',
  ),
  { ...field('routes', [7], ''), says: ['data/routes/0', 'must be string'] },

  field('priority', 'normal', 'allowed values'),
  field('priority', 'HIGH', 'allowed values'),
  field('priority', 5, 'must be string'),
  field('priority', '', 'allowed values'),
  field('retries', -1, '>= 0'),
  field('retries', 50, '<= 49'),
  field('retries', 2.5, 'integer'),
  field('retries', '5', 'integer'),
  field('retries', null, 'integer'),

  field('scopes', 'queue:*', 'must be array'),
  { ...field('scopes', ['ok', 5], ''), says: ['data/scopes/1', 'must be string'] },
  { ...field('scopes', ['grün'], ''), says: ['data/scopes/0', 'pattern'] },
  { ...field('scopes', ['two\nlines'], ''), says: ['data/scopes/0', 'pattern'] },

  field('payload', 'true', 'must be object'),
  field('payload', 5, 'must be object'),
  field('payload', ['true'], 'must be object'),
  field('payload', null, 'must be object'),

  field('metadata', 'mine', 'must be object'),
  field('metadata', null, 'must be object'),
  metadata('name', 'n'.repeat(256), 'more than 255'),
  metadata('name', 7, 'must be string'),
  metadata('description', 'd'.repeat(32_769), 'more than 32768'),
  metadata('description', null, 'must be string'),
  metadata('owner', 'o'.repeat(256), 'more than 255'),
  metadata('owner', ['me'], 'must be string'),
  metadata('source', 'ftp://example.com/', 'pattern'),
  metadata('source', 'a wiki page', 'pattern'),
  metadata('source', `https://example.com/${'s'.repeat(4_096)}`, 'more than 4096'),
  metadata('source', {}, 'must be string'),

  field('tags', 'red', 'must be object'),
  field('tags', ['red'], 'must be object'),
  { ...field('tags', { colour: 5 }, ''), says: ['data/tags/colour', 'must be string'] },
  { ...field('tags', { long: 't'.repeat(4_097) }, ''), says: ['data/tags/long', 'more than 4096'] },
  field('extra', 'more', 'must be object'),
  field('extra', ['more'], 'must be object'),
  field('extra', 5, 'must be object'),

  {
    what: 'no task queue',
    body: good => JSON.stringify(without(good, 'taskQueueId')),
    code: 'InputError',
    says: ['taskQueueId'],
  },
  {
    what: 'half a task queue',
    body: good => JSON.stringify({ ...without(good, 'taskQueueId'), provisionerId: 'local' }),
    code: 'InputError',
    says: ['workerType'],
  },
  senseless('two task queues', () => ({ provisionerId: 'remote', workerType: 'process' }), 'provisionerId', 'remote', 'taskQueueId'),
  senseless('created long ago', ({ nowMs }) => ({ created: at(nowMs, -20) }), 'created'),
  senseless('created in the future', ({ nowMs }) => ({ created: at(nowMs, 20) }), 'created'),
  senseless('a deadline before its creation', ({ nowMs }) => ({ created: at(nowMs, 5), deadline: at(nowMs, 2) }), 'deadline', 'created'),
  senseless('a deadline in the past', ({ nowMs }) => ({ created: at(nowMs, -10), deadline: at(nowMs, -5) }), 'deadline'),
  senseless(
    'a deadline next week',
    ({ nowMs }) => ({ deadline: at(nowMs, 7 * DAY_MINUTES), expires: at(nowMs, 8 * DAY_MINUTES) }),
    'deadline',
  ),
  senseless('forgotten before its deadline', ({ nowMs }) => ({ expires: at(nowMs, 30) }), 'expires', 'deadline'),
  senseless('a scope with two stars', () => ({ scopes: ['queue:**'] }), 'queue:**'),
  senseless('a dependency that does not exist', ({ unknownTaskId }) => ({ dependencies: [unknownTaskId] }), 'Dependenc', '<unknownTaskId>'),
  senseless(
    'a dependency that is forgotten too early',
    ({ nowMs, shortLivedTaskId }) => ({ dependencies: [shortLivedTaskId], deadline: at(nowMs, 180) }),
    'Dependenc',
    '<shortLivedTaskId>',
  ),
  senseless('a NUL in the payload', () => ({ payload: { env: { A: 'a\0b' } } }), 'data/payload/env/A'),
  senseless('a NUL in the name of a tag', () => ({ tags: { 'a\0b': 'c' } }), 'data/tags'),

  raw('no JSON', '{"created": ', 'MalformedPayload', 'Failed to parse JSON'),
  raw('a number', '5', 'MalformedPayload', 'Must be an object or array'),
  raw('a list', '[]', 'InputValidationError', 'data must be object'),
  raw('nothing', '', 'InputValidationError', "data must have required property 'created'"),
  raw('another format', 'created=now', 'MalformedPayload', 'application/x-www-form-urlencoded', 'application/x-www-form-urlencoded'),
];
