import type { TaskStatus } from '@tscluster/api/queue/tasks.ts';
import { describe, expect, test } from 'vitest';
import { GroupTally, type ListedTask } from './group-summary.ts';

type Run = { reasonCreated?: string; reasonResolved?: string };
const task = (
  taskId: string,
  state: TaskStatus['state'],
  {
    run,
    dependencies = [],
    requires = 'all-completed',
  }: { run?: Run; dependencies?: string[]; requires?: 'all-completed' | 'all-resolved' } = {},
): ListedTask => ({
  status: { taskId, state, runs: (run ? [run] : []) as unknown as TaskStatus['runs'] },
  task: { dependencies, requires, metadata: { name: `name of ${taskId}` } },
});
const tally = (...tasks: ListedTask[]): GroupTally => {
  const found = new GroupTally();
  tasks.forEach(each => found.add(each));
  return found;
};
const late: Run = { reasonCreated: 'scheduled', reasonResolved: 'deadline-exceeded' };
const neverRan: Run = { reasonCreated: 'exception', reasonResolved: 'deadline-exceeded' };

describe('a group has ended', () => {
  test.each([
    ['completed', [task('a', 'completed'), task('b', 'completed')], 'completed', { completed: 2 }],
    ['failed', [task('a', 'completed'), task('b', 'failed')], 'failed', { completed: 1, failed: 1 }],
    ['an exception', [task('a', 'exception', { run: { reasonResolved: 'malformed-payload' } })], 'failed', { exception: 1 }],
    ['nobody took it in time', [task('a', 'exception', { run: late })], 'failed', { exception: 1 }],
    ['cancelled', [task('a', 'completed'), task('b', 'exception', { run: { reasonResolved: 'canceled' } })], 'incomplete', { canceled: 1 }],
    [
      'waiting for a failed one',
      [task('a', 'failed'), task('b', 'unscheduled', { dependencies: ['a'] })],
      'failed',
      { failed: 1, blocked: 1 },
    ],
    [
      'waiting for one that waits for a failed one, and so on',
      [
        task('d', 'unscheduled', { dependencies: ['c', 'x'] }),
        task('c', 'unscheduled', { dependencies: ['b'], requires: 'all-resolved' }),
        task('b', 'unscheduled', { dependencies: ['a'] }),
        task('a', 'failed'),
      ],
      'failed',
      { failed: 1, blocked: 3 },
    ],
    [
      'never ran until its deadline',
      [task('a', 'failed'), task('b', 'exception', { run: neverRan, dependencies: ['a'] })],
      'failed',
      { blocked: 1 },
    ],
  ] as const)('%s', (_what, tasks, result, counts) => {
    expect(tally(...tasks).summarize('g')).toMatchObject({ result, counts, total: tasks.length });
  });
});

describe('a group has not ended', () => {
  test.each([
    ['with no task', []],
    ['while one is pending', [task('a', 'failed'), task('b', 'pending')]],
    ['while one runs', [task('a', 'completed'), task('b', 'running')]],
    ['while one waits to be scheduled', [task('a', 'completed'), task('b', 'unscheduled')]],
    ['while one waits for a task of another group', [task('a', 'failed'), task('b', 'unscheduled', { dependencies: ['elsewhere'] })]],
    [
      'while one waits for the end of another, whatever it is',
      [task('a', 'failed'), task('b', 'unscheduled', { dependencies: ['a'], requires: 'all-resolved' })],
    ],
  ])('%s', (_what, tasks) => {
    expect(tally(...tasks).summarize('g')).toBeUndefined();
  });
});

test('a summary names the first failures and counts the rest', () => {
  const tasks = Array.from({ length: 25 }, (_, i) => task(`t${i}`, i % 2 === 0 ? 'failed' : 'completed'));
  const summary = tally(...tasks).summarize('t1');
  expect(summary).toMatchObject({ name: 'name of t1', failed: 13, hasExceptions: false });
  expect(summary?.failures.map(({ taskId }) => taskId)).toEqual(Array.from({ length: 10 }, (_, i) => `t${2 * i}`));
});

test('an outcome is the same unless other tasks failed', () => {
  const outcome = (...tasks: ListedTask[]): string => {
    const found = tally(...tasks);
    return found.outcome({ result: found.summarize('g')?.result ?? 'incomplete' });
  };
  const green = outcome(task('a', 'completed'));
  expect(outcome(task('a', 'completed'), task('b', 'completed'))).toBe(green);
  const red = outcome(task('a', 'failed'), task('b', 'unscheduled', { dependencies: ['a'] }));
  expect(red).not.toBe(green);
  expect(outcome(task('b', 'exception', { run: neverRan }), task('a', 'failed'))).toBe(red);
  expect(outcome(task('a', 'failed'), task('b', 'failed'))).not.toBe(red);
  expect(outcome(task('a', 'exception', { run: late }))).not.toBe(red);
});
