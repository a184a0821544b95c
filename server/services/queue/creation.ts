/**
 * Creating a task. Almost all go through the hot path, in company; what that did not store is looked at alone, in a transaction of its own: a repeat,
 * a refusal with its reason, or a task that was only too large, or in a hurry behind the one it depends on.
 */
import type { Tx } from '../../db/sql.ts';
import { conflict, inputError } from '../../platform/errors.ts';
import { notifyOutbox } from '../../platform/events.ts';
import { announce, taskEvent } from './announce.ts';
import { type CreatedRow, createStatement } from './create.db.ts';
import type { Ctx } from './ctx.ts';
import { type NewTask, isSameDefinition, newTaskStatus } from './definition.ts';
import { getGroup } from './groups.db.ts';
import { MAX_HOT_DEFINITION, MAX_HOT_DEPENDENCIES } from './hot-path.ts';
import { getDefinition, lockTask } from './tasks.db.ts';
import type { TaskStatus } from '@tscluster/api/queue/tasks.ts';

const MAX_TRIES = 5;

/** Stores a task, or repeats the announcement of an identical one. Answers with the status as JSON text; throws 400 and 409 as the protocol says. */
export const createTask = async (ctx: Ctx, task: NewTask): Promise<string> => {
  if (task.dependencies.length <= MAX_HOT_DEPENDENCIES && task.definition.length <= MAX_HOT_DEFINITION) {
    try {
      const created = await ctx.hot.create(task);
      if (created) {
        return newTaskStatus(task, created.state, created.nowIso);
      }
    } catch (error) {
      if (!isGroupRace(error)) {
        throw error;
      }
    }
  }
  return createAlone(ctx, task);
};

/** Two first tasks of a group at the same time, by different schedulers: decided by looking again. */
const isGroupRace = (error: unknown): boolean => (error as { constraint?: string }).constraint === 'groups_open_to_scheduler';

const createAlone = async (ctx: Ctx, task: NewTask): Promise<string> => {
  const { db, clock } = ctx.platform;
  for (let tries = 1; ; tries++) {
    try {
      const status = await db.tx(async tx => {
        await checkGroup(tx, task);
        const repeated = await repeatTask(tx, task);
        if (repeated !== undefined) {
          return repeated;
        }
        const nowIso = clock.now().toISOString();
        const { rows } = await tx.run<CreatedRow>(createStatement([task], nowIso));
        const [row] = rows;
        if (!row) {
          await checkDependencies(tx, task);
          return undefined;
        }
        tx.afterCommit(() => {
          ctx.wake.deadline(task.deadlineMs);
          if (row.state === 'pending') {
            ctx.wake.pending(task.taskQueueId, 1);
          }
          notifyOutbox();
        });
        return newTaskStatus(task, row.state, nowIso);
      });
      if (status !== undefined) {
        return status;
      }
    } catch (error) {
      if (!isGroupRace(error)) {
        throw error;
      }
    }
    if (tries >= MAX_TRIES) {
      throw new Error(`Task ${task.taskId} was neither stored nor refused`);
    }
  }
};

const checkGroup = async (tx: Tx, { taskGroupId, schedulerId }: NewTask): Promise<void> => {
  const group = await getGroup(tx, taskGroupId);
  if (group && group.schedulerId !== schedulerId) {
    conflict(
      'Task group `{{taskGroupId}}` belongs to schedulerId `{{owner}}`; all its tasks must have it, and this one has `{{schedulerId}}`.',
      {
        taskGroupId,
        schedulerId,
        owner: group.schedulerId,
      },
    );
  }
  if (group?.sealed) {
    conflict('Task group `{{taskGroupId}}` is sealed since {{sealed}}: it takes no more tasks.', {
      taskGroupId,
      sealed: group.sealed.toISOString(),
    });
  }
};

/** If the task exists: announces it again when the definition is the same, refuses it otherwise. */
const repeatTask = async (tx: Tx, task: NewTask): Promise<string | undefined> => {
  const existing = await lockTask(tx, task.taskId);
  if (!existing) {
    return undefined;
  }
  const stored = await getDefinition(tx, task.taskId);
  if (!stored || !isSameDefinition(task, stored)) {
    conflict(
      'Task `{{taskId}}` exists with another definition. Choose a new task id, or repeat the call with the definition of the first one.',
      {
        taskId: task.taskId,
      },
    );
  }
  const status = JSON.parse(existing.status) as TaskStatus;
  const pristine: TaskStatus = { ...status, retriesLeft: task.retries, state: 'unscheduled', runs: [] };
  await announce(tx, [
    taskEvent('taskDefined', existing, pristine),
    ...(existing.state === 'pending' && existing.runId === 0 ? [taskEvent('taskPending', existing, status, { runId: 0 })] : []),
  ]);
  return existing.status;
};

/** Refuses dependencies that do not exist, or are forgotten before the deadline of the task that needs them. */
const checkDependencies = async (tx: Tx, task: NewTask): Promise<void> => {
  const required = task.dependencies.filter(id => id !== task.taskId);
  const found = await tx<{ taskId: string; expires: Date }>`select task_id, expires from queue.tasks where task_id = any(${required})`;
  const known = new Map(found.map(row => [row.taskId, row.expires.getTime()]));
  const missing = required.filter(id => !known.has(id));
  if (missing.length > 0) {
    inputError('Dependencies {{missing}} of task `{{taskId}}` do not exist. Create them first.', {
      missing: missing.slice(0, 20),
      taskId: task.taskId,
    });
  }
  const expiring = required.filter(id => (known.get(id) as number) < task.deadlineMs);
  if (expiring.length > 0) {
    inputError('Dependencies {{expiring}} expire before the deadline of task `{{taskId}}` ({{deadline}}).', {
      expiring: expiring.slice(0, 20),
      taskId: task.taskId,
      deadline: new Date(task.deadlineMs).toISOString(),
    });
  }
};
