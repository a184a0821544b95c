/**
 * How a group stands, from all of its tasks. It has ended when nothing in it runs or waits for a worker, and what is left waits for tasks that did not
 * succeed: those are resolved only at their deadline, days later, and nobody wants to wait for the message until then.
 */
import crypto from 'node:crypto';
import type { TaskDefinition, TaskState, TaskStatus } from '@tscluster/api/queue/tasks.ts';
import type { FailedTask, GroupSummary } from './subjects.ts';

const MAX_FAILURES = 10;

export interface ListedTask {
  readonly status: Pick<TaskStatus, 'taskId' | 'state' | 'runs'>;
  readonly task: Pick<TaskDefinition, 'dependencies' | 'requires'> & { readonly metadata: { readonly name: string } };
}

/** `stuck`: it never ran, and never will unless somebody does something. */
type Standing = 'completed' | 'failed' | 'canceled' | 'stuck' | 'waiting' | 'active';

const standingOf = ({ state, runs }: ListedTask['status']): Standing => {
  const run = runs.at(-1);
  switch (state) {
    case 'completed':
    case 'failed':
      return state;
    case 'exception':
      // what was never scheduled until its deadline was waiting for others
      if (run?.reasonResolved === 'deadline-exceeded' && run.reasonCreated === 'exception') {
        return 'stuck';
      }
      return run?.reasonResolved === 'canceled' ? 'canceled' : 'failed';
    case 'unscheduled':
      return 'waiting';
    default:
      return 'active';
  }
};

interface Noted {
  readonly standing: Standing;
  readonly state: TaskState;
  readonly name: string;
  readonly reason: string | undefined;
  /** Of those that wait. */
  readonly dependencies: readonly string[];
  readonly requires: TaskDefinition['requires'];
}

/** Collects the tasks of a group, page by page. */
export class GroupTally {
  readonly #tasks = new Map<string, Noted>();

  add({ status, task }: ListedTask): void {
    const standing = standingOf(status);
    this.#tasks.set(status.taskId, {
      standing,
      state: status.state,
      name: task.metadata.name,
      reason: status.runs.at(-1)?.reasonResolved,
      dependencies: standing === 'waiting' ? task.dependencies : [],
      requires: task.requires,
    });
  }

  /** Those that wait for something that will not come. Of tasks outside the group nothing is known: they may still come. */
  #findStuck(): Set<string> {
    const stuck = new Set<string>();
    const isLost = (id: string): boolean => {
      const standing = this.#tasks.get(id)?.standing;
      return standing === 'failed' || standing === 'canceled' || standing === 'stuck' || stuck.has(id);
    };
    const waiting = [...this.#tasks].filter(([, { standing }]) => standing === 'waiting');
    for (let before = -1; before < stuck.size;) {
      before = stuck.size;
      for (const [taskId, { dependencies, requires }] of waiting) {
        const isHeld = requires === 'all-completed' ? dependencies.some(isLost) : dependencies.some(id => stuck.has(id));
        if (isHeld) {
          stuck.add(taskId);
        }
      }
    }
    return stuck;
  }

  /** The summary; undefined while the group has not ended. */
  summarize(taskGroupId: string): GroupSummary | undefined {
    const stuck = this.#findStuck();
    const tasks = [...this.#tasks];
    if (tasks.length === 0 || tasks.some(([id, { standing }]) => standing === 'active' || (standing === 'waiting' && !stuck.has(id)))) {
      return undefined;
    }
    const counts: Record<string, number> = { completed: 0, failed: 0, exception: 0, canceled: 0, blocked: 0 };
    const failures: FailedTask[] = [];
    for (const [taskId, { standing, state, name, reason }] of tasks) {
      const counted = standing === 'stuck' || standing === 'waiting' ? 'blocked' : standing === 'failed' ? state : standing;
      counts[counted] = (counts[counted] ?? 0) + 1;
      if (standing === 'failed') {
        failures.push({ taskId, name, state, reason });
      }
    }
    const name = (this.#tasks.get(taskGroupId) ?? tasks[0]?.[1])?.name ?? '';
    return {
      taskGroupId,
      name,
      result: failures.length > 0 ? 'failed' : counts['completed'] === tasks.length ? 'completed' : 'incomplete',
      hasExceptions: (counts['exception'] ?? 0) > 0,
      total: tasks.length,
      counts,
      failures: failures.slice(0, MAX_FAILURES),
      failed: failures.length,
    };
  }

  /** What makes two ends of a group the same: the result, and which tasks failed how. More successes are no news. */
  outcome({ result }: Pick<GroupSummary, 'result'>): string {
    const failed = [...this.#tasks].filter(([, { standing }]) => standing === 'failed').map(([id, { state }]) => `${id} ${state}`);
    return crypto.hash('sha256', [result, ...failed.toSorted()].join('\n'), 'base64url');
  }
}
