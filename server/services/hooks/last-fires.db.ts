/** What has become of the attempts to create tasks, for a year. */
import type { FiredBy, LastFire } from '@tscluster/api/hooks/api.ts';
import { type Query, sql } from '../../db/sql.ts';
import { column } from './fires.db.ts';
import type { HookKey } from './hooks.db.ts';

export interface Attempt extends HookKey {
  readonly firedBy: FiredBy;
  readonly taskId: string;
  readonly time: Date;
  /** Empty on success. */
  readonly error: string;
}

/** Remembers attempts, of hooks that are still there. */
export const insertLastFires = async (db: Query, attempts: readonly Attempt[]): Promise<void> => {
  await db`
    insert into hooks.last_fires (hook_group_id, hook_id, fired_by, task_id, task_create_time, result, error)
    select h.hook_group_id, h.hook_id, a.fired_by, a.task_id, a.time, case when a.error = '' then 'success' else 'error' end, a.error
    from unnest(${column(attempts, 'hookGroupId')}::text[], ${column(attempts, 'hookId')}::text[], ${column(attempts, 'firedBy')}::text[],
                ${column(attempts, 'taskId')}::text[], ${column(attempts, 'time')}::timestamptz[], ${column(attempts, 'error')}::text[])
      with ordinality as a (hook_group_id, hook_id, fired_by, task_id, time, error, place)
    join hooks.hooks h on h.hook_group_id = a.hook_group_id and h.hook_id = a.hook_id
    order by a.place
    for key share of h`;
};

export interface LastFireRow extends HookKey {
  readonly id: number;
  readonly firedBy: FiredBy;
  readonly taskId: string;
  readonly taskCreateTime: Date;
  readonly result: 'success' | 'error';
  readonly error: string;
  readonly taskState: LastFire['taskState'];
}

/** Attempts of a hook, the latest first, with the present state of their tasks. Index on hook and time. */
export const listLastFires = async (
  db: Query,
  { hookGroupId, hookId }: HookKey,
  { before, limit }: { before: { time: Date; id: number } | undefined; limit: number },
): Promise<LastFireRow[]> => db<LastFireRow>`
  select f.id, f.hook_group_id, f.hook_id, f.fired_by, f.task_id, f.task_create_time, f.result, f.error, coalesce(t.state, 'unknown') as task_state
  from hooks.last_fires f left join queue.task_states t on t.task_id = f.task_id
  where f.hook_group_id = ${hookGroupId} and f.hook_id = ${hookId}
    ${before ? sql`and (f.task_create_time, f.id) < (${before.time}, ${before.id})` : sql``}
  order by f.task_create_time desc, f.id desc limit ${limit}`;

export interface StatusRow extends HookKey {
  readonly nextFire: Date | null;
  /** null when it was never fired. */
  readonly result: 'success' | 'error' | null;
  readonly taskId: string;
  readonly taskCreateTime: Date;
  readonly error: string;
}

/** Hooks of a group after `after`, each with its last attempt. Primary key, and the index on hook and time. */
export const listStatuses = async (
  db: Query,
  { hookGroupId, after, limit }: { readonly hookGroupId: string; readonly after: string | undefined; readonly limit: number },
): Promise<StatusRow[]> => db<StatusRow>`
  select h.hook_group_id, h.hook_id, h.next_fire, f.result, f.task_id, f.task_create_time, f.error
  from (
    select hook_group_id, hook_id, next_fire from hooks.hooks
    where hook_group_id = ${hookGroupId} ${after === undefined ? sql`` : sql`and hook_id > ${after}`}
    order by hook_id limit ${limit}
  ) h left join lateral (
    select result, task_id, task_create_time, error from hooks.last_fires f
    where f.hook_group_id = h.hook_group_id and f.hook_id = h.hook_id order by f.task_create_time desc, f.id desc limit 1
  ) f on true
  order by h.hook_id`;

export const deleteOldLastFires = async (db: Query, before: Date, limit: number): Promise<number> => {
  const rows = await db`
    delete from hooks.last_fires where id in (
      select id from hooks.last_fires where task_create_time < ${before} order by task_create_time limit ${limit})
    returning id`;
  return rows.length;
};
