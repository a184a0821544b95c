/** Tasks: their definition, their status, and the methods that create, read and change single ones. */
import { methods } from '../define.ts';
import {
  anyObject,
  array,
  dateTime,
  defaulted,
  integer,
  map,
  object,
  optional,
  propertyOf,
  ref,
  schema,
  set,
  string,
  stringEnum,
  type TypeOf,
} from '../schema.ts';
import {
  IDENTIFIER_PATTERN,
  TASK_QUEUE_ID_PATTERN,
  WORKER_TYPE_PATTERN,
  continuationToken,
  identifier,
  paging,
  param,
  priority,
  projectId,
  runId,
  scopeList,
  slugid,
} from '../types.ts';

// ---- definition ----

export const taskMetadata = schema(
  'queue',
  'task-metadata',
  { title: 'Task Metadata', description: 'What people need to know about a task. Nothing is decided by it.' },
  object({
    name: string({ maxLength: 255, description: 'A short name, shown wherever the task is listed.' }),
    description: string({ maxLength: 32_768, description: 'What the task does and why, in Markdown.' }),
    owner: string({ maxLength: 255, description: 'E-mail address of whoever answers for the task.' }),
    source: {
      ...string({
        maxLength: 4096,
        pattern: '^(https?://|ssh://|git@)',
        description: 'Where this definition was made: a link to the file, best at a fixed revision.',
      }),
      anyOf: [{ format: 'uri' }, { format: 'regex' }],
    },
  }),
);

export const task = schema(
  'queue',
  'task',
  { title: 'Task Definition', description: 'A task as it was created, with every default filled in.' },
  object({
    provisionerId: string({ pattern: IDENTIFIER_PATTERN, description: 'First half of `taskQueueId`.' }),
    workerType: string({ pattern: WORKER_TYPE_PATTERN, description: 'Second half of `taskQueueId`.' }),
    taskQueueId: string({ pattern: TASK_QUEUE_ID_PATTERN, description: 'The queue in which the task waits for a worker.' }),
    schedulerId: identifier({ default: '-', description: 'Who decides about the task and its group; part of the scopes that control it.' }),
    projectId: optional(projectId({ default: 'none', description: 'The project that the task, and the objects it stores, belong to.' })),
    taskGroupId: slugid({ description: 'The group the task belongs to. A task that names none forms a group of its own.' }),
    dependencies: set(slugid(), {
      default: [],
      maxItems: 10_000,
      description: 'Tasks that must be resolved before this one is scheduled.',
    }),
    requires: stringEnum(['all-completed', 'all-resolved'], {
      default: 'all-completed',
      description: 'Whether dependencies have to succeed (`all-completed`), or only to be over (`all-resolved`).',
    }),
    routes: set(string({ minLength: 1, maxLength: 249 }), {
      default: [],
      maxItems: 64,
      description: 'Additional routing keys, each published as `route.<route>` with every message about the task.',
    }),
    priority: priority({ default: 'lowest', description: 'Order within the task queue.' }),
    retries: integer({
      default: 5,
      minimum: 0,
      maximum: 49,
      description: 'How often the task is tried again when a worker is lost. A task that fails by itself is not tried again.',
    }),
    created: dateTime({ description: 'When the definition was made; within 15 minutes of the time it is submitted.' }),
    deadline: dateTime({ description: 'When the task is given up if it is not resolved; a few days ahead at most.' }),
    expires: optional(
      dateTime({ description: 'When the task and what is known about it is forgotten. A year after the deadline if not given.' }),
    ),
    scopes: scopeList({ description: 'What the task may do. Whoever creates it must have these scopes.' }),
    payload: anyObject({ description: 'What to do, in the form that the workers of the task queue understand.' }),
    metadata: ref(taskMetadata),
    tags: map(string({ maxLength: 4096 }), { default: {}, description: 'Free words to find and group tasks by; sent with every message.' }),
    extra: anyObject({ default: {}, description: 'Free data for whoever reads the definition.' }),
  }),
);
export type TaskDefinition = TypeOf<typeof task>;

export const createTaskRequest = schema(
  'queue',
  'create-task-request',
  {
    title: 'Create Task Request',
    description: 'A new task. The queue is given as `taskQueueId`, or as `provisionerId` and `workerType`.',
  },
  object({
    provisionerId: optional(propertyOf(task, 'provisionerId')),
    workerType: optional(propertyOf(task, 'workerType')),
    taskQueueId: optional(propertyOf(task, 'taskQueueId')),
    schedulerId: defaulted(propertyOf(task, 'schedulerId'), '-'),
    projectId: defaulted(propertyOf(task, 'projectId'), 'none'),
    taskGroupId: optional(propertyOf(task, 'taskGroupId')),
    dependencies: defaulted(propertyOf(task, 'dependencies'), []),
    requires: defaulted(propertyOf(task, 'requires'), 'all-completed'),
    routes: defaulted(propertyOf(task, 'routes'), []),
    priority: defaulted(propertyOf(task, 'priority'), 'lowest'),
    retries: defaulted(propertyOf(task, 'retries'), 5),
    created: dateTime({ description: 'Now, within 15 minutes.' }),
    deadline: dateTime({ description: 'When the task is given up if it is not resolved; a few days ahead at most.' }),
    expires: optional(propertyOf(task, 'expires')),
    scopes: defaulted(propertyOf(task, 'scopes'), []),
    payload: propertyOf(task, 'payload', { default: [] }),
    metadata: ref(taskMetadata),
    tags: defaulted(propertyOf(task, 'tags'), {}),
    extra: defaulted(propertyOf(task, 'extra'), {}),
  }),
);

// ---- status ----

export const TASK_STATES = ['unscheduled', 'pending', 'running', 'completed', 'failed', 'exception'] as const;
export type TaskState = (typeof TASK_STATES)[number];
export const RUN_STATES = ['pending', 'running', 'completed', 'failed', 'exception'] as const;
export type RunState = (typeof RUN_STATES)[number];
export const REASONS_CREATED = ['scheduled', 'retry', 'task-retry', 'rerun', 'exception'] as const;
export type ReasonCreated = (typeof REASONS_CREATED)[number];
export const REASONS_RESOLVED = [
  'completed',
  'failed',
  'deadline-exceeded',
  'canceled',
  'claim-expired',
  'worker-shutdown',
  'malformed-payload',
  'resource-unavailable',
  'internal-error',
  'intermittent-task',
  'superseded',
] as const;
export type ReasonResolved = (typeof REASONS_RESOLVED)[number];

export const taskStatus = schema(
  'queue',
  'task-status',
  { title: 'Task Status Structure', description: 'What happened to a task so far.' },
  object({
    taskId: slugid({ description: 'The task.' }),
    provisionerId: propertyOf(task, 'provisionerId'),
    workerType: propertyOf(task, 'workerType'),
    taskQueueId: propertyOf(task, 'taskQueueId'),
    schedulerId: propertyOf(task, 'schedulerId', { default: '-' }),
    projectId: propertyOf(task, 'projectId'),
    taskGroupId: propertyOf(task, 'taskGroupId'),
    priority: optional(propertyOf(task, 'priority')),
    deadline: dateTime({ description: 'When the task is given up if it is not resolved.' }),
    expires: dateTime({ description: 'When the task is forgotten.' }),
    retriesLeft: integer({ minimum: 0, maximum: 999, description: 'How often the task will still be tried again when a worker is lost.' }),
    state: stringEnum(TASK_STATES, { description: 'State of the last run, or `unscheduled` while there is none.' }),
    runs: set(
      object({
        runId: runId(),
        state: stringEnum(RUN_STATES, { description: 'State of this run.' }),
        reasonCreated: stringEnum(REASONS_CREATED, { description: 'Why there is this run.' }),
        reasonResolved: optional(stringEnum(REASONS_RESOLVED, { description: 'Why it is over. Absent while it is not.' })),
        workerGroup: optional(identifier({ description: 'Group of the worker that claimed the run.' })),
        workerId: optional(identifier({ description: 'The worker that claimed the run.' })),
        takenUntil: optional(dateTime({ description: 'When the claim ends unless the worker renews it.' })),
        scheduled: dateTime({ description: 'When the run began to wait.' }),
        started: optional(dateTime({ description: 'When it was claimed.' })),
        resolved: optional(dateTime({ description: 'When it was over.' })),
      }),
      { description: 'All runs, the oldest first: the place in the list is the run id.' },
    ),
  }),
);
export type TaskStatus = TypeOf<typeof taskStatus>;
export type TaskRun = TaskStatus['runs'][number];

export const taskStatusResponse = schema(
  'queue',
  'task-status-response',
  { title: 'Task Status Response' },
  object({ status: ref(taskStatus) }),
);

export const taskDefinitionAndStatus = schema(
  'queue',
  'task-definition-and-status',
  { title: 'Task Definition and Status' },
  object({ status: ref(taskStatus), task: ref(task) }),
);

export const taskRun = schema(
  'queue',
  'task-run',
  { title: 'Task Run', description: 'Names one run of one task.' },
  object({ taskId: slugid(), runId: runId() }),
);

// ---- lists ----

export const tasksRequest = schema(
  'queue',
  'tasks-request',
  { title: 'Task Ids Request', description: 'The tasks that are wanted. Ids of which no task exists are left out of the answer.' },
  object({ taskIds: defaulted(array(string(), { uniqueItems: false }), []) }),
);

export const tasksResponse = schema(
  'queue',
  'tasks-response',
  { title: 'Task Definitions Response' },
  object({ tasks: set(object({ taskId: string(), task: ref(task) }), { default: [] }), continuationToken: optional(continuationToken()) }),
);

export const tasksStatusesResponse = schema(
  'queue',
  'tasks-statuses-response',
  { title: 'Task Statuses Response' },
  object({
    statuses: set(object({ taskId: string(), status: ref(taskStatus) }), { default: [] }),
    continuationToken: optional(continuationToken()),
  }),
);

export const listDependentTasksResponse = schema(
  'queue',
  'list-dependent-tasks-response',
  { title: 'List Dependent Tasks Response' },
  object({
    taskId: slugid({ description: 'The task on which the others depend.' }),
    tasks: set(ref(taskDefinitionAndStatus)),
    continuationToken: optional(continuationToken()),
  }),
);

export const rerunDownstreamResponse = schema(
  'queue',
  'rerun-downstream-response',
  { title: 'Rerun Downstream Response', description: 'The task that runs again, and those that wait for it again.' },
  object({
    status: ref(taskStatus),
    waiting: integer({ minimum: 0, description: 'How many tasks wait again, and will run again.' }),
    taskIds: set(slugid(), { description: 'Those tasks, the first 1,000 by id.' }),
    late: integer({ minimum: 0, description: 'How many tasks are left alone because their deadlines are past.' }),
    lateTaskIds: set(slugid(), { description: 'Those tasks, the first 1,000 by id.' }),
  }),
);

export const changeTaskPriorityRequest = schema(
  'queue',
  'change-task-priority-request',
  { title: 'Change Priority Request' },
  object({ newPriority: priority({ description: 'The priority from now on.' }) }),
);

// ---- methods ----

/** What may control a task that exists: by task, by project, or by the old pair of scopes. */
const control = <const V extends string>(verb: V) =>
  ({
    AnyOf: [
      `queue:${verb}-task:<schedulerId>/<taskGroupId>/<taskId>`,
      `queue:${verb}-task-in-project:<projectId>`,
      { AllOf: [`queue:${verb}-task`, 'assume:scheduler-id:<schedulerId>/<taskGroupId>'] },
    ],
  }) as const;

const common = { category: 'Tasks', stability: 'stable' } as const;
const taskParam = { taskId: param.slugid } as const;

export const taskReadMethods = methods({
  task: {
    ...common,
    method: 'get',
    route: '/task/<taskId>',
    params: taskParam,
    title: 'Get Task Definition',
    description: 'The definition of a task as it was created, defaults included. The priority is the present one.',
    scopes: 'queue:get-task:<taskId>',
    output: task,
  },
  tasks: {
    ...common,
    method: 'post',
    route: '/tasks',
    query: paging,
    title: 'Get Task Definitions',
    description:
      'The definitions of many tasks at once. Needs the scope to read each of them. Unknown tasks are left out, and a task asked for twice is given once.',
    stability: 'experimental',
    scopes: { AllOf: [{ for: 'taskId', in: 'taskIds', each: 'queue:get-task:<taskId>' }] },
    input: tasksRequest,
    output: tasksResponse,
  },
  statuses: {
    ...common,
    method: 'post',
    route: '/tasks/status',
    query: paging,
    title: 'Get Task Statuses',
    description:
      'The statuses of many tasks at once. Needs the scope to read each of them. Unknown tasks are left out, and a task asked for twice is given once.',
    stability: 'experimental',
    scopes: { AllOf: [{ for: 'taskId', in: 'taskIds', each: 'queue:status:<taskId>' }] },
    input: tasksRequest,
    output: tasksStatusesResponse,
  },
  status: {
    ...common,
    method: 'get',
    route: '/task/<taskId>/status',
    params: taskParam,
    title: 'Task Status',
    description:
      'What happened to a task so far: its state and all its runs. To wait for a change, listen to the exchanges instead of asking again and again.',
    scopes: 'queue:status:<taskId>',
    output: taskStatusResponse,
  },
});

export const taskChangeMethods = methods({
  listDependentTasks: {
    ...common,
    method: 'get',
    route: '/task/<taskId>/dependents',
    params: taskParam,
    query: paging,
    title: 'List Dependent Tasks',
    description: 'The tasks that name this one among their dependencies, whether they still wait for it or not, ordered by id. Paged.',
    scopes: 'queue:list-dependent-tasks:<taskId>',
    output: listDependentTasksResponse,
  },
  createTask: {
    ...common,
    method: 'put',
    route: '/task/<taskId>',
    params: taskParam,
    title: 'Create Task',
    description: [
      'Creates a task under an id that the caller has chosen. It becomes pending at once if it has no unresolved dependencies, otherwise when the last one resolves.',
      '',
      'The call may be repeated: with the same definition it succeeds and changes nothing, with another it is refused as `RequestConflict`.',
      '',
      'The caller needs every scope that it gives to the task, `queue:route:…` for every route, `queue:create-task:project:…` for the project, `queue:scheduler-id:…` for the scheduler, and `queue:create-task:…` for the task queue at this priority or a higher one.',
      '',
      'Dependencies have to exist already, and must not expire before the deadline of the new task.',
    ].join('\n'),
    scopes: {
      AllOf: [
        { for: 'scope', in: 'scopes', each: '<scope>' },
        { for: 'route', in: 'routes', each: 'queue:route:<route>' },
        'queue:create-task:project:<projectId>',
        'queue:scheduler-id:<schedulerId>',
        { AnyOf: [{ for: 'priority', in: 'priorities', each: 'queue:create-task:<priority>:<provisionerId>/<workerType>' }] },
      ],
    },
    input: createTaskRequest,
    output: taskStatusResponse,
  },
  scheduleTask: {
    ...common,
    method: 'post',
    route: '/task/<taskId>/schedule',
    params: taskParam,
    title: 'Schedule Task',
    description:
      'Makes an unscheduled task pending, whatever its dependencies. A task that has runs already is left alone. After the deadline it is refused as `RequestConflict`.',
    scopes: control('schedule'),
    output: taskStatusResponse,
  },
  rerunTask: {
    ...common,
    method: 'post',
    route: '/task/<taskId>/rerun',
    params: taskParam,
    title: 'Rerun Task',
    description:
      'Gives a resolved task another run, and its retries back. An unscheduled task is scheduled; a pending or running one is left alone. Refused as `RequestConflict` after the deadline and when the task has 50 runs.',
    scopes: control('rerun'),
    output: taskStatusResponse,
  },
  rerunDownstream: {
    ...common,
    method: 'post',
    route: '/task/<taskId>/rerun-downstream',
    params: taskParam,
    title: 'Rerun Task and Everything Downstream',
    description: [
      'Gives a task another run as `rerunTask` does, and lets every task that depends on it, directly or through others, wait for its dependencies again and then run again. All of it happens at once, or nothing.',
      '',
      'Until its turn comes a task downstream keeps its state: a resolved one its outcome, a pending one that ran before is handed to nobody; a pending one that never ran is unscheduled again. It is announced as pending when everything that it waits for has been resolved as it needs. Running it by `rerunTask` ends its wait, and so does `cancelTask`: then it keeps the outcome that it has, and those that depend on it go on with that.',
      '',
      'The caller needs the scopes to rerun every one of these tasks. Refused as `RequestConflict` when one that is downstream is running, or has 50 runs; the first of them are named. Tasks past their deadline, which cannot run again, are left alone and counted, and what depends on them alone is left alone, too. With more than 10,000 tasks it is refused as `InputTooLarge`.',
    ].join('\n'),
    stability: 'experimental',
    scopes: control('rerun'),
    output: rerunDownstreamResponse,
  },
  cancelTask: {
    ...common,
    method: 'post',
    route: '/task/<taskId>/cancel',
    params: taskParam,
    title: 'Cancel Task',
    description:
      'Resolves a task that is not resolved yet as `exception`, for the reason `canceled`. A running worker learns of it when it renews its claim. A resolved task is left alone. After the deadline it is refused as `RequestConflict`.',
    scopes: control('cancel'),
    output: taskStatusResponse,
  },
  changeTaskPriority: {
    ...common,
    method: 'post',
    route: '/task/<taskId>/priority',
    params: taskParam,
    title: 'Change Task Priority',
    description:
      'Moves a task that was never resolved to another priority; if it is waiting, it keeps its place by age there. Refused as `RequestConflict` when it has that priority already, was resolved once, or is past its deadline.',
    stability: 'experimental',
    scopes: { AnyOf: ['queue:change-task-priority:<taskId>', 'queue:change-task-priority-in-queue:<taskQueueId>'] },
    input: changeTaskPriorityRequest,
    output: taskStatusResponse,
  },
});
