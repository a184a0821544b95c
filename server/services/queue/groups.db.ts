/** Task groups: rows of their own, counted down as their tasks resolve. */
import type { Query, Tx } from '../../db/sql.ts';
import { definitionText } from './definition.ts';
import { priorityName } from './rules.ts';
import { statusSql } from './sql-text.ts';

export interface GroupRow {
  readonly taskGroupId: string;
  readonly schedulerId: string;
  readonly expires: Date;
  readonly sealed: Date | null;
  readonly unresolved: number;
}

export const getGroup = async (db: Query, taskGroupId: string): Promise<GroupRow | undefined> => {
  const [row] = await db<GroupRow>`
    select task_group_id, scheduler_id, expires, sealed, unresolved from queue.groups where task_group_id = ${taskGroupId}`;
  return row;
};

/** Closes a group for new tasks; the first timestamp stays. */
export const sealGroup = async (tx: Tx, taskGroupId: string, now: Date): Promise<GroupRow | undefined> => {
  const [row] = await tx<GroupRow>`
    update queue.groups set sealed = coalesce(sealed, ${now}) where task_group_id = ${taskGroupId}
    returning task_group_id, scheduler_id, expires, sealed, unresolved`;
  return row;
};

/** The group as clients see it; `sealed` is absent while it is open. */
export const groupView = (group: GroupRow): { taskGroupId: string; schedulerId: string; expires: string; sealed?: string } => ({
  taskGroupId: group.taskGroupId,
  schedulerId: group.schedulerId,
  expires: group.expires.toISOString(),
  ...(group.sealed ? { sealed: group.sealed.toISOString() } : {}),
});

/** A task with its definition, for lists; `text` is `{"status":…,"task":…}`. */
export interface ListedTask {
  readonly taskId: string;
  readonly text: string;
}

interface Listed {
  taskId: string;
  priority: number;
  definition: string;
  status: string;
}

/** `{"status":…,"task":…}` of a row. */
export const listedText = (row: Omit<Listed, 'taskId'>): string =>
  `{"status":${row.status},"task":${definitionText(priorityName(row.priority), row.definition)}}`;

const LIST = `select t.task_id, t.priority, t.definition, ${statusSql('t')} as status from queue.tasks t
where t.task_group_id = $1 and t.task_id collate platform.protocol_order > $2 order by t.task_group_id, t.task_id collate platform.protocol_order limit $3`;

/** Tasks of a group in the order of ids, after the id given (`''` from the start). */
export const listGroupTasks = async (db: Query, taskGroupId: string, after: string, limit: number): Promise<ListedTask[]> =>
  (await db.run<Listed>({ text: LIST, values: [taskGroupId, after, limit] })).rows.map(row => ({
    taskId: row.taskId,
    text: listedText(row),
  }));

/** Ids of a group's tasks in order, after the id given (`''` from the start). */
export const listGroupTaskIds = async (db: Query, taskGroupId: string, after: string, limit: number): Promise<string[]> =>
  (
    await db<{ taskId: string }>`
      select task_id from queue.tasks t where t.task_group_id = ${taskGroupId} and t.task_id collate platform.protocol_order > ${after}
      order by t.task_group_id, t.task_id collate platform.protocol_order limit ${limit}`
  ).map(row => row.taskId);

const DEPENDENTS = `select t.task_id, t.priority, t.definition, ${statusSql('t')} as status
from queue.deps d join queue.tasks t on t.task_id = (d.dependent collate "C")
where d.required = $1 and d.dependent > $2 and d.expires > $4::timestamptz order by d.required, d.dependent limit $3`;

/** Tasks that name a task among their dependencies, in the order of ids, after the id given (`''` from the start). */
export const listDependents = async (db: Query, taskId: string, after: string, limit: number, now: Date): Promise<ListedTask[]> =>
  (await db.run<Listed>({ text: DEPENDENTS, values: [taskId, after, limit, now] })).rows.map(row => ({
    taskId: row.taskId,
    text: listedText(row),
  }));

/** How many tasks a group has. */
export const countGroupTasks = async (db: Query, taskGroupId: string): Promise<number> => {
  const [row] = await db<{ size: number }>`select count(*) as size from queue.tasks where task_group_id = ${taskGroupId}`;
  return row?.size ?? 0;
};

/** Tasks of a group that can be cancelled: not resolved, deadline ahead. In pages by id. */
export const listCancellable = async (db: Query, taskGroupId: string, after: string, limit: number, now: Date): Promise<string[]> =>
  (
    await db<{ taskId: string }>`
      select task_id from queue.tasks t
      where t.task_group_id = ${taskGroupId} and t.task_id collate platform.protocol_order > ${after}
        and t.state in ('unscheduled', 'pending', 'running') and t.deadline >= ${now}
      order by t.task_group_id, t.task_id collate platform.protocol_order limit ${limit}`
  ).map(row => row.taskId);

/** Tasks of a group that another priority would change: never resolved, deadline ahead. In pages by id. */
export const listPrioritizable = async (
  db: Query,
  taskGroupId: string,
  rank: number,
  after: string,
  limit: number,
  now: Date,
): Promise<string[]> =>
  (
    await db<{ taskId: string }>`
      select task_id from queue.tasks t
      where t.task_group_id = ${taskGroupId} and t.task_id collate platform.protocol_order > ${after}
        and t.times_resolved = 0 and t.priority <> ${rank} and t.deadline > ${now}
      order by t.task_group_id, t.task_id collate platform.protocol_order limit ${limit}`
  ).map(row => row.taskId);
