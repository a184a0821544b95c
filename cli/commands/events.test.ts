import { expect, test } from 'vitest';
import { findExchange } from './events.ts';

test('an exchange is found by its full name or the last part of it', () => {
  expect(findExchange('task-completed')).toBe('exchange/taskcluster-queue/v1/task-completed');
  expect(findExchange('exchange/taskcluster-queue/v1/task-completed')).toBe('exchange/taskcluster-queue/v1/task-completed');
  expect(() => findExchange('task-done')).toThrow(/^--exchange task-done names no exchange; choose from .*task-completed/);
});
