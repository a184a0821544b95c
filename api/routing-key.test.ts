import { describe, expect, test } from 'vitest';
import { authEvents } from './auth/events.ts';
import type { Exchange } from './define.ts';
import { queueEvents } from './queue/events.ts';
import { buildRoutingKey, requireShort, routingKeyMatches, routingKeyPattern } from './routing-key.ts';

const { taskPending, taskRunning, taskGroupSealed } = queueEvents.exchanges;
const task = {
  taskId: 'fJ8aPq-9T_ayX0cVbNmLkA',
  provisionerId: 'local',
  workerType: 'process',
  schedulerId: '-',
  taskGroupId: 'AAAAAAAAQACAAAAAAAAAAA',
};

describe('building', () => {
  test('constants, values, numbers, and an underscore for what is absent', () => {
    expect(buildRoutingKey(taskPending, { ...task, runId: 0, workerGroup: undefined })).toBe(
      'primary.fJ8aPq-9T_ayX0cVbNmLkA.0._._.local.process.-.AAAAAAAAQACAAAAAAAAAAA._',
    );
    expect(buildRoutingKey(taskGroupSealed, { taskGroupId: 'g', schedulerId: 's' })).toBe('primary.g.s._');
    expect(buildRoutingKey(authEvents.exchanges.clientCreated, {})).toBe('_');
  });

  test('a required part must be there', () => {
    expect(() => buildRoutingKey(taskRunning, { ...task, runId: 0, workerGroup: 'g' })).toThrow(
      'routing key of exchange task-running: `workerId` is missing',
    );
  });

  test('only a part of several words may have dots', () => {
    expect(() => buildRoutingKey(taskGroupSealed, { taskGroupId: 'a.b', schedulerId: 's' })).toThrow('must not have a dot in it: a.b');
    expect(buildRoutingKey(taskGroupSealed, { taskGroupId: 'g', schedulerId: 's', reserved: 'a.b' })).toBe('primary.g.s.a.b');
  });

  test('255 bytes are the limit, and characters are not bytes', () => {
    const fit = 'x'.repeat(255 - 'primary..s._'.length);
    expect(buildRoutingKey(taskGroupSealed, { taskGroupId: fit, schedulerId: 's' })).toHaveLength(255);
    expect(() => buildRoutingKey(taskGroupSealed, { taskGroupId: `${fit}x`, schedulerId: 's' })).toThrow('has 256 bytes and may have 255');
    expect(() => requireShort(`route.${'é'.repeat(125)}`, 'task-defined')).toThrow('has 256 bytes');
  });
});

describe('binding', () => {
  test('given parts stand for themselves, others for anything', () => {
    expect(routingKeyPattern(taskPending, { taskId: 'T' })).toBe('primary.T.*.*.*.*.*.*.*.#');
    expect(routingKeyPattern(taskPending)).toBe('primary.*.*.*.*.*.*.*.*.#');
    expect(routingKeyPattern(authEvents.exchanges.roleCreated)).toBe('#');
    expect(routingKeyPattern(taskPending, { routingKeyKind: 'route' })).toBe('route.*.*.*.*.*.*.*.*.#');
  });

  test('a part that does not exist is a mistake', () => {
    expect(() => routingKeyPattern(taskGroupSealed, { taskId: 'T' })).toThrow(
      'exchange task-group-sealed has no routing key part `taskId`',
    );
  });

  test('a pattern matches the keys it was made for', () => {
    const key = buildRoutingKey(taskPending, { ...task, runId: 3 });
    const matches = (exchange: Exchange, values: Record<string, string | number>) =>
      routingKeyMatches(routingKeyPattern(exchange, values), key);
    expect(matches(taskPending, { taskId: task.taskId })).toBe(true);
    expect(matches(taskPending, { runId: 3 })).toBe(true);
    expect(matches(taskPending, { runId: 4 })).toBe(false);
  });

  test.each([
    ['a.*.c', 'a.b.c', true],
    ['a.*.c', 'a.c', false],
    ['a.#', 'a', true],
    ['#', 'a.b', true],
    ['#.c', 'a.b.c', true],
    ['#.b', 'a.b.c', false],
    ['a.#.c.#', 'a.c', true],
    ['*', 'a.b', false],
    ['#.#', '', true],
  ])('%s and %s: %s', (pattern, key, expected) => {
    expect(routingKeyMatches(pattern, key)).toBe(expected);
  });
});
