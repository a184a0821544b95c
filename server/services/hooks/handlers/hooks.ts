/** Reading and changing hooks. A change, its event and its bindings are one transaction. */
import type { hooksApi } from '@tscluster/api/hooks/api.ts';
import { hooksEvents } from '@tscluster/api/hooks/events.ts';
import { isDeepStrictEqual } from 'node:util';
import type { Tx } from '../../../db/sql.ts';
import { audit } from '../../../platform/audit.ts';
import { slugid } from '../../../platform/clock.ts';
import { conflict, notFound } from '../../../platform/errors.ts';
import { publish } from '../../../platform/events.ts';
import type { Handlers } from '../../../platform/service.ts';
import { changeBindings } from '../bindings.ts';
import { type Ctx, encryptToken, hookName } from '../ctx.ts';
import { checkBindings, checkIds, checkSchedule, checkTriggerSchema, toHook } from '../definition.ts';
import { deleteWaitingSchedule } from '../fires.db.ts';
import { deleteHook, getHook, type HookBinding, type HookKey, type HookRow, insertHook } from '../hooks.db.ts';
import { listHookGroups, listHooks, lockHook, toDefinition, updateHook } from '../hooks.db.ts';

type HookHandlers = Handlers<typeof hooksApi, Ctx>;

export const requireHook = async (ctx: Ctx, key: HookKey): Promise<HookRow> => (await getHook(ctx.platform.db, key)) ?? noHook(key);

export const noHook = ({ hookGroupId, hookId }: HookKey): never =>
  notFound('No hook `{{hookId}}` in the group `{{hookGroupId}}`', { hookGroupId, hookId });

const EVENTS = { created: 'hookCreated', updated: 'hookUpdated', deleted: 'hookDeleted' } as const;

/** Announces what was done to a hook and notes it in the history. */
const announce = async (tx: Tx, ctx: Ctx, { hookGroupId, hookId }: HookKey, action: keyof typeof EVENTS, by: string): Promise<void> => {
  await publish(tx, hooksEvents, EVENTS[action], { message: { hookGroupId, hookId } });
  await audit(tx, ctx.platform, 'hooks', { entityType: 'hook', entityId: hookName({ hookGroupId, hookId }), clientId: by, action });
};

const nextFireOf = async (ctx: Ctx, patterns: readonly string[]): Promise<Date | undefined> =>
  patterns.length === 0 ? undefined : (await ctx.schedules()).next(patterns, ctx.platform.clock.now());

const bindingsOf = (row: HookRow): HookBinding[] => JSON.parse(row.bindings) as HookBinding[];

export const hookHandlers: Pick<HookHandlers, 'listHookGroups' | 'listHooks' | 'hook' | 'createHook' | 'updateHook' | 'removeHook'> = {
  async listHookGroups({ ctx }) {
    return { groups: await listHookGroups(ctx.platform.db) };
  },

  async listHooks({ ctx, params: { hookGroupId } }) {
    const rows = await listHooks(ctx.platform.db, hookGroupId);
    if (rows.length === 0) {
      notFound('No hooks in the group `{{hookGroupId}}`', { hookGroupId });
    }
    return { hooks: rows.map(toDefinition) };
  },

  async hook({ ctx, params }) {
    return toDefinition(await requireHook(ctx, params));
  },

  async createHook({ ctx, params, body, caller }) {
    checkIds(params, body);
    const hook = toHook(params, body, []);
    await checkSchedule(ctx, hook.schedule);
    await checkTriggerSchema(ctx, params, hook.triggerSchema);
    checkBindings(ctx, hook.bindings);
    const by = (await caller()).clientId;
    const token = encryptToken(ctx, params, slugid(ctx.platform.random));
    const nextFire = await nextFireOf(ctx, hook.schedule);
    await ctx.platform.db.tx(async tx => {
      if (await insertHook(tx, hook, token, nextFire)) {
        await changeBindings(ctx, tx, params, [], hook.bindings);
      } else {
        const existing = (await lockHook(tx, params)) ?? noHook(params);
        if (!isDeepStrictEqual(toDefinition(existing), JSON.parse(JSON.stringify(hook)))) {
          conflict('The hook `{{hookId}}` in the group `{{hookGroupId}}` exists already, and is another one. updateHook changes it.', {
            ...params,
          });
        }
      }
      await announce(tx, ctx, params, 'created', by);
    });
    return hook;
  },

  async updateHook({ ctx, params, body, caller }) {
    checkIds(params, body);
    await requireHook(ctx, params);
    await checkTriggerSchema(ctx, params, body.triggerSchema);
    await checkSchedule(ctx, body.schedule);
    checkBindings(ctx, body.bindings ?? []);
    const by = (await caller()).clientId;
    const nextFire = await nextFireOf(ctx, body.schedule);
    return ctx.platform.db.tx(async tx => {
      const before = bindingsOf((await lockHook(tx, params)) ?? noHook(params));
      const hook = toHook(params, body, before);
      await updateHook(tx, hook, nextFire);
      await deleteWaitingSchedule(tx, params, ctx.platform.clock.now());
      if (!isDeepStrictEqual(before, hook.bindings)) {
        await changeBindings(ctx, tx, params, before, hook.bindings);
      }
      await announce(tx, ctx, params, 'updated', by);
      return hook;
    });
  },

  async removeHook({ ctx, params, caller }) {
    const by = (await caller()).clientId;
    await ctx.platform.db.tx(async tx => {
      const removed = await deleteHook(tx, params);
      if (removed) {
        await changeBindings(ctx, tx, params, bindingsOf(removed), []);
      }
      await announce(tx, ctx, params, 'deleted', by);
    });
    return {};
  },
};
