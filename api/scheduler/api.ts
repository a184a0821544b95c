/**
 * Graphs in one call. The queue service serves this API, because a graph and its tasks are stored in one of the queue's transactions; it is an API of
 * its own because the queue's is the protocol's.
 */
import { defineApi, methods } from '../define.ts';
import { heartbeatMethods, pingMethods } from '../operational.ts';
import { anyObject, array, boolean, dateTime, integer, object, optional, raw, schema, string, type TypeOf } from '../schema.ts';
import { identifier, param, slugid } from '../types.ts';
import { type TaskState, type TaskStatus, type createTaskRequest, taskChangeMethods } from '../queue/tasks.ts';

/** Tasks that one call takes. */
export const MAX_GRAPH_TASKS = 10_000;
/** Problems that an answer lists; it counts them all. */
export const MAX_LISTED_PROBLEMS = 1_000;
/** A graph of that many tasks has its room; other bodies are held to the common limit. */
const MAX_GRAPH_BYTES = 64 * 1024 * 1024;

const taskGroupId = slugid({ description: 'The group that the graph is submitted as.' });

const graphTask = object({
  taskId: slugid({ description: 'The id of the new task, chosen by the caller.' }),
  task: raw<TypeOf<typeof createTaskRequest>>({
    type: 'object',
    description:
      'The definition, exactly as `createTask` of the queue takes it (`/schemas/queue/v1/create-task-request.json`). The `taskGroupId` is that of the graph; it may be left out.',
  }),
});

export const submitGraphRequest = schema(
  'scheduler',
  'submit-graph-request',
  {
    title: 'Submit Graph Request',
    description: 'The tasks of a graph, in any order. Dependencies are tasks of the graph, or tasks that exist.',
  },
  object({ tasks: array(graphTask, { minItems: 1, maxItems: MAX_GRAPH_TASKS }) }),
);

export const submitGraphResponse = schema(
  'scheduler',
  'submit-graph-response',
  { title: 'Submit Graph Response', description: 'What became of the graph. A check that stores nothing answers the same.' },
  object({
    taskGroupId,
    schedulerId: identifier({ description: 'The scheduler of the group, and of all its tasks.' }),
    expires: dateTime({ description: 'When the group is forgotten.' }),
    sealed: optional(dateTime({ description: 'Since when the group takes no new tasks. Absent while it does.' })),
    tasks: integer({ minimum: 0, description: 'Tasks that were submitted.' }),
    dependencies: integer({ minimum: 0, description: 'Dependencies that they name, each time that they do.' }),
    created: integer({ minimum: 0, description: 'Tasks that this call created.' }),
    existing: integer({ minimum: 0, description: 'Tasks that existed already with the same definition; nothing was done with them.' }),
    pending: integer({ minimum: 0, description: 'Of the created tasks, those that wait for no other.' }),
    isDryRun: boolean({ description: 'Whether nothing was stored, because only a check was asked for.' }),
  }),
);
export type SubmittedGraph = TypeOf<typeof submitGraphResponse>;

export const graphProblem = object({
  code: string({
    description:
      'What `createTask` would have refused this as: `InputValidationError`, `InsufficientScopes`, `InputError`, `RequestConflict`.',
  }),
  taskId: optional(string({ description: 'The task; absent when the graph as a whole is meant.' })),
  field: string({ description: 'What is wrong, as JSON pointer into the request: `/tasks/17/task/deadline`.' }),
  message: string({ description: 'What is wrong with it, and what to do.' }),
  missingScopes: optional(raw<unknown>({ description: 'The scope expression that the caller does not satisfy, without what it does.' })),
});
export type GraphProblem = TypeOf<typeof graphProblem>;

/** The body of a refusal: the common one, and what is wrong with which task. */
export const graphRefusal = schema(
  'scheduler',
  'graph-refusal',
  {
    title: 'Refused Graph',
    description: 'Why a graph was refused: everything that is wrong with it, not only the first. Nothing was stored.',
  },
  object({
    code: string({ description: 'The code of the most basic of the problems; the status goes with it.' }),
    message: string({ description: 'The problems for people, the first few in words.' }),
    details: object(
      {
        problems: array(graphProblem, { maxItems: MAX_LISTED_PROBLEMS, description: 'The problems, in the order of the tasks.' }),
        problemCount: integer({ minimum: 1, description: 'How many there are; more than are listed, perhaps.' }),
        missingScopes: optional(
          array(string(), {
            description: 'The fewest scopes that would do for all tasks; as with any refusal, more may be said beside them.',
          }),
        ),
      },
      { open: true },
    ),
    requestInfo: anyObject({ description: 'The request, without the tasks.' }),
  }),
);
export type GraphRefusal = TypeOf<typeof graphRefusal>;

const submission = {
  category: 'Graphs',
  stability: 'experimental',
  params: { taskGroupId: param.slugid },
  scopes: taskChangeMethods.createTask.scopes,
  input: submitGraphRequest,
  inputIsChecked: 'by handler',
  output: submitGraphResponse,
  maxBodyBytes: MAX_GRAPH_BYTES,
} as const;

export const graphMethods = methods({
  submitGraph: {
    ...submission,
    method: 'put',
    route: '/graph/<taskGroupId>',
    title: 'Submit Graph',
    description: [
      `Creates up to ${MAX_GRAPH_TASKS} tasks and their dependencies as one task group: all of them, or none. Each is announced as \`createTask\` announces it.`,
      '',
      'The graph is checked as a whole, each task as `createTask` checks it, and the answer to a graph that cannot be created lists everything that is wrong with it (`/schemas/scheduler/v1/graph-refusal.json`): `InputValidationError` (400), `InsufficientScopes` (403), `InputError` (400) or `RequestConflict` (409), the first of these that occurs. The scopes are those of `createTask`, for every task. What is known about tasks and groups that exist is told only about tasks for which the caller has the scopes.',
      '',
      'A task may depend on tasks of the graph and on tasks that exist; on itself, too, and then waits until somebody schedules it; but not in a circle.',
      '',
      'The call may be repeated, at any time. Tasks that exist with the same definition are left alone, and not announced again; others are created. When nothing is left to do, a group that was sealed meanwhile is no obstacle. Tasks that exist with another definition are refused, all by name.',
    ].join('\n'),
  },
  checkGraph: {
    ...submission,
    method: 'post',
    route: '/graph/<taskGroupId>/check',
    title: 'Check Graph',
    description: 'Checks a graph and answers as `submitGraph` would answer now, but stores and announces nothing.',
  },
});

/** An id of the stream of a group: a place in the order of all events. With `-end` it is the last one of a group that was resolved. */
export const GROUP_STREAM_ID = /^([0-9]{1,15})(-end)?$/;

/** How many tasks of a group are in which state. */
export type GroupCounts = Readonly<Record<TaskState, number>> & {
  /** All of them. */
  readonly tasks: number;
  /** Those among them that are to run again, or to go on waiting in line, when what they wait for is resolved (`rerunDownstream`). */
  readonly held: number;
};

/** The data of the events of that stream, by their names. */
export interface GroupStreamEvents {
  readonly group: {
    readonly taskGroupId: string;
    readonly schedulerId: string;
    readonly expires: string;
    readonly sealed?: string;
    readonly counts: GroupCounts;
  };
  readonly tasks: { readonly counts: GroupCounts; readonly statuses: readonly TaskStatus[] };
  readonly ping: { readonly time: string };
  readonly resolved: { readonly counts: GroupCounts };
  readonly error: { readonly code: string; readonly message: string };
}

export const followMethods = methods({
  followGroup: {
    category: 'Graphs',
    stability: 'experimental',
    params: { taskGroupId: param.slugid },
    method: 'get',
    route: '/graph/<taskGroupId>/status',
    query: { tasks: /^(true|false)$/, lastEventId: GROUP_STREAM_ID },
    title: 'Follow Task Group',
    description: [
      'A stream (server-sent events) of how the tasks of a group are:',
      '',
      ' * `group` comes first: the group, and in `counts` how many tasks are in which state;',
      ' * `tasks`: the `statuses` of tasks that have changed, each as it is when it is told, and the `counts`. With `tasks=true` those of all tasks come first;',
      ' * `ping` every 15 seconds while nothing changes;',
      ' * `resolved` when all tasks are resolved, and with it the stream ends;',
      ' * `error`, `{code, message}`, when it is ended before that: a connection lasts ten minutes at most.',
      '',
      'Give the last id back in the header `Last-Event-ID`, as browsers do by themselves, or in the query as `lastEventId`: then what has changed since comes first, and perhaps more. After the end the answer to that is 204 while nothing has changed, so that browsers do not come back.',
      '',
      'A reader that is slow gets the latest status of each task, not all of them. Works for groups of any origin.',
    ].join('\n'),
    scopes: 'queue:list-task-group:<taskGroupId>',
    output: 'blob',
  },
});

export const schedulerApi = defineApi({
  service: 'scheduler',
  version: 'v1',
  title: 'Scheduler Service',
  description: 'Creates whole graphs of tasks in one call, all or nothing, and tells how they fare.',
  errorCodes: { TooManyConnections: 429 },
  methods: { ...pingMethods, ...graphMethods, ...followMethods, ...heartbeatMethods },
  schemas: [graphRefusal],
});
