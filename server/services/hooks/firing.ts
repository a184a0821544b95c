/**
 * From a hook to a task: what the template is told, what becomes of its result, and the call of the queue. A task is created with the scopes of the
 * hook's role and nothing more, whoever or whatever has fired the hook.
 */
import type { FiredBy } from '@tscluster/api/hooks/api.ts';
import { queueApi } from '@tscluster/api/queue/api.ts';
import type { TypeOf } from '@tscluster/api/schema.ts';
import type { createTaskRequest } from '@tscluster/api/queue/tasks.ts';
import { ApiCallError, type Client } from '@tscluster/client/client.ts';
import type { Sandbox } from '../../platform/sandbox/sandbox.ts';
import { type Ctx, roleOf } from './ctx.ts';
import type { HookKey } from './hooks.db.ts';

const DAY_MS = 86_400_000;
const MONTH_MS = 30 * DAY_MS;
const MAX_ERROR_LENGTH = 131_072;

/** What a template sees besides `taskId` and `now`. */
export type Cause =
  | { readonly firedBy: 'schedule'; readonly scheduledTime: Date }
  | { readonly firedBy: 'triggerHook'; readonly payload: string; readonly clientId: string }
  | { readonly firedBy: 'triggerHookWithToken'; readonly payload: string }
  | { readonly firedBy: 'pulseMessage'; readonly payload: string; readonly exchange: string | null; readonly routingKey: string | null };

/** A template's context as JSON text; the payload is JSON text already. */
export const makeContext = (cause: Cause, taskId: string, now: Date): string => {
  const { payload, ...others } = { payload: undefined, ...cause };
  const text = JSON.stringify({ ...others, taskId, now });
  return payload === undefined ? text : `${text.slice(0, -1)},"payload":${payload}}`;
};

/** Why there is no task. */
export interface Failure {
  /** For the list of last fires and for mail. */
  readonly text: string;
  readonly error: Error;
  /** The queue's answer, or that there was none. */
  readonly call: boolean;
  /** It may go well another time. */
  readonly transient: boolean;
  readonly tooSlow: boolean;
}

export type Made = { readonly task: string } | { readonly declined: true } | { readonly failure: Failure };

const templateFailure = (message: string, tooSlow = false): Made => {
  // it may repeat what a message says, and Postgres keeps no NUL
  const text = message.replaceAll('\0', '\\u0000').slice(0, MAX_ERROR_LENGTH);
  return { failure: { text, error: new Error(text), call: false, transient: false, tooSlow } };
};

const kindOf = (value: unknown): string => (Array.isArray(value) ? 'an array' : `a ${typeof value}`);

/** Renders a template (JSON text) and fills in what it left out; the task as JSON text. */
export const makeTask = async (
  sandbox: Sandbox,
  { hookGroupId, task: template }: { readonly hookGroupId: string; readonly task: string },
  cause: Cause,
  taskId: string,
  now: Date,
): Promise<Made> => {
  const rendered = await sandbox.render(hookGroupId, template, makeContext(cause, taskId, now));
  if (!rendered.ok) {
    return templateFailure(rendered.error, rendered.tooSlow);
  }
  const task: unknown = JSON.parse(rendered.text);
  if (!task) {
    return { declined: true };
  }
  if (typeof task !== 'object' || Array.isArray(task)) {
    return templateFailure(`The template must make an object, and made ${kindOf(task)}`);
  }
  const given = task as Record<string, unknown>;
  const defaults: Record<string, unknown> = {
    created: now,
    deadline: new Date(now.getTime() + DAY_MS),
    expires: new Date(now.getTime() + MONTH_MS),
    taskGroupId: taskId,
  };
  for (const [name, value] of Object.entries(defaults)) {
    given[name] ||= value;
  }
  return { task: JSON.stringify(given) };
};

const queueFor = ({ platform }: Ctx, hook: HookKey, options: { retries: number; traceId?: string }): Client<typeof queueApi> =>
  platform.client(queueApi, 'hooks', { authorizedScopes: [`assume:${roleOf(hook)}`], ...options });

/** What is remembered of a refused call. */
const describeCall = (error: Error & { code?: unknown; statusCode?: unknown; body?: unknown }, url: string): string => {
  const { name, message, code, statusCode, body } = error;
  return JSON.stringify({ name, message, code, statusCode, url, body }, null, 2).slice(0, MAX_ERROR_LENGTH);
};

/** Creates the task; undefined when all is well. `retries` are made at once, when the queue could not answer. */
export const createTask = async (
  ctx: Ctx,
  hook: HookKey,
  taskId: string,
  task: string,
  options: { retries: number; traceId?: string },
): Promise<Failure | undefined> => {
  const queue = queueFor(ctx, hook, options);
  try {
    await queue.createTask({ taskId }, JSON.parse(task) as TypeOf<typeof createTaskRequest>);
    return undefined;
  } catch (caught) {
    const error = caught as Error;
    const status = error instanceof ApiCallError ? error.statusCode : 500;
    return {
      text: describeCall(error, queue.buildUrl('createTask', { taskId })),
      error,
      call: true,
      transient: status >= 500,
      tooSlow: false,
    };
  }
};

type Result = 'success' | 'failure' | 'declined' | 'discarded';

/** Logs and counts an attempt. */
export const noteAttempt = (
  ctx: Ctx,
  { hookGroupId, hookId }: HookKey,
  attempt: { firedBy: FiredBy; taskId: string; result: Result },
): void => {
  ctx.fires.inc({ firedBy: attempt.firedBy, result: attempt.result });
  if (attempt.result !== 'discarded') {
    ctx.platform.log.info({ hookGroupId, hookId, ...attempt }, 'hook-fire');
  }
};
