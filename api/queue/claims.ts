/** The worker's side of a task: claim a run, keep the claim, report the outcome. */
import { methods } from '../define.ts';
import { array, dateTime, defaulted, integer, object, ref, schema, set, string, stringEnum, uri, type TypeOf } from '../schema.ts';
import { identifier, param, runId } from '../types.ts';
import { task, taskStatus, taskStatusResponse } from './tasks.ts';

export const taskCredentials = schema(
  'queue',
  'task-credentials',
  { title: 'Task Credentials', description: 'Temporary credentials with the scopes of the task, valid as long as the claim.' },
  object({
    clientId: string({ minLength: 1, description: 'Tells who acts; not to be used for decisions.' }),
    accessToken: string({ minLength: 1, description: 'The secret.' }),
    certificate: string({ minLength: 1, description: 'The certificate as JSON text. Credentials without it do not work.' }),
  }),
);

const worker = {
  workerGroup: identifier({ description: 'Group of the worker, often the region it runs in.' }),
  workerId: identifier({ description: 'The worker within its group.' }),
};
const takenUntil = dateTime({ description: 'When the claim ends unless it is renewed before.' });
const credentials = ref(taskCredentials);

export const claimWorkRequest = schema(
  'queue',
  'claim-work-request',
  { title: 'Claim Work Request' },
  object({
    ...worker,
    tasks: defaulted(integer({ minimum: 1, maximum: 32, description: 'How many tasks the worker can take now.' }), 1, { listed: true }),
  }),
);

export const claimWorkResponse = schema(
  'queue',
  'claim-work-response',
  { title: 'Claim Work Response' },
  object({
    tasks: set(object({ status: ref(taskStatus), runId: runId(), ...worker, takenUntil, task: ref(task), credentials }), {
      description: 'What was claimed, the most urgent first. Empty when nothing was there in time.',
    }),
  }),
);
export type Claim = TypeOf<typeof claimWorkResponse>['tasks'][number];

export const taskClaimRequest = schema('queue', 'task-claim-request', { title: 'Claim Task Request' }, object(worker));

export const taskClaimResponse = schema(
  'queue',
  'task-claim-response',
  { title: 'Claim Task Response' },
  object({ status: ref(taskStatus), runId: runId(), ...worker, takenUntil, task: ref(task), credentials }),
);

export const taskReclaimResponse = schema(
  'queue',
  'task-reclaim-response',
  { title: 'Reclaim Task Response', description: 'The new end of the claim, and credentials that last as long.' },
  object({ status: ref(taskStatus), runId: runId(), ...worker, takenUntil, credentials }),
);

/** Why a worker could not carry a task through. */
export const EXCEPTION_REASONS = [
  'worker-shutdown',
  'malformed-payload',
  'resource-unavailable',
  'internal-error',
  'intermittent-task',
] as const;
export type ExceptionReason = (typeof EXCEPTION_REASONS)[number];

export const taskExceptionRequest = schema(
  'queue',
  'task-exception-request',
  { title: 'Task Exception Request' },
  object({
    reason: stringEnum(EXCEPTION_REASONS, {
      description:
        'What kept the worker from finishing. After `worker-shutdown` and `intermittent-task` the task is tried again while it has retries left; the others are final.',
    }),
  }),
);

/** Of a way of claiming that is long gone; clients still expect the document. */
export const pollTaskUrlsResponse = schema(
  'queue',
  'poll-task-urls-response',
  { title: 'Poll Task Urls Response', description: 'Not used by any method: workers call `claimWork`.' },
  object({
    queues: array(object({ signedPollUrl: uri(), signedDeleteUrl: string({ pattern: '^https://' }) }), { uniqueItems: false }),
    expires: dateTime(),
  }),
);

const common = { category: 'Worker Interface', stability: 'stable' } as const;
const runParams = { taskId: param.slugid, runId: param.runId } as const;

export const claimMethods = methods({
  claimWork: {
    ...common,
    method: 'post',
    route: '/claim-work/<taskQueueId>',
    splat: ['taskQueueId'],
    params: { taskQueueId: param.taskQueueId },
    title: 'Claim Work',
    description:
      'Takes pending tasks from a queue: urgent ones first, then those that have waited longest. Answers as soon as there is at least one, else with an empty list after 20 seconds; call again at once. Each task comes with credentials for its run. A quarantined worker gets nothing.',
    scopes: { AllOf: ['queue:claim-work:<taskQueueId>', 'queue:worker-id:<workerGroup>/<workerId>'] },
    input: claimWorkRequest,
    output: claimWorkResponse,
  },
  claimTask: {
    ...common,
    method: 'post',
    route: '/task/<taskId>/runs/<runId>/claim',
    params: runParams,
    title: 'Claim Task',
    description:
      'Claims one particular pending run. Workers should call `claimWork`, which knows priorities and order. Refused as `RequestConflict` when somebody else has the run or the deadline is past.',
    stability: 'deprecated',
    scopes: { AllOf: ['queue:claim-task:<provisionerId>/<workerType>', 'queue:worker-id:<workerGroup>/<workerId>'] },
    input: taskClaimRequest,
    output: taskClaimResponse,
  },
  reclaimTask: {
    ...common,
    method: 'post',
    route: '/task/<taskId>/runs/<runId>/reclaim',
    params: runParams,
    title: 'Reclaim Task',
    description:
      'Renews a claim before `takenUntil` and returns new credentials. Refused as `RequestConflict` when the run is over (cancelled, past its deadline, given to another worker): the worker must then stop the task and report nothing.',
    scopes: 'queue:reclaim-task:<taskId>/<runId>',
    output: taskReclaimResponse,
  },
  reportCompleted: {
    ...common,
    method: 'post',
    route: '/task/<taskId>/runs/<runId>/completed',
    params: runParams,
    title: 'Report Success',
    description: 'The task did what it should. May be repeated; refused as `RequestConflict` when the run has another outcome.',
    scopes: 'queue:resolve-task:<taskId>/<runId>',
    output: taskStatusResponse,
  },
  reportFailed: {
    ...common,
    method: 'post',
    route: '/task/<taskId>/runs/<runId>/failed',
    params: runParams,
    title: 'Report Failure',
    description:
      'The task ran and did not succeed: a failed test, an exit status that is not 0. It is not tried again. May be repeated; refused as `RequestConflict` when the run has another outcome.',
    scopes: 'queue:resolve-task:<taskId>/<runId>',
    output: taskStatusResponse,
  },
  reportException: {
    ...common,
    method: 'post',
    route: '/task/<taskId>/runs/<runId>/exception',
    params: runParams,
    title: 'Report an Exception',
    description:
      'The run ended for a reason that is not the outcome of the task. For `worker-shutdown` and `intermittent-task` another run follows while there are retries left. May be repeated; refused as `RequestConflict` when the run has another outcome.',
    scopes: 'queue:resolve-task:<taskId>/<runId>',
    input: taskExceptionRequest,
    output: taskStatusResponse,
  },
});
