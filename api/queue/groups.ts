/** Task groups: the tasks that belong together, usually one push or one release. */
import { methods } from '../define.ts';
import { dateTime, integer, object, optional, propertyOf, ref, schema, set, type TypeOf } from '../schema.ts';
import { continuationToken, paging, param, priority, slugid } from '../types.ts';
import { changeTaskPriorityRequest, task, taskDefinitionAndStatus } from './tasks.ts';

export const taskGroupResponse = schema(
  'queue',
  'task-group-response',
  { title: 'Task Group' },
  object({
    taskGroupId: slugid({ description: 'The group.' }),
    schedulerId: propertyOf(task, 'schedulerId'),
    expires: dateTime({ description: 'When the group is forgotten: an hour after the last of its tasks.' }),
    sealed: optional(dateTime({ description: 'Since when the group takes no new tasks. Absent while it does.' })),
  }),
);
export type TaskGroup = TypeOf<typeof taskGroupResponse>;

export const listTaskGroupResponse = schema(
  'queue',
  'list-task-group-response',
  { title: 'List Task Group Response' },
  object({
    taskGroupId: propertyOf(taskGroupResponse, 'taskGroupId'),
    schedulerId: propertyOf(taskGroupResponse, 'schedulerId'),
    expires: propertyOf(taskGroupResponse, 'expires'),
    sealed: optional(propertyOf(taskGroupResponse, 'sealed')),
    tasks: set(ref(taskDefinitionAndStatus)),
    continuationToken: optional(continuationToken()),
  }),
);

export const cancelTaskGroupResponse = schema(
  'queue',
  'cancel-task-group-response',
  { title: 'Cancel Task Group Response' },
  object({
    taskGroupId: slugid({ description: 'The group.' }),
    taskGroupSize: integer({ minimum: 0, description: 'How many tasks the group has.' }),
    cancelledCount: integer({ minimum: 0, description: 'How many tasks this call cancelled.' }),
    taskIds: set(slugid(), { description: 'The tasks this call cancelled; those that were resolved before are not among them.' }),
  }),
);

export const taskGroupPriorityChangeResponse = schema(
  'queue',
  'task-group-priority-change-response',
  { title: 'Change Task Group Priority Response' },
  object({
    taskGroupId: slugid({ description: 'The group.' }),
    schedulerId: propertyOf(taskGroupResponse, 'schedulerId'),
    newPriority: priority({ description: 'The priority from now on.' }),
    tasksAffected: integer({ minimum: 0, description: 'How many tasks this call changed.' }),
    taskIds: set(slugid(), { description: 'The tasks this call changed.' }),
  }),
);

const common = { category: 'Task Groups', stability: 'stable', params: { taskGroupId: param.slugid } } as const;

export const groupMethods = methods({
  listTaskGroup: {
    ...common,
    method: 'get',
    route: '/task-group/<taskGroupId>/list',
    query: paging,
    title: 'List Task Group',
    description: 'The tasks of a group, with definition and status, ordered by id. Paged: a page can be short and still not be the last.',
    scopes: 'queue:list-task-group:<taskGroupId>',
    output: listTaskGroupResponse,
  },
  cancelTaskGroup: {
    ...common,
    category: 'Tasks',
    method: 'post',
    route: '/task-group/<taskGroupId>/cancel',
    title: 'Cancel Task Group',
    description:
      'Cancels every task of the group that is not resolved and not past its deadline. The group has to be sealed first, so that nobody adds tasks meanwhile; otherwise the call is refused as `RequestConflict`. Repeating it is harmless.',
    stability: 'experimental',
    scopes: 'queue:cancel-task-group:<schedulerId>/<taskGroupId>',
    output: cancelTaskGroupResponse,
  },
  getTaskGroup: {
    ...common,
    method: 'get',
    route: '/task-group/<taskGroupId>',
    title: 'Get Task Group',
    description: 'The group itself: its scheduler, when it expires, and whether it is sealed. Use `listTaskGroup` for its tasks.',
    scopes: 'queue:list-task-group:<taskGroupId>',
    output: taskGroupResponse,
  },
  sealTaskGroup: {
    ...common,
    method: 'post',
    route: '/task-group/<taskGroupId>/seal',
    title: 'Seal Task Group',
    description:
      'Closes the group to new tasks, for good. Tasks that are in it can still be scheduled, rerun and cancelled. Repeating the call changes nothing and announces it again.',
    stability: 'experimental',
    scopes: 'queue:seal-task-group:<schedulerId>/<taskGroupId>',
    output: taskGroupResponse,
  },
});

export const groupPriorityMethods = methods({
  changeTaskGroupPriority: {
    ...common,
    category: 'Task-Groups',
    method: 'post',
    route: '/task-group/<taskGroupId>/priority',
    title: 'Change Task Group Priority',
    description:
      'Moves every task of the group that was never resolved and is not past its deadline to another priority. Tasks that have it already are not counted.',
    stability: 'experimental',
    scopes: 'queue:change-task-group-priority:<schedulerId>/<taskGroupId>',
    input: changeTaskPriorityRequest,
    output: taskGroupPriorityChangeResponse,
  },
});
