/**
 * What a group of tasks has come to. Pure: from what the queue lists to what a person asks — is it over, did it succeed, what is stuck.
 *
 * A group is over when every task is resolved, or waits for a task that can no longer complete: such a task stays unscheduled until its
 * deadline, and nobody wants to watch that.
 */
import type { TaskDefinition, TaskRun, TaskState, TaskStatus } from '@tscluster/api/queue/tasks.ts';

export interface GroupTask {
  readonly taskId: string;
  readonly name: string;
  readonly state: TaskState;
  readonly taskQueueId: string;
  readonly dependencies: readonly string[];
  readonly requires: 'all-completed' | 'all-resolved';
  readonly runs: readonly TaskRun[];
  /** Set when it waits for a task that can no longer complete: the name of that task. */
  readonly blockedBy?: string;
}

export interface GroupSummary {
  readonly tasks: readonly GroupTask[];
  readonly counts: Readonly<Record<TaskState, number>>;
  readonly isOver: boolean;
  readonly isGreen: boolean;
}

export const toGroupTask = ({ status, task }: { status: TaskStatus; task: TaskDefinition }): GroupTask => ({
  taskId: status.taskId,
  name: task.metadata.name || status.taskId,
  state: status.state,
  taskQueueId: status.taskQueueId,
  dependencies: task.dependencies,
  requires: task.requires,
  runs: status.runs,
});

export const isResolved = (state: TaskState): boolean => state === 'completed' || state === 'failed' || state === 'exception';

/** Finds what is blocked, counts, and decides whether it is over. A task outside the group is taken to be fine. */
export const summarize = (tasks: readonly GroupTask[]): GroupSummary => {
  const byId = new Map(tasks.map(task => [task.taskId, task]));
  const blockers = new Map<string, string | undefined>();
  const blockerOf = (task: GroupTask): string | undefined => {
    if (task.state !== 'unscheduled') {
      return undefined;
    }
    if (blockers.has(task.taskId)) {
      return blockers.get(task.taskId);
    }
    blockers.set(task.taskId, undefined);
    let blocker: string | undefined;
    for (const id of task.dependencies) {
      const dependency = byId.get(id);
      if (dependency === undefined || dependency.taskId === task.taskId) {
        continue;
      }
      const hasFailed = dependency.state === 'failed' || dependency.state === 'exception';
      blocker = hasFailed ? (task.requires === 'all-completed' ? dependency.name : undefined) : blockerOf(dependency);
      if (blocker !== undefined) {
        break;
      }
    }
    blockers.set(task.taskId, blocker);
    return blocker;
  };
  const marked = tasks.map(task => {
    const blockedBy = blockerOf(task);
    return blockedBy === undefined ? task : { ...task, blockedBy };
  });
  const counts = { unscheduled: 0, pending: 0, running: 0, completed: 0, failed: 0, exception: 0 };
  for (const { state } of tasks) {
    counts[state] += 1;
  }
  return {
    tasks: marked,
    counts,
    isOver: tasks.length > 0 && marked.every(task => isResolved(task.state) || task.blockedBy !== undefined),
    isGreen: tasks.length > 0 && counts.completed === tasks.length,
  };
};

/** When the last run started and ended, in milliseconds since the epoch, as far as it has. */
export const lastRunTimes = (task: GroupTask): { startedMs?: number; resolvedMs?: number } => {
  const { started, resolved } = task.runs.at(-1) ?? {};
  return {
    ...(started === undefined ? {} : { startedMs: Date.parse(started) }),
    ...(resolved === undefined ? {} : { resolvedMs: Date.parse(resolved) }),
  };
};

/** Why the last run ended, where the state alone does not say it. */
export const reasonOf = (task: GroupTask): string | undefined => {
  if (task.blockedBy !== undefined) {
    return `waits for ${task.blockedBy}, which did not complete`;
  }
  const { reasonResolved } = task.runs.at(-1) ?? {};
  return reasonResolved === task.state ? undefined : reasonResolved;
};
