/**
 * The built-in workers keep nothing across a kill, so that what they held would wait for its claim to expire. In an installation of one process nobody
 * else can hold these runs when it starts: they are given the outcome they were about to have.
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
