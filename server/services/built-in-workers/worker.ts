import type { queueApi } from '@tscluster/api/queue/api.ts';
import type { Client, Credentials } from '@tscluster/client/client.ts';
import type { Clock } from '../../platform/clock.ts';
import type { Log } from '../../platform/log.ts';

export type Outcome = 'completed' | 'failed' | 'malformed-payload';

type Queue = Client<typeof queueApi>;
type Claims = Awaited<ReturnType<Queue['claimWork']>>;

export interface BuiltInWorkerOptions {
  readonly workerType: 'succeed' | 'fail';
  readonly clock: Clock;
  readonly log: Log;
  /** Waits for tasks; answers with none after a while. */
  readonly claim: () => Promise<Claims>;
  /** The queue with a task's own credentials. */
  readonly queueOf: (credentials: Credentials) => Pick<Queue, 'reportCompleted' | 'reportFailed' | 'reportException'>;
}

export interface BuiltInWorker {
  /** Takes no more tasks, and resolves those it has. */
  stop(): Promise<void>;
}

const FIRST_WAIT_MS = 100;
const LONGEST_WAIT_MS = 10_000;

/** What becomes of a task: its payload must be an empty object. */
export const decideOutcome = (workerType: 'succeed' | 'fail', payload: unknown): Outcome => {
  const isEmpty = typeof payload === 'object' && payload !== null && !Array.isArray(payload) && Object.keys(payload).length === 0;
  return isEmpty ? (workerType === 'succeed' ? 'completed' : 'failed') : 'malformed-payload';
};

/** Tells the queue an outcome. */
export const report = async (
  queue: Pick<Queue, 'reportCompleted' | 'reportFailed' | 'reportException'>,
  run: { readonly taskId: string; readonly runId: string },
  outcome: Outcome,
): Promise<void> => {
  if (outcome === 'completed') {
    await queue.reportCompleted(run);
  } else if (outcome === 'failed') {
    await queue.reportFailed(run);
  } else {
    await queue.reportException(run, { reason: outcome });
  }
};

/** Claims and resolves until it is stopped. A task that cannot be resolved (cancelled, past its deadline) is left to the queue. */
export const startBuiltInWorker = ({ workerType, clock, log, claim, queueOf }: BuiltInWorkerOptions): BuiltInWorker => {
  const stopping = new AbortController();

  const resolveTask = async ({ status, runId, task, credentials }: Claims['tasks'][number]): Promise<void> => {
    try {
      const run = { taskId: status.taskId, runId: String(runId) };
      await report(queueOf(credentials), run, decideOutcome(workerType, task.payload));
    } catch (error) {
      log.warn({ err: error, taskId: status.taskId, runId }, 'built-in task not resolved');
    }
  };

  const work = async (): Promise<void> => {
    let waitMs = FIRST_WAIT_MS;
    while (!stopping.signal.aborted) {
      try {
        const { tasks } = await claim();
        await Promise.all(tasks.map(resolveTask));
        waitMs = FIRST_WAIT_MS;
      } catch (error) {
        if (stopping.signal.aborted) {
          return;
        }
        log.warn({ err: error, workerType }, 'built-in worker cannot claim');
        await clock.sleep(waitMs, stopping.signal).catch(() => undefined);
        waitMs = Math.min(waitMs * 2, LONGEST_WAIT_MS);
      }
    }
  };

  const working = work();
  return {
    stop: async () => {
      stopping.abort();
      await working;
    },
  };
};
