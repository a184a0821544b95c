/**
 * What an operation does to the world, and what it is answered with: the rules of the queue once more, in the plainest form. A claim is told what was
 * handed out and says whether that was right, because runs that became pending in the same millisecond have no order.
 */
import { PRIORITIES } from '@tscluster/api/types.ts';
import type { NewTaskOperation, Operation } from './operations.ts';
import { type Run, type Task, type World, stateOf, statusOf } from './world.ts';

/** A status code that was refused with, or what was answered. */
export type Answer = { readonly refused: number } | { readonly claimed: readonly string[] } | { readonly status: unknown };

const MAX_RUNS = 50;
const CLAIM_MS = 1_200_000;
const DEADLINE_DELAY_MS = 60_000;
const MAX_DRIFT_MS = 15 * 60_000;
const WORKER_GROUP = 'wg';

const refused = (code: number): Answer => ({ refused: code });
const iso = (ms: number): string => new Date(ms).toISOString();
const isResolved = (task: Task): boolean => ['completed', 'failed', 'exception'].includes(stateOf(task));
const sortedGroup = (world: World, taskGroupId: string): readonly string[] => world.group(taskGroupId)?.taskIds ?? [];

const announce = (world: World, exchange: string, task: Task, runId: number | undefined, pristine = false): void => {
  world.events.push({ exchange, taskId: task.taskId, runId, status: statusOf(task, pristine) });
};

const withLastRun = (task: Task, change: Partial<Run>): Task => ({
  ...task,
  runs: [...task.runs.slice(0, -1), { ...(task.runs.at(-1) as Run), ...change }],
});

const addPending = (task: Task, reasonCreated: Run['reasonCreated'], nowMs: number): Task => ({
  ...task,
  runs: [...task.runs, { runId: task.runs.length, state: 'pending', reasonCreated, scheduled: iso(nowMs) }],
  pendingSinceMs: nowMs,
  claimedDirectly: false,
});

const makePending = (world: World, task: Task, reason: Run['reasonCreated'], nowMs: number): Task => {
  const pending = addPending(task, reason, nowMs);
  world.setTask(pending);
  announce(world, 'task-pending', pending, pending.runs.length - 1);
  return pending;
};

const announceGroup = (world: World, taskGroupId: string): void => {
  if (sortedGroup(world, taskGroupId).every(id => world.task(id)?.wasResolved)) {
    world.groupsResolved.set(taskGroupId, (world.groupsResolved.get(taskGroupId) ?? 0) + 1);
  }
};

/** The task has reached an end: it counts for its group, and for those who wait for it. */
const afterResolution = (world: World, task: Task, nowMs: number): void => {
  announceGroup(world, task.taskGroupId);
  for (const dependentId of world.dependents(task.taskId)) {
    const dependent = world.task(dependentId) as Task;
    const satisfies = stateOf(task) === 'completed' || dependent.requires === 'all-resolved';
    if (satisfies && dependent.unmet.includes(task.taskId)) {
      const unmet = dependent.unmet.filter(id => id !== task.taskId);
      const changed = { ...dependent, unmet };
      world.setTask(changed);
      if (unmet.length === 0 && changed.runs.length === 0 && changed.deadlineMs > nowMs) {
        makePending(world, changed, 'scheduled', nowMs);
      }
    }
  }
};

const OUTCOME_EXCHANGE = { completed: 'task-completed', failed: 'task-failed', exception: 'task-exception' } as const;
const RETRY_REASON: Readonly<Record<string, Run['reasonCreated']>> = {
  'worker-shutdown': 'retry',
  'claim-expired': 'retry',
  'intermittent-task': 'task-retry',
};

/** Ends the last run, which runs. */
const endRun = (world: World, task: Task, outcome: 'completed' | 'failed' | 'exception', reason: string, nowMs: number): Task => {
  const ended = withLastRun(task, { state: outcome, reasonResolved: reason as never, resolved: iso(nowMs) });
  const runId = ended.runs.length - 1;
  const retry = RETRY_REASON[reason];
  if (retry !== undefined && task.retriesLeft > 0) {
    const again = { ...addPending(ended, retry, nowMs), retriesLeft: task.retriesLeft - 1 };
    world.setTask(again);
    announce(world, OUTCOME_EXCHANGE[outcome], again, runId);
    announce(world, 'task-pending', again, again.runs.length - 1);
    return again;
  }
  const resolved = { ...ended, wasResolved: true };
  world.setTask(resolved);
  announce(world, OUTCOME_EXCHANGE[outcome], resolved, runId);
  afterResolution(world, resolved, nowMs);
  return world.task(task.taskId) as Task;
};

/** Cancelled, or too late: the last run ends, or one is made up that ends at once. */
const giveUpAlone = (world: World, task: Task, reason: 'canceled' | 'deadline-exceeded', nowMs: number): Task => {
  const end = { state: 'exception', reasonResolved: reason, resolved: iso(nowMs) } as const;
  const given: Task =
    task.runs.length === 0
      ? { ...task, runs: [{ runId: 0, reasonCreated: 'exception', scheduled: iso(nowMs), ...end }] }
      : withLastRun(task, end);
  const resolved = { ...given, wasResolved: true };
  world.setTask(resolved);
  announce(world, 'task-exception', resolved, resolved.runs.length - 1);
  return resolved;
};

const giveUp = (world: World, task: Task, reason: 'canceled' | 'deadline-exceeded', nowMs: number): Task => {
  afterResolution(world, giveUpAlone(world, task, reason, nowMs), nowMs);
  return world.task(task.taskId) as Task;
};

const create = (world: World, operation: NewTaskOperation, nowMs: number): Answer => {
  const { taskId, taskGroupId, schedulerId } = operation;
  if (Math.abs(operation.createdMs - nowMs) > MAX_DRIFT_MS || operation.deadlineMs < nowMs) {
    return refused(400);
  }
  const group = world.group(taskGroupId);
  if (group && (group.schedulerId !== schedulerId || group.isSealed)) {
    return refused(409);
  }
  const existing = world.task(taskId);
  if (existing) {
    const { priority, retries } = operation;
    if (existing.priority !== priority || existing.retries !== retries) {
      return refused(409);
    }
    announce(world, 'task-defined', existing, undefined, true);
    if (existing.runs.length === 1 && stateOf(existing) === 'pending') {
      announce(world, 'task-pending', existing, 0);
    }
    return { status: statusOf(existing) };
  }
  const others = operation.dependencies.filter(id => id !== taskId);
  if (others.some(id => !world.task(id))) {
    return refused(400);
  }
  const satisfied = (id: string): boolean => {
    const state = id === taskId ? 'unscheduled' : stateOf(world.task(id) as Task);
    return state === 'completed' || (operation.requires === 'all-resolved' && (state === 'failed' || state === 'exception'));
  };
  const { kind: _kind, createdMs: _createdMs, ...fields } = operation;
  const unmet = operation.dependencies.filter(id => !satisfied(id));
  const expiresMs = new Date(operation.deadlineMs).setUTCFullYear(new Date(operation.deadlineMs).getUTCFullYear() + 1);
  const task: Task = {
    ...fields,
    retriesLeft: operation.retries,
    unmet,
    runs: [],
    wasResolved: false,
    claimedDirectly: false,
    expiresMs,
    pendingSinceMs: nowMs,
  };
  world.setGroup(taskGroupId, {
    schedulerId,
    isSealed: group?.isSealed ?? false,
    taskIds: [...(group?.taskIds ?? []), taskId],
  });
  operation.dependencies.forEach(id => world.addDependent(id, taskId));
  world.setTask(task);
  announce(world, 'task-defined', task, undefined, true);
  const stored = unmet.length === 0 ? makePending(world, task, 'scheduled', nowMs) : task;
  return { status: statusOf(stored) };
};

const rankOf = (task: Task): number => PRIORITIES.indexOf(task.priority);
const isBefore = (a: Task, b: Task): number => rankOf(a) - rankOf(b) || a.pendingSinceMs - b.pendingSinceMs;

/** Checks what a worker was given against the line, and gives it. Undefined: it should not have been given that. */
const claimWork = (
  world: World,
  operation: Extract<Operation, { kind: 'claimWork' }>,
  observed: readonly string[],
  contested: ReadonlySet<string>,
  nowMs: number,
): Answer | undefined => {
  const line = world
    .pending(operation.taskQueueId)
    .map(id => world.task(id) as Task)
    .filter(task => task.deadlineMs > nowMs)
    .filter(task => !contested.has(task.taskId) || observed.includes(`${task.taskId}/${task.runs.length - 1}`))
    .sort(isBefore);
  if (observed.length !== Math.min(operation.tasks, line.length)) {
    return undefined;
  }
  const given = observed.map(key => line.find(task => `${task.taskId}/${task.runs.length - 1}` === key));
  if (given.some((task, i) => !task || isBefore(task, line[i] as Task) !== 0)) {
    return undefined;
  }
  (given as Task[]).forEach(task => start(world, task, operation.workerId, nowMs, false));
  return { claimed: observed };
};

const start = (world: World, task: Task, workerId: string, nowMs: number, claimedDirectly: boolean): Task => {
  const running = {
    ...withLastRun(task, {
      state: 'running',
      workerGroup: WORKER_GROUP,
      workerId,
      takenUntil: iso(nowMs + CLAIM_MS),
      started: iso(nowMs),
    }),
    claimedDirectly,
  };
  world.setTask(running);
  announce(world, 'task-running', running, running.runs.length - 1);
  return running;
};

const report = (
  world: World,
  task: Task,
  runId: number,
  outcome: 'completed' | 'failed' | 'exception',
  reason: string,
  nowMs: number,
): Answer => {
  const run = task.runs[runId];
  if (!run) {
    return refused(404);
  }
  const later = task.runs.length - 1 - runId;
  if (run.state === 'running' && later === 0) {
    return { status: statusOf(endRun(world, task, outcome, reason, nowMs)) };
  }
  if (run.state !== outcome || run.reasonResolved !== reason || later > (outcome === 'exception' ? 1 : 0)) {
    return refused(409);
  }
  announce(world, OUTCOME_EXCHANGE[outcome], task, runId);
  if (task.runs[runId + 1]?.state === 'pending') {
    announce(world, 'task-pending', task, runId + 1);
  }
  if (later === 0) {
    announceGroup(world, task.taskGroupId);
  }
  return { status: statusOf(task) };
};

const ofTask = (world: World, operation: Extract<Operation, { taskId: string }>, nowMs: number): Answer => {
  const task = world.task(operation.taskId);
  if (!task) {
    return refused(404);
  }
  const isLate = task.deadlineMs < nowMs;
  const status = (of: Task): Answer => ({ status: statusOf(of) });
  switch (operation.kind) {
    case 'schedule':
      if (isLate) {
        return refused(409);
      }
      return status(task.runs.length === 0 ? makePending(world, task, 'scheduled', nowMs) : task);
    case 'rerun': {
      if (isLate) {
        return refused(409);
      }
      const state = stateOf(task);
      if (state === 'running') {
        return status(task);
      }
      if (state === 'pending') {
        announce(world, 'task-pending', task, task.runs.length - 1);
        return status(task);
      }
      if (task.runs.length >= MAX_RUNS) {
        return refused(409);
      }
      const retriesLeft = Math.min(task.retries, MAX_RUNS - 1 - task.runs.length);
      return status(makePending(world, { ...task, retriesLeft }, 'rerun', nowMs));
    }
    case 'cancel':
      if (isLate) {
        return refused(409);
      }
      if (!isResolved(task)) {
        return status(giveUp(world, task, 'canceled', nowMs));
      }
      if (task.runs.at(-1)?.reasonResolved === 'canceled') {
        announce(world, 'task-exception', task, task.runs.length - 1);
        announceGroup(world, task.taskGroupId);
      }
      return status(task);
    case 'priority': {
      if (task.deadlineMs <= nowMs || task.wasResolved || task.priority === operation.priority) {
        return refused(409);
      }
      const changed = { ...task, priority: operation.priority };
      world.setTask(changed);
      announce(world, 'task-priority-changed', changed, undefined);
      return status(changed);
    }
    case 'claimTask': {
      const { runId, workerId } = operation;
      if (runId >= task.runs.length) {
        return refused(404);
      }
      const run = task.runs[runId] as Run;
      if (task.deadlineMs <= nowMs || runId !== task.runs.length - 1) {
        return refused(409);
      }
      if (run.state === 'pending') {
        return status(start(world, task, workerId, nowMs, true));
      }
      if (run.state !== 'running' || !task.claimedDirectly || run.workerId !== workerId) {
        return refused(409);
      }
      announce(world, 'task-running', task, runId);
      return status(task);
    }
    case 'reclaim': {
      const { runId } = operation;
      if (runId >= task.runs.length) {
        return refused(404);
      }
      if (task.deadlineMs <= nowMs || runId !== task.runs.length - 1 || stateOf(task) !== 'running') {
        return refused(409);
      }
      const prolonged = withLastRun(task, { takenUntil: iso(nowMs + CLAIM_MS) });
      world.setTask(prolonged);
      return status(prolonged);
    }
    case 'completed':
    case 'failed':
      return report(world, task, operation.runId, operation.kind, operation.kind, nowMs);
    case 'exception':
      return report(world, task, operation.runId, 'exception', operation.reason, nowMs);
    case 'create':
      throw new Error('A creation needs no task');
  }
};

const ofGroup = (world: World, operation: Extract<Operation, { kind: 'seal' | 'cancelGroup' }>, nowMs: number): Answer => {
  const group = world.group(operation.taskGroupId);
  if (!group) {
    return refused(404);
  }
  if (operation.kind === 'seal') {
    world.setGroup(operation.taskGroupId, { ...group, isSealed: true });
    return { status: null };
  }
  if (!group.isSealed) {
    return refused(409);
  }
  const cancelled = group.taskIds.filter(id => {
    const task = world.task(id) as Task;
    return !isResolved(task) && task.deadlineMs > nowMs;
  });
  // all of them first: those who wait for each other are not released in between
  const given = cancelled.map(id => giveUpAlone(world, world.task(id) as Task, 'canceled', nowMs));
  given.forEach(task => afterResolution(world, task, nowMs));
  return { status: cancelled.toSorted() };
};

/** Claims that run out, then deadlines. */
const wait = (world: World, nowMs: number): void => {
  for (const id of world.active()) {
    const task = world.task(id) as Task; // the end of one before may have changed it
    const run = task.runs.at(-1);
    if (run?.state === 'running' && Date.parse(run.takenUntil as string) <= nowMs && task.deadlineMs > nowMs) {
      endRun(world, task, 'exception', 'claim-expired', nowMs);
    }
  }
  for (const id of world.active()) {
    const task = world.task(id) as Task;
    if (task.deadlineMs <= nowMs - DEADLINE_DELAY_MS) {
      giveUp(world, task, 'deadline-exceeded', nowMs);
    }
  }
};

/**
 * Applies an operation. Undefined when a worker was given something else than it should have been.
 *
 * @param contested tasks that other calls were looking at in the same moment: workers do not wait for those, they pass them over
 */
export const apply = (
  world: World,
  operation: Operation,
  observed: Answer,
  contested: ReadonlySet<string>,
  nowMs: number,
): Answer | undefined => {
  switch (operation.kind) {
    case 'create':
      return create(world, operation, nowMs);
    case 'claimWork':
      return 'claimed' in observed ? claimWork(world, operation, observed.claimed, contested, nowMs) : undefined;
    case 'seal':
    case 'cancelGroup':
      return ofGroup(world, operation, nowMs);
    case 'wait':
      wait(world, nowMs);
      return { status: null };
    default:
      return ofTask(world, operation, nowMs);
  }
};
