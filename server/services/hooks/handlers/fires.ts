/** Firing hooks on request, their tokens, and what has become of earlier attempts. */
import crypto from 'node:crypto';
import type { hooksApi } from '@tscluster/api/hooks/api.ts';
import { SLUGID_PATTERN } from '@tscluster/api/types.ts';
import { ApiCallError } from '@tscluster/client/client.ts';
import { writeAudit } from '../../../platform/audit.ts';
import { slugid } from '../../../platform/clock.ts';
import { ApiError, inputError, notFound } from '../../../platform/errors.ts';
import { makePage, readPage } from '../../../platform/page.ts';
import type { Handlers } from '../../../platform/service.ts';
import { type Ctx, decryptToken, encryptToken, hookName, roleOf } from '../ctx.ts';
import { type Cause, type Failure, createTask, makeTask, noteAttempt } from '../firing.ts';
import { type HookKey, type HookRow, setTriggerToken } from '../hooks.db.ts';
import { insertLastFires, type LastFireRow, listLastFires } from '../last-fires.db.ts';
import { noHook, requireHook } from './hooks.ts';

type HookHandlers = Handlers<typeof hooksApi, Ctx>;

const SLUGID = new RegExp(SLUGID_PATTERN);
const MAX_PROBLEMS_LENGTH = 20_000;
const RETRIES = 5;

/** Throws what the caller is told of a failed attempt. */
const refuse = (hook: HookKey, { error, call }: Failure): never => {
  if (!call || !(error instanceof ApiCallError)) {
    return inputError('While firing hook:\n\n{{problem}}', { problem: call ? String(error) : error.message });
  }
  const { requestInfo, details } = (error.body ?? {}) as { requestInfo?: unknown; details?: object };
  if (error.code === 'InsufficientScopes') {
    const text = 'The role `{{role}}` does not have sufficient scopes to create the task:\n\n{{problem}}';
    throw new ApiError('InsufficientScopes', text, { role: roleOf(hook), problem: error.message, createTask: requestInfo }, details);
  }
  return inputError('While calling createTask: {{code}}\n\n{{problem}}', {
    code: error.code,
    problem: error.message,
    createTask: requestInfo,
  });
};

/** Fires a hook for a caller who waits for it. */
const trigger = async (
  ctx: Ctx,
  hook: HookRow,
  payload: Record<string, unknown>,
  cause: { firedBy: 'triggerHook'; clientId: string } | { firedBy: 'triggerHookWithToken' },
  traceId: string,
): Promise<{ taskId: string; status: { taskId: string } } | Record<string, never>> => {
  const { hookGroupId, hookId } = hook;
  const { firedBy } = cause;
  const text = JSON.stringify(payload);
  const { problems } = await ctx.sandbox.validate(hookGroupId, hook.triggerSchema, text);
  if (problems.length > 0) {
    inputError('{{problems}}', { problems: problems.join('; ').slice(0, MAX_PROBLEMS_LENGTH) });
  }
  const { taskId: wanted } = payload;
  if (wanted !== undefined && !(typeof wanted === 'string' && SLUGID.test(wanted))) {
    inputError('The taskId in the payload must be a slugid of 22 characters, got {{wanted}}.', { wanted });
  }
  const taskId = typeof wanted === 'string' ? wanted : slugid(ctx.platform.random);
  const made = await makeTask(ctx.sandbox, hook, { ...cause, payload: text } as Cause, taskId, ctx.platform.clock.now());
  if ('declined' in made) {
    noteAttempt(ctx, hook, { firedBy, taskId, result: 'declined' });
    return {};
  }
  const failure = 'failure' in made ? made.failure : await createTask(ctx, hook, taskId, made.task, { retries: RETRIES, traceId });
  const attempt = { hookGroupId, hookId, firedBy, taskId, time: ctx.platform.clock.now(), error: failure?.text ?? '' };
  await insertLastFires(ctx.platform.db, [attempt]);
  noteAttempt(ctx, hook, { firedBy, taskId, result: failure ? 'failure' : 'success' });
  return failure ? refuse(hook, failure) : { taskId, status: { taskId } };
};

const isSame = (a: string, b: string): boolean => {
  const digest = (text: string): Buffer => crypto.createHash('sha256').update(text).digest();
  return crypto.timingSafeEqual(digest(a), digest(b));
};

/** The error as an object: most are JSON. */
const parseError = (text: string): Record<string, unknown> => {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
      return value as Record<string, unknown>;
    }
  } catch {
    // a plain message
  }
  return { message: text };
};

const toLastFire = (row: LastFireRow) => ({
  hookGroupId: row.hookGroupId,
  hookId: row.hookId,
  firedBy: row.firedBy,
  taskId: row.taskId,
  taskCreateTime: row.taskCreateTime.toISOString(),
  result: row.result,
  error: row.error,
  taskState: row.taskState as 'unknown',
});

export const fireHandlers: Pick<
  HookHandlers,
  'getHookStatus' | 'triggerHook' | 'getTriggerToken' | 'resetTriggerToken' | 'triggerHookWithToken' | 'listLastFires'
> = {
  async getHookStatus({ ctx, params }) {
    const hook = await requireHook(ctx, params);
    const [last] = await listLastFires(ctx.platform.db, params, { before: undefined, limit: 1 });
    const next = hook.nextFire ? { nextScheduledDate: hook.nextFire.toISOString() } : {};
    if (!last) {
      return { lastFire: { result: 'no-fire' as const }, ...next };
    }
    const time = last.taskCreateTime.toISOString();
    return {
      lastFire:
        last.result === 'success'
          ? { result: 'success' as const, taskId: last.taskId, time }
          : { result: 'error' as const, error: parseError(last.error), time },
      ...next,
    };
  },

  async triggerHook({ ctx, params, body, caller, traceId }) {
    const hook = await requireHook(ctx, params);
    const { clientId } = await caller();
    return trigger(ctx, hook, body, { firedBy: 'triggerHook', clientId }, traceId);
  },

  async triggerHookWithToken({ ctx, params: { token, ...key }, body, traceId }) {
    const hook = await requireHook(ctx, key);
    if (!isSame(token, decryptToken(ctx, key, hook.triggerToken))) {
      throw new ApiError('AuthenticationFailed', 'invalid hook token');
    }
    return trigger(ctx, hook, body, { firedBy: 'triggerHookWithToken' }, traceId);
  },

  async getTriggerToken({ ctx, params }) {
    const hook = await requireHook(ctx, params);
    return { token: decryptToken(ctx, params, hook.triggerToken) };
  },

  async resetTriggerToken({ ctx, params, caller }) {
    const by = (await caller()).clientId;
    const token = slugid(ctx.platform.random);
    await ctx.platform.db.tx(async tx => {
      if (!(await setTriggerToken(tx, params, encryptToken(ctx, params, token)))) {
        noHook(params);
      }
      const entry = { entityType: 'hook', entityId: hookName(params), clientId: by, action: 'access token reset' } as const;
      await writeAudit(tx, entry, ctx.platform.clock.now());
    });
    return { token };
  },

  async listLastFires({ ctx, params, query }) {
    const { limit, after } = readPage(query, ['number', 'number']);
    const before = after && { time: new Date(after[0]), id: after[1] };
    const rows = await listLastFires(ctx.platform.db, params, { before, limit: limit + 1 });
    if (rows.length === 0 && !before) {
      const { hookGroupId, hookId } = params;
      notFound('The hook `{{hookId}}` in the group `{{hookGroupId}}` was never fired, or is not there', { hookGroupId, hookId });
    }
    const page = makePage(rows, limit, row => [row.taskCreateTime.getTime(), row.id]);
    return {
      lastFires: page.rows.map(toLastFire),
      ...(page.continuationToken === undefined ? {} : { continuationToken: page.continuationToken }),
    };
  },
};
