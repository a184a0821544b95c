/** Groups with a task whose routes ask for a message about the whole group, and what was announced of them. */
import type { Query, Tx } from '../../db/sql.ts';

/** A group that asks for more has somebody's mistake in it. Those of the task that reaches it are all taken. */
const MAX_ROUTES = 100;

/** Notes that a group is to be watched, from now on or again; adds its routes. */
export const watchGroup = async (
  tx: Tx,
  group: { readonly taskGroupId: string; readonly routes: readonly string[]; readonly expires: Date },
  now: Date,
): Promise<void> => {
  await tx`
    insert into notify.groups (task_group_id, due, expires) values (${group.taskGroupId}, ${now}, ${group.expires})
    on conflict (task_group_id) do update
      set watched = true, due = excluded.due, quiet_since = null, expires = greatest(groups.expires, excluded.expires)`;
  await tx`
    insert into notify.group_routes (task_group_id, route)
    select ${group.taskGroupId}, r from unnest(${group.routes}::text[]) r
    where (select count(*) from notify.group_routes where task_group_id = ${group.taskGroupId}) < ${MAX_ROUTES}
    on conflict do nothing`;
};

export interface QuietGroup {
  readonly taskGroupId: string;
  readonly quietSince: Date | null;
  readonly sealed: boolean;
  /** The mark of who has it in hand. */
  readonly due: Date;
}

/**
 * Takes watched groups in which no task runs or waits for a worker: those of which every task was resolved once, or (`stalled`) those of which some were
 * not. Nobody else takes them before `until`.
 */
export const takeQuietGroups = async (db: Query, stalled: boolean, now: Date, until: Date, limit: number): Promise<QuietGroup[]> => {
  const text = `
    with quiet as (
      select g.task_group_id, p.sealed and p.unresolved = 0 as sealed
      from notify.groups g join queue.group_progress p using (task_group_id)
      where g.watched and g.due <= $1 and p.unresolved ${stalled ? '>' : '='} 0 and p.active = 0
      order by g.due limit $3 for update of g skip locked)
    update notify.groups g set due = $2 from quiet where g.task_group_id = quiet.task_group_id
    returning g.task_group_id, g.quiet_since, quiet.sealed, g.due`;
  return (await db.run<QuietGroup>({ text, values: [now, until, limit] })).rows;
};

/** Puts a group in hand off; `quietSince` null when something happens in it. */
export const postponeGroup = async (db: Query, group: QuietGroup, due: Date, quietSince: Date | null): Promise<void> => {
  await db`
    update notify.groups set due = ${due}, quiet_since = ${quietSince} where task_group_id = ${group.taskGroupId} and due = ${group.due}`;
};

/** Stops watching a group in hand; false when something has happened in it meanwhile. */
export const endWatch = async (tx: Tx, group: QuietGroup): Promise<boolean> => {
  const rows = await tx`
    update notify.groups set watched = false, quiet_since = null
    where task_group_id = ${group.taskGroupId} and due = ${group.due} returning task_group_id`;
  return rows.length > 0;
};

export const listGroupRoutes = async (db: Query, taskGroupId: string): Promise<{ route: string; outcome: string | null }[]> =>
  db`select route, outcome from notify.group_routes where task_group_id = ${taskGroupId} order by route`;

/** Notes what was announced to a route. */
export const setOutcome = async (tx: Tx, taskGroupId: string, route: string, outcome: string): Promise<void> => {
  await tx`update notify.group_routes set outcome = ${outcome} where task_group_id = ${taskGroupId} and route = ${route}`;
};

/** Forgets groups that the queue has forgotten. */
export const deleteOldGroups = async (db: Query, now: Date, limit: number): Promise<number> => {
  const rows = await db`
    delete from notify.groups where task_group_id in (
      select task_group_id from notify.groups where expires < ${now} order by expires limit ${limit} for update skip locked)
    returning task_group_id`;
  return rows.length;
};
