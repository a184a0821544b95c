import { ApiError } from '../../platform/errors.ts';
import { expect, test } from 'vitest';
import { checkScopes, checkTimes, definitionText, isSameDefinition, makeTask, oneYearAfter, resolveTaskQueueId } from './definition.ts';
import { priorityRank } from './rules.ts';

const NOW = Date.parse('2030-01-15T12:00:00.000Z');
const at = (ms: number): string => new Date(NOW + ms).toISOString();
const MINUTE = 60_000;
const DAY = 86_400_000;
const config = { maxDeadlineDays: 5 };

const message = (call: () => unknown): string => {
  try {
    call();
  } catch (error) {
    expect(error).toBeInstanceOf(ApiError);
    expect((error as ApiError).code).toBe('InputError');
    return (error as ApiError).message;
  }
  throw new Error('not refused');
};

test('a queue is named in one way or the other', () => {
  expect(resolveTaskQueueId({ taskQueueId: 'p/w' })).toBe('p/w');
  expect(resolveTaskQueueId({ provisionerId: 'p', workerType: 'w' })).toBe('p/w');
  expect(resolveTaskQueueId({ taskQueueId: 'p/w', provisionerId: 'p' })).toBe('p/w');
  expect(message(() => resolveTaskQueueId({}))).toContain('names no task queue');
  expect(message(() => resolveTaskQueueId({ provisionerId: 'p' }))).toContain('names no task queue');
  expect(message(() => resolveTaskQueueId({ taskQueueId: 'p/w', workerType: 'x' }))).toContain('`p/w` contradicts');
});

test('a year later is the same day, or 1 March', () => {
  expect(new Date(oneYearAfter(Date.parse('2030-05-06T07:08:09.123Z'))).toISOString()).toBe('2031-05-06T07:08:09.123Z');
  expect(new Date(oneYearAfter(Date.parse('2028-02-29T00:00:00.000Z'))).toISOString()).toBe('2029-03-01T00:00:00.000Z');
});

test.for([
  [{ created: at(-15 * MINUTE), deadline: at(0) }, undefined],
  [{ created: at(15 * MINUTE), deadline: at(15 * MINUTE) }, undefined],
  [{ created: at(-15 * MINUTE - 1), deadline: at(DAY) }, 'more than 15 minutes away'],
  [{ created: at(15 * MINUTE + 1), deadline: at(DAY) }, 'more than 15 minutes away'],
  [{ created: at(2), deadline: at(1) }, 'is before `created`'],
  [{ created: at(-MINUTE), deadline: at(-1) }, 'is past'],
  [{ created: at(0), deadline: at(5 * DAY + 15 * MINUTE) }, undefined],
  [{ created: at(0), deadline: at(5 * DAY + 15 * MINUTE + 1) }, 'more than 5 days'],
  [{ created: at(0), deadline: at(DAY), expires: at(DAY) }, undefined],
  [{ created: at(0), deadline: at(DAY), expires: at(DAY - 1) }, '`expires`'],
] as const)('dates %o: %s', ([times, problem]) => {
  if (problem === undefined) {
    expect(checkTimes(times, NOW, config).deadlineMs).toBe(Date.parse(times.deadline));
  } else {
    expect(message(() => checkTimes(times, NOW, config))).toContain(problem);
  }
});

test('dates are cut to milliseconds and put into UTC', () => {
  const times = { created: '2030-01-15T13:00:00.123456+01:00', deadline: '2030-01-15 12:00:01', expires: '2030-01-16T00:00:00Z' };
  expect(checkTimes(times, NOW, config)).toEqual({ createdMs: NOW + 123, deadlineMs: NOW + 1_000, expiresMs: NOW + DAY / 2 });
});

test('a scope may end in one star only', () => {
  expect(checkScopes(['a:*', '*', 'b**c'])).toBeUndefined();
  expect(message(() => checkScopes(['a:*', 'b:**']))).toContain('`b:**`');
});

const body = {
  schedulerId: '-',
  projectId: 'none',
  dependencies: [],
  requires: 'all-completed' as const,
  routes: ['a"b'],
  priority: 'low' as const,
  retries: 5,
  created: at(0),
  deadline: at(DAY),
  scopes: ['s'],
  payload: { b: 1, a: [{ y: 1, x: 2 }] },
  metadata: { name: 'n', description: 'd', owner: 'o', source: 'https://src.example' },
  tags: { k: 'v' },
  extra: {},
};
const make = (fields: object = {}) => {
  const given = { ...body, ...fields };
  return makeTask('AAAAAAAAQAiAAAAAAAAAAA', given, 'p/w', checkTimes(given, NOW, config));
};

test('the definition is kept whole, and is given back with the present priority', () => {
  const task = make();
  expect(JSON.parse(definitionText('high', task.definition))).toEqual({
    ...body,
    provisionerId: 'p',
    workerType: 'w',
    taskQueueId: 'p/w',
    taskGroupId: 'AAAAAAAAQAiAAAAAAAAAAA',
    priority: 'high',
    expires: '2031-01-16T12:00:00.000Z',
  });
  expect(JSON.parse(task.cc)).toEqual(['route.a"b']);
});

test('definitions are the same whatever the order of their keys, and different in anything else', () => {
  const stored = { priority: priorityRank('low'), definition: make().definition };
  expect(isSameDefinition(make({ payload: { a: [{ x: 2, y: 1 }], b: 1 } }), stored)).toBe(true);
  expect(isSameDefinition(make({ payload: { a: [{ x: 2, y: 1 }], b: -0 } }), stored)).toBe(false);
  expect(isSameDefinition(make({ scopes: ['s', 's'] }), stored)).toBe(false);
  expect(isSameDefinition(make({ priority: 'high' }), stored)).toBe(false);
  expect(isSameDefinition(make({ created: at(1) }), stored)).toBe(false);
});
