/** What would change the state of a task now, and whether the caller may do it. */
import type { TaskExplanation } from '@tscluster/api/queue/explain.ts';
import type { TaskStatus } from '@tscluster/api/queue/tasks.ts';
import { MAX_RUNS, splitTaskQueueId } from '../rules.ts';
import type { Blocker } from './blockers.ts';
import type { QueueView } from './queues.ts';
import type { Sight } from './sight.ts';

export type Action = TaskExplanation['actions'][number];

/** Failed dependencies whose rerun is proposed. */
const MAX_RERUNS = 5;

const control = ({ taskId, taskGroupId, schedulerId, projectId }: TaskStatus) => ({ taskId, taskGroupId, schedulerId, projectId });

export const listActions = (
  sight: Sight,
  task: { readonly status: TaskStatus; readonly wasResolved: boolean },
  around: { readonly nowMs: number; readonly causes: readonly Blocker[]; readonly queues: readonly QueueView[]; readonly ahead: number },
): Action[] => {
  const { status, wasResolved } = task;
  const { taskId, taskQueueId, state } = status;
  const { nowMs, causes, queues, ahead } = around;
  const actions: Action[] = [];
  const add = (action: Exclude<Action['action'], 'worker' | 'quarantineWorker'>, of: TaskStatus, message: string): void => {
    const params = { ...control(of), taskQueueId: of.taskQueueId };
    const missingScopes = sight.missing(action, params);
    const isAllowed = sight.may(action, params);
    actions.push({ action, taskId: of.taskId, isAllowed, ...(isAllowed ? {} : { missingScopes }), message });
  };
  const isLate = Date.parse(status.deadline) < nowMs;
  if (isLate) {
    return actions;
  }
  for (const view of queues.filter(view => view.polls?.isPolled === false && (view.claims?.runs ?? 0) === 0)) {
    actions.push({
      action: 'worker',
      taskQueueId: view.taskQueueId,
      message: `Start a worker that asks for work in ${view.taskQueueId}.`,
    });
  }
  for (const view of queues.filter(view => (view.workers?.quarantined ?? 0) > 0)) {
    const quarantined = view.workers?.some.find(worker => worker.quarantineUntil !== undefined);
    if (quarantined) {
      const { workerGroup, workerId } = quarantined;
      const params = { ...splitTaskQueueId(view.taskQueueId), workerGroup, workerId };
      const isAllowed = sight.may('quarantineWorker', params);
      actions.push({
        action: 'quarantineWorker',
        taskQueueId: view.taskQueueId,
        isAllowed,
        ...(isAllowed ? {} : { missingScopes: sight.missing('quarantineWorker', params) }),
        message: `End the quarantine of a worker such as ${workerGroup}/${workerId}.`,
      });
    }
  }
  switch (state) {
    case 'unscheduled':
      for (const { status: cause, moment } of causes.slice(0, MAX_RERUNS)) {
        if (cause && (moment?.state === 'failed' || moment?.state === 'exception') && Date.parse(cause.deadline) >= nowMs) {
          add('rerunTask', cause, `Run ${cause.taskId} again; if it completes, it keeps this task waiting no longer.`);
        }
      }
      add('scheduleTask', status, 'Schedule the task now, whatever it depends on.');
      add('cancelTask', status, 'Cancel the task.');
      break;
    case 'pending':
      if (ahead > 0 && !wasResolved && status.priority !== 'highest') {
        add('changeTaskPriority', status, `Raise the priority of the task, so that it is handed out before others in ${taskQueueId}.`);
      }
      add('cancelTask', status, 'Cancel the task.');
      break;
    case 'running':
      add('cancelTask', status, 'Cancel the task; its worker learns of it when it renews the claim.');
      break;
    default:
      if (status.runs.length < MAX_RUNS) {
        add('rerunTask', status, `Run ${taskId} again.`);
      }
  }
  return actions;
};
