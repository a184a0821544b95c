/**
 * What a task waits for, found by walking its dependencies upwards, the nearest first. Dependencies have to exist when a task is created, so there are no
 * cycles but of a task with itself; each task is looked at once all the same. The walk is bounded: what it says then is true, and not all.
 */
import type { TaskStatus } from '@tscluster/api/queue/tasks.ts';
import type { Query } from '../../../db/sql.ts';
import { type EdgeRow, listEdges } from './explain.db.ts';
import { type TaskMoment, hadSatisfied, taskAt } from './moment.ts';
import type { Sight } from './sight.ts';

const MAX_BATCHES = 100;
/** Tasks whose dependencies are read together. */
const MAX_TOGETHER = 200;
const MAX_TASKS = 1_000;

export interface Blocker {
  readonly taskId: string;
  /** Undefined when the task does not exist any more. */
  readonly status: TaskStatus | undefined;
  /** As it was at the moment that is explained. */
  readonly moment: TaskMoment | undefined;
  /** From a dependency of the explained task to this one. */
  readonly path: readonly string[];
  /** Why it is unscheduled, when that cannot be followed further. */
  waiting: 'on-others' | 'on-itself' | 'hidden' | 'not-looked-at' | 'released';
}

export interface Blockers {
  readonly all: readonly Blocker[];
  /** The explained task depends on itself. */
  readonly onItself: boolean;
  /** Tasks on the way that the caller may not see. */
  readonly hidden: number;
  readonly isComplete: boolean;
  /** Required tasks that are gone, so that it is not known whether they were still waited for. */
  readonly forgotten: number;
}

export const findBlockers = async (
  db: Query,
  sight: Sight,
  explained: string,
  { atMs, isPast }: { readonly atMs: number; readonly isPast: boolean },
): Promise<Blockers> => {
  const found = new Map<string, Blocker>();
  const hidden = new Set<string>();
  const state = { onItself: false, isComplete: true, forgotten: 0 };
  /** Unscheduled tasks whose dependencies are still to be looked at, the nearest first. */
  const waiting = [explained];

  const isWaitedFor = ({ status, satisfied, anyOutcome, created }: EdgeRow, runs: TaskStatus['runs']): boolean => {
    if (!satisfied) {
      return true;
    }
    if (status === null) {
      state.forgotten++;
      return false;
    }
    return !hadSatisfied(runs, anyOutcome, Date.parse(created), atMs);
  };

  const follow = (edge: EdgeRow): void => {
    const { dependent, required } = edge;
    const from = found.get(dependent);
    const wait = (how: Blocker['waiting']): void => {
      if (from && from.waiting !== 'on-others') {
        from.waiting = how;
      }
    };
    if (required === null) {
      state.isComplete = false;
      wait('not-looked-at');
      return;
    }
    const mayBeSeen = sight.may('status', { taskId: required });
    const status = edge.status === null ? undefined : (JSON.parse(edge.status) as TaskStatus);
    if (!isWaitedFor(edge, status?.runs ?? [])) {
      return;
    }
    if (required === dependent) {
      state.onItself ||= dependent === explained;
      wait('on-itself');
      return;
    }
    if (!mayBeSeen) {
      hidden.add(required);
      sight.hide('tasks that it waits for', 'status');
      wait('hidden');
      return;
    }
    wait('on-others');
    if (found.has(required)) {
      return;
    }
    const moment = status && taskAt({ runs: status.runs, retries: status.retriesLeft, createdMs: atMs }, atMs);
    const blocker: Blocker = { taskId: required, status, moment, path: [...(from?.path ?? []), required], waiting: 'released' };
    found.set(required, blocker);
    if (moment?.state !== 'unscheduled') {
      return;
    }
    if (sight.may('task', { taskId: required })) {
      waiting.push(required);
    } else {
      blocker.waiting = 'hidden';
      sight.hide('what the tasks that it waits for wait for themselves', 'task');
    }
  };

  for (let batch = 0; waiting.length > 0; batch++) {
    if (batch === MAX_BATCHES || found.size >= MAX_TASKS) {
      state.isComplete = false;
      waiting.forEach(taskId => notLookedAt(found.get(taskId)));
      break;
    }
    const now = waiting.splice(0, MAX_TOGETHER);
    const edges = await listEdges(db, now, isPast ? new Date(atMs).toISOString() : undefined, MAX_TASKS);
    edges.forEach(follow);
    if (edges.length >= MAX_TASKS) {
      state.isComplete = false;
      now.map(taskId => found.get(taskId)).forEach(blocker => blocker?.waiting === 'released' && notLookedAt(blocker));
    }
  }
  return { all: [...found.values()], hidden: hidden.size, ...state };
};

const notLookedAt = (blocker: Blocker | undefined): void => {
  if (blocker) {
    blocker.waiting = 'not-looked-at';
  }
};

/** Whether something has to happen to this task itself, as far as was seen. */
export const isCause = ({ moment, waiting }: Blocker): boolean => moment?.state !== 'unscheduled' || waiting !== 'on-others';

const rank = ({ moment, waiting }: Blocker): number => {
  switch (moment?.state) {
    case undefined:
    case 'failed':
    case 'exception':
      return 0;
    case 'unscheduled':
      return waiting === 'on-others' ? 4 : 1;
    case 'pending':
      return 2;
    default:
      return 3;
  }
};

/** Causes first, those that end only when somebody acts before those that go on by themselves, then the oldest; then what waits for them, the nearest first. */
export const inOrder = (blockers: readonly Blocker[]): Blocker[] =>
  blockers.toSorted(
    (a, b) =>
      rank(a) - rank(b) ||
      (rank(a) === 4 ? a.path.length - b.path.length : (a.moment?.sinceMs ?? 0) - (b.moment?.sinceMs ?? 0)) ||
      (a.taskId < b.taskId ? -1 : 1),
  );
