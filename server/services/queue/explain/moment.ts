/** A task as it was at some moment, from what is stored of it now: runs keep when they were scheduled, started and resolved. Pure. */
import type { TaskRun, TaskState } from '@tscluster/api/queue/tasks.ts';
import { retriesAfterRerun, satisfies } from '../rules.ts';

export interface TaskMoment {
  readonly state: TaskState;
  /** When it came into that state. */
  readonly sinceMs: number;
  /** Runs there were, each as it was. */
  readonly runs: readonly TaskRun[];
  readonly retriesLeft: number;
}

const timeOf = (text: string | undefined): number => (text === undefined ? Number.POSITIVE_INFINITY : Date.parse(text));

/** A run without what came later. A claim is renewed in place, so that of a run that still went on its end then is not known. */
const runAt = (run: TaskRun, atMs: number): TaskRun => {
  const { runId, reasonCreated, scheduled } = run;
  if (timeOf(run.resolved) <= atMs) {
    return run;
  }
  if (timeOf(run.started) > atMs) {
    return { runId, state: 'pending', reasonCreated, scheduled };
  }
  const { workerGroup, workerId, started, takenUntil, resolved } = run;
  const claim = resolved === undefined ? { takenUntil } : {};
  return { runId, state: 'running', reasonCreated, workerGroup, workerId, ...claim, scheduled, started };
};

/** What a task was at a moment not before its creation. At the instant of a change, the change has happened. */
export const taskAt = (
  task: { readonly runs: readonly TaskRun[]; readonly retries: number; readonly createdMs: number },
  atMs: number,
): TaskMoment => {
  const runs = task.runs.filter(run => timeOf(run.scheduled) <= atMs).map(run => runAt(run, atMs));
  const retriesLeft = runs.reduce((left, { reasonCreated }, before) => {
    switch (reasonCreated) {
      case 'retry':
      case 'task-retry':
        return left - 1;
      case 'rerun':
        return retriesAfterRerun(task.retries, before);
      default:
        return left;
    }
  }, task.retries);
  const last = runs.at(-1);
  if (!last) {
    return { state: 'unscheduled', sinceMs: task.createdMs, runs, retriesLeft };
  }
  const since = last.state === 'pending' ? last.scheduled : last.state === 'running' ? last.started : last.resolved;
  return { state: last.state, sinceMs: Date.parse(since ?? last.scheduled), runs, retriesLeft };
};

/** When a task began to exist as far as is known: a definition says so itself, and may be off by the clocks' drift. */
export const createdAt = (createdMs: number, runs: readonly TaskRun[]): number => Math.min(createdMs, timeOf(runs[0]?.scheduled));

/**
 * Whether a required task had satisfied an edge by a moment, given when the dependent was created: it was resolved suitably then or at some time between.
 * A run that is tried again resolves nothing.
 */
export const hadSatisfied = (runs: readonly TaskRun[], anyOutcome: boolean, createdMs: number, atMs: number): boolean =>
  runs.some((run, i) => {
    const resolvedMs = timeOf(run.resolved);
    const nextMs = timeOf(runs[i + 1]?.scheduled);
    return satisfies(run.state, anyOutcome) && resolvedMs <= atMs && nextMs > resolvedMs && nextMs > createdMs;
  });
