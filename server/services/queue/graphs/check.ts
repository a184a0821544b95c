/**
 * Looking at a graph without looking at anything else: each task as `createTask` looks at it, and then all of them together. Everything that is wrong is
 * collected. What a task is told about other tasks and groups comes later, and only where the caller may create it (`look.ts`).
 *
 * Dates are a matter of the moment: a task that exists already, just so, was checked when it was created. So they are set aside until that is known.
 */
import { createTaskRequest, taskChangeMethods } from '@tscluster/api/queue/tasks.ts';
import { MAX_GRAPH_TASKS } from '@tscluster/api/scheduler/api.ts';
import { type ScopeExpression, missingScopes, renderTemplate } from '@tscluster/api/scopes.ts';
import { SLUGID_PATTERN } from '@tscluster/api/types.ts';
import type { Held } from '../../../platform/authorize.ts';
import { type ApiError, fillMessage } from '../../../platform/errors.ts';
import { type Validator, findNul } from '../../../platform/validate.ts';
import type { QueueConfig } from '../ctx.ts';
import {
  type CreateTaskBody,
  DOUBLE_STAR,
  type NewTask,
  type TimeTexts,
  findDoubleStar,
  makeTask,
  readTimes,
  resolveTaskQueueId,
  timeTexts,
} from '../definition.ts';
import { prioritiesFrom, splitTaskQueueId } from '../rules.ts';
import { findCycles, wayRound } from './cycles.ts';
import { type GraphItems, readGraph } from './read-graph.ts';
import { type Found, type ProblemCode, type Problems } from './problems.ts';

/** Dependencies of all tasks together. */
export const MAX_GRAPH_DEPENDENCIES = 200_000;
/** What is wrong with one task fills no list. */
const MAX_SCHEMA_PROBLEMS = 50;
/** Other requests are looked at after this many tasks. */
const SLICE = 100;
const MAX_NAMED = 20;

const SLUGID = new RegExp(SLUGID_PATTERN);
/** What the scopes that are needed depend on. */
const SCOPE_FIELDS = ['scopes', 'routes', 'projectId', 'schedulerId', 'priority', 'taskQueueId', 'provisionerId', 'workerType'];
const DATE_FIELDS = ['created', 'deadline', 'expires'];

/** A task of the graph. */
export interface CheckedTask {
  readonly index: number;
  readonly taskId: string;
  /** Undefined when it cannot be made; then at least one problem says why. */
  readonly task: NewTask | undefined;
  /** Whether the caller has the scopes for it: only then it is told what is known of other tasks. */
  readonly isAllowed: boolean;
  /** What is wrong with its dates, if it does not exist already. */
  readonly timesProblem: Found | undefined;
}

export interface CheckedGraph {
  readonly tasks: readonly CheckedTask[];
  readonly byId: ReadonlyMap<string, CheckedTask>;
  /** Dependencies named by all tasks. */
  readonly dependencies: number;
}

export interface CheckOptions {
  readonly taskGroupId: string;
  /** The body as it was sent. */
  readonly bodyText: string;
  readonly held: Held;
  readonly check: Validator['check'];
  readonly config: QueueConfig;
  readonly nowMs: number;
  readonly problems: Problems;
  /** Lets others have their turn. */
  readonly pause: () => Promise<void>;
}

const isObject = (value: unknown): value is Record<string, unknown> => value !== null && typeof value === 'object' && !Array.isArray(value);
export const fieldOf = (index: number, within = ''): string => `/tasks/${index}${within}`;

/** Looks at every task of a graph. */
export const checkGraph = async (options: CheckOptions): Promise<CheckedGraph> => {
  const { bodyText, problems, pause } = options;
  const items = readItems(bodyText, problems);
  await pause();
  const memory = makeMemory(options);
  const tasks: CheckedTask[] = [];
  const byId = new Map<string, CheckedTask>();
  let dependencies = 0;
  for (let index = 0; index < items.count; index++) {
    const checked = checkTask(options, memory, index, items.parse(index));
    tasks.push(checked);
    const first = byId.get(checked.taskId);
    if (first) {
      problems.add({
        code: 'InputError',
        index,
        taskId: checked.taskId,
        field: fieldOf(index, '/taskId'),
        message: `The task is given twice, here and as ${fieldOf(first.index)}.`,
      });
    } else {
      byId.set(checked.taskId, checked);
    }
    dependencies += checked.task?.dependencies.length ?? 0;
    if (index % SLICE === SLICE - 1) {
      await pause();
    }
  }
  if (dependencies > MAX_GRAPH_DEPENDENCIES) {
    problems.add({
      code: 'InputError',
      field: '/tasks',
      message: `The tasks have ${dependencies} dependencies; at most ${MAX_GRAPH_DEPENDENCIES} are allowed. Put tasks in between that depend on a part of them.`,
    });
    problems.throwIfAny(); // it is not looked at any further
  }
  checkScheduler(tasks, problems);
  checkEdges(tasks, byId, problems);
  return { tasks, byId, dependencies };
};

/** The items, if there is anything to look at. */
const readItems = (bodyText: string, problems: Problems): GraphItems => {
  const wrong = (field: string, message: string): GraphItems => {
    problems.add({ code: 'InputValidationError', field, message });
    return { count: 0, parse: () => undefined };
  };
  const limited = (items: GraphItems): GraphItems =>
    items.count === 0 || items.count > MAX_GRAPH_TASKS
      ? wrong('/tasks', `must have 1 to ${MAX_GRAPH_TASKS} items, and has ${items.count}`)
      : items;
  const read = readGraph(bodyText);
  if ('count' in read) {
    return limited(read);
  }
  const { body } = read;
  if (!isObject(body) || !Array.isArray(body['tasks'])) {
    return wrong(isObject(body) ? '/tasks' : '', 'must be an object whose `tasks` is an array');
  }
  const unknown = Object.keys(body).filter(key => key !== 'tasks');
  if (unknown.length > 0) {
    wrong(
      '',
      `must NOT have additional properties: ${unknown
        .slice(0, MAX_NAMED)
        .map(key => JSON.stringify(key))
        .join(', ')}`,
    );
  }
  const tasks = body['tasks'] as unknown[];
  return limited({ count: tasks.length, parse: index => tasks[index] });
};

const checkTask = (
  { taskGroupId, check, config, problems }: CheckOptions,
  { missingScopesOf, timesOf }: ReturnType<typeof makeMemory>,
  index: number,
  item: unknown,
): CheckedTask => {
  const before = problems.count;
  const given = isObject(item) ? item : {};
  const taskId = typeof given['taskId'] === 'string' ? given['taskId'] : undefined;
  const add = (code: ProblemCode, within: string, message: string, more: Partial<Found> = {}): void =>
    problems.add({ ...makeProblem(code, within, message), ...more });
  const makeProblem = (code: ProblemCode, within: string, message: string): Found => ({
    code,
    index,
    taskId: taskId?.slice(0, 100),
    field: fieldOf(index, within),
    message,
  });
  const failed: CheckedTask = { index, taskId: taskId ?? fieldOf(index), task: undefined, isAllowed: false, timesProblem: undefined };

  if (!isObject(item)) {
    add('InputValidationError', '', 'must be an object with `taskId` and `task`');
    return failed;
  }
  for (const key of Object.keys(item).filter(name => name !== 'taskId' && name !== 'task')) {
    add('InputValidationError', '', `must NOT have additional properties: ${JSON.stringify(key.slice(0, 100))}`);
  }
  if (taskId === undefined || !SLUGID.test(taskId)) {
    add('InputValidationError', '/taskId', 'must be a slugid: 22 characters of A-Z, a-z, 0-9, - and _ that stand for a version 4 UUID');
  }
  if (!isObject(item['task'])) {
    add('InputValidationError', '/task', 'must be a task definition');
    return failed;
  }
  const body = item['task'] as unknown as CreateTaskBody;
  const schemaProblems = check(createTaskRequest, body) ?? [];
  for (const { at, message } of schemaProblems.slice(0, MAX_SCHEMA_PROBLEMS)) {
    add('InputValidationError', `/task${at}`, message);
  }
  if (schemaProblems.length > MAX_SCHEMA_PROBLEMS) {
    add('InputValidationError', '/task', `${schemaProblems.length - MAX_SCHEMA_PROBLEMS} more violations of the schema`);
  }
  const isWrong = new Set(schemaProblems.map(({ at, message }) => at.split('/')[1] ?? missingProperty(message)));
  const areSound = (fields: readonly string[]): boolean => !fields.some(field => isWrong.has(field));

  let taskQueueId: string | undefined;
  let isAllowed = false;
  if (areSound(SCOPE_FIELDS)) {
    try {
      taskQueueId = resolveTaskQueueId(body);
    } catch (error) {
      add('InputError', '/task/taskQueueId', (error as ApiError).message);
    }
    if (taskQueueId !== undefined) {
      const missing = missingScopesOf(body, taskQueueId);
      isAllowed = missing === undefined;
      if (missing !== undefined) {
        add('InsufficientScopes', '/task', `The caller does not have the scopes to create the task; it misses ${describe(missing)}.`, {
          missingScopes: missing,
        });
      }
    }
    const star = findDoubleStar(body.scopes);
    if (star !== -1) {
      add('InputError', `/task/scopes/${star}`, fillMessage(DOUBLE_STAR, { scope: body.scopes[star] }));
    }
  }
  if (areSound(['taskGroupId']) && (body.taskGroupId ?? taskGroupId) !== taskGroupId) {
    add(
      'InputError',
      '/task/taskGroupId',
      `The task names group ${body.taskGroupId}, and is part of graph ${taskGroupId}. Leave it out, or name the graph.`,
    );
  }
  if (areSound(['dependencies']) && body.dependencies.length > config.maxDependencies) {
    add(
      'InputError',
      '/task/dependencies',
      `The task has ${body.dependencies.length} dependencies; at most ${config.maxDependencies} are allowed. Put a task in between that depends on a part of them.`,
    );
  }
  const times = areSound(DATE_FIELDS) ? timesOf(body) : undefined;
  const timesProblem =
    times?.problem && makeProblem('InputError', `/task/${times.problem.field}`, fillMessage(times.problem.message, times.problem.details));
  if (problems.count > before || taskQueueId === undefined || times === undefined) {
    if (timesProblem) {
      problems.add(timesProblem); // it cannot exist like this
    }
    return { ...failed, isAllowed };
  }
  const task = makeTask(taskId as string, { ...body, taskGroupId }, taskQueueId, times, times.texts);
  if (task.definition.includes('\\u0000') || task.cc.includes('\\u0000')) {
    const place = findNul(body, '');
    if (place !== undefined) {
      add('InputError', `/task${place}`, 'contains a NUL character (\\u0000), which cannot be stored. Remove it.');
      return { ...failed, isAllowed };
    }
  }
  return { index, taskId: taskId as string, task, isAllowed, timesProblem };
};

/** The property that a complaint about the whole definition is about. */
const missingProperty = (message: string): string => /^must have required property '(.*)'$/.exec(message)?.[1] ?? '';

const describe = (missing: ScopeExpression): string => {
  const text = typeof missing === 'string' ? missing : JSON.stringify(missing);
  return `\`${text.length > 1_000 ? `${text.slice(0, 1_000)}…` : text}\``;
};

/** Most tasks of a graph need the same scopes and have the same dates. */
const makeMemory = ({ held, nowMs, config }: CheckOptions) => {
  const needs = new Map<string, ScopeExpression | undefined>();
  const dates = new Map<string, ReturnType<typeof readTimes> & { texts: TimeTexts }>();
  return {
    /** What is missing for a task, if anything. */
    missingScopesOf: (body: CreateTaskBody, taskQueueId: string): ScopeExpression | undefined => {
      const { scopes, routes, projectId, schedulerId, priority } = body;
      const key = JSON.stringify([scopes, routes, projectId, schedulerId, priority, taskQueueId]);
      if (!needs.has(key)) {
        const params = { scopes, routes, projectId, schedulerId, priorities: prioritiesFrom(priority), ...splitTaskQueueId(taskQueueId) };
        needs.set(
          key,
          missingScopes(
            held.scopes,
            renderTemplate(taskChangeMethods.createTask.scopes, params, { weakestFirst: true }) as ScopeExpression,
          ),
        );
      }
      return needs.get(key);
    },
    timesOf: (body: CreateTaskBody) => {
      const key = `${body.created} ${body.deadline} ${body.expires ?? ''}`;
      let times = dates.get(key);
      if (!times) {
        const read = readTimes(body, nowMs, config);
        times = { ...read, texts: timeTexts(read) };
        dates.set(key, times);
      }
      return times;
    },
  };
};

/** A group has one scheduler. */
const checkScheduler = (tasks: readonly CheckedTask[], problems: Problems): void => {
  const schedulerId = schedulerOf(tasks);
  for (const { index, taskId, task } of tasks) {
    if (task && task.schedulerId !== schedulerId) {
      problems.add({
        code: 'RequestConflict',
        index,
        taskId,
        field: fieldOf(index, '/task/schedulerId'),
        message: `The task has schedulerId ${task.schedulerId}, and others of the graph have ${schedulerId}; all tasks of a group must have the same.`,
      });
    }
  }
};

/** The scheduler of a graph: that of its first task that can be read. */
export const schedulerOf = (tasks: readonly CheckedTask[]): string | undefined => tasks.find(({ task }) => task)?.task?.schedulerId;

/** Edges within the graph: no circles, and nobody needs a task that is forgotten too early. */
const checkEdges = (tasks: readonly CheckedTask[], byId: ReadonlyMap<string, CheckedTask>, problems: Problems): void => {
  const edges = tasks.map(({ index, taskId, task }) =>
    (task?.dependencies ?? []).flatMap((required, place) => {
      const target = byId.get(required);
      if (!target || target.index === index) {
        return [];
      }
      if (task && target.task && target.task.expiresMs < task.deadlineMs) {
        problems.add({
          code: 'InputError',
          index,
          taskId,
          field: fieldOf(index, `/task/dependencies/${place}`),
          message: `${required} expires (${new Date(target.task.expiresMs).toISOString()}) before the deadline of this task (${new Date(task.deadlineMs).toISOString()}).`,
        });
      }
      return [target.index];
    }),
  );
  for (const members of findCycles(edges)) {
    const way = wayRound(
      edges,
      members.toSorted((a, b) => a - b),
    );
    const [first] = way as [number];
    const named = way.slice(0, MAX_NAMED).map(index => (tasks[index] as CheckedTask).taskId);
    const rest = way.length - named.length;
    problems.add({
      code: 'InputError',
      index: first,
      taskId: (tasks[first] as CheckedTask).taskId,
      field: fieldOf(first, '/task/dependencies'),
      message: `The tasks wait for each other in a circle: ${[...named, ...(rest > 0 ? [`… ${rest} more …`] : []), named[0]].join(' → ')}.`,
    });
  }
};
