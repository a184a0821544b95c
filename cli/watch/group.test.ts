import { describe, expect, test } from 'vitest';
import type { TaskState } from '@tscluster/api/queue/tasks.ts';
import { reasonOf, summarize, type GroupTask } from './group.ts';

const aTask = (taskId: string, state: TaskState, dependencies: string[] = [], more: Partial<GroupTask> = {}): GroupTask => ({
  taskId,
  name: taskId.toUpperCase(),
  state,
  taskQueueId: 'local/process',
  dependencies,
  requires: 'all-completed',
  runs: [],
  ...more,
});

const verdict = (...tasks: GroupTask[]): [isOver: boolean, isGreen: boolean] => {
  const { isOver, isGreen } = summarize(tasks);
  return [isOver, isGreen];
};

describe('a group', () => {
  test('is green when every task completed', () => {
    expect(verdict(aTask('a', 'completed'), aTask('b', 'completed'))).toEqual([true, true]);
  });

  test('is not over while a task can still run', () => {
    expect(verdict()).toEqual([false, false]);
    expect(verdict(aTask('a', 'completed'), aTask('b', 'running'))).toEqual([false, false]);
    expect(verdict(aTask('a', 'completed'), aTask('b', 'unscheduled', ['elsewhere']))).toEqual([false, false]);
    expect(verdict(aTask('a', 'failed'), aTask('b', 'unscheduled', ['a', 'b'], { requires: 'all-resolved' }))).toEqual([false, false]);
  });

  test('is over when what is left waits for what failed, however far away', () => {
    const summary = summarize([
      aTask('c', 'unscheduled', ['b']),
      aTask('b', 'unscheduled', ['a']),
      aTask('a', 'exception'),
      aTask('d', 'completed'),
    ]);
    expect(summary).toMatchObject({ isOver: true, isGreen: false, counts: { unscheduled: 2, exception: 1, completed: 1 } });
    expect(summary.tasks.map(({ taskId, blockedBy }) => [taskId, blockedBy])).toEqual([
      ['c', 'A'],
      ['b', 'A'],
      ['a', undefined],
      ['d', undefined],
    ]);
    expect(summary.tasks.map(reasonOf)[0]).toBe('waits for A, which did not complete');
  });

  test('is blocked through a task that waits for all to be resolved only if that one is', () => {
    const tasks = [aTask('a', 'failed'), aTask('b', 'unscheduled', ['a']), aTask('c', 'unscheduled', ['b'], { requires: 'all-resolved' })];
    expect(summarize(tasks).tasks.map(({ blockedBy }) => blockedBy)).toEqual([undefined, 'A', 'A']);
  });
});
