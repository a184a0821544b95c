/**
 * A load of tasks whose outcome is known beforehand: single ones, chains, tasks that wait for many, tasks for which many wait, dead ends; for the local
 * worker and for the fake ones, and mixed. Every outcome that a worker can report occurs.
 */
import { type Choices } from './random.ts';
import { aScript, aTask, newId } from './tasks.ts';

export const LOCAL_QUEUE = 'local/process';
export const FAKE_QUEUES = ['e2e/alpha', 'e2e/beta'] as const;

/** What a worker reports for a run. */
export type Outcome =
  | 'completed'
  | 'failed'
  | 'worker-shutdown'
  | 'intermittent-task'
  | 'malformed-payload'
  | 'resource-unavailable'
  | 'internal-error';

/** What a fake worker does: the first run gets the first outcome, and so on. */
export type FakePayload = {
  readonly outcomes: readonly Outcome[];
  readonly workMs: number;
  /** Whether it leaves an artifact of type reference. */
  readonly artifact: boolean;
};

export interface PlannedTask {
  readonly taskId: string;
  readonly taskGroupId: string;
  readonly dependencies: readonly string[];
  readonly definition: ReturnType<typeof aTask>;
  /** Outcomes of its runs; undefined: it never runs. A task of the local worker may have more runs, which the worker's end has ended. */
  readonly outcomes: readonly Outcome[] | undefined;
  readonly isLocal: boolean;
}

/** Tasks that must be created in order, because they depend on one another. */
export type Structure = readonly PlannedTask[];

const RETRIED: readonly Outcome[] = ['worker-shutdown', 'intermittent-task'];
export const isRetried = (outcome: Outcome): boolean => RETRIED.includes(outcome);
export const isGood = (outcome: Outcome): boolean => outcome === 'completed';

const FAKE_OUTCOMES: readonly (readonly Outcome[])[] = [
  ['completed'],
  ['completed'],
  ['completed'],
  ['failed'],
  ['worker-shutdown', 'completed'],
  ['intermittent-task', 'completed'],
  ['intermittent-task', 'worker-shutdown', 'failed'],
  ['malformed-payload'],
  ['resource-unavailable'],
  ['internal-error'],
];

interface TaskWords {
  readonly taskGroupId: string;
  readonly dependencies?: readonly string[];
  readonly requires?: 'all-completed' | 'all-resolved';
}

/** Makes structures; the same choices make the same ones, but for their ids. */
const makePlanner = (choices: Choices) => {
  const plan = (
    words: TaskWords,
    rest: Pick<PlannedTask, 'outcomes' | 'isLocal'> & { taskQueueId: string; payload: Record<string, unknown> },
  ): PlannedTask => {
    const { taskGroupId, dependencies = [], requires = 'all-completed' } = words;
    const { outcomes, isLocal, taskQueueId, payload } = rest;
    return {
      taskId: newId(),
      taskGroupId,
      dependencies,
      outcomes,
      isLocal,
      definition: aTask({ taskQueueId, taskGroupId, dependencies: [...dependencies], requires, payload, schedulerId: 'e2e', retries: 20 }),
    };
  };
  const fake = (words: TaskWords, outcomes: readonly Outcome[] = ['completed'], runs = true): PlannedTask => {
    const payload: FakePayload = { outcomes, workMs: choices.integer(0, 300), artifact: choices.float() < 0.2 };
    return plan(words, { outcomes: runs ? outcomes : undefined, isLocal: false, taskQueueId: choices.pick(FAKE_QUEUES), payload });
  };
  const local = (words: TaskWords, outcome: 'completed' | 'failed' = 'completed'): PlannedTask => {
    const script =
      outcome === 'failed' ? 'exit 7' : choices.pick(['true', 'true', 'sleep 0.1', 'sleep 0.4', '(sleep 0.2 &); sleep 0.05; echo done']);
    return plan(words, { outcomes: [outcome], isLocal: true, taskQueueId: LOCAL_QUEUE, payload: aScript(script) });
  };
  const one = (make: typeof fake | typeof local, words: TaskWords): PlannedTask => make(words);

  return {
    single: (): Structure => [fake({ taskGroupId: newId() }, choices.pick(FAKE_OUTCOMES))],
    localSingle: (): Structure => [local({ taskGroupId: newId() }, choices.float() < 0.2 ? 'failed' : 'completed')],
    chain: (length: number, make: () => typeof fake | typeof local): Structure => {
      const taskGroupId = newId();
      const tasks: PlannedTask[] = [];
      while (tasks.length < length) {
        const last = tasks.at(-1);
        tasks.push(one(make(), { taskGroupId, dependencies: last ? [last.taskId] : [] }));
      }
      return tasks;
    },
    fanIn: (width: number): Structure => {
      const taskGroupId = newId();
      const parents = Array.from({ length: width }, () => fake({ taskGroupId }, choices.pick(FAKE_OUTCOMES)));
      return [...parents, fake({ taskGroupId, dependencies: parents.map(({ taskId }) => taskId), requires: 'all-resolved' })];
    },
    fanOut: (width: number): Structure => {
      const taskGroupId = newId();
      const parent = fake({ taskGroupId }, choices.pick([['completed'], ['worker-shutdown', 'completed']]));
      return [parent, ...Array.from({ length: width }, () => fake({ taskGroupId, dependencies: [parent.taskId] }))];
    },
    /** A failure: one task waits for success and never starts, another goes on. */
    deadEnd: (): Structure => {
      const taskGroupId = newId();
      const parent = fake({ taskGroupId }, choices.pick([['failed'], ['internal-error'], ['intermittent-task', 'failed']]));
      const dependencies = [parent.taskId];
      return [
        parent,
        fake({ taskGroupId, dependencies }, ['completed'], false),
        fake({ taskGroupId, dependencies, requires: 'all-resolved' }),
      ];
    },
    fake,
    local,
  };
};

/** Without end, for the fake workers only; the same choices make the same tasks. */
export function* planFakeLoad(choices: Choices): Generator<Structure> {
  const planner = makePlanner(choices);
  const makers: readonly (() => Structure)[] = [
    planner.single,
    planner.single,
    planner.single,
    () => planner.chain(choices.integer(2, 6), () => planner.fake),
    () => planner.fanIn(choices.integer(2, 10)),
    () => planner.fanOut(choices.integer(2, 10)),
    planner.deadEnd,
  ];
  for (;;) {
    yield choices.pick(makers)();
  }
}

/** About 200 tasks. */
export const planLoad = (choices: Choices): readonly Structure[] => {
  const planner = makePlanner(choices);
  const times = (count: number, make: () => Structure): Structure[] => Array.from({ length: count }, make);
  const structures = [
    ...times(50, planner.single),
    ...times(12, planner.localSingle),
    ...times(10, () => planner.chain(5, () => planner.fake)),
    ...times(2, () => planner.chain(3, () => planner.local)),
    ...times(3, () => planner.chain(4, () => choices.pick([planner.fake, planner.local]))),
    ...times(3, () => planner.fanIn(10)),
    ...times(2, () => planner.fanOut(10)),
    ...times(4, planner.deadEnd),
  ];
  // in another order each time, so that a kill meets other neighbours
  return structures
    .map(structure => ({ structure, place: choices.float() }))
    .sort((a, b) => a.place - b.place)
    .map(({ structure }) => structure);
};
