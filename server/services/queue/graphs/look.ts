/**
 * Holding a checked graph against what is stored: which of its tasks exist, what the others need, and its group. Nothing is locked: what is found is
 * decided upon, and storing notices when it is no longer so (`store.ts`).
 *
 * A caller is told of stored things only on behalf of tasks that it may create: just what `createTask` would tell.
 */
import { isDeepStrictEqual } from 'node:util';
import { textArray } from '../../../db/arrays.ts';
import type { Query } from '../../../db/sql.ts';
import { type NewTask, isSameDefinition } from '../definition.ts';
import { type GroupRow, getGroup } from '../groups.db.ts';
import { priorityName, satisfies } from '../rules.ts';
import { type DefinitionRow, definitionsStatement } from '../tasks.db.ts';
import { type CheckedGraph, type CheckedTask, fieldOf, schedulerOf } from './check.ts';
import type { Problems } from './problems.ts';

/** Definitions read at once. */
const PAGE = 500;

/** A dependency of a new task. */
export interface NewEdge {
  readonly required: string;
  readonly isSatisfied: boolean;
}

export interface NewNode {
  readonly task: NewTask;
  readonly edges: readonly NewEdge[];
  /** How many edges are not satisfied. */
  readonly unmet: number;
}

/** What is to be done. */
export interface Plan {
  readonly taskGroupId: string;
  readonly schedulerId: string;
  readonly group: GroupRow | undefined;
  /** The tasks that do not exist, in the order of the request. */
  readonly create: readonly NewNode[];
  /** Tasks that they need and that exist. */
  readonly required: readonly RequiredRow[];
}

export interface RequiredRow {
  readonly taskId: string;
  readonly state: string;
  readonly expires: Date;
}

/** Looks at what is stored, and adds what stands against the graph. */
export const lookAt = async (
  db: Query,
  taskGroupId: string,
  graph: CheckedGraph,
  problems: Problems,
  pause: () => Promise<void>,
): Promise<Plan> => {
  const allowed = graph.tasks.filter(each => each.isAllowed && each.task && graph.byId.get(each.taskId) === each);
  const existing = await findExisting(db, allowed, problems, pause);
  for (const { taskId, timesProblem } of graph.tasks) {
    if (timesProblem && !existing.has(taskId)) {
      problems.add(timesProblem);
    }
  }
  const fresh = allowed.filter(({ taskId }) => !existing.has(taskId));
  const group = await getGroup(db, taskGroupId);
  const schedulerId = schedulerOf(graph.tasks) ?? '-';
  if (allowed.length > 0 && group) {
    checkGroup(group, schedulerId, fresh.length, problems);
  }
  const required = await findRequired(db, fresh);
  const create: NewNode[] = [];
  for (const [count, checked] of fresh.entries()) {
    create.push(makeNode(checked, graph, required, problems));
    if (count % PAGE === PAGE - 1) {
      await pause();
    }
  }
  return { taskGroupId, schedulerId, group, create, required: [...required.values()] };
};

/** The ids of tasks that exist. Those with another definition are a problem. */
const findExisting = async (
  db: Query,
  allowed: readonly CheckedTask[],
  problems: Problems,
  pause: () => Promise<void>,
): Promise<ReadonlySet<string>> => {
  const existing = new Set<string>();
  for (let from = 0; from < allowed.length; from += PAGE) {
    const page = allowed.slice(from, from + PAGE);
    const { rows } = await db.run<DefinitionRow>(definitionsStatement(page.map(({ taskId }) => taskId)));
    const stored = new Map(rows.map(row => [row.taskId, row]));
    for (const { index, taskId, task } of page) {
      const row = stored.get(taskId);
      if (!row) {
        continue;
      }
      existing.add(taskId);
      if (!isSameDefinition(task as NewTask, row)) {
        const different = findDifferences(task as NewTask, row);
        problems.add({
          code: 'RequestConflict',
          index,
          taskId,
          field: fieldOf(index, `/task/${different[0] ?? ''}`),
          message: `The task exists with another definition: ${different.join(', ')} ${different.length === 1 ? 'differs' : 'differ'}. Choose a new task id, or submit the definition of the first one.`,
        });
      }
    }
    await pause();
  }
  return existing;
};

const findDifferences = (task: NewTask, row: DefinitionRow): string[] => {
  const ours = { priority: task.priority, ...(JSON.parse(`{${task.definition}`) as object) } as Record<string, unknown>;
  const stored = { priority: priorityName(row.priority), ...(JSON.parse(`{${row.definition}`) as object) } as Record<string, unknown>;
  return Object.keys(ours).filter(key => !isDeepStrictEqual(ours[key], stored[key]));
};

const checkGroup = (group: GroupRow, schedulerId: string, fresh: number, problems: Problems): void => {
  const field = '/tasks';
  if (group.schedulerId !== schedulerId) {
    problems.add({
      code: 'RequestConflict',
      field,
      message: `Task group ${group.taskGroupId} belongs to schedulerId ${group.schedulerId}; all its tasks must have it, and these have ${schedulerId}.`,
    });
  }
  if (group.sealed && fresh > 0) {
    problems.add({
      code: 'RequestConflict',
      field,
      message: `Task group ${group.taskGroupId} is sealed since ${group.sealed.toISOString()}: it takes no more tasks, and ${fresh} of these are new.`,
    });
  }
};

const REQUIRED = `select t.task_id, t.state, t.expires from unnest($1::text[]) as x(task_id) join queue.tasks t on t.task_id = x.task_id`;

/** The tasks that new tasks need and that are not new themselves, by id. */
const findRequired = async (db: Query, fresh: readonly CheckedTask[]): Promise<Map<string, RequiredRow>> => {
  const own = new Set(fresh.map(({ taskId }) => taskId));
  const others = new Set<string>();
  for (const { task } of fresh) {
    for (const id of task?.dependencies ?? []) {
      if (!own.has(id)) {
        others.add(id);
      }
    }
  }
  const { rows } = others.size === 0 ? { rows: [] } : await db.run<RequiredRow>({ text: REQUIRED, values: [textArray([...others])] });
  return new Map(rows.map(row => [row.taskId, row]));
};

const makeNode = (
  { index, taskId, task }: CheckedTask,
  graph: CheckedGraph,
  required: ReadonlyMap<string, RequiredRow>,
  problems: Problems,
): NewNode => {
  const { dependencies, anyOutcome, deadlineMs } = task as NewTask;
  let unmet = 0;
  const edges = dependencies.map((id, place): NewEdge => {
    const row = required.get(id);
    // of tasks of the graph, what is wrong has been said
    const fault = graph.byId.has(id) ? undefined : findFault(id, row, deadlineMs);
    if (fault !== undefined) {
      problems.add({ code: 'InputError', index, taskId, field: fieldOf(index, `/task/dependencies/${place}`), message: fault });
    }
    const isSatisfied = row !== undefined && satisfies(row.state, anyOutcome);
    unmet += isSatisfied ? 0 : 1;
    return { required: id, isSatisfied };
  });
  return { task: task as NewTask, edges, unmet };
};

const findFault = (required: string, row: RequiredRow | undefined, deadlineMs: number): string | undefined => {
  if (!row) {
    return `${required} is neither a task of the graph nor one that exists.`;
  }
  return row.expires.getTime() < deadlineMs
    ? `${required} expires (${row.expires.toISOString()}) before the deadline of this task (${new Date(deadlineMs).toISOString()}).`
    : undefined;
};
