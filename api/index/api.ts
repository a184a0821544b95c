/** The index: finds tasks by a dotted path, and remembers what ran there. */
import { defineApi, methods } from '../define.ts';
import { heartbeatMethods, pingMethods } from '../operational.ts';
import {
  anyObject,
  array,
  dateTime,
  defaulted,
  integer,
  number,
  object,
  optional,
  ref,
  schema,
  set,
  string,
  stringEnum,
  type TypeOf,
} from '../schema.ts';
import { continuationToken, identifier, paging, runId, slugid } from '../types.ts';

/** The longest path, as answers promise. */
export const MAX_PATH_LENGTH = 255;
/** Names joined by dots. What else is to be in a name is percent-encoded in it, and stays so. */
export const INDEX_PATH = /^(?=.{1,255}$)([a-zA-Z0-9_!~*'()%-]+\.)*[a-zA-Z0-9_!~*'()%-]+$/;

const path = (description: string) => string({ maxLength: MAX_PATH_LENGTH, description });
const rank = number({ description: 'Of two tasks the one with the higher rank stays; a whole number of 32 bits.' });
const data = anyObject({ description: 'Anything; keep it small.' });
const expires = dateTime({ description: 'When the entry is forgotten.' });

export const indexedTask = schema(
  'index',
  'indexed-task-response',
  { title: 'Indexed Task' },
  object({ namespace: path('The whole path, the name included.'), taskId: slugid(), rank, data, expires }),
);
export type IndexedTask = TypeOf<typeof indexedTask>;

export const insertTaskRequest = schema(
  'index',
  'insert-task-request',
  { title: 'Insert Task Request' },
  object({ taskId: slugid(), rank, data, expires }),
);

export const listTasksResponse = schema(
  'index',
  'list-tasks-response',
  { title: 'List Tasks Response' },
  object({
    tasks: set(object({ namespace: path('The whole path, the name included.'), taskId: slugid(), rank, data, expires })),
    continuationToken: optional(continuationToken()),
  }),
);

export const listTasksAtIndexRequest = schema(
  'index',
  'list-tasks-at-index',
  { title: 'List Tasks at Indexes Request' },
  object({ indexes: defaulted(array(string(), { uniqueItems: false, description: 'Paths; each counts once.' }), []) }),
);

export const listNamespacesRequest = schema(
  'index',
  'list-namespaces-request',
  { title: 'List Namespaces Request', description: 'Only for old callers: the options are not looked at.' },
  object({
    continuationToken: optional(string({ description: 'Not looked at, but for tokens of this method.' })),
    limit: defaulted(integer({ minimum: 1, maximum: 1000, description: 'Not looked at.' }), 1000),
  }),
);

export const listNamespacesResponse = schema(
  'index',
  'list-namespaces-response',
  { title: 'List Namespaces Response' },
  object({
    namespaces: set(
      object({
        namespace: path('The whole path.'),
        name: string({ description: 'The last part of it.' }),
        expires: dateTime({ description: 'When the namespace is forgotten: not before what is in it.' }),
      }),
    ),
    continuationToken: optional(continuationToken()),
  }),
);

export const OUTCOMES = ['completed', 'failed', 'exception'] as const;

export const indexedRun = schema(
  'index',
  'indexed-run',
  { title: 'Indexed Run', description: 'A run that has ended, of a task with a route to the path.' },
  object({
    taskId: slugid(),
    runId: runId(),
    taskGroupId: slugid({ description: 'The group of the task.' }),
    state: stringEnum(OUTCOMES, { description: 'How the run has ended.' }),
    reasonResolved: string({ description: 'Why, as the queue says it.' }),
    scheduled: dateTime({ description: 'When the run became pending.' }),
    started: optional(dateTime({ description: 'When a worker took it. Absent when none did.' })),
    resolved: dateTime({ description: 'When it ended.' }),
    workerGroup: optional(identifier({ description: 'Group of the worker that took it.' })),
    workerId: optional(identifier({ description: 'The worker that took it.' })),
    expires: dateTime({ description: 'When this is forgotten: with the task.' }),
  }),
);
export type IndexedRun = TypeOf<typeof indexedRun>;

export const listHistoryResponse = schema(
  'index',
  'list-history-response',
  { title: 'List History Response' },
  object({ runs: array(ref(indexedRun)), continuationToken: optional(continuationToken()) }),
);

const common = { category: 'Index Service', stability: 'stable' } as const;
const listedTasks = {
  ...common,
  optional: ['namespace'],
  params: { namespace: INDEX_PATH },
  scopes: 'index:list-tasks:<namespace>',
  output: listTasksResponse,
} as const;
const listedNamespaces = {
  ...common,
  optional: ['namespace'],
  params: { namespace: INDEX_PATH },
  scopes: 'index:list-namespaces:<namespace>',
  output: listNamespacesResponse,
} as const;
const OLD_LIST = 'For old callers. Gives the first page, whatever the body says; use the GET method of the same list.';

const indexMethods = methods({
  findTask: {
    ...common,
    method: 'get',
    route: '/task/<indexPath>',
    params: { indexPath: INDEX_PATH },
    title: 'Find Indexed Task',
    description: 'The task that is indexed at a path. 404 when there is none, or when the entry has expired.',
    scopes: 'index:find-task:<indexPath>',
    output: indexedTask,
  },
  findTasksAtIndex: {
    ...common,
    method: 'post',
    route: '/tasks/indexes',
    query: paging,
    title: 'Find Tasks at Indexes',
    description: 'The tasks that are indexed at many paths, ordered by path. Paths without a task are left out. At most 100,000 paths.',
    stability: 'experimental',
    scopes: { AllOf: [{ for: 'indexPath', in: 'indexPaths', each: 'index:find-task:<indexPath>' }] },
    input: listTasksAtIndexRequest,
    output: listTasksResponse,
  },
  listNamespaces: {
    ...listedNamespaces,
    method: 'get',
    route: '/namespaces/<namespace>',
    query: paging,
    title: 'List Namespaces',
    description:
      'The namespaces directly below one, by name. Without a namespace those at the root. Paged: a page can be short and still not be the last. A namespace that nobody has used is empty, not an error.',
  },
  listNamespacesPost: {
    ...listedNamespaces,
    method: 'post',
    route: '/namespaces/<namespace>',
    title: 'List Namespaces',
    description: OLD_LIST,
    stability: 'deprecated',
    published: false,
    input: listNamespacesRequest,
  },
  listTasks: {
    ...listedTasks,
    method: 'get',
    route: '/tasks/<namespace>',
    query: paging,
    title: 'List Tasks',
    description:
      'The tasks directly in a namespace, by name. Without a namespace those at the root. Paged: a page can be short and still not be the last. A namespace that nobody has used is empty, not an error.',
  },
  listTasksPost: {
    ...listedTasks,
    method: 'post',
    route: '/tasks/<namespace>',
    title: 'List Tasks',
    description: OLD_LIST,
    stability: 'deprecated',
    published: false,
  },
  insertTask: {
    ...common,
    method: 'put',
    route: '/task/<namespace>',
    params: { namespace: INDEX_PATH },
    title: 'Insert Task into Index',
    description: [
      'Puts a task at a path, with a rank: if one of a higher rank is there, it stays and is the answer. Of equal ranks the newest stays. The task itself is not looked at.',
      '',
      'Tasks with a route `index.<path>` get there by themselves when they complete; this method is for what was not planned so.',
    ].join('\n'),
    scopes: 'index:insert-task:<namespace>',
    input: insertTaskRequest,
    output: indexedTask,
  },
  deleteTask: {
    ...common,
    method: 'delete',
    route: '/task/<namespace>',
    params: { namespace: INDEX_PATH },
    title: 'Remove Task from Index',
    description: 'Removes what is at a path. Succeeds as well when nothing is there. The namespaces above stay until they expire.',
    scopes: 'index:delete-task:<namespace>',
    bodyWithoutSchema: true,
  },
  findArtifactFromTask: {
    ...common,
    method: 'get',
    route: '/task/<indexPath>/artifacts/<name>',
    splat: ['name'],
    params: { indexPath: INDEX_PATH },
    title: 'Get Artifact From Indexed Task',
    description: [
      'Redirects to an artifact of the latest run of the task that is indexed at a path: an address that can be written down for the newest build of something. For a private artifact the address it leads to is signed, and works for 15 minutes.',
      '',
      'Whether there is such an artifact shows only where the redirect leads.',
    ].join('\n'),
    scopes: 'queue:get-artifact:<name>',
    bodyWithoutSchema: true,
  },
  listHistory: {
    ...common,
    method: 'get',
    route: '/history/<indexPath>',
    params: { indexPath: INDEX_PATH },
    query: paging,
    title: 'List History',
    description:
      'The runs that ended at a path, whatever their outcome, the newest first: every ended run of every task with the route `index.<path>`, until the task expires. Unlike the entry at the path, which only completed tasks make, it tells what failed, and how long things took.',
    stability: 'experimental',
    scopes: 'index:find-task:<indexPath>',
    output: listHistoryResponse,
  },
});

export const indexApi = defineApi({
  service: 'index',
  version: 'v1',
  title: 'Index Service',
  description: [
    'Gives tasks names that can be known beforehand: a dotted path such as `project.branch.latest.build-linux` leads to the newest task that built it.',
    '',
    'Tasks are indexed when they complete, by their routes: `index.<path>`. `extra.index` of the definition may have `rank`, `data` and `expires`. Who may make a task with such a route may index there.',
  ].join('\n'),
  methods: { ...pingMethods, ...indexMethods, ...heartbeatMethods },
  schemas: [indexedRun],
});
