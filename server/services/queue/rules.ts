/** The rules of tasks and runs that need no database: names, ranks, and who may become what. */
import { PRIORITIES, type Priority } from '@tscluster/api/types.ts';

/** A task never has more runs than this. */
export const MAX_RUNS = 50;
/** Clocks of clients may be off by this much. */
export const CLOCK_DRIFT_MS = 15 * 60_000;
/** Tasks pending at one moment: the place in `PRIORITIES`, counted from 1, so that the most urgent come first in an index. */
export const priorityRank = (priority: Priority): number => PRIORITIES.indexOf(priority) + 1;

export const priorityName = (rank: number): Priority => {
  const name = PRIORITIES[rank - 1];
  if (!name) {
    throw new Error(`There is no priority of rank ${rank}`);
  }
  return name;
};

/** This priority and all that are more urgent: a scope for any of them will do. The most urgent first. */
export const prioritiesFrom = (priority: Priority): readonly Priority[] => PRIORITIES.slice(0, priorityRank(priority));

/** A run that failed for one of these reasons is tried again while the task has retries left. */
export const retryReason = (reason: string): 'retry' | 'task-retry' | undefined => {
  switch (reason) {
    case 'worker-shutdown':
    case 'claim-expired':
      return 'retry';
    case 'intermittent-task':
      return 'task-retry';
    default:
      return undefined;
  }
};

/**
 * The retries a task has after a rerun, so that it can never exceed `MAX_RUNS`: one run is the new one, the rest may be retries.
 * `runs` counts those before the rerun.
 */
export const retriesAfterRerun = (retries: number, runs: number): number => Math.min(retries, MAX_RUNS - 1 - runs);

/** Whether an outcome of a required task satisfies an edge. */
export const satisfies = (state: string, anyOutcome: boolean): boolean =>
  state === 'completed' || (anyOutcome && (state === 'failed' || state === 'exception'));

/** `provisioner/worker-type` in its two halves. */
export const splitTaskQueueId = (taskQueueId: string): { provisionerId: string; workerType: string } => {
  const at = taskQueueId.indexOf('/');
  return { provisionerId: taskQueueId.slice(0, at), workerType: taskQueueId.slice(at + 1) };
};

export type Outcome = 'completed' | 'failed' | 'exception';

/** A run as far as a report about it must know it. */
export interface ReportedRun {
  readonly state: string;
  readonly reasonResolved?: string | undefined;
}

/**
 * What a report means that did not find its run running as the last one: `unknown` there is no such run; `repeat` it has exactly this outcome, which
 * is announced again (`final` when it is the last run, so that it resolved the task); `conflict` anything else.
 *
 * A repeated exception is accepted when exactly one run follows, because that is what the first report may have made; a later run that is running
 * or resolved decides about the task, the repeat does not.
 */
export const judgeReport = (
  runs: readonly ReportedRun[],
  runId: number,
  outcome: Outcome,
  reason: string,
): 'unknown' | 'running' | 'conflict' | 'repeat' => {
  const run = runs[runId];
  if (!run) {
    return 'unknown';
  }
  if (run.state === 'running' && runId === runs.length - 1) {
    return 'running';
  }
  if (run.state !== outcome || run.reasonResolved !== reason) {
    return 'conflict';
  }
  const later = runs.length - 1 - runId;
  return later === 0 || (outcome === 'exception' && later === 1) ? 'repeat' : 'conflict';
};
