/** Why a task is in its state: for people a sentence, for programs what it consists of. */
import { methods } from '../define.ts';
import { array, boolean, dateTime, integer, object, optional, schema, string, stringEnum, type TypeOf } from '../schema.ts';
import { PRIORITIES, TASK_QUEUE_ID_PATTERN, identifier, param, priority, runId, slugid } from '../types.ts';
import { REASONS_RESOLVED, TASK_STATES } from './tasks.ts';

/** The states of a task that another one waits for; `missing` when it does not exist any more. */
const FOUND_STATES = [...TASK_STATES, 'missing'] as const;

export const EXPLAIN_REASONS = [
  'waits-for-tasks',
  'waits-for-itself',
  'waits-for-release',
  'no-worker-asks',
  'workers-quarantined',
  'workers-busy',
  'waits-in-line',
  'run-again',
  'runs-again-later',
  'claimed',
  'claim-ran-out',
  'completed',
  'failed',
  'canceled',
  'deadline-exceeded',
  'worker-lost',
  'task-refused',
  'deadline-passed',
] as const;
export type ExplainReason = (typeof EXPLAIN_REASONS)[number];

const count = (description: string) => integer({ minimum: 0, description });
const isMore = () => boolean({ description: 'Counting ended here: there are at least so many.' });
const taskQueueId = () => string({ pattern: TASK_QUEUE_ID_PATTERN });
const scopes = (description: string) => array(string(), { description });

const blocker = object({
  taskId: slugid({ description: 'A task that has to be resolved first.' }),
  name: optional(string({ description: 'Its name, if the caller may read its definition.' })),
  state: stringEnum(FOUND_STATES, { description: 'Its state at that moment; `missing` when it does not exist any more.' }),
  since: optional(dateTime({ description: 'Since when it was in this state.' })),
  isCause: boolean({ description: 'It waits for no other task itself: something has to happen to this one.' }),
  path: array(slugid(), { description: 'The chain of waiting, from a dependency of the explained task to this one.' }),
  reasonResolved: optional(stringEnum(REASONS_RESOLVED, { description: 'Why its last run is over.' })),
  runId: optional(runId({ description: 'Its last run.' })),
  taskQueueId: optional(taskQueueId()),
  workerGroup: optional(identifier({ description: 'Group of the worker that has, or had, its last run.' })),
  workerId: optional(identifier({ description: 'The worker that has, or had, its last run.' })),
  message: string({ description: 'The same as a sentence.' }),
});

const line = object({
  ahead: count('Runs that are handed out before this one.'),
  isMore: isMore(),
  byPriority: array(object({ priority: priority(), ahead: count('Runs ahead of this priority.'), isMore: isMore() }), {
    description: 'The most urgent first. Where counting ended, less urgent ones are left out.',
  }),
});

const worker = object({
  workerGroup: identifier(),
  workerId: identifier(),
  lastDateActive: dateTime({ description: 'When it was seen, exact to half an hour.' }),
  quarantineUntil: optional(dateTime({ description: 'Given while it gets no tasks.' })),
});

const queue = object({
  taskQueueId: taskQueueId(),
  polls: optional(
    object({
      isPolled: boolean({ description: 'Workers that may get tasks asked for work within the last three minutes.' }),
      lastPolled: optional(dateTime({ description: 'When one did last. Absent when none did for as long as is remembered.' })),
    }),
  ),
  claims: optional(object({ runs: count('Runs that workers hold.'), workers: count('Workers that hold them.'), isMore: isMore() })),
  workers: optional(
    object({
      known: count('Workers that were seen within a day.'),
      active: count('Those that were seen within the last 35 minutes.'),
      quarantined: count('Those that get no tasks.'),
      isMore: isMore(),
      some: array(worker, { description: 'Up to ten of them, the last seen first.' }),
    }),
  ),
  quarantined: optional(count('Past moments: workers known to have been quarantined then.')),
  message: string({ description: 'The same as a sentence.' }),
});

const run = object({
  runId: runId(),
  takenUntil: optional(dateTime({ description: 'When the claim ends unless it is renewed.' })),
  workerGroup: optional(identifier()),
  workerId: optional(identifier()),
  scheduled: dateTime({ description: 'When the run began to wait.' }),
  started: optional(dateTime({ description: 'When it was claimed.' })),
  resolved: optional(dateTime({ description: 'When it was over.' })),
  reasonResolved: optional(stringEnum(REASONS_RESOLVED)),
});

const change = object({
  at: dateTime(),
  change: stringEnum(['schedule', 'rerun', 'cancel', 'priority'], { description: 'What was done by hand.' }),
  ofGroup: boolean({ description: 'It was done to the whole group.' }),
  clientId: optional(
    string({ description: 'Who did it. Shown to whoever may read the history of that client, and to the client itself.' }),
  ),
  oldPriority: optional(priority()),
  newPriority: optional(priority()),
  message: string({ description: 'The same as a sentence.' }),
});

const action = object({
  action: stringEnum(['scheduleTask', 'rerunTask', 'cancelTask', 'changeTaskPriority', 'quarantineWorker', 'worker'], {
    description: 'A method of the queue; `worker`: a worker that asks for work in the task queue.',
  }),
  taskId: optional(slugid()),
  taskQueueId: optional(taskQueueId()),
  isAllowed: optional(boolean({ description: 'Whether the caller may do it.' })),
  missingScopes: optional(scopes('What the caller would need in addition: the fewest scopes that would do.')),
  message: string({ description: 'What it would do.' }),
});

export const explainTaskResponse = schema(
  'queue',
  'explain-task-response',
  {
    title: 'Explain Task Response',
    description:
      'Why a task is, or was, in its state. Of other tasks, task queues and workers it holds what the caller could read by other methods.',
  },
  object({
    taskId: slugid(),
    at: dateTime({ description: 'The moment that is explained.' }),
    isPast: boolean({ description: 'A past moment was asked for.' }),
    state: stringEnum(TASK_STATES, { description: 'The state of the task at that moment.' }),
    since: dateTime({ description: 'Since when it was in this state.' }),
    summary: string({ description: 'Why, for people.' }),
    reasons: array(object({ reason: stringEnum(EXPLAIN_REASONS), message: string({ description: 'The same as a sentence.' }) }), {
      description: 'Why, for programs. What decides comes first.',
    }),
    task: object({
      name: optional(string({ description: 'Its name, if the caller may read its definition.' })),
      taskQueueId: taskQueueId(),
      taskGroupId: slugid(),
      priority: stringEnum(PRIORITIES),
      retriesLeft: count('How often it would still be tried again when a worker is lost.'),
      runs: count('Runs so far.'),
      created: dateTime({ description: 'When its definition says that it was made.' }),
      deadline: dateTime({ description: 'When it is given up.' }),
      expires: dateTime({ description: 'When it is forgotten.' }),
    }),
    run: optional(run),
    waitsFor: optional(
      object({
        tasks: optional(count('Dependencies that are not satisfied.')),
        causes: count('Tasks found that keep it waiting and wait for no other themselves.'),
        hidden: count('Tasks on the way whose state the caller may not read.'),
        isComplete: boolean({ description: 'False when there was more than one call looks through.' }),
        blockers: array(blocker, { description: 'What it waits for, causes first; up to fifty.' }),
      }),
    ),
    line: optional(line),
    taskQueues: array(queue, { description: 'The task queues in which it, or what it waits for, is pending.' }),
    group: optional(object({ sealed: optional(dateTime({ description: 'Since when the group takes no more tasks.' })) })),
    changes: array(change, { description: 'What was done to the task by hand up to that moment, as far as it is remembered.' }),
    actions: array(action, { description: 'What would change the state now. Empty for a past moment.' }),
    notShown: array(object({ what: string(), missingScopes: scopes('What the caller would need to see it.') })),
    unknown: array(string(), { description: 'What of a past moment is not known any more.' }),
  }),
);
export type TaskExplanation = TypeOf<typeof explainTaskResponse>;

export const explainMethods = methods({
  explainTask: {
    category: 'Tasks',
    method: 'get',
    route: '/task/<taskId>/explain',
    params: { taskId: param.slugid },
    query: { at: /^\d{4}-\d\d-\d\d[Tt\s]\S+$/ },
    title: 'Explain Task',
    description: [
      'Why a task is in its state: the tasks it waits for and what keeps those, its place in line, the workers of its task queue, how its run ended, and what would change it.',
      '',
      'With `at`, of a past moment: since its creation, at most 30 days ago unless the installation keeps more or less. What is not known any more is listed.',
      '',
      'What the caller may not read of other tasks, task queues and workers is left out, and the scopes that it would take are listed.',
    ].join('\n'),
    stability: 'experimental',
    scopes: 'queue:status:<taskId>',
    output: explainTaskResponse,
  },
});
