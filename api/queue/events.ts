/**
 * What the queue announces. Consumers have to accept a message twice; all messages about one task come in the order in which things happened.
 * Task messages are also published under `route.<route>` for each route of the task.
 */
import { defineExchanges, type RoutingKeyField } from '../define.ts';
import { dateTime, integer, object, optional, propertyOf, raw, ref, schema, string, stringEnum, type TypeOf } from '../schema.ts';
import { identifier, priority, runId } from '../types.ts';
import { task, taskStatus } from './tasks.ts';
import { taskGroupResponse } from './groups.ts';

const version = raw<1>({ type: 'integer', enum: [1], description: 'Version of the message format.' });
const status = ref(taskStatus);
const worker = {
  workerGroup: identifier({ description: 'Group of the worker that claimed the run.' }),
  workerId: identifier({ description: 'The worker that claimed the run.' }),
};

export const taskPulseDefinition = schema(
  'queue',
  'task-pulse-definition',
  { title: 'Task Definition in Messages', description: 'The part of the definition that messages carry.' },
  object({ tags: propertyOf(task, 'tags') }),
);
const definition = optional(ref(taskPulseDefinition));

export const taskDefinedMessage = schema(
  'queue',
  'task-defined-message',
  { title: 'Task Defined Message' },
  object({ version, status, task: definition }),
);
export const taskPendingMessage = schema(
  'queue',
  'task-pending-message',
  { title: 'Task Pending Message' },
  object({ version, status, runId: runId(), task: optional(object({ tags: propertyOf(task, 'tags') })) }),
);
export const taskRunningMessage = schema(
  'queue',
  'task-running-message',
  { title: 'Task Running Message' },
  object({
    version,
    status,
    runId: runId(),
    ...worker,
    takenUntil: dateTime({ description: 'When the claim ends unless the worker renews it.' }),
    task: definition,
  }),
);
export const artifactCreatedMessage = schema(
  'queue',
  'artifact-created-message',
  { title: 'Artifact Created Message' },
  object({
    version,
    status,
    runId: runId(),
    ...worker,
    artifact: object({
      storageType: stringEnum(['reference', 'link', 'error', 'object'], { description: 'How it is stored.' }),
      name: string({ maxLength: 1024, description: 'Its name within the run.' }),
      expires: dateTime({ description: 'When it is deleted.' }),
      contentType: string({ maxLength: 255, description: 'MIME type.' }),
    }),
  }),
);
export const taskCompletedMessage = schema(
  'queue',
  'task-completed-message',
  { title: 'Task Completed Message' },
  object({ version, status, runId: runId(), ...worker, task: definition }),
);
export const taskFailedMessage = schema(
  'queue',
  'task-failed-message',
  { title: 'Task Failed Message' },
  object({ version, status, runId: runId(), ...worker, task: definition }),
);
export const taskExceptionMessage = schema(
  'queue',
  'task-exception-message',
  { title: 'Task Exception Message' },
  object({
    version,
    status,
    runId: optional(runId()),
    workerGroup: optional(worker.workerGroup),
    workerId: optional(worker.workerId),
    task: definition,
  }),
);
export const taskPriorityChangedMessage = schema(
  'queue',
  'task-priority-changed-message',
  { title: 'Task Priority Changed Message' },
  object({ version, status, oldPriority: priority({ description: 'Before.' }), newPriority: priority({ description: 'From now on.' }) }),
);
export const taskGroupChangedMessage = schema(
  'queue',
  'task-group-changed-message',
  { title: 'Task Group Changed Message' },
  object({
    version,
    taskGroupId: propertyOf(taskGroupResponse, 'taskGroupId'),
    schedulerId: propertyOf(taskGroupResponse, 'schedulerId'),
    expires: propertyOf(taskGroupResponse, 'expires'),
    sealed: optional(propertyOf(taskGroupResponse, 'sealed')),
  }),
);
export const taskGroupPriorityChangedMessage = schema(
  'queue',
  'task-group-priority-changed-message',
  { title: 'Task Group Priority Changed Message' },
  object({
    version,
    taskGroupId: propertyOf(taskGroupResponse, 'taskGroupId'),
    schedulerId: propertyOf(taskGroupResponse, 'schedulerId'),
    newPriority: priority({ description: 'From now on.' }),
    tasksAffected: integer({ minimum: 0, description: 'How many tasks were changed.' }),
  }),
);
export type TaskExceptionMessage = TypeOf<typeof taskExceptionMessage>;

const kind: RoutingKeyField = {
  name: 'routingKeyKind',
  summary: 'Always `primary`; custom routes begin with `route` instead.',
  constant: 'primary',
  required: true,
};
const reserved: RoutingKeyField = {
  name: 'reserved',
  summary: 'For words to come. Bind with `#` here to be safe.',
  multipleWords: true,
  required: false,
};
const groupKey: readonly RoutingKeyField[] = [
  kind,
  { name: 'taskGroupId', summary: 'The group.', required: true },
  { name: 'schedulerId', summary: 'The scheduler of the group.', required: true },
  reserved,
];
/** Runs and workers are known to some exchanges only; the others send `_`. */
const taskKey = (known: { run: boolean; worker: boolean }): readonly RoutingKeyField[] => [
  kind,
  { name: 'taskId', summary: 'The task.', required: true },
  { name: 'runId', summary: 'The run, or `_` where the message is about none.', required: known.run },
  { name: 'workerGroup', summary: 'Group of the worker that claimed the run, or `_`.', required: known.worker },
  { name: 'workerId', summary: 'The worker that claimed the run, or `_`.', required: known.worker },
  { name: 'provisionerId', summary: 'First half of the task queue id.', required: true },
  { name: 'workerType', summary: 'Second half of the task queue id.', required: true },
  { name: 'schedulerId', summary: 'The scheduler of the task.', required: true },
  { name: 'taskGroupId', summary: 'The group of the task.', required: true },
  reserved,
];

export const queueEvents = defineExchanges({
  service: 'queue',
  version: 'v1',
  title: 'Queue Events',
  description:
    'What happens to tasks, as it happens. A message is sent for every change of state, in the same transaction as the change, so none is lost; it may arrive twice. All messages about one task come in order.',
  exchanges: {
    taskDefined: {
      exchange: 'task-defined',
      title: 'Task Defined',
      description:
        'A task was created. Sent for every successful `createTask`, repeated ones included; `status` shows the task before anything happened to it.',
      routingKey: taskKey({ run: false, worker: false }),
      schema: taskDefinedMessage,
    },
    taskPending: {
      exchange: 'task-pending',
      title: 'Task Pending',
      description:
        'A run waits for a worker: because the task was created, its dependencies resolved, somebody scheduled or reran it, or a worker was lost.',
      routingKey: taskKey({ run: true, worker: false }),
      schema: taskPendingMessage,
    },
    taskRunning: {
      exchange: 'task-running',
      title: 'Task Running',
      description: 'A worker claimed a run. Renewed claims are not announced.',
      routingKey: taskKey({ run: true, worker: true }),
      schema: taskRunningMessage,
    },
    artifactCreated: {
      exchange: 'artifact-created',
      title: 'Artifact Created',
      description: 'An artifact can be read. Not sent for type `s3`, where the queue does not learn when the bytes have arrived.',
      routingKey: taskKey({ run: true, worker: true }),
      schema: artifactCreatedMessage,
    },
    taskCompleted: {
      exchange: 'task-completed',
      title: 'Task Completed',
      description: 'A task was carried through and succeeded.',
      routingKey: taskKey({ run: true, worker: true }),
      schema: taskCompletedMessage,
    },
    taskFailed: {
      exchange: 'task-failed',
      title: 'Task Failed',
      description: 'A task was carried through and did not succeed.',
      routingKey: taskKey({ run: false, worker: false }),
      schema: taskFailedMessage,
    },
    taskException: {
      exchange: 'task-exception',
      title: 'Task Exception',
      description:
        'A run ended without an outcome: cancelled, past its deadline, its worker lost, its payload refused. If the task is tried again, `status` shows the new run already and a pending message follows.',
      routingKey: taskKey({ run: false, worker: false }),
      schema: taskExceptionMessage,
    },
    taskGroupResolved: {
      exchange: 'task-group-resolved',
      title: 'Task Group Resolved',
      description:
        'Every task of the group has been resolved at least once. Sent again whenever a task of such a group is resolved once more; new tasks make the group active again.',
      routingKey: groupKey,
      schema: taskGroupChangedMessage,
    },
    taskGroupSealed: {
      exchange: 'task-group-sealed',
      title: 'Task Group Sealed',
      description: 'The group takes no new tasks any more.',
      routingKey: groupKey,
      schema: taskGroupChangedMessage,
    },
    taskPriorityChanged: {
      exchange: 'task-priority-changed',
      title: 'Task Priority Changed',
      description: 'The priority of a single task was changed.',
      routingKey: taskKey({ run: false, worker: false }),
      schema: taskPriorityChangedMessage,
    },
    taskGroupPriorityChanged: {
      exchange: 'task-group-priority-changed',
      title: 'Task Group Priority Changed',
      description: 'The priority of the unresolved tasks of a group was changed. Their own messages are not sent.',
      routingKey: groupKey,
      schema: taskGroupPriorityChangedMessage,
    },
  },
});
