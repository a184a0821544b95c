/**
 * Task definitions: what a client sends becomes what is stored. The definition is kept as JSON text without its opening brace and without the
 * priority, which may change: an answer puts both in front.
 */
import { isDeepStrictEqual } from 'node:util';
import type { MethodBody } from '@tscluster/api/define.ts';
import type { queueApi } from '@tscluster/api/queue/api.ts';
import type { TaskDefinition } from '@tscluster/api/queue/tasks.ts';
import type { Priority } from '@tscluster/api/types.ts';
import { inputError } from '../../platform/errors.ts';
import { parseDateTime } from '../../platform/validate.ts';
import type { QueueConfig } from './ctx.ts';
import { CLOCK_DRIFT_MS, priorityName, priorityRank, splitTaskQueueId } from './rules.ts';

export type CreateTaskBody = MethodBody<(typeof queueApi)['methods']['createTask']>;

/** A task ready to be stored. Texts are JSON. */
export interface NewTask {
  readonly taskId: string;
  readonly taskGroupId: string;
  readonly taskQueueId: string;
  readonly schedulerId: string;
  readonly projectId: string;
  readonly priority: Priority;
  readonly retries: number;
  readonly deadlineMs: number;
  readonly expiresMs: number;
  readonly dependencies: readonly string[];
  readonly anyOutcome: boolean;
  /** The immutable part of the status. */
  readonly head: string;
  readonly tags: string;
  readonly cc: string;
  readonly scopes: string;
  readonly definition: string;
}

const DAY_MS = 24 * 3_600_000;

/** The queue a new task goes to, from either way of naming it. Refuses none, half and contradicting ones. */
export const resolveTaskQueueId = (body: Pick<CreateTaskBody, 'taskQueueId' | 'provisionerId' | 'workerType'>): string => {
  const { taskQueueId, provisionerId, workerType } = body;
  if (taskQueueId === undefined) {
    if (provisionerId === undefined || workerType === undefined) {
      return inputError('The task names no task queue: give `taskQueueId`, or both `provisionerId` and `workerType`.');
    }
    return `${provisionerId}/${workerType}`;
  }
  const parts = splitTaskQueueId(taskQueueId);
  if ((provisionerId ?? parts.provisionerId) !== parts.provisionerId || (workerType ?? parts.workerType) !== parts.workerType) {
    return inputError(
      'taskQueueId `{{taskQueueId}}` contradicts provisionerId `{{provisionerId}}` and workerType `{{workerType}}`. Give one or the other, or make them agree.',
      { taskQueueId, provisionerId: provisionerId ?? parts.provisionerId, workerType: workerType ?? parts.workerType },
    );
  }
  return taskQueueId;
};

/** The same month and day a year later; 29 February becomes 1 March. */
export const oneYearAfter = (ms: number): number => {
  const date = new Date(ms);
  return date.setUTCFullYear(date.getUTCFullYear() + 1);
};

export interface Times {
  readonly createdMs: number;
  readonly deadlineMs: number;
  readonly expiresMs: number;
}

/** What is wrong with the dates of a definition. */
export interface TimesProblem {
  readonly field: 'created' | 'deadline' | 'expires';
  readonly message: string;
  readonly details: Readonly<Record<string, unknown>>;
}

/** Reads the dates, and checks them against each other and the present, in the protocol's order. */
export const readTimes = (
  body: Pick<CreateTaskBody, 'created' | 'deadline' | 'expires'>,
  nowMs: number,
  config: Pick<QueueConfig, 'maxDeadlineDays'>,
): Times & { readonly problem?: TimesProblem } => {
  const createdMs = parseDateTime(body.created);
  const deadlineMs = parseDateTime(body.deadline);
  const expiresMs = body.expires === undefined ? oneYearAfter(deadlineMs) : parseDateTime(body.expires);
  const times = { createdMs, deadlineMs, expiresMs };
  const wrong = (field: TimesProblem['field'], message: string): Times & { problem: TimesProblem } => {
    const { created, deadline, expires } = body;
    const details = { created, deadline, expires, now: new Date(nowMs).toISOString(), days: config.maxDeadlineDays };
    return { ...times, problem: { field, message, details } };
  };
  if (Math.abs(createdMs - nowMs) > CLOCK_DRIFT_MS) {
    return wrong('created', '`created` ({{created}}) is more than 15 minutes away from now ({{now}}). Set it when the task is submitted.');
  }
  if (createdMs > deadlineMs) {
    return wrong('deadline', '`deadline` ({{deadline}}) is before `created` ({{created}}).');
  }
  if (deadlineMs < nowMs) {
    return wrong('deadline', '`deadline` ({{deadline}}) is past: it is {{now}} now.');
  }
  if (deadlineMs > nowMs + config.maxDeadlineDays * DAY_MS + CLOCK_DRIFT_MS) {
    return wrong('deadline', '`deadline` ({{deadline}}) is more than {{days}} days from now ({{now}}).');
  }
  if (expiresMs < deadlineMs) {
    return wrong('expires', '`expires` ({{expires}}) is before `deadline` ({{deadline}}).');
  }
  return times;
};

/** The same; throws 400 when something is wrong. */
export const checkTimes = (...args: Parameters<typeof readTimes>): Times => {
  const { problem, ...times } = readTimes(...args);
  return problem ? inputError(problem.message, problem.details) : times;
};

/** A scope may end in one star, not in two: the second would be meant literally and is always a mistake. Place of the first such one, or -1. */
export const findDoubleStar = (scopes: readonly string[]): number => scopes.findIndex(scope => scope.endsWith('**'));
export const DOUBLE_STAR = 'Scope `{{scope}}` ends in `**`; one `*` at the end matches everything that begins so.';

/** Throws 400 for such a scope. */
export const checkScopes = (scopes: readonly string[]): void => {
  const bad = scopes[findDoubleStar(scopes)];
  if (bad !== undefined) {
    inputError(DOUBLE_STAR, { scope: bad });
  }
};

const iso = (ms: number): string => new Date(ms).toISOString();

/** Dates as they are stored. */
export interface TimeTexts {
  readonly created: string;
  readonly deadline: string;
  readonly expires: string;
}

export const timeTexts = ({ createdMs, deadlineMs, expiresMs }: Times): TimeTexts => ({
  created: iso(createdMs),
  deadline: iso(deadlineMs),
  expires: iso(expiresMs),
});

/** The stored form of a checked definition. */
export const makeTask = (
  taskId: string,
  body: CreateTaskBody,
  taskQueueId: string,
  times: Times,
  { created, deadline, expires }: TimeTexts = timeTexts(times),
): NewTask => {
  const { provisionerId, workerType } = splitTaskQueueId(taskQueueId);
  const { schedulerId, projectId, dependencies, requires, routes, priority, retries, scopes, payload, metadata, tags, extra } = body;
  const taskGroupId = body.taskGroupId ?? taskId;
  const definition: Omit<TaskDefinition, 'priority'> = {
    provisionerId,
    workerType,
    taskQueueId,
    schedulerId,
    projectId,
    taskGroupId,
    dependencies,
    requires,
    routes,
    retries,
    created,
    deadline,
    expires,
    scopes,
    payload,
    metadata,
    tags,
    extra,
  };
  const identity = { taskId, provisionerId, workerType, taskQueueId, schedulerId, projectId, taskGroupId, deadline, expires };
  return {
    taskId,
    taskGroupId,
    taskQueueId,
    schedulerId,
    projectId,
    priority,
    retries,
    deadlineMs: times.deadlineMs,
    expiresMs: times.expiresMs,
    dependencies,
    anyOutcome: requires === 'all-resolved',
    head: JSON.stringify(identity).slice(1, -1),
    tags: JSON.stringify(tags),
    cc: routes.length === 0 ? '[]' : JSON.stringify(routes.map(route => `route.${route}`)),
    scopes: JSON.stringify(scopes),
    definition: JSON.stringify(definition).slice(1),
  };
};

/** The definition as clients see it. */
export const definitionText = (priority: Priority, stored: string): string => `{"priority":"${priority}",${stored}`;

/** Whether a definition is the stored one. The order of keys does not matter; the priority is the present one. */
export const isSameDefinition = (task: NewTask, stored: { readonly priority: number; readonly definition: string }): boolean =>
  priorityRank(task.priority) === stored.priority &&
  (task.definition === stored.definition || isDeepStrictEqual(JSON.parse(`{${task.definition}`), JSON.parse(`{${stored.definition}`)));

export interface StatusParts {
  readonly head: string;
  readonly priority: Priority;
  readonly retriesLeft: number;
  readonly state: string;
  /** JSON texts joined by commas. */
  readonly runs: string;
}

/** A status as JSON text. The same as `STATUS` in SQL. */
export const statusText = ({ head, priority, retriesLeft, state, runs }: StatusParts): string =>
  `{${head},"priority":"${priority}","retriesLeft":${retriesLeft},"state":"${state}","runs":[${runs}]}`;

/** The status right after creation. */
export const newTaskStatus = (task: NewTask, state: 'pending' | 'unscheduled', nowIso: string): string =>
  statusText({
    head: task.head,
    priority: task.priority,
    retriesLeft: task.retries,
    state,
    runs: state === 'pending' ? `{"runId":0,"state":"pending","reasonCreated":"scheduled","scheduled":"${nowIso}"}` : '',
  });

export const nameOfRank = priorityName;
