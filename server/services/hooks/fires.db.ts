/** Tasks that are to be created, and what has become of the attempts. All statements take many at a time. */
import type { FiredBy } from '@tscluster/api/hooks/api.ts';
import { type Query, type Tx } from '../../db/sql.ts';
import type { BusEvent } from '../../platform/events.ts';
import type { HookKey } from './hooks.db.ts';

/** The values of one column, for `unnest`. */
export const column = <R, K extends keyof R>(rows: readonly R[], key: K): R[K][] => rows.map(row => row[key]);

// ---- due times ----

export interface DueHook extends HookKey {
  /** JSON text. */
  readonly schedule: string;
  readonly nextFire: Date;
}

/** Hooks whose time has come, the earliest first; nobody else gets them until the transaction ends. Index on `next_fire`. */
export const takeDueHooks = async (tx: Tx, now: Date, limit: number): Promise<DueHook[]> => tx<DueHook>`
  select hook_group_id, hook_id, schedule, next_fire from hooks.hooks
  where next_fire <= ${now} order by next_fire limit ${limit} for no key update skip locked`;

export const setNextFires = async (tx: Tx, hooks: readonly (HookKey & { readonly nextFire: Date | null })[]): Promise<void> => {
  await tx`
    update hooks.hooks h set next_fire = n.next_fire
    from unnest(${column(hooks, 'hookGroupId')}::text[], ${column(hooks, 'hookId')}::text[], ${column(hooks, 'nextFire')}::timestamptz[])
      as n (hook_group_id, hook_id, next_fire)
    where h.hook_group_id = n.hook_group_id and h.hook_id = n.hook_id`;
};

export interface NewScheduledFire extends HookKey {
  /** Encrypted. */
  readonly taskId: string;
  readonly moment: Date;
}

/** Notes that due times are to be fired. One of a hook waits at most: while it could not be fired, later times add nothing. */
export const insertScheduledFires = async (tx: Tx, fires: readonly NewScheduledFire[]): Promise<void> => {
  await tx`
    insert into hooks.fires (hook_group_id, hook_id, fired_by, task_id, moment, due, not_before)
    select hook_group_id, hook_id, 'schedule', task_id, moment, moment, moment
    from unnest(${column(fires, 'hookGroupId')}::text[], ${column(fires, 'hookId')}::text[], ${column(fires, 'taskId')}::text[],
                ${column(fires, 'moment')}::timestamptz[]) as f (hook_group_id, hook_id, task_id, moment)
    on conflict (hook_group_id, hook_id) where event_id is null do nothing`;
};

/** Forgets what is due of a hook and not under way. */
export const deleteWaitingSchedule = async (tx: Tx, { hookGroupId, hookId }: HookKey, now: Date): Promise<void> => {
  await tx`
    delete from hooks.fires where hook_group_id = ${hookGroupId} and hook_id = ${hookId} and event_id is null
      and (leased_until is null or leased_until < ${now})`;
};

// ---- messages ----

export interface NewEventFire extends HookKey {
  /** Encrypted. */
  readonly taskId: string;
}

/**
 * Notes that hooks are to be fired by a message, each once however often the message comes. Those that were fired `perMinute` times within a minute
 * wait; those that somebody is removing are left out once they are gone. Answers with how many are new.
 */
export const insertEventFires = async (
  tx: Tx,
  event: Pick<BusEvent, 'id' | 'exchange' | 'routingKey'> & { readonly payload: string; readonly now: Date; readonly perMinute: number },
  fires: readonly NewEventFire[],
): Promise<number> => {
  const rows = await tx`
    insert into hooks.fires (hook_group_id, hook_id, fired_by, event_id, task_id, moment, due, not_before, exchange, routing_key, payload)
    select f.hook_group_id, f.hook_id, 'pulseMessage', ${event.id}, f.task_id, ${event.now}, rate.due, rate.due,
           ${event.exchange}, ${event.routingKey}, ${event.payload}
    from unnest(${column(fires, 'hookGroupId')}::text[], ${column(fires, 'hookId')}::text[], ${column(fires, 'taskId')}::text[])
      as f (hook_group_id, hook_id, task_id)
    join hooks.hooks h on h.hook_group_id = f.hook_group_id and h.hook_id = f.hook_id
    cross join lateral (
      select greatest(${event.now}::timestamptz, (
        select e.due + interval '1 minute' from hooks.fires e
        where e.hook_group_id = h.hook_group_id and e.hook_id = h.hook_id and e.event_id is not null
        order by e.due desc offset ${event.perMinute - 1} limit 1)) as due
    ) rate
    for key share of h
    on conflict (hook_group_id, hook_id, event_id) where event_id is not null do nothing returning id`;
  return rows.length;
};

/** Drops the oldest messages of hooks for which more than `most` wait; answers with how many. */
export const dropOldestWaiting = async (tx: Tx, hooks: readonly HookKey[], most: number): Promise<number> => {
  const rows = await tx`
    delete from hooks.fires where id in (
      select waiting.id from unnest(${column(hooks, 'hookGroupId')}::text[], ${column(hooks, 'hookId')}::text[]) as h (hook_group_id, hook_id)
      cross join lateral (
        select id from hooks.fires f
        where f.hook_group_id = h.hook_group_id and f.hook_id = h.hook_id and f.event_id is not null and not f.done and f.leased_until is null
        order by id desc offset ${most}
      ) waiting)
    returning id`;
  return rows.length;
};

// ---- firing ----

export interface OpenFire extends HookKey {
  readonly id: number;
  readonly firedBy: FiredBy;
  /** Encrypted. */
  readonly taskId: string;
  readonly moment: Date;
  readonly exchange: string | null;
  readonly routingKey: string | null;
  readonly payload: string | null;
  readonly task: string | null;
  readonly rendered: Date | null;
  readonly attempts: number;
  /** Of the hook as it is now: template, schema and metadata as JSON text. */
  readonly hookTask: string;
  readonly hookTriggerSchema: string;
  readonly hookMetadata: string;
}

/** Takes fires that may begin, for as long as the lease lasts; after it, whoever comes takes them again. Index on `not_before`. */
export const takeFires = async (db: Query, now: Date, leasedUntil: Date, limit: number): Promise<OpenFire[]> => {
  const rows = await db<OpenFire>`
    with taken as (
      update hooks.fires set leased_until = ${leasedUntil}, not_before = ${leasedUntil}
      where id in (select id from hooks.fires where not done and not_before <= ${now} order by not_before, id limit ${limit} for update skip locked)
      returning id, hook_group_id, hook_id, fired_by, task_id, moment, exchange, routing_key, payload, task, rendered, attempts
    )
    select taken.*, h.task as hook_task, h.trigger_schema as hook_trigger_schema, h.metadata as hook_metadata
    from taken join hooks.hooks h on h.hook_group_id = taken.hook_group_id and h.hook_id = taken.hook_id
    order by taken.id`;
  return rows;
};

export const renewLease = async (db: Query, ids: readonly number[], leasedUntil: Date): Promise<void> => {
  await db`
    update hooks.fires set leased_until = ${leasedUntil}, not_before = ${leasedUntil}
    where id = any(${ids}::bigint[]) and leased_until is not null and not done`;
};

/** Keeps what the templates made before the queue hears of it, so that every further try says the same. */
export const setTasks = async (
  db: Query,
  fires: readonly { readonly id: number; readonly task: string; readonly rendered: Date }[],
): Promise<void> => {
  await db`
    update hooks.fires f set task = t.task, rendered = t.rendered
    from unnest(${column(fires, 'id')}::bigint[], ${column(fires, 'task')}::text[], ${column(fires, 'rendered')}::timestamptz[])
      as t (id, task, rendered)
    where f.id = t.id`;
};

/** Which of these tasks there are. Primary key. */
export const findExistingTasks = async (db: Query, taskIds: readonly string[]): Promise<Set<string>> => {
  const rows = await db<{ taskId: string }>`select task_id from queue.task_states where task_id = any(${taskIds}::text[])`;
  return new Set(rows.map(row => row.taskId));
};

/** Ends fires; answers with the ids of those that nobody else has ended. Those of messages are kept for a while, to know the message again. */
export const finishFires = async (tx: Tx, ids: readonly number[]): Promise<Set<number>> => {
  const rows = await tx<{ id: number }>`
    with gone as (delete from hooks.fires where id = any(${ids}::bigint[]) and event_id is null returning id),
    kept as (
      update hooks.fires set done = true, payload = null, task = null, leased_until = null
      where id = any(${ids}::bigint[]) and event_id is not null and not done returning id
    )
    select id from gone union all select id from kept`;
  return new Set(rows.map(row => row.id));
};

/** Lets fires be tried again later. */
export const postponeFires = async (
  tx: Tx,
  fires: readonly { readonly id: number; readonly notBefore: Date; readonly attempts: number }[],
): Promise<Set<number>> => {
  const rows = await tx<{ id: number }>`
    update hooks.fires f set not_before = p.not_before, attempts = p.attempts, leased_until = null
    from unnest(${column(fires, 'id')}::bigint[], ${column(fires, 'notBefore')}::timestamptz[], ${column(fires, 'attempts')}::int[])
      as p (id, not_before, attempts)
    where f.id = p.id and not f.done returning f.id`;
  return new Set(rows.map(row => row.id));
};

/** Forgets messages that were handled before `before`. */
export const deleteDoneFires = async (db: Query, before: Date, limit: number): Promise<number> => {
  const rows = await db`
    delete from hooks.fires where id in (select id from hooks.fires where done and due < ${before} order by due limit ${limit}) returning id`;
  return rows.length;
};
