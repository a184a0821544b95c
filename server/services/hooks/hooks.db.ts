/** The table of hooks, and which of them may want a message. A hook's definition is kept as JSON text and passed on as it is. */
import type { FilledOf, TypeOf } from '@tscluster/api/schema.ts';
import type { createHookRequest, hookDefinition } from '@tscluster/api/hooks/definitions.ts';
import { type Query, type Tx, json, sql } from '../../db/sql.ts';
import type { Binding } from '../../platform/bus/bus.ts';

export type HookRequest = FilledOf<typeof createHookRequest>;
export type HookDefinition = TypeOf<typeof hookDefinition> & { bindings: HookBinding[] };
export type HookBinding = { exchange: string; routingKeyPattern: string };

export interface HookKey {
  readonly hookGroupId: string;
  readonly hookId: string;
}

export interface HookRow extends HookKey {
  /** This and the following five: JSON text. */
  readonly metadata: string;
  readonly task: string;
  readonly schedule: string;
  readonly bindings: string;
  readonly triggerSchema: string;
  /** Encrypted. */
  readonly triggerToken: string;
  /** null without a schedule. */
  readonly nextFire: Date | null;
}

const COLUMNS = sql`hook_group_id, hook_id, metadata, task, schedule, bindings, trigger_schema, trigger_token, next_fire`;

export const toDefinition = (row: HookRow): HookDefinition => ({
  hookGroupId: row.hookGroupId,
  hookId: row.hookId,
  metadata: JSON.parse(row.metadata) as HookDefinition['metadata'],
  task: JSON.parse(row.task) as HookDefinition['task'],
  bindings: JSON.parse(row.bindings) as HookBinding[],
  schedule: JSON.parse(row.schedule) as string[],
  triggerSchema: JSON.parse(row.triggerSchema) as HookDefinition['triggerSchema'],
});

/** Ids of groups that have hooks, in order. */
export const listHookGroups = async (db: Query): Promise<string[]> =>
  (await db<{ hookGroupId: string }>`select distinct hook_group_id from hooks.hooks order by hook_group_id`).map(row => row.hookGroupId);

/** The hooks of a group, in order. */
export const listHooks = async (db: Query, hookGroupId: string): Promise<HookRow[]> =>
  db<HookRow>`select ${COLUMNS} from hooks.hooks where hook_group_id = ${hookGroupId} order by hook_id`;

/** One hook. Primary key. */
export const getHook = async (db: Query, { hookGroupId, hookId }: HookKey): Promise<HookRow | undefined> => {
  const [row] = await db<HookRow>`select ${COLUMNS} from hooks.hooks where hook_group_id = ${hookGroupId} and hook_id = ${hookId}`;
  return row;
};

/** One hook, which nobody else changes until the transaction ends. */
export const lockHook = async (tx: Tx, { hookGroupId, hookId }: HookKey): Promise<HookRow | undefined> => {
  const [row] = await tx<HookRow>`
    select ${COLUMNS} from hooks.hooks where hook_group_id = ${hookGroupId} and hook_id = ${hookId} for no key update`;
  return row;
};

/** Adds a hook; false when there is one already. */
export const insertHook = async (tx: Tx, hook: HookDefinition, triggerToken: string, nextFire: Date | undefined): Promise<boolean> => {
  const rows = await tx`
    insert into hooks.hooks (hook_group_id, hook_id, metadata, task, schedule, bindings, trigger_schema, trigger_token, next_fire)
    values (${hook.hookGroupId}, ${hook.hookId}, ${json(hook.metadata)}, ${json(hook.task)}, ${json(hook.schedule)},
            ${json(hook.bindings)}, ${json(hook.triggerSchema)}, ${triggerToken}, ${nextFire ?? null})
    on conflict do nothing returning hook_id`;
  return rows.length > 0;
};

export const updateHook = async (tx: Tx, hook: HookDefinition, nextFire: Date | undefined): Promise<void> => {
  await tx`
    update hooks.hooks
    set metadata = ${json(hook.metadata)}, task = ${json(hook.task)}, schedule = ${json(hook.schedule)},
        bindings = ${json(hook.bindings)}, trigger_schema = ${json(hook.triggerSchema)}, next_fire = ${nextFire ?? null}
    where hook_group_id = ${hook.hookGroupId} and hook_id = ${hook.hookId}`;
};

/** Removes a hook with all that belongs to it; answers with what it was. */
export const deleteHook = async (tx: Tx, { hookGroupId, hookId }: HookKey): Promise<HookRow | undefined> => {
  const [row] = await tx<HookRow>`
    delete from hooks.hooks where hook_group_id = ${hookGroupId} and hook_id = ${hookId} returning ${COLUMNS}`;
  return row;
};

export const setTriggerToken = async (tx: Tx, { hookGroupId, hookId }: HookKey, triggerToken: string): Promise<boolean> => {
  const rows = await tx`
    update hooks.hooks set trigger_token = ${triggerToken} where hook_group_id = ${hookGroupId} and hook_id = ${hookId} returning hook_id`;
  return rows.length > 0;
};

// ---- bindings ----

/** Replaces the bindings by which a hook is found. */
export const setBindings = async (tx: Tx, { hookGroupId, hookId }: HookKey, bindings: readonly HookBinding[]): Promise<void> => {
  await tx`delete from hooks.bindings where hook_group_id = ${hookGroupId} and hook_id = ${hookId}`;
  if (bindings.length > 0) {
    await tx`
      insert into hooks.bindings (exchange, pattern, hook_group_id, hook_id)
      select exchange, pattern, ${hookGroupId}, ${hookId}
      from unnest(${bindings.map(each => each.exchange)}::text[], ${bindings.map(each => each.routingKeyPattern)}::text[]) as b (exchange, pattern)`;
  }
};

/** What all hooks together are bound to. */
export const listAllBindings = async (db: Query): Promise<Binding[]> =>
  db<Binding>`select distinct exchange, pattern from hooks.bindings order by exchange, pattern`;

/** The bindings to one exchange. Primary key. */
export const listBindingsTo = async (db: Query, exchange: string): Promise<(HookKey & { readonly pattern: string })[]> =>
  db`select pattern, hook_group_id, hook_id from hooks.bindings where exchange = ${exchange}`;

/** Holds back everybody else who changes bindings until the transaction ends: what is bound is the union of what all hooks want. */
export const lockBindings = async (tx: Tx): Promise<void> => {
  await tx`
    insert into platform.versions (name, version) values ('hooks/bindings', 1)
    on conflict (name) do update set version = platform.versions.version + 1`;
};
