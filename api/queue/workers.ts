/** Task queues and the workers that serve them, with what waits and runs there. The older words for a task queue are provisioner and worker type. */
import { methods } from '../define.ts';
import { array, dateTime, integer, object, optional, propertyOf, ref, schema, set, string, type TypeOf } from '../schema.ts';
import { continuationToken, identifier, paging, param, runId, slugid, stability } from '../types.ts';
import { task, taskRun } from './tasks.ts';

const metadata = {
  description: string({ description: 'What it is for.' }),
  stability: stability({ description: 'How much to rely on it.' }),
  expires: dateTime({ description: 'When it is forgotten unless a worker shows up.' }),
  lastDateActive: dateTime({ description: 'When a worker was last seen, within half an hour.' }),
};
const provisioner = { provisionerId: propertyOf(task, 'provisionerId'), ...metadata };
const taskQueue = { taskQueueId: propertyOf(task, 'taskQueueId'), ...metadata };
const workerType = {
  workerType: propertyOf(task, 'workerType'),
  provisionerId: propertyOf(task, 'provisionerId'),
  ...taskQueue,
};
const names = {
  provisionerId: propertyOf(task, 'provisionerId'),
  workerType: propertyOf(task, 'workerType'),
  taskQueueId: propertyOf(task, 'taskQueueId'),
};
const more = { continuationToken: optional(continuationToken()) };

export const provisionerResponse = schema('queue', 'provisioner-response', { title: 'Provisioner Response' }, object(provisioner));
export const listProvisionersResponse = schema(
  'queue',
  'list-provisioners-response',
  { title: 'List Provisioners Response' },
  object({ provisioners: set(object(provisioner)), ...more }),
);

export const taskQueueResponse = schema('queue', 'taskqueue-response', { title: 'Task Queue Response' }, object(taskQueue));
export type TaskQueue = TypeOf<typeof taskQueueResponse>;
export const listTaskQueuesResponse = schema(
  'queue',
  'list-taskqueues-response',
  { title: 'List Task Queues Response' },
  object({ taskQueues: set(object(taskQueue)), ...more }),
);

export const workerTypeResponse = schema('queue', 'workertype-response', { title: 'Worker Type Response' }, object(workerType));
export const listWorkerTypesResponse = schema(
  'queue',
  'list-workertypes-response',
  { title: 'List Worker Types Response' },
  object({ workerTypes: set(object(workerType)), ...more }),
);

const pendingTasks = integer({ minimum: 0, description: 'How many runs wait for a worker.' });
export const pendingTasksResponse = schema(
  'queue',
  'pending-tasks-response',
  { title: 'Count Pending Tasks Response' },
  object({ ...names, pendingTasks }),
);
export const taskQueueCountsResponse = schema(
  'queue',
  'task-queue-counts-response',
  { title: 'Task Queue Counts Response' },
  object({ ...names, pendingTasks, claimedTasks: integer({ minimum: 0, description: 'How many runs a worker holds.' }) }),
);

export const listPendingTasksResponse = schema(
  'queue',
  'list-pending-tasks-response',
  { title: 'List Pending Tasks Response' },
  object({
    tasks: set(
      object({ taskId: slugid(), runId: runId(), task: ref(task), inserted: dateTime({ description: 'Since when the run waits.' }) }),
    ),
    ...more,
  }),
);
export const listClaimedTasksResponse = schema(
  'queue',
  'list-claimed-tasks-response',
  { title: 'List Claimed Tasks Response' },
  object({
    tasks: set(
      object({
        taskId: slugid(),
        runId: runId(),
        workerGroup: string({ description: 'Group of the worker that holds the run.' }),
        workerId: string({ description: 'The worker that holds the run.' }),
        claimed: dateTime({ description: 'When the run was claimed, or the claim last renewed.' }),
        task: ref(task),
      }),
    ),
    ...more,
  }),
);

const worker = {
  workerGroup: identifier({ description: 'Group of the worker, often the region it runs in.' }),
  workerId: identifier({ description: 'The worker within its group.' }),
};
const seen = {
  firstClaim: dateTime({ description: 'When the worker was first seen.' }),
  lastDateActive: optional(dateTime({ description: 'When the worker was last seen, within half an hour.' })),
  quarantineUntil: optional(dateTime({ description: 'Until when the worker gets no tasks.' })),
};

export const listWorkersResponse = schema(
  'queue',
  'list-workers-response',
  { title: 'List Workers Response' },
  object({ workers: set(object({ ...worker, ...seen, latestTask: optional(ref(taskRun)) })), ...more }),
);

export const workerResponse = schema(
  'queue',
  'worker-response',
  { title: 'Worker Response' },
  object({
    provisionerId: propertyOf(task, 'provisionerId'),
    workerType: propertyOf(task, 'workerType'),
    taskQueueId: optional(propertyOf(task, 'taskQueueId')),
    ...worker,
    ...seen,
    expires: dateTime({ description: 'When the worker is forgotten unless it shows up.' }),
    recentTasks: array(ref(taskRun), { uniqueItems: false, description: 'The last runs it claimed, up to 20.' }),
    quarantineDetails: optional(
      set(
        object({
          clientId: string({ description: 'Who changed the quarantine.' }),
          updatedAt: dateTime({ description: 'When.' }),
          quarantineUntil: dateTime({ description: 'Until when the worker was to get no tasks.' }),
          quarantineInfo: string({ description: 'Why.' }),
        }),
        { description: 'Every change of the quarantine.' },
      ),
    ),
  }),
);
export type Worker = TypeOf<typeof workerResponse>;

export const quarantineWorkerRequest = schema(
  'queue',
  'quarantine-worker-request',
  { title: 'Quarantine Worker Request' },
  object({
    quarantineUntil: dateTime({ description: 'Until when the worker gets no tasks. A time that is past ends the quarantine.' }),
    quarantineInfo: optional(string({ minLength: 0, maxLength: 4000, description: 'Why, for those who find the worker later.' })),
  }),
);

export const updateWorkerRequest = schema(
  'queue',
  'update-worker-request',
  { title: 'Declare Worker Request' },
  object({ expires: dateTime({ description: 'Keep the worker at least until then.' }) }),
);

const common = { category: 'Worker Metadata', stability: 'stable' } as const;
const old = { category: 'Worker Metadata', stability: 'deprecated' } as const;
const taskQueueParam = { params: { taskQueueId: param.taskQueueId } } as const;
const taskQueuePath = { ...taskQueueParam, splat: ['taskQueueId'] } as const;
const provisionerParam = { provisionerId: param.identifier } as const;
const workerTypeParams = { ...provisionerParam, workerType: param.identifier } as const;
const workerParams = { ...workerTypeParams, workerGroup: param.identifier, workerId: param.identifier } as const;

export const workerMethods = methods({
  listProvisioners: {
    ...old,
    method: 'get',
    route: '/provisioners',
    query: paging,
    title: 'List Provisioners',
    description: 'The first halves of all active task queue ids. Use `listTaskQueues`. Paged.',
    scopes: 'queue:list-provisioners',
    output: listProvisionersResponse,
  },
  getProvisioner: {
    ...old,
    method: 'get',
    route: '/provisioners/<provisionerId>',
    params: provisionerParam,
    title: 'Get Provisioner',
    description: 'One provisioner: what is known of its task queues together. Use `getTaskQueue`.',
    scopes: 'queue:get-provisioner:<provisionerId>',
    output: provisionerResponse,
  },
  pendingTasks: {
    ...old,
    ...taskQueuePath,
    method: 'get',
    route: '/pending/<taskQueueId>',
    title: 'Count Pending Tasks',
    description: 'How many runs wait in a task queue; 0 if nobody knows it. Use `taskQueueCounts`, which also counts what is running.',
    scopes: 'queue:pending-count:<taskQueueId>',
    output: pendingTasksResponse,
  },
  taskQueueCounts: {
    ...common,
    ...taskQueuePath,
    method: 'get',
    route: '/task-queues/<taskQueueId>/counts',
    title: 'Count Pending and Claimed Tasks',
    description: 'How many runs wait in a task queue and how many are held by workers; zeros if nobody knows it.',
    scopes: { AllOf: ['queue:pending-count:<taskQueueId>', 'queue:claimed-count:<taskQueueId>'] },
    output: taskQueueCountsResponse,
  },
  listPendingTasks: {
    ...common,
    ...taskQueuePath,
    method: 'get',
    route: '/task-queues/<taskQueueId>/pending',
    query: paging,
    title: 'List Pending Tasks',
    description: 'What waits in a task queue, the oldest first whatever its priority. Paged.',
    stability: 'experimental',
    scopes: 'queue:pending-list:<taskQueueId>',
    output: listPendingTasksResponse,
  },
  listClaimedTasks: {
    ...common,
    ...taskQueuePath,
    method: 'get',
    route: '/task-queues/<taskQueueId>/claimed',
    query: paging,
    title: 'List Claimed Tasks',
    description: 'What the workers of a task queue hold, by the time of the claim. Paged.',
    stability: 'experimental',
    scopes: 'queue:claimed-list:<taskQueueId>',
    output: listClaimedTasksResponse,
  },
  listWorkerTypes: {
    ...old,
    method: 'get',
    route: '/provisioners/<provisionerId>/worker-types',
    params: provisionerParam,
    query: paging,
    title: 'List Worker Types',
    description: 'The active task queues of a provisioner. Use `listTaskQueues`. Paged.',
    scopes: 'queue:list-worker-types:<provisionerId>',
    output: listWorkerTypesResponse,
  },
  getWorkerType: {
    ...old,
    method: 'get',
    route: '/provisioners/<provisionerId>/worker-types/<workerType>',
    params: workerTypeParams,
    title: 'Get Worker Type',
    description: 'One task queue. Use `getTaskQueue`.',
    scopes: 'queue:get-worker-type:<provisionerId>/<workerType>',
    output: workerTypeResponse,
  },
  listTaskQueues: {
    ...common,
    method: 'get',
    route: '/task-queues',
    query: paging,
    title: 'List Task Queues',
    description: 'The task queues that a worker has asked for work lately, ordered by id. Paged.',
    scopes: 'queue:list-task-queues',
    output: listTaskQueuesResponse,
  },
  getTaskQueue: {
    ...common,
    ...taskQueueParam,
    method: 'get',
    route: '/task-queues/<taskQueueId>',
    title: 'Get Task Queue',
    description:
      'One task queue. `ResourceNotFound` when no worker has asked it for work lately. The slash in the id has to be encoded as `%2F`.',
    scopes: 'queue:get-task-queue:<taskQueueId>',
    output: taskQueueResponse,
  },
  listWorkers: {
    ...old,
    method: 'get',
    route: '/provisioners/<provisionerId>/worker-types/<workerType>/workers',
    params: workerTypeParams,
    query: { ...paging, quarantined: /^(true|false)$/ },
    title: 'List Workers',
    description:
      'The workers of a task queue that were seen lately or are quarantined. `quarantined=true` gives only the quarantined ones, `false` only the others. Paged: a page can be short and still not be the last.',
    scopes: 'queue:list-workers:<provisionerId>/<workerType>',
    output: listWorkersResponse,
  },
  getWorker: {
    ...old,
    method: 'get',
    route: '/provisioners/<provisionerId>/worker-types/<workerType>/workers/<workerGroup>/<workerId>',
    params: workerParams,
    title: 'Get Worker',
    description: 'One worker with its last runs and its quarantine.',
    scopes: 'queue:get-worker:<provisionerId>/<workerType>/<workerGroup>/<workerId>',
    output: workerResponse,
  },
  quarantineWorker: {
    ...common,
    method: 'put',
    route: '/provisioners/<provisionerId>/worker-types/<workerType>/workers/<workerGroup>/<workerId>',
    params: workerParams,
    title: 'Quarantine Worker',
    description:
      'Gives a worker no more tasks until a given time, so that it can be examined. What it runs now goes on. A time that is past ends the quarantine. The reason is kept with the name of the caller.',
    stability: 'experimental',
    scopes: { AllOf: ['queue:quarantine-worker:<provisionerId>/<workerType>/<workerGroup>/<workerId>'] },
    input: quarantineWorkerRequest,
    output: workerResponse,
  },
  declareWorker: {
    ...common,
    method: 'put',
    route: '/provisioners/<provisionerId>/worker-types/<workerType>/<workerGroup>/<workerId>',
    params: workerParams,
    title: 'Declare Worker',
    description:
      'Makes a worker known before it claims its first task, or keeps it known for longer; `expires` is never brought forward. Needs a scope for each property that is given.',
    stability: 'experimental',
    scopes: {
      AllOf: [
        {
          for: 'property',
          in: 'properties',
          each: 'queue:declare-worker:<provisionerId>/<workerType>/<workerGroup>/<workerId>#<property>',
        },
      ],
    },
    input: updateWorkerRequest,
    output: workerResponse,
  },
});
