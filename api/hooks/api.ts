/** The hooks service: templates of tasks, and what makes tasks of them. */
import { defineApi, methods } from '../define.ts';
import { heartbeatMethods, pingMethods } from '../operational.ts';
import {
  anyObject,
  array,
  dateTime,
  object,
  oneOf,
  optional,
  raw,
  ref,
  schema,
  set,
  string,
  stringEnum,
  word,
  type TypeOf,
} from '../schema.ts';
import { continuationToken, paging, slugid } from '../types.ts';
import { bindings, createHookRequest, hookDefinition, hookGroupId, hookId, hookMetadata, schedule } from './definitions.ts';

// ---- lists ----

const listHookGroupsResponse = schema(
  'hooks',
  'list-hook-groups-response',
  { title: 'List of Hook Groups' },
  object({ groups: set(string(), { description: 'Ids of the groups, in order.' }) }),
);

const listHooksResponse = schema(
  'hooks',
  'list-hooks-response',
  { title: 'List of Hooks' },
  object({ hooks: set(ref(hookDefinition), { description: 'The hooks of the group, ordered by their ids.' }) }),
);

// ---- what has happened ----

const lastFire = oneOf(
  [
    object({ result: word('success'), taskId: slugid({ description: 'The task that was created.' }), time: dateTime() }),
    object({ result: word('error'), error: anyObject({ description: 'What went wrong.' }), time: dateTime() }),
    object({ result: word('no-fire') }),
  ],
  { description: 'How the last attempt ended.' },
);

const nextScheduledDate = optional(dateTime({ description: 'When the schedule fires it next. Absent without a schedule.' }));
const hookStatus = schema('hooks', 'hook-status', { title: 'Hook Status' }, object({ lastFire, nextScheduledDate }));

const hookStatusEntry = object({ hookGroupId: hookGroupId(), hookId: hookId(), lastFire, nextScheduledDate });
export type HookStatus = TypeOf<typeof hookStatusEntry>;
const listHookStatusesResponse = schema(
  'hooks',
  'list-hook-statuses-response',
  { title: 'List of Hook Statuses' },
  object({
    statuses: array(hookStatusEntry, { description: 'Ordered by the ids of the hooks.' }),
    continuationToken: optional(continuationToken()),
  }),
);

const hookBindingsResponse = schema(
  'hooks',
  'hook-bindings-response',
  { title: 'State of Bindings' },
  object({
    bindings: array(
      object({
        exchange: string({ description: 'Full name of the exchange.' }),
        routingKeyPattern: string({ description: 'Pattern of the routing key.' }),
        problem: optional(string({ description: 'Why the message broker does not deliver; it is asked again now and then.' })),
      }),
    ),
  }),
);

export const FIRED_BY = ['schedule', 'triggerHook', 'triggerHookWithToken', 'pulseMessage'] as const;
export type FiredBy = (typeof FIRED_BY)[number];
export const TASK_STATES = ['unknown', 'unscheduled', 'pending', 'running', 'completed', 'failed', 'exception'] as const;

const lastFireEntry = object({
  hookGroupId: hookGroupId(),
  hookId: hookId(),
  firedBy: stringEnum(FIRED_BY, { description: 'What fired the hook.' }),
  taskId: slugid({ description: 'The task, or the id that it would have had.' }),
  taskCreateTime: dateTime({ description: 'When it was tried.' }),
  result: stringEnum(['success', 'error'], { description: 'Whether the task was created.' }),
  error: string({ description: 'What went wrong; empty when nothing did.' }),
  taskState: stringEnum(TASK_STATES, { description: 'The state of the task now; `unknown` when there is none of this id.' }),
});
export type LastFire = TypeOf<typeof lastFireEntry>;

const listLastFiresResponse = schema(
  'hooks',
  'list-lastFires-response',
  { title: 'List of Last Fires' },
  object({
    lastFires: array(lastFireEntry, { uniqueItems: false, description: 'The latest first.' }),
    continuationToken: optional(continuationToken()),
  }),
);

// ---- triggers ----

const triggerHookRequest = schema(
  'hooks',
  'trigger-hook',
  {
    title: 'Trigger Payload',
    description: 'The payload; it has to match the `triggerSchema` of the hook. A `taskId` in it is the id that the task gets.',
  },
  anyObject(),
);

interface Triggered {
  taskId?: string;
  status?: { taskId: string };
}
const triggerHookResponse = schema(
  'hooks',
  'trigger-hook-response',
  { title: 'Trigger Response', description: 'The task that was created. Empty when the template decided that there is none.' },
  raw<Triggered>({
    anyOf: [
      object({ taskId: slugid(), status: optional(object({ taskId: optional(slugid()) })) }),
      { type: 'object', properties: {}, additionalProperties: false, required: [] },
    ],
  }),
);

const triggerTokenResponse = schema(
  'hooks',
  'trigger-token-response',
  { title: 'Trigger Token' },
  object({ token: string({ description: 'Whoever has it may fire the hook.' }) }),
);

// ---- methods ----

const HOOK = '/hooks/<hookGroupId>/<hookId>';
const groupParams = { hookGroupId: /^[a-zA-Z0-9-_]{1,1000}$/ };
const params = { ...groupParams, hookId: /^[a-zA-Z0-9-_/]{1,1000}$/ };
const hooks = { category: 'Hooks', stability: 'stable', params } as const;
const status = { category: 'Hook Status', params } as const;
const MODIFY = { AllOf: ['hooks:modify-hook:<hookGroupId>/<hookId>', 'assume:hook-id:<hookGroupId>/<hookId>'] } as const;

const hookMethods = methods({
  listHookGroups: {
    category: 'Hooks',
    stability: 'stable',
    method: 'get',
    route: '/hooks',
    title: 'List Hook Groups',
    description: 'The ids of all groups that have hooks.',
    scopes: 'hooks:list-hooks:',
    output: listHookGroupsResponse,
  },
  listHooks: {
    category: 'Hooks',
    stability: 'stable',
    params: groupParams,
    method: 'get',
    route: '/hooks/<hookGroupId>',
    title: 'List Hooks',
    description: 'All hooks of a group. A group without hooks does not exist.',
    scopes: 'hooks:list-hooks:<hookGroupId>',
    output: listHooksResponse,
  },
  hook: {
    ...hooks,
    method: 'get',
    route: HOOK,
    title: 'Get Hook',
    description: 'The definition of a hook.',
    scopes: 'hooks:get:<hookGroupId>:<hookId>',
    output: hookDefinition,
  },
  getHookStatus: {
    ...status,
    stability: 'deprecated',
    method: 'get',
    route: `${HOOK}/status`,
    title: 'Get Hook Status',
    description: 'How the last attempt ended, and when the schedule fires it next. `listLastFires` tells more of the attempts.',
    scopes: 'hooks:status:<hookGroupId>/<hookId>',
    output: hookStatus,
  },
  createHook: {
    ...hooks,
    method: 'put',
    route: HOOK,
    title: 'Create a Hook',
    description:
      'Creates a hook. Its tasks are created with the scopes of the role `hook-id:<hookGroupId>/<hookId>` and nothing else, so the caller has to have that role. Repeating the call with the same definition changes nothing.',
    scopes: MODIFY,
    input: createHookRequest,
    output: hookDefinition,
  },
  updateHook: {
    ...hooks,
    method: 'post',
    route: HOOK,
    title: 'Update a Hook',
    description:
      'Replaces the definition of a hook. Bindings that are left out stay; everything else that is left out goes back to its default. A firing that is overdue is skipped, and the token stays.',
    scopes: MODIFY,
    input: createHookRequest,
    output: hookDefinition,
  },
  removeHook: {
    ...hooks,
    method: 'delete',
    route: HOOK,
    title: 'Delete a Hook',
    description: 'Removes a hook and the list of its last fires. Succeeds when there is none.',
    scopes: 'hooks:modify-hook:<hookGroupId>/<hookId>',
    bodyWithoutSchema: true,
  },
  triggerHook: {
    ...hooks,
    method: 'post',
    route: `${HOOK}/trigger`,
    title: 'Trigger a Hook',
    description:
      'Fires a hook with a payload that matches its `triggerSchema`. The template sees it as `payload`, besides `firedBy`, `taskId`, `now` and `clientId`.',
    scopes: 'hooks:trigger-hook:<hookGroupId>/<hookId>',
    input: triggerHookRequest,
    output: triggerHookResponse,
  },
  getTriggerToken: {
    ...hooks,
    method: 'get',
    route: `${HOOK}/token`,
    title: 'Get a Trigger Token',
    description: 'The token with which anybody may fire the hook.',
    scopes: 'hooks:get-trigger-token:<hookGroupId>/<hookId>',
    output: triggerTokenResponse,
  },
  resetTriggerToken: {
    ...hooks,
    method: 'post',
    route: `${HOOK}/token`,
    title: 'Reset a Trigger Token',
    description: 'Replaces the token by a new one. The old one is worth nothing from now on.',
    scopes: 'hooks:reset-trigger-token:<hookGroupId>/<hookId>',
    output: triggerTokenResponse,
  },
  triggerHookWithToken: {
    ...hooks,
    method: 'post',
    route: `${HOOK}/trigger/<token>`,
    title: 'Trigger a Hook with a Token',
    description: 'Fires a hook as `triggerHook` does, for callers who have its token instead of credentials.',
    input: triggerHookRequest,
    output: triggerHookResponse,
  },
  getHookBindings: {
    ...status,
    stability: 'experimental',
    method: 'get',
    route: `${HOOK}/bindings`,
    title: 'Get the State of Bindings',
    description: 'The bindings of a hook, and which of them the message broker refuses, such as one to an exchange that is not there.',
    scopes: 'hooks:status:<hookGroupId>/<hookId>',
    output: hookBindingsResponse,
  },
  listHookStatuses: {
    category: 'Hook Status',
    stability: 'experimental',
    params: groupParams,
    method: 'get',
    route: '/hook-statuses/<hookGroupId>',
    query: paging,
    title: 'List Hook Statuses',
    description: 'Of each hook of a group, how its last attempt ended and when its schedule fires it next: `getHookStatus` for many.',
    scopes: { AllOf: ['hooks:list-hooks:<hookGroupId>', 'hooks:status:<hookGroupId>/*'] },
    output: listHookStatusesResponse,
  },
  listLastFires: {
    ...status,
    stability: 'stable',
    method: 'get',
    route: `${HOOK}/last-fires`,
    query: paging,
    title: 'List Last Fires',
    description: 'The attempts to create a task, the latest first, for a year. A hook that was never fired has no list.',
    scopes: 'hooks:list-last-fires:<hookGroupId>/<hookId>',
    output: listLastFiresResponse,
  },
});

export const hooksApi = defineApi({
  service: 'hooks',
  version: 'v1',
  title: 'Hooks Service',
  description:
    'Creates tasks from templates when something happens: at set times, when somebody asks for it, or when a message arrives. A hook has a role of its own that says what its tasks may do, so that who may fire it needs none of these powers.',
  methods: { ...pingMethods, ...hookMethods, ...heartbeatMethods },
  schemas: [bindings, hookMetadata, schedule],
});
