/** What messages are made from: a task in some state, or a group that has ended. */
import type { TaskDefinition, TaskState, TaskStatus } from '@tscluster/api/queue/tasks.ts';
import type { Sandbox } from '../../platform/sandbox/sandbox.ts';
import { makeRender, type Render } from './customise.ts';
import type { GroupResult } from './routes.ts';

export interface TaskContext {
  readonly rootUrl: string;
  readonly taskId: string;
  readonly task: TaskDefinition;
  /** As it was when the message was asked for. */
  readonly status: TaskStatus;
  /** The page of the task. */
  readonly href: string;
  /** The page of its group. */
  readonly groupHref: string;
  readonly runCount: number;
  /** The task's own wishes (`extra.notify`). */
  readonly custom: Readonly<Record<string, unknown>>;
  /** Renders one of them, which are templates. */
  readonly render: Render;
}

/** A task that did not do what it should. */
export interface FailedTask {
  readonly taskId: string;
  readonly name: string;
  readonly state: TaskState;
  readonly reason?: string | undefined;
}

/** How a group ended. Plain JSON: it is stored until the message was made. */
export interface GroupSummary {
  readonly taskGroupId: string;
  /** Of its first task, the one that gave the group its id; else of any. */
  readonly name: string;
  readonly result: GroupResult;
  readonly hasExceptions: boolean;
  readonly total: number;
  /** How many tasks are in each state; those that never ran are `blocked`. */
  readonly counts: Readonly<Record<string, number>>;
  /** The first few failures. */
  readonly failures: readonly FailedTask[];
  /** How many failures there are. */
  readonly failed: number;
}

export interface GroupContext {
  readonly summary: GroupSummary;
  readonly rootUrl: string;
  readonly href: string;
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);

export const taskHref = (rootUrl: string, taskId: string): string => `${rootUrl}/tasks/${taskId}`;
const groupHref = (rootUrl: string, taskGroupId: string): string => `${rootUrl}/tasks/groups/${taskGroupId}/tasks`;

export const makeTaskContext = (
  { rootUrl, sandbox }: { readonly rootUrl: string; readonly sandbox: Pick<Sandbox, 'render'> },
  task: TaskDefinition,
  status: TaskStatus,
): TaskContext => {
  const custom = task.extra['notify'];
  const { taskId, taskGroupId } = status;
  return {
    rootUrl,
    taskId,
    task,
    status,
    href: taskHref(rootUrl, taskId),
    groupHref: groupHref(rootUrl, taskGroupId),
    runCount: status.runs.length,
    custom: isObject(custom) ? custom : {},
    render: makeRender(sandbox, { task, status, taskId, rootUrl }),
  };
};

export const makeGroupContext = (rootUrl: string, summary: GroupSummary): GroupContext => ({
  summary,
  rootUrl,
  href: groupHref(rootUrl, summary.taskGroupId),
});

/** A part of the task's wishes that should be an object. */
export const customPart = ({ custom }: TaskContext, name: string): Readonly<Record<string, unknown>> => {
  const part = custom[name];
  return isObject(part) ? part : {};
};

/** `12 completed, 3 failed, 1 blocked`. */
export const countsLine = ({ counts }: GroupSummary): string =>
  Object.entries(counts)
    .filter(([, count]) => count > 0)
    .map(([state, count]) => `${count} ${state}`)
    .join(', ');

/** A group's end as one line of text. */
export const groupLine = ({ summary, href }: GroupContext): string =>
  `Task group '${summary.name}' has ended: ${summary.result} (${countsLine(summary)}). Inspect: ${href}`;
