/** A task is refused in a graph when `createTask` refuses it, and as what; and accepted when it is accepted there. */
import { queueApi } from '@tscluster/api/queue/api.ts';
import fc from 'fast-check';
import { beforeAll, expect, test } from 'vitest';
import { ApiCallError } from '@tscluster/client/client.ts';
import { type QueueServer, aTask, findBreaches, withQueue } from '../testing.ts';
import { schedulerOf } from './testing.ts';

let server: QueueServer;
beforeAll(async () => {
  server = await withQueue();
});

const SCOPES = ['queue:create-task:project:none', 'queue:scheduler-id:-', 'queue:create-task:low:prov/wt', 'queue:route:ok.*', 'held:*'];
const hours = (count: number): string => new Date(server.clock.nowMs() + count * 3_600_000).toISOString();

/** Values for one field each: good ones, and ones that are wrong in some way. `later` values depend on the clock. */
const FIELDS: Readonly<Record<string, readonly unknown[]>> = {
  taskQueueId: ['prov/wt', 'prov/other', 'x', 'a/b/c', '', 5, null, undefined],
  provisionerId: ['prov', 'other', 'sp ace', undefined],
  workerType: ['wt', 'Wt', undefined],
  schedulerId: ['-', 'other', '', 'x'.repeat(39)],
  projectId: ['none', 'mine', 'a b'],
  dependencies: [[], ['AAAAAAAAQAiAAAAAAAAAAA'], ['x'], 'x', ['AAAAAAAAQAiAAAAAAAAAAA', 'AAAAAAAAQAiAAAAAAAAAAA']],
  requires: ['all-completed', 'all-resolved', 'some'],
  routes: [[], ['ok.1'], ['not-ok'], ['ok.1', 'ok.1'], [''], ['ok.'.padEnd(250, 'x')], ['ok.\u{1f9ff}\u{d800}']],
  priority: ['lowest', 'low', 'high', 'normal', null],
  retries: [0, 49, 50, -1, 1.5, '5'],
  created: [() => hours(0), () => hours(-1), () => hours(1), '2030-13-01T00:00:00Z', '2030-01-01T00:00:00+99:99', 'now', undefined],
  deadline: [
    () => hours(1),
    () => hours(-0.1),
    () => hours(24 * 6),
    '0000-01-01T00:00:00Z',
    '9999-12-31T23:59:60Z',
    '2030-01-01T00:00:00+24:00',
    7,
  ],
  expires: [
    () => hours(2),
    () => hours(0.5),
    '9999-12-31T23:59:59.999Z',
    '9999-12-31T23:59:59-01:00',
    '2030-01-01T00:00:00-9960',
    'never',
    undefined,
  ],
  scopes: [[], ['held:a', 'held:a'], ['other'], ['held:**'], ['\u00e9'], 'held:a'],
  payload: [{}, { a: [1, null, { b: 'ü' }] }, [], 'x', null],
  metadata: [
    { name: 'n', description: 'd', owner: 'o', source: 'https://a.example' },
    { name: 'n', description: 'd', owner: 'o', source: 'ftp://a.example' },
    { name: 'x'.repeat(256), description: 'd', owner: 'o', source: 'https://a.example' },
    { name: 'n', description: 'd', owner: 'o' },
    'x',
  ],
  tags: [{}, { a: 'b' }, { a: 5 }, { a: 'x'.repeat(4_097) }, ['a']],
  extra: [{}, { 'a"b': '\\' }, []],
  taskGroupId: [undefined, 'x', 5],
  unknown: [undefined, 1],
  __proto__x: [undefined, {}],
};

/** Up to four fields of a good definition replaced. */
const edits = fc.uniqueArray(
  fc.constantFrom(...Object.keys(FIELDS)).chain(field => fc.tuple(fc.constant(field), fc.nat((FIELDS[field] as unknown[]).length - 1))),
  { maxLength: 4, selector: ([field]) => field },
);

const codeOf = async (call: Promise<unknown>): Promise<string> => {
  try {
    await call;
    return 'accepted';
  } catch (error) {
    return error instanceof ApiCallError ? error.code : String(error);
  }
};

test('random definitions', async () => {
  const queue = server.client(queueApi, { scopes: SCOPES });
  const scheduler = schedulerOf(server, SCOPES);
  await fc.assert(
    fc.asyncProperty(edits, async changes => {
      const task = aTask(server.clock) as Record<string, unknown>;
      for (const [field, place] of changes) {
        const value = (FIELDS[field] as unknown[])[place];
        task[field] = typeof value === 'function' ? (value as () => unknown)() : value;
      }
      const [single, inGraph] = [server.newId(), server.newId()];
      const alone = await codeOf(queue.createTask({ taskId: single }, task as never));
      const together = await codeOf(scheduler.submitGraph({ taskGroupId: inGraph }, { tasks: [{ taskId: inGraph, task: task as never }] }));
      expect(together).toBe(alone);
      if (alone === 'accepted') {
        const definitions = await Promise.all([single, inGraph].map(async taskId => JSON.stringify(await server.queue.task({ taskId }))));
        expect(definitions[1]?.replaceAll(inGraph, single)).toBe(definitions[0]);
      }
    }),
    { numRuns: 400 },
  );
  expect(await findBreaches(server)).toEqual([]);
}, 120_000);
