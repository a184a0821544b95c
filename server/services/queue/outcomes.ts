/** Counters of how runs end. */
import type { Ctx } from './ctx.ts';
import { type Outcome, splitTaskQueueId } from './rules.ts';

/** Counts one end of a run. */
export const countOutcome = (
  { platform: { metrics } }: Pick<Ctx, 'platform'>,
  outcome: Outcome,
  reasonResolved: string,
  taskQueueId: string,
): void => {
  const queue = splitTaskQueueId(taskQueueId);
  switch (outcome) {
    case 'completed':
      metrics.counter('queue_completed_tasks', 'Tasks completed', ['provisionerId', 'workerType']).inc(queue);
      break;
    case 'failed':
      metrics
        .counter('queue_failed_tasks', 'Tasks failed', ['provisionerId', 'workerType', 'reasonResolved'])
        .inc({ ...queue, reasonResolved });
      break;
    case 'exception':
      metrics
        .counter('queue_exception_tasks', 'Runs ended without an outcome', ['provisionerId', 'workerType', 'reasonResolved'])
        .inc({ ...queue, reasonResolved });
  }
};
