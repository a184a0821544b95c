/** Workers that worker-manager has stopped or removed: what they held is tried again at once. */
import type { Tx } from '../../db/sql.ts';
import type { Subscription } from '../../platform/bus/bus.ts';
import type { Ctx } from './ctx.ts';
import { type ClaimKey, endLostRuns } from './loops.ts';

export interface RemovedWorker {
  readonly workerPoolId: string;
  readonly workerGroup: string;
  readonly workerId: string;
}

/** Ends every run that a worker holds as `worker-shutdown`. Doing it again changes nothing. */
export const endRunsOfWorker = async (tx: Tx, ctx: Ctx, { workerPoolId, workerGroup, workerId }: RemovedWorker): Promise<void> => {
  const claims = await tx<ClaimKey>`
    select taken_until, task_id, run_id from queue.claims
    where task_queue_id = ${workerPoolId} and worker_group = ${workerGroup} and worker_id = ${workerId}
    order by taken_until, task_id, run_id`;
  if (claims.length > 0) {
    await endLostRuns(tx, ctx, claims, ({ taskId, runId }) => ({ taskId, runId, outcome: 'exception', reason: 'worker-shutdown' }));
  }
};

const EXCHANGES = ['worker-stopped', 'worker-removed'].map(name => `exchange/taskcluster-worker-manager/v1/${name}`);

export const workerRemoved = (ctx: Ctx): Subscription => ({
  name: 'queue/worker-removed',
  bindings: EXCHANGES.map(exchange => ({ exchange, pattern: '#' })),
  handle: (event, tx) => endRunsOfWorker(tx, ctx, event.payload as RemovedWorker),
});
