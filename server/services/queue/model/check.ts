/**
 * Runs rounds of operations against the real queue and looks for an order of each round's operations in which the model gives the same answers, the
 * same events per task, and the same statuses. If there is none, the queue did something that no sequence of calls explains.
 */
import { isDeepStrictEqual } from 'node:util';
import type { BusEvent } from '../../../platform/events.ts';
import { type Answer, apply } from './apply.ts';
import type { Operation, Round } from './operations.ts';
import { type ModelEvent, type Task, type World, statusOf } from './world.ts';

export interface Observed {
  readonly answers: readonly Answer[];
  readonly events: readonly BusEvent[];
  /** Asks for present statuses, by task id. */
  readonly statuses: (taskIds: readonly string[]) => Promise<ReadonlyMap<string, unknown>>;
  /** Asks what tasks still wait for: no answer tells, but it decides what follows. */
  readonly unmet: (tasks: readonly Task[]) => Promise<ReadonlyMap<string, readonly string[]>>;
}

/** What was seen and what no order of the round explains. */
export class Divergence extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'Divergence';
  }
}

const sortKeys = (value: unknown): unknown =>
  Array.isArray(value)
    ? value.map(sortKeys)
    : typeof value === 'object' && value !== null
      ? Object.fromEntries(
          Object.entries(value)
            .filter(([, part]) => part !== undefined)
            .sort(([a], [b]) => (a < b ? -1 : 1))
            .map(([key, part]) => [key, sortKeys(part)]),
        )
      : value;
const same = (a: unknown, b: unknown): boolean => isDeepStrictEqual(sortKeys(a), sortKeys(b));

interface SeenEvent {
  readonly exchange: string;
  readonly taskId: string;
  readonly runId: number | undefined;
  readonly status: unknown;
}

/** Events by task, in order; and how often each group's resolution was announced. */
const readEvents = (events: readonly BusEvent[]) => {
  const byTask = new Map<string, SeenEvent[]>();
  const groups = new Map<string, number>();
  for (const { exchange, payload } of events) {
    const name = exchange.split('/').at(-1) as string;
    const { status, runId, taskGroupId } = payload as { status?: { taskId: string }; runId?: number; taskGroupId?: string };
    if (name === 'task-group-resolved') {
      groups.set(taskGroupId as string, (groups.get(taskGroupId as string) ?? 0) + 1);
    } else if (status) {
      const list = byTask.get(status.taskId) ?? [];
      list.push({ exchange: name, taskId: status.taskId, runId, status });
      byTask.set(status.taskId, list);
    }
  }
  return { byTask, groups };
};

const modelByTask = (events: readonly ModelEvent[]): Map<string, ModelEvent[]> => Map.groupBy(events, event => event.taskId);

/** Whether a batch that announced each group once per transaction could have announced this. */
const sameGroups = (seen: ReadonlyMap<string, number>, expected: ReadonlyMap<string, number>): boolean =>
  seen.size === expected.size && [...expected].every(([id, most]) => (seen.get(id) ?? 0) >= 1 && (seen.get(id) as number) <= most);

/** Tasks that operations of a round lock, if only to look at them. */
const contestedIn = (world: World, round: Round): Set<string> =>
  new Set(
    round.flatMap(operation => {
      switch (operation.kind) {
        case 'schedule':
        case 'rerun':
        case 'cancel':
        case 'priority':
        case 'claimTask':
          return [operation.taskId];
        case 'cancelGroup':
          return world.group(operation.taskGroupId)?.taskIds ?? [];
        default:
          return [];
      }
    }),
  );

const isEmptyClaim = (answer: Answer): boolean => 'claimed' in answer && answer.claimed.length === 0;

/** Finds an explanation, or throws a `Divergence` that tells how far the best one came. */
export const explainRound = async (world: World, round: Round, observed: Observed, nowMs: number): Promise<void> => {
  const seen = readEvents(observed.events);
  const contested = contestedIn(world, round);
  let reached = 0;
  let closest = 'no order of the operations gives these answers';
  const statuses = new Map<string, unknown>();
  const unmet = new Map<string, readonly string[]>();

  const agrees = async (end: World): Promise<boolean> => {
    const expected = modelByTask(end.events);
    const ids = new Set([...expected.keys(), ...seen.byTask.keys()]);
    for (const id of ids) {
      if (!same(seen.byTask.get(id) ?? [], expected.get(id) ?? [])) {
        closest = `events of ${id}: expected ${JSON.stringify(expected.get(id) ?? [])}, saw ${JSON.stringify(seen.byTask.get(id) ?? [])}`;
        return false;
      }
    }
    if (!sameGroups(seen.groups, end.groupsResolved)) {
      closest = `resolved groups: expected ${JSON.stringify([...end.groupsResolved])}, saw ${JSON.stringify([...seen.groups])}`;
      return false;
    }
    const changed = [...new Set(chainOf(world, end).flatMap(each => each.changed()))];
    const unknown = changed.filter(id => !statuses.has(id));
    if (unknown.length > 0) {
      (await observed.statuses(unknown)).forEach((status, id) => statuses.set(id, status));
      (await observed.unmet(unknown.map(id => end.task(id) as Task))).forEach((ids, id) => unmet.set(id, ids));
    }
    for (const id of changed) {
      const task = end.task(id) as Task;
      const expectedStatus = statusOf(task);
      if (!same(statuses.get(id), expectedStatus)) {
        closest = `status of ${id}: expected ${JSON.stringify(expectedStatus)}, is ${JSON.stringify(statuses.get(id))}`;
        return false;
      }
      const waitsFor = unmet.get(id) ?? [];
      if (!same(waitsFor, task.unmet.toSorted())) {
        closest = `unmet dependencies of ${id}: expected ${JSON.stringify(task.unmet)}, are ${JSON.stringify(waitsFor)}`;
        return false;
      }
    }
    return true;
  };

  const search = async (done: World, left: readonly number[]): Promise<World | undefined> => {
    if (left.length === 0) {
      return (await agrees(done)) ? done : undefined;
    }
    for (const index of left) {
      const answer = observed.answers[index] as Answer;
      const others = left.filter(other => other !== index);
      // who got nothing had nothing to get until the end of the round
      if (isEmptyClaim(answer) && others.some(other => !isEmptyClaim(observed.answers[other] as Answer))) {
        continue;
      }
      const next = done.fork();
      next.events.push(...done.events);
      done.groupsResolved.forEach((count, id) => next.groupsResolved.set(id, count));
      const expected = apply(next, round[index] as Operation, answer, contested, nowMs);
      if (expected !== undefined && same(expected, answer)) {
        const end = await search(next, others);
        if (end) {
          return end;
        }
      } else if (round.length - left.length >= reached) {
        reached = round.length - left.length;
        closest = `after ${reached} operations ${JSON.stringify(round[index])} should have been answered ${JSON.stringify(expected ?? lineOf(next, round[index] as Operation))}, and was ${JSON.stringify(answer)}`;
      }
    }
    return undefined;
  };

  const explanation = await search(
    world.fork(),
    round.map((_, i) => i),
  );
  if (!explanation) {
    throw new Divergence(`${closest}\nround: ${JSON.stringify(round)}\nanswers: ${JSON.stringify(observed.answers)}`);
  }
  chainOf(world, explanation).forEach(each => world.adopt(each));
};

/** Who waits in the queue that a worker claims from, in no order. */
const lineOf = (world: World, operation: Operation): unknown =>
  operation.kind === 'claimWork'
    ? {
        firstOf: world.pending(operation.taskQueueId).map(id => {
          const { priority, pendingSinceMs, deadlineMs } = world.task(id) as Task;
          return { id, priority, since: new Date(pendingSinceMs).toISOString(), deadline: new Date(deadlineMs).toISOString() };
        }),
      }
    : undefined;

/** The forks from a world to the one at its end, one per operation. */
const chainOf = (world: World, end: World): World[] => {
  const chain: World[] = [];
  for (let each: World | undefined = end; each && each !== world; each = each.base) {
    chain.unshift(each);
  }
  return chain;
};
