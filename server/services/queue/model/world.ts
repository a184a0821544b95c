/**
 * What the queue should hold, in plain values: tasks, groups, who waits for whom. Values never change in place, so that a fork costs nothing: the
 * runner forks a world for every order in which concurrent calls might have happened.
 */
import type { Priority } from '@tscluster/api/types.ts';
import type { TaskStatus } from '@tscluster/api/queue/tasks.ts';

export type Run = TaskStatus['runs'][number];

export interface Task {
  readonly taskId: string;
  readonly taskGroupId: string;
  readonly taskQueueId: string;
  readonly schedulerId: string;
  readonly priority: Priority;
  readonly retries: number;
  readonly retriesLeft: number;
  readonly requires: 'all-completed' | 'all-resolved';
  readonly dependencies: readonly string[];
  /** Dependencies that are not satisfied; satisfied stays satisfied. */
  readonly unmet: readonly string[];
  readonly runs: readonly Run[];
  readonly wasResolved: boolean;
  readonly claimedDirectly: boolean;
  readonly deadlineMs: number;
  readonly expiresMs: number;
  /** When the pending run joined the line; a new priority keeps it. */
  readonly pendingSinceMs: number;
}

export interface Group {
  readonly schedulerId: string;
  readonly isSealed: boolean;
  readonly taskIds: readonly string[];
}

/** One event that must be seen, in its task's order. */
export interface ModelEvent {
  readonly exchange: string;
  readonly taskId: string;
  readonly runId: number | undefined;
  readonly status: TaskStatus;
}

export class World {
  readonly base: World | undefined;
  readonly #tasks = new Map<string, Task>();
  readonly #groups = new Map<string, Group>();
  readonly #dependents = new Map<string, readonly string[]>();
  readonly #pending = new Map<string, readonly string[]>();
  readonly #running = new Map<string, boolean>();
  readonly events: ModelEvent[] = [];
  /** Group id → how often its resolution is announced, at most (a batch announces once what happened together). */
  readonly groupsResolved = new Map<string, number>();

  constructor(base?: World) {
    this.base = base;
  }

  fork(): World {
    return new World(this);
  }

  task(taskId: string): Task | undefined {
    return this.#tasks.get(taskId) ?? this.base?.task(taskId);
  }
  group(taskGroupId: string): Group | undefined {
    return this.#groups.get(taskGroupId) ?? this.base?.group(taskGroupId);
  }
  dependents(taskId: string): readonly string[] {
    return this.#dependents.get(taskId) ?? this.base?.dependents(taskId) ?? [];
  }
  /** Pending tasks of a queue, in no order. */
  pending(taskQueueId: string): readonly string[] {
    return this.#pending.get(taskQueueId) ?? this.base?.pending(taskQueueId) ?? [];
  }

  setTask(task: Task): void {
    const { taskId, taskQueueId } = task;
    this.#tasks.set(taskId, task);
    const line = this.pending(taskQueueId);
    const isPending = task.runs.at(-1)?.state === 'pending';
    if (isPending !== line.includes(taskId)) {
      this.#pending.set(taskQueueId, isPending ? [...line, taskId] : line.filter(id => id !== taskId));
    }
    const isActive = stateOf(task) !== 'completed' && stateOf(task) !== 'failed' && stateOf(task) !== 'exception';
    this.#running.set(taskId, isActive);
  }
  setGroup(taskGroupId: string, group: Group): void {
    this.#groups.set(taskGroupId, group);
  }
  addDependent(required: string, dependent: string): void {
    this.#dependents.set(required, [...this.dependents(required), dependent]);
  }

  /** Tasks that are not resolved, by id. */
  active(): string[] {
    const found = new Map<string, boolean>();
    const collect = (world: World | undefined): void => {
      if (world) {
        collect(world.base);
        for (const [id, isActive] of world.#running) {
          found.set(id, isActive);
        }
      }
    };
    collect(this);
    return [...found].flatMap(([id, isActive]) => (isActive ? [id] : [])).sort();
  }

  /** Ids of the tasks that this world, without its base, has changed. */
  changed(): string[] {
    return [...this.#tasks.keys()];
  }

  /** Makes the fork's changes this world's own. */
  adopt(fork: World): void {
    for (const task of fork.#tasks.values()) {
      this.setTask(task);
    }
    for (const [id, isActive] of fork.#running) {
      if (!isActive) {
        this.#running.delete(id); // only those that are active are looked for
      }
    }
    fork.#groups.forEach((group, id) => this.#groups.set(id, group));
    fork.#dependents.forEach((ids, id) => this.#dependents.set(id, ids));
    fork.#pending.forEach((ids, id) => this.#pending.set(id, ids));
  }
}

export const stateOf = ({ runs }: Pick<Task, 'runs'>): TaskStatus['state'] => runs.at(-1)?.state ?? 'unscheduled';

const iso = (ms: number): string => new Date(ms).toISOString();

/** The status as clients see it. */
export const statusOf = (task: Task, pristine = false): TaskStatus => {
  const [provisionerId = '', workerType = ''] = task.taskQueueId.split('/');
  return {
    taskId: task.taskId,
    provisionerId,
    workerType,
    taskQueueId: task.taskQueueId,
    schedulerId: task.schedulerId,
    projectId: 'none',
    taskGroupId: task.taskGroupId,
    priority: task.priority,
    deadline: iso(task.deadlineMs),
    expires: iso(task.expiresMs),
    retriesLeft: pristine ? task.retries : task.retriesLeft,
    state: pristine ? 'unscheduled' : stateOf(task),
    runs: pristine ? [] : [...task.runs],
  };
};
