import { Ansis } from 'ansis';
import { describe, expect, test } from 'vitest';
import type { TaskRun, TaskState } from '@tscluster/api/queue/tasks.ts';
import { summarize, type GroupTask } from '../watch/group.ts';
import { renderChanges, renderProgress } from './progress.ts';
import { fit, logLine, plain, renderTable, widthOf } from './table.ts';

const START = Date.parse('2030-01-15T12:00:00.000Z');
const at = (seconds: number): string => new Date(START + seconds * 1000).toISOString();
const view = { columns: 80, rows: 24, nowMs: START + 100_000, style: new Ansis(0) };

const aRun = (runId: number, started?: number, resolved?: number, reasonResolved?: TaskRun['reasonResolved']): TaskRun => ({
  runId,
  state: 'running',
  reasonCreated: 'scheduled',
  scheduled: at(0),
  ...(started === undefined ? {} : { started: at(started) }),
  ...(resolved === undefined ? {} : { resolved: at(resolved) }),
  ...(reasonResolved === undefined ? {} : { reasonResolved }),
});

const aTask = (name: string, state: TaskState, runs: TaskRun[] = [], dependencies: string[] = []): GroupTask => ({
  taskId: name,
  name,
  state,
  taskQueueId: 'local/process',
  dependencies,
  requires: 'all-completed',
  runs,
});

const tasks = [
  aTask('report', 'unscheduled', [], ['lint']),
  aTask('lint', 'failed', [aRun(0, 30, 42, 'failed')]),
  aTask('types\x1b[31m of\nall', 'running', [aRun(0, 5, 20, 'worker-shutdown'), aRun(1, 35)]),
  aTask('install', 'completed', [aRun(0, 2, 28, 'completed')]),
  aTask('e2e', 'exception', [aRun(0, 31, 90, 'deadline-exceeded')]),
];

describe('progress', () => {
  test('is a table in the order of starting', () => {
    expect(renderProgress(summarize(tasks), view)).toEqual([
      '  install       ✔ completed    26s',
      '  lint          ✘ failed       12s',
      '  e2e           ! exception    59s  deadline-exceeded',
      '  types of all  ▶ running      1m 05s  run 1',
      '  report        · unscheduled  waits for lint, which did not complete',
      '',
      '  1 completed, 1 failed, 1 exception, 1 running, 1 unscheduled',
    ]);
  });

  test('keeps what matters where there is no room for all', () => {
    expect(renderProgress(summarize(tasks), { ...view, rows: 7, columns: 40 })).toEqual([
      '  lint          ✘ failed       12s',
      '  e2e           ! exception    59s  de…',
      '  types of all  ▶ running      1m 05s …',
      '  … and 2 more',
      '',
      '  1 completed, 1 failed, 1 exception, 1 running, 1 unscheduled',
    ]);
  });

  test('is a line per change elsewhere', () => {
    const before = summarize([aTask('install', 'running', [aRun(0, 2)]), aTask('lint', 'pending')]);
    expect(renderChanges(undefined, before, view)).toEqual(['▶ running     install', '○ pending     lint']);
    const after = summarize([aTask('install', 'completed', [aRun(0, 2, 28, 'completed')]), aTask('lint', 'pending')]);
    expect(renderChanges(before, after, view)).toEqual(['✔ completed   install (26s)']);
    expect(renderChanges(after, after, view)).toEqual([]);
  });
});

describe('text', () => {
  test('has a width in cells', () => {
    expect([widthOf('abc'), widthOf('\x1b[31mabc\x1b[0m'), widthOf('世界'), widthOf('e\u0301')]).toEqual([3, 3, 4, 1]);
  });

  test('is cut to a width', () => {
    expect([fit('abcdef', 6), fit('abcdef', 5), fit('世界abc', 4), fit('abc', 0)]).toEqual(['abcdef', 'abcd…', '世…', '']);
  });

  test('of others moves no cursor', () => {
    expect(plain('a\x1b[2J\tb\r\nc\x07')).toBe('a b c');
  });

  test('of a log keeps its blanks and its colours, and moves no cursor', () => {
    expect(logLine('  10%\r\x1b[2K\t 20%\x1b[1A\r', false)).toBe('\t 20%');
    expect(logLine('a \x1b[31mred\x1b]0;title\x07', true)).toBe('a \x1b[31mred\x1b[0m');
    expect(logLine('a \x1b[31mred\x1b[39m', false)).toBe('a red');
    expect(logLine('a  b', true)).toBe('a  b');
  });

  test('stands in columns', () => {
    expect(
      renderTable([
        ['a', 'bb', ''],
        ['ccc', '', 'd'],
      ]),
    ).toEqual(['a    bb', 'ccc      d']);
  });
});
