/** Whole graphs: submitted in one call, all or nothing, with everything that is wrong told at once. */
import { schedulerApi, type SubmittedGraph, type GraphProblem, type submitGraphRequest } from '@tscluster/api/scheduler/api.ts';
import type { TypeOf } from '@tscluster/api/schema.ts';
import { ApiCallError } from '@tscluster/client/client.ts';
import type { Installation, QueueClient } from './context.ts';
import { plain } from './render/table.ts';

export type GraphTask = TypeOf<typeof submitGraphRequest>['tasks'][number];

const MAX_SHOWN = 20;

const problemsOf = (error: ApiCallError): { problems: readonly GraphProblem[]; problemCount: number } | undefined => {
  const { details } = (error.body ?? {}) as { details?: { problems?: readonly GraphProblem[]; problemCount?: number } };
  return details?.problems ? { problems: details.problems, problemCount: details.problemCount ?? details.problems.length } : undefined;
};

/** A refusal with a line for each problem; anything else as it is. */
const explainRefusal = (error: unknown, nameOf: (taskId: string) => string): unknown => {
  const found = error instanceof ApiCallError ? problemsOf(error) : undefined;
  if (!(error instanceof ApiCallError) || !found) {
    return error;
  }
  const shown = found.problems.slice(0, MAX_SHOWN);
  const lines = shown.map(
    ({ taskId, field, message }) => `  ${plain(taskId === undefined ? 'the graph' : nameOf(taskId))} (${field}): ${message}`,
  );
  const more = found.problemCount > shown.length ? [`  … and ${found.problemCount - shown.length} more`] : [];
  const text = [`The tasks were refused, and none was created:`, ...lines, ...more].join('\n');
  return new ApiCallError(text, error.code, error.statusCode, error.body);
};

/**
 * Creates the tasks of a group, or only checks them. On an installation without the scheduler's API they are created one by one, those first that
 * others need.
 *
 * @throws {ApiCallError} when they are refused: one line per problem
 */
export const submitGraph = async (
  installation: Installation,
  taskGroupId: string,
  tasks: readonly GraphTask[],
  options: { readonly dryRun?: boolean; readonly nameOf?: (taskId: string) => string } = {},
): Promise<SubmittedGraph | undefined> => {
  const { dryRun = false, nameOf = (taskId: string) => taskId } = options;
  const scheduler = installation.client(schedulerApi);
  try {
    return await (dryRun ? scheduler.checkGraph : scheduler.submitGraph)({ taskGroupId }, { tasks: [...tasks] });
  } catch (error) {
    if (error instanceof ApiCallError && error.statusCode === 404 && !dryRun) {
      await createOneByOne(installation.queue, taskGroupId, tasks, nameOf);
      return undefined;
    }
    throw explainRefusal(error, nameOf);
  }
};

/** Tasks in an order in which each comes after those of them that it depends on, however long the chain. */
export const inOrder = (tasks: readonly GraphTask[]): GraphTask[] => {
  const left = new Map(tasks.map(each => [each.taskId, each]));
  const sorted: GraphTask[] = [];
  for (const each of tasks) {
    const path = left.delete(each.taskId) ? [{ each, required: (each.task.dependencies ?? []).values() }] : [];
    for (let top = path.at(-1); top; top = path.at(-1)) {
      const { value: id, done } = top.required.next();
      const first = done ? undefined : left.get(id);
      if (first) {
        left.delete(first.taskId);
        path.push({ each: first, required: (first.task.dependencies ?? []).values() });
      } else if (done) {
        sorted.push(top.each);
        path.pop();
      }
    }
  }
  return sorted;
};

const createOneByOne = async (
  queue: QueueClient,
  taskGroupId: string,
  tasks: readonly GraphTask[],
  nameOf: (taskId: string) => string,
): Promise<void> => {
  for (const { taskId, task } of inOrder(tasks)) {
    try {
      await queue.createTask({ taskId }, { ...task, taskGroupId });
    } catch (error) {
      throw error instanceof ApiCallError
        ? new ApiCallError(`The task "${plain(nameOf(taskId))}" was refused.\n${error.message}`, error.code, error.statusCode, error.body)
        : error;
    }
  }
};
