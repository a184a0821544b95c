/** What a message about a task is made from. */
import type { TaskDefinition, TaskStatus } from '@tscluster/api/queue/tasks.ts';

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
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);

export const makeTaskContext = (rootUrl: string, task: TaskDefinition, status: TaskStatus): TaskContext => {
  const custom = task.extra['notify'];
  return {
    rootUrl,
    taskId: status.taskId,
    task,
    status,
    href: `${rootUrl}/tasks/${status.taskId}`,
    groupHref: `${rootUrl}/tasks/groups/${status.taskGroupId}/tasks`,
    runCount: status.runs.length,
    custom: isObject(custom) ? custom : {},
  };
};

/** A part of the task's wishes that should be an object. */
export const customPart = ({ custom }: TaskContext, name: string): Readonly<Record<string, unknown>> => {
  const part = custom[name];
  return isObject(part) ? part : {};
};
