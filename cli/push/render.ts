/**
 * A `.taskcluster.yml` (version 1) rendered for an event: the whole file is one JSON-e template (protocol: GitHub, ".taskcluster.yml v1").
 * Pure: the event, the time and the ids are given.
 */
import jsone from 'json-e';
import { load } from 'js-yaml';
import { Problem } from '../problem.ts';

export interface RenderInput {
  readonly text: string;
  /** For messages. */
  readonly path: string;
  readonly event: unknown;
  readonly tasksFor: string;
  readonly rootUrl: string;
  readonly now: Date;
  newSlugid(): string;
}

export interface RenderedTask {
  readonly taskId: string;
  readonly taskGroupId: string;
  readonly definition: Readonly<Record<string, unknown>>;
}

export interface Rendered {
  /** Dependencies before dependents. */
  readonly tasks: readonly RenderedTask[];
  /** Names of hooks that the file also asks for. */
  readonly hooks: readonly string[];
}

const TOP_LEVEL = ['version', 'policy', 'reporting', 'autoCancelPreviousChecks', 'tasks', 'hooks'];
export const DEFAULT_SCHEDULER_ID = 'taskcluster-github';

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);
const listStrings = (value: unknown): string[] => (Array.isArray(value) ? value.filter(item => typeof item === 'string') : []);

/** @throws {Problem} for a file that is not YAML, is not version 1, does not render, or whose tasks contradict each other */
export const renderTaskclusterYml = (input: RenderInput): Rendered => {
  const { version: _, hooks, ...template } = parse(input);
  const slugids = new Map<string, string>();
  const asSlugid = (label: string): string => {
    const known = slugids.get(label) ?? input.newSlugid();
    slugids.set(label, known);
    return known;
  };
  let rendered: unknown;
  try {
    rendered = jsone(template, {
      tasks_for: input.tasksFor,
      event: input.event,
      now: input.now.toISOString(),
      taskcluster_root_url: input.rootUrl,
      as_slugid: asSlugid,
      ownTaskId: asSlugid('decision_task'),
    });
  } catch (error) {
    throw new Problem(
      `${input.path} cannot be rendered: ${error instanceof Error ? error.message : String(error)}`,
      'The file is a JSON-e template; in scope are tasks_for, event, now, taskcluster_root_url, ownTaskId and as_slugid().',
      error,
    );
  }
  const list = isObject(rendered) ? (rendered['tasks'] ?? []) : [];
  if (!Array.isArray(list)) {
    throw new Problem(`${input.path}: "tasks" must be a list of tasks once rendered, not ${describe(list)}.`);
  }
  const names = Array.isArray(hooks) ? hooks.map(hook => (isObject(hook) ? String(hook['name']) : String(hook))) : [];
  return { tasks: sortByDependencies(input.path, assignIds(input, list)), hooks: names };
};

const describe = (value: unknown): string => (value === null ? 'null' : Array.isArray(value) ? 'a list' : typeof value);

const parse = (input: RenderInput): Record<string, unknown> => {
  let value: unknown;
  try {
    value = load(input.text, { filename: input.path });
  } catch (error) {
    throw new Problem(`${input.path} is not YAML: ${error instanceof Error ? error.message : String(error)}`, undefined, error);
  }
  if (!isObject(value)) {
    throw new Problem(`${input.path} must hold an object with "version: 1" and "tasks", not ${describe(value)}.`);
  }
  if (value['version'] !== 1) {
    throw new Problem(
      `${input.path} has version ${JSON.stringify(value['version'])}; only version 1 can be pushed.`,
      'Put "version: 1" at its top, and write the tasks as a JSON-e template.',
    );
  }
  const unknown = Object.keys(value).filter(key => !TOP_LEVEL.includes(key));
  if (unknown.length > 0) {
    throw new Problem(`${input.path} has unknown keys at its top: ${unknown.join(', ')}.`, `Known are: ${TOP_LEVEL.join(', ')}.`);
  }
  return value;
};

/** Gives each task its ids: a single task is its own group, as decision tasks expect; several share a new one. */
const assignIds = (input: RenderInput, list: readonly unknown[]): RenderedTask[] => {
  const sharedGroupId = list.length === 1 ? undefined : input.newSlugid();
  const seen = new Set<string>();
  return list.map((item, index) => {
    if (!isObject(item)) {
      throw new Problem(`${input.path}: task ${index + 1} is ${describe(item)} once rendered; each task must be an object.`);
    }
    const { taskId: givenId, ...definition } = item;
    const given = [givenId, definition['taskGroupId']].map(id => (typeof id === 'string' && id !== '' ? id : undefined));
    const taskId = given[0] ?? (sharedGroupId === undefined ? given[1] : undefined) ?? input.newSlugid();
    const taskGroupId = given[1] ?? sharedGroupId ?? taskId;
    if (seen.has(taskId)) {
      throw new Problem(`${input.path}: two tasks have the id ${taskId}.`, 'Give each its own label in as_slugid().');
    }
    seen.add(taskId);
    return {
      taskId,
      taskGroupId,
      definition: { created: input.now.toISOString(), schedulerId: DEFAULT_SCHEDULER_ID, ...definition, taskGroupId },
    };
  });
};

const sortByDependencies = (path: string, tasks: readonly RenderedTask[]): RenderedTask[] => {
  const byId = new Map(tasks.map(task => [task.taskId, task]));
  const sorted: RenderedTask[] = [];
  const state = new Map<string, 'open' | 'done'>();
  const visit = (task: RenderedTask, trail: readonly string[]): void => {
    if (state.get(task.taskId) === 'done') {
      return;
    }
    if (state.get(task.taskId) === 'open') {
      throw new Problem(`${path}: tasks depend on each other in a circle: ${[...trail, nameOf(task)].join(' -> ')}.`);
    }
    state.set(task.taskId, 'open');
    for (const id of listStrings(task.definition['dependencies'])) {
      const dependency = byId.get(id);
      if (dependency) {
        visit(dependency, [...trail, nameOf(task)]);
      }
    }
    state.set(task.taskId, 'done');
    sorted.push(task);
  };
  for (const task of tasks) {
    visit(task, []);
  }
  return sorted;
};

/** What people call a task. */
export const nameOf = (task: RenderedTask): string => {
  const { metadata } = task.definition;
  const name = isObject(metadata) ? metadata['name'] : undefined;
  return typeof name === 'string' ? name : task.taskId;
};
