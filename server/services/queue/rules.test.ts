import { PRIORITIES } from '@tscluster/api/types.ts';
import { expect, test } from 'vitest';
import { type Outcome, judgeReport, prioritiesFrom, priorityName, priorityRank, retriesAfterRerun, retryReason } from './rules.ts';

test('ranks of priorities go from the most urgent down, and back', () => {
  expect(PRIORITIES.map(priorityRank)).toEqual([1, 2, 3, 4, 5, 6, 7]);
  expect(PRIORITIES.map(priority => priorityName(priorityRank(priority)))).toEqual(PRIORITIES);
  expect(() => priorityName(8)).toThrow('There is no priority of rank 8');
});

test('a scope for a more urgent priority covers the less urgent ones', () => {
  expect(prioritiesFrom('high')).toEqual(['highest', 'very-high', 'high']);
  expect(prioritiesFrom('lowest')).toEqual(PRIORITIES);
});

test('only lost workers and intermittent tasks are tried again', () => {
  expect(retryReason('worker-shutdown')).toBe('retry');
  expect(retryReason('claim-expired')).toBe('retry');
  expect(retryReason('intermittent-task')).toBe('task-retry');
  const final = ['completed', 'failed', 'malformed-payload', 'resource-unavailable', 'internal-error', 'canceled', 'deadline-exceeded'];
  expect(final.map(retryReason)).toEqual(final.map(() => undefined));
});

test.for([
  [5, 1, 5],
  [5, 44, 5],
  [5, 45, 4],
  [5, 49, 0],
  [49, 1, 48],
  [0, 1, 0],
] as const)('with %i retries, the rerun after %i runs leaves %i', ([retries, runs, left]) => {
  expect(retriesAfterRerun(retries, runs)).toBe(left);
});

const OUTCOMES: readonly (readonly [Outcome, string])[] = [
  ['completed', 'completed'],
  ['failed', 'failed'],
  ['exception', 'worker-shutdown'],
  ['exception', 'internal-error'],
];
const ended = ([state, reasonResolved]: readonly [Outcome, string]) => ({ state, reasonResolved });

test('a report about a run that there is not', () => {
  expect(judgeReport([], 0, 'completed', 'completed')).toBe('unknown');
  expect(judgeReport([{ state: 'running' }], 1, 'completed', 'completed')).toBe('unknown');
});

test('a report about a run that waits, or runs', () => {
  for (const [outcome, reason] of OUTCOMES) {
    expect(judgeReport([{ state: 'pending' }], 0, outcome, reason)).toBe('conflict');
    expect(judgeReport([{ state: 'running' }], 0, outcome, reason)).toBe('running');
  }
});

test('a report about the last run is a repeat exactly when the outcome is the same', () => {
  for (const first of OUTCOMES) {
    for (const second of OUTCOMES) {
      expect(judgeReport([ended(first)], 0, ...second)).toBe(first === second ? 'repeat' : 'conflict');
    }
  }
});

test('only an exception may be repeated when a run follows, and only one', () => {
  const later = { state: 'running' };
  for (const outcome of OUTCOMES) {
    expect(judgeReport([ended(outcome), later], 0, ...outcome)).toBe(outcome[0] === 'exception' ? 'repeat' : 'conflict');
    expect(judgeReport([ended(outcome), ended(['exception', 'claim-expired']), later], 0, ...outcome)).toBe('conflict');
  }
});
