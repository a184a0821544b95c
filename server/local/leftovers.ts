/**
 * What workers of an earlier process hold, and nobody would resolve before its claim expires. In an installation of one process it can be told for sure.
 *
 * The built-in workers keep nothing across a kill: nobody else can hold their runs when the server starts, and these are given the outcome they were
 * about to have. The local worker notes what it has in hand and gives it back itself; only a run whose claim was on its way when it was killed is
 * known to the queue alone.
 */
import type { queueApi } from '@tscluster/api/queue/api.ts';
import type { Client } from '@tscluster/client/client.ts';
import type { Log } from '../platform/log.ts';
import { decideOutcome, report } from '../services/built-in-workers/worker.ts';

/** Resolves the runs that the built-in workers of an earlier process held. Answers with how many. */
export const resolveBuiltInLeftovers = async (queue: Client<typeof queueApi>, log: Log): Promise<number> => {
  let count = 0;
  for (const workerType of ['succeed', 'fail'] as const) {
    let continuationToken: string | undefined;
    do {
      const page = await queue.listClaimedTasks(
        { taskQueueId: `built-in/${workerType}` },
        continuationToken === undefined ? {} : { continuationToken },
      );
      for (const { taskId, runId, workerGroup, task } of page.tasks) {
        if (workerGroup !== 'built-in') {
          continue; // somebody who may claims there too
        }
        try {
          await report(queue, { taskId, runId: String(runId) }, decideOutcome(workerType, task.payload));
          count += 1;
        } catch (error) {
          log.warn({ err: error, taskId, runId }, 'built-in task of an earlier process not resolved');
        }
      }
      ({ continuationToken } = page);
    } while (continuationToken !== undefined);
  }
  return count;
};

export interface LostRunsOptions {
  readonly queue: Client<typeof queueApi>;
  readonly taskQueueId: string;
  readonly workerGroup: string;
  readonly workerId: string;
  /** Whether the worker knows of a run, and will resolve it itself. */
  readonly isKnown: (run: { readonly taskId: string; readonly runId: number }) => boolean;
  readonly log: Log;
}

/** Gives back the runs that a worker, which is not running now, holds without knowing. Answers with how many. */
export const giveBackLostRuns = async (options: LostRunsOptions): Promise<number> => {
  const { queue, taskQueueId, workerGroup, workerId, isKnown, log } = options;
  let count = 0;
  let continuationToken: string | undefined;
  do {
    const page = await queue.listClaimedTasks({ taskQueueId }, continuationToken === undefined ? {} : { continuationToken });
    for (const claim of page.tasks) {
      const { taskId, runId } = claim;
      if (claim.workerGroup !== workerGroup || claim.workerId !== workerId || isKnown({ taskId, runId })) {
        continue;
      }
      // the list has runs, too, that were given back and whose claims have not ended
      const run = (await queue.status({ taskId })).status.runs.at(-1);
      if (run?.runId === runId && run.state === 'running') {
        await queue.reportException({ taskId, runId: String(runId) }, { reason: 'worker-shutdown' });
        log.info({ taskId, runId }, 'gave back a run that never reached its worker');
        count += 1;
      }
    }
    ({ continuationToken } = page);
  } while (continuationToken !== undefined);
  return count;
};
