/** Operations of the model test: what may be asked, and how a random one is chosen so that it often hits something. */
import { type Priority, PRIORITIES } from '@tscluster/api/types.ts';
import { slugid } from '@tscluster/client/clock.ts';
import type { Random } from '../../../platform/clock.ts';
import { type World, stateOf } from './world.ts';

export const QUEUES = ['prov/a', 'prov/b', 'prov/c'] as const;
const REASONS = ['worker-shutdown', 'malformed-payload', 'resource-unavailable', 'internal-error', 'intermittent-task'] as const;

export interface NewTaskOperation {
  readonly kind: 'create';
  readonly taskId: string;
  readonly taskGroupId: string;
  readonly taskQueueId: string;
  readonly schedulerId: string;
  readonly priority: Priority;
  readonly retries: number;
  readonly requires: 'all-completed' | 'all-resolved';
  readonly dependencies: readonly string[];
  readonly deadlineMs: number;
  readonly createdMs: number;
}

export type Operation =
  | NewTaskOperation
  | { readonly kind: 'schedule' | 'rerun' | 'cancel'; readonly taskId: string }
  | { readonly kind: 'priority'; readonly taskId: string; readonly priority: Priority }
  | { readonly kind: 'claimWork'; readonly taskQueueId: string; readonly workerId: string; readonly tasks: number }
  | { readonly kind: 'claimTask'; readonly taskId: string; readonly runId: number; readonly workerId: string }
  | { readonly kind: 'reclaim'; readonly taskId: string; readonly runId: number }
  | { readonly kind: 'completed' | 'failed'; readonly taskId: string; readonly runId: number }
  | { readonly kind: 'exception'; readonly taskId: string; readonly runId: number; readonly reason: (typeof REASONS)[number] }
  | { readonly kind: 'seal' | 'cancelGroup'; readonly taskGroupId: string }
  /** Alone in its round: time passes, then what the queue does by itself. */
  | { readonly kind: 'wait'; readonly ms: number };

/** Operations that are sent at the same time. */
export type Round = readonly Operation[];

export interface Choice {
  readonly random: Random;
  readonly world: World;
  readonly nowMs: number;
  /** Everything that was created so far, the newest last. */
  readonly created: readonly NewTaskOperation[];
}

const below = (random: Random, limit: number): number => Math.floor(random.float() * limit);
const pick = <T>(random: Random, from: readonly T[]): T => from[below(random, from.length)] as T;

const MINUTE_MS = 60_000;

/** Mostly one of the newest, so that operations meet. */
const pickTask = ({ random, created }: Choice): NewTaskOperation | undefined =>
  created[created.length - 1 - below(random, Math.min(created.length, random.float() < 0.9 ? 12 : 200))];

const chooseCreate = (choice: Choice): Operation => {
  const { random, created, nowMs } = choice;
  const again = pickTask(choice);
  if (again && random.float() < 0.08) {
    return random.float() < 0.6 ? again : { ...again, retries: (again.retries + 1) % 4 };
  }
  const taskId = slugid(random);
  const sibling = random.float() < 0.6 ? pickTask(choice) : undefined;
  const dependencies = new Set<string>();
  if (created.length > 0 && random.float() < 0.5) {
    for (let i = below(random, 3); i >= 0; i--) {
      dependencies.add((pickTask(choice) as NewTaskOperation).taskId);
    }
  }
  if (random.float() < 0.02) {
    dependencies.add(random.float() < 0.5 ? taskId : slugid(random));
  }
  return {
    kind: 'create',
    taskId,
    taskGroupId: sibling?.taskGroupId ?? taskId,
    taskQueueId: pick(random, QUEUES),
    schedulerId: random.float() < 0.97 ? 'scheduler' : 'other',
    priority: random.float() < 0.6 ? 'low' : pick(random, PRIORITIES),
    retries: below(random, 4),
    requires: random.float() < 0.6 ? 'all-completed' : 'all-resolved',
    dependencies: [...dependencies],
    deadlineMs: nowMs + (random.float() < 0.1 ? 2 : 240) * MINUTE_MS,
    createdMs: nowMs,
  };
};

/** A run of a task: mostly the last one. */
const pickRun = (choice: Choice): { taskId: string; runId: number } | undefined => {
  const { random, world } = choice;
  let best: { taskId: string; runId: number } | undefined;
  // a few tries for one that runs
  for (let i = 0; i < 6; i++) {
    const taskId = pickTask(choice)?.taskId;
    const task = taskId === undefined ? undefined : world.task(taskId);
    if (task) {
      const last = Math.max(0, task.runs.length - 1);
      best = { taskId: task.taskId, runId: random.float() < 0.9 ? last : below(random, last + 2) };
      if (stateOf(task) === 'running') {
        break;
      }
    }
  }
  return best;
};

const ofRun = (choice: Choice, make: (run: { taskId: string; runId: number }) => Operation): Operation => {
  const run = pickRun(choice);
  return run ? make(run) : chooseCreate(choice);
};
const ofTask = (choice: Choice, make: (task: NewTaskOperation) => Operation): Operation => {
  const task = pickTask(choice);
  return task ? make(task) : chooseCreate(choice);
};
const workerOf = (random: Random): string => `w${below(random, 4)}`;

const WEIGHTED: readonly (readonly [number, (choice: Choice) => Operation])[] = [
  [22, chooseCreate],
  [22, ({ random }) => ({ kind: 'claimWork', taskQueueId: pick(random, QUEUES), workerId: workerOf(random), tasks: 1 + below(random, 3) })],
  [20, choice => ofRun(choice, run => ({ kind: 'completed', ...run }))],
  [6, choice => ofRun(choice, run => ({ kind: 'failed', ...run }))],
  [8, choice => ofRun(choice, run => ({ kind: 'exception', ...run, reason: pick(choice.random, REASONS) }))],
  [4, choice => ofRun(choice, run => ({ kind: 'reclaim', ...run }))],
  [3, choice => ofRun(choice, run => ({ kind: 'claimTask', ...run, workerId: workerOf(choice.random) }))],
  [4, choice => ofTask(choice, ({ taskId }) => ({ kind: 'rerun', taskId }))],
  [3, choice => ofTask(choice, ({ taskId }) => ({ kind: 'cancel', taskId }))],
  [3, choice => ofTask(choice, ({ taskId }) => ({ kind: 'schedule', taskId }))],
  [3, choice => ofTask(choice, ({ taskId }) => ({ kind: 'priority', taskId, priority: pick(choice.random, PRIORITIES) }))],
  [1, choice => ofTask(choice, ({ taskGroupId }) => ({ kind: 'seal', taskGroupId }))],
  [1, choice => ofTask(choice, ({ taskGroupId }) => ({ kind: 'cancelGroup', taskGroupId }))],
];
const TOTAL_WEIGHT = WEIGHTED.reduce((sum, [weight]) => sum + weight, 0);

const chooseOne = (choice: Choice): Operation => {
  let left = choice.random.float() * TOTAL_WEIGHT;
  for (const [weight, make] of WEIGHTED) {
    left -= weight;
    if (left < 0) {
      return make(choice);
    }
  }
  return chooseCreate(choice);
};

/** The next round: up to four operations at once, or the passing of time. */
export const chooseRound = (choice: Choice): Round => {
  const { random } = choice;
  if (random.float() < 0.02) {
    const minutes = pick(random, [1, 4, 21]);
    return [{ kind: 'wait', ms: minutes * MINUTE_MS + below(random, 1_000) }];
  }
  const round = Array.from({ length: 1 + below(random, 4) }, () => chooseOne(choice));
  // places in line are dealt in turn to workers that wait together: only with one each is that the order of some sequence
  const claims = new Map<string, number>();
  for (const operation of round) {
    if (operation.kind === 'claimWork') {
      claims.set(operation.taskQueueId, (claims.get(operation.taskQueueId) ?? 0) + 1);
    }
  }
  return round.map(operation =>
    operation.kind === 'claimWork' && (claims.get(operation.taskQueueId) as number) > 1 ? { ...operation, tasks: 1 } : operation,
  );
};
