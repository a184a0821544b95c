/** What has become of hooks: earlier attempts, the next time, bindings that do not work. */
import type { HookStatus, LastFire, hooksApi } from '@tscluster/api/hooks/api.ts';
import { listRefusedBindings } from '../../../platform/bus/subscriptions.db.ts';
import { notFound } from '../../../platform/errors.ts';
import { makePage, readPage } from '../../../platform/page.ts';
import type { Handlers } from '../../../platform/service.ts';
import { SUBSCRIPTION } from '../bindings.ts';
import type { Ctx } from '../ctx.ts';
import { toDefinition } from '../hooks.db.ts';
import { type LastFireRow, listLastFires, listStatuses, type StatusRow } from '../last-fires.db.ts';
import { requireHook } from './hooks.ts';

type HookHandlers = Handlers<typeof hooksApi, Ctx>;

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

const toLastFire = (row: LastFireRow): LastFire => ({
  hookGroupId: row.hookGroupId,
  hookId: row.hookId,
  firedBy: row.firedBy,
  taskId: row.taskId,
  taskCreateTime: row.taskCreateTime.toISOString(),
  result: row.result,
  error: row.error,
  taskState: row.taskState,
});

const statusOf = (last: Pick<StatusRow, 'result' | 'taskId' | 'taskCreateTime' | 'error'> | undefined): HookStatus['lastFire'] => {
  if (!last?.result) {
    return { result: 'no-fire' };
  }
  const time = last.taskCreateTime.toISOString();
  return last.result === 'success'
    ? { result: 'success', taskId: last.taskId, time }
    : { result: 'error', error: parseError(last.error), time };
};

const nextOf = (nextFire: Date | null): { nextScheduledDate?: string } => (nextFire ? { nextScheduledDate: nextFire.toISOString() } : {});

export const statusHandlers: Pick<HookHandlers, 'getHookStatus' | 'listHookStatuses' | 'getHookBindings' | 'listLastFires'> = {
  async getHookStatus({ ctx, params }) {
    const hook = await requireHook(ctx, params);
    const [last] = await listLastFires(ctx.platform.db, params, { before: undefined, limit: 1 });
    return { lastFire: statusOf(last), ...nextOf(hook.nextFire) };
  },

  async listHookStatuses({ ctx, params: { hookGroupId }, query }) {
    const { limit, after } = readPage(query, ['string']);
    const rows = await listStatuses(ctx.platform.db, { hookGroupId, after: after?.[0], limit: limit + 1 });
    const { rows: shown, ...next } = makePage(rows, limit, row => [row.hookId]);
    return {
      statuses: shown.map(row => ({
        hookGroupId: row.hookGroupId,
        hookId: row.hookId,
        lastFire: statusOf(row),
        ...nextOf(row.nextFire),
      })),
      ...next,
    };
  },

  async getHookBindings({ ctx, params }) {
    const { bindings } = toDefinition(await requireHook(ctx, params));
    const refused = await listRefusedBindings(ctx.platform.db, SUBSCRIPTION);
    return {
      bindings: bindings.map(({ exchange, routingKeyPattern }) => {
        const problem = refused.find(each => each.exchange === exchange && each.pattern === routingKeyPattern)?.reason;
        return { exchange, routingKeyPattern, ...(problem === undefined ? {} : { problem }) };
      }),
    };
  },

  async listLastFires({ ctx, params, query }) {
    const { limit, after } = readPage(query, ['time', 'number']);
    const before = after && { time: new Date(after[0]), id: after[1] };
    const rows = await listLastFires(ctx.platform.db, params, { before, limit: limit + 1 });
    if (rows.length === 0 && !before) {
      const { hookGroupId, hookId } = params;
      notFound('The hook `{{hookId}}` in the group `{{hookGroupId}}` was never fired, or is not there', { hookGroupId, hookId });
    }
    const { rows: shown, ...next } = makePage(rows, limit, row => [row.taskCreateTime.getTime(), row.id]);
    return { lastFires: shown.map(toLastFire), ...next };
  },
};
