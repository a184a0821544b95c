/** Firing hooks on request, and their tokens. */
import crypto from 'node:crypto';
import type { hooksApi } from '@tscluster/api/hooks/api.ts';
import { SLUGID_PATTERN } from '@tscluster/api/types.ts';
import { ApiCallError } from '@tscluster/client/client.ts';
import { audit } from '../../../platform/audit.ts';
import { slugid } from '../../../platform/clock.ts';
import { ApiError, inputError } from '../../../platform/errors.ts';
import type { Handlers } from '../../../platform/service.ts';
import { type Ctx, decryptToken, encryptToken, hookName, roleOf } from '../ctx.ts';
import { type Cause, type Failure, createTask, makeTask, noteAttempt } from '../firing.ts';
import { type HookKey, type HookRow, setTriggerToken } from '../hooks.db.ts';
import { insertLastFires } from '../last-fires.db.ts';
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

export const fireHandlers: Pick<HookHandlers, 'triggerHook' | 'getTriggerToken' | 'resetTriggerToken' | 'triggerHookWithToken'> = {
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
      await audit(tx, ctx.platform, 'hooks', entry);
    });
    return { token };
  },
};
