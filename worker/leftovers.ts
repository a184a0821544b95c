/** Gives back what an earlier life of this worker had in hand when it was killed: the queue tries those tasks again at once. */
import { ApiCallError, type Credentials } from '@tscluster/client/client.ts';
import type { WorkerEnvironment } from './context.ts';
import { messageOf } from './errors.ts';
import type { QueueCalls } from './queue.ts';
import type { RunInHand, WorkerState } from './state.ts';

const RETRY_MS = 500;

/** Resolves when each of those runs is resolved as `worker-shutdown`, or its claim has ended. */
export const giveBackRuns = async ({
  worker,
  state,
  queueWith,
}: {
  worker: WorkerEnvironment;
  state: WorkerState;
  queueWith: (credentials: () => Credentials) => QueueCalls;
}): Promise<void> => {
  await Promise.all(
    state.leftBehind.map(run =>
      giveBack(
        worker,
        state,
        run,
        queueWith(() => run.credentials),
      ),
    ),
  );
};

const giveBack = async (
  { clock, monitor }: WorkerEnvironment,
  state: WorkerState,
  { taskId, runId, takenUntil }: RunInHand,
  queue: QueueCalls,
): Promise<void> => {
  const endMs = new Date(takenUntil).getTime();
  while (clock.nowMs() < endMs) {
    try {
      await queue.reportException({ taskId, runId: String(runId) }, { reason: 'worker-shutdown' });
      monitor.info({ taskId, runId }, 'gave back a task of an earlier life');
      break;
    } catch (error) {
      const isFinal = error instanceof ApiCallError && error.statusCode < 500;
      monitor.warn(
        { taskId, runId, error: messageOf(error) },
        isFinal ? 'an earlier task is not ours any more' : 'an earlier task is not given back yet',
      );
      if (isFinal) {
        break;
      }
      await clock.sleep(RETRY_MS);
    }
  }
  state.remove({ taskId, runId });
};
