import { Ansis } from 'ansis';
import { describe, expect, test } from 'vitest';
import type { TaskExplanation } from '@tscluster/api/queue/explain.ts';
import { parseMoment } from '../commands/task-explain.ts';
import { renderExplanation, wrap } from './explanation.ts';

const [TASK, BUILD, PACK] = ['fN1SbArXTPSVFNUvaOlinQ', 'DYE7NbiQTR2jrTwp3RL8-g', 'NFCI442vQ4W6gKExIj5a9g'];

const told: TaskExplanation = {
  taskId: TASK,
  at: '2030-01-15T12:00:00.000Z',
  isPast: false,
  state: 'unscheduled',
  since: '2030-01-15T11:00:00.000Z',
  summary: '',
  reasons: [
    {
      reason: 'waits-for-tasks',
      message: 'Unscheduled for 60 minutes: it waits for `pack` and, through it, for `build`, which failed 12 minutes ago (run 0 on wg/w).',
    },
  ],
  task: {
    name: 'ship\x1b[31m it\nnow',
    taskQueueId: 'prov/wt',
    taskGroupId: TASK,
    priority: 'low',
    retriesLeft: 5,
    runs: 0,
    created: '2030-01-15T11:00:00.000Z',
    deadline: '2030-01-16T11:00:00.000Z',
    expires: '2031-01-16T11:00:00.000Z',
  },
  waitsFor: {
    tasks: 1,
    causes: 3,
    hidden: 0,
    isComplete: true,
    blockers: [
      { taskId: BUILD, state: 'failed', isCause: true, path: [PACK, BUILD], message: '`build` failed 12 minutes ago (run 0 on wg/w).' },
      { taskId: PACK, state: 'unscheduled', isCause: false, path: [PACK], message: '`pack` waits for other tasks.' },
    ],
  },
  taskQueues: [
    {
      taskQueueId: 'prov/wt',
      workers: {
        known: 1,
        active: 0,
        quarantined: 1,
        isMore: false,
        some: [
          { workerGroup: 'wg', workerId: 'w', lastDateActive: '2030-01-15T10:00:00.000Z', quarantineUntil: '2030-02-01T00:00:00.000Z' },
        ],
      },
      message: 'In prov/wt no worker has asked for work for 2 hours.',
    },
  ],
  group: {},
  changes: [
    {
      at: '2030-01-15T11:30:00.000Z',
      change: 'priority',
      ofGroup: true,
      message: '30 minutes before, with its group it was moved from priority lowest to low.',
    },
  ],
  actions: [
    { action: 'rerunTask', taskId: BUILD, isAllowed: true, message: 'Run build again.' },
    { action: 'cancelTask', taskId: TASK, isAllowed: false, missingScopes: ['queue:cancel-task:a'], message: 'Cancel the task.' },
  ],
  notShown: [{ what: 'the place in line', missingScopes: ['queue:pending-count:prov/wt'] }],
  unknown: [],
};
const style = new Ansis(0);

describe('an explanation', () => {
  test('is laid out for a person', () => {
    expect(renderExplanation(told, { columns: 90, style })).toEqual([
      `· unscheduled  ship it now ${TASK}`,
      '  Unscheduled for 60 minutes: it waits for `pack` and, through it, for `build`, which',
      '  failed 12 minutes ago (run 0 on wg/w).',
      '',
      'Waits for',
      '  ✘ `build` failed 12 minutes ago (run 0 on wg/w).',
      '  · `pack` waits for other tasks.',
      '  … and 2 more',
      '',
      'Workers',
      '  · In prov/wt no worker has asked for work for 2 hours.',
      '      wg/w, last seen 2030-01-15T10:00:00.000Z, quarantined until 2030-02-01T00:00:00.000Z',
      '',
      'Done by hand',
      '  · 30 minutes before, with its group it was moved from priority lowest to low.',
      '',
      'Limits',
      '  · Task queue prov/wt, priority low, 0 runs so far, 5 retries left.',
      '  · Deadline 2030-01-16T11:00:00.000Z, expires 2031-01-16T11:00:00.000Z.',
      `  · Group ${TASK}, not sealed.`,
      '',
      'What would change it',
      '  → Run build again. (rerunTask)',
      '  → Cancel the task. (cancelTask; needs queue:cancel-task:a)',
      '',
      'Not shown',
      '  · the place in line: needs queue:pending-count:prov/wt',
    ]);
  });

  test('of a past moment says of which, and what is not known any more', () => {
    const past: TaskExplanation = {
      ...told,
      isPast: true,
      waitsFor: undefined,
      taskQueues: [],
      changes: [],
      actions: [],
      notShown: [],
      unknown: ['The place in line.'],
    };
    const lines = renderExplanation(past, { columns: 40, style });
    expect(lines[0]).toBe(`· unscheduled  ship it now ${TASK}  at 2030-01-15T12:00:00.000Z`);
    expect(lines.slice(-3)).toEqual(['', 'Not known any more', '  · The place in line.']);
    expect(Math.max(...lines.slice(1).map(line => line.length))).toBeLessThanOrEqual(48);
  });
});

test('texts are broken at blanks', () => {
  expect(wrap('a bb ccc dddd', 6)).toEqual(['a bb', 'ccc', 'dddd']);
  expect(wrap('abcdefghij k', 4)).toEqual(['abcdefghij', 'k']);
  expect(wrap('', 4)).toEqual(['']);
});

test('moments are dates, or so long ago', () => {
  const now = new Date('2030-01-15T12:00:00.000Z');
  const at = (text: string): string => parseMoment(text, now);
  expect(['2030-01-15T11:00:00Z', '2030-01-15 11:00:00+01:00', '2030-01-15'].map(at)).toEqual([
    '2030-01-15T11:00:00Z',
    '2030-01-15T11:00:00+01:00',
    '2030-01-15T00:00:00Z',
  ]);
  expect(['10 minutes ago', '-10m', '10min', '1d 2h ago'].map(at)).toEqual([
    ...Array.from({ length: 3 }, () => '2030-01-15T11:50:00.000Z'),
    '2030-01-14T10:00:00.000Z',
  ]);
  expect(() => at('yesterday')).toThrow('is not a duration');
  expect(() => at(' ')).toThrow('--at needs a moment');
});
