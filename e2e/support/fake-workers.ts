/**
 * Workers that speak the protocol and do nothing else: they claim, wait, and report what the payload says. All of them write one ledger: which claim was
 * handed to whom, and how often what was reported. They never give up: a server that is gone comes back.
 */
import { queueApi } from '@tscluster/api/queue/api.ts';
import { ApiCallError, ConnectionError, type Credentials, createClient } from '@tscluster/client/client.ts';
import type { Installation } from './installation.ts';
import { type FakePayload, isGood } from './load.ts';

const WORKER_GROUP = 'e2e';
const PAUSE_MS = 50;
const EXPIRES_MS = 12 * 3_600_000;

export interface HandOut {
  readonly taskId: string;
  readonly runId: number;
  readonly worker: string;
  readonly takenUntil: string;
  /** Place in the ledger, which orders everything in it. */
  readonly place: number;
}

/** What was sent and received, in order. */
export class Ledger {
  readonly handOuts: HandOut[] = [];
  readonly problems: string[] = [];
  /** Calls that brought no answer, or one that the server is not well; they were repeated. */
  readonly unanswered: string[] = [];
  /** Attempts by what they are about: `create <taskId>`, `report <taskId>/<runId>`, `artifact <taskId>/<runId>`. */
  readonly #attempts = new Map<string, { count: number; firstPlace: number }>();
  readonly #watchers = new Set<(progress: number) => void>();
  #place = 0;

  /** How many steps were taken in all. */
  get progress(): number {
    return this.#place;
  }

  #step(): number {
    this.#place += 1;
    this.#watchers.forEach(watcher => watcher(this.#place));
    return this.#place;
  }

  handedOut(claim: Omit<HandOut, 'place'>): void {
    this.handOuts.push({ ...claim, place: this.#step() });
  }

  attempted(what: string): void {
    const place = this.#step();
    const known = this.#attempts.get(what);
    this.#attempts.set(what, { count: (known?.count ?? 0) + 1, firstPlace: known?.firstPlace ?? place });
  }

  readonly attempts = (what: string): number => this.#attempts.get(what)?.count ?? 0;

  readonly firstPlace = (what: string): number | undefined => this.#attempts.get(what)?.firstPlace;

  /** Resolves when so many steps were taken. */
  reached(progress: number): Promise<void> {
    return new Promise(resolve => {
      const watcher = (now: number): void => {
        if (now >= progress) {
          this.#watchers.delete(watcher);
          resolve();
        }
      };
      this.#watchers.add(watcher);
      watcher(this.#place);
    });
  }
}

const sleep = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms));

/** Whether the call may succeed when the installation is well again. */
const isPassing = (error: unknown): boolean =>
  error instanceof ConnectionError || (error instanceof ApiCallError && error.statusCode >= 500);

/** Repeats a call until it is answered; a refusal is thrown. Each attempt that was not answered is noted in the ledger. */
export const insist = async <T>(call: () => Promise<T>, ledger?: Pick<Ledger, 'unanswered'>): Promise<T> => {
  for (;;) {
    try {
      return await call();
    } catch (error) {
      if (!isPassing(error)) {
        throw error;
      }
      ledger?.unanswered.push((error as Error).message.split('\n')[0] ?? '');
      await sleep(PAUSE_MS);
    }
  }
};

export interface FakeWorker {
  /** Claims no more, and finishes what it has. */
  stop(): Promise<void>;
}

export const startFakeWorker = (
  installation: Pick<Installation, 'rootUrl' | 'credentials'>,
  ledger: Ledger,
  { taskQueueId, workerId, capacity }: { taskQueueId: string; workerId: string; capacity: number },
): FakeWorker => {
  const stopping = new AbortController();
  const { rootUrl } = installation;
  const queue = createClient(queueApi, { rootUrl, credentials: installation.credentials, retries: 0, signal: stopping.signal });
  const working = new Map<string, Promise<void>>();
  const begun = new Set<string>();
  let freed: () => void = () => undefined;

  const work = async (taskId: string, runId: number, payload: FakePayload, credentials: Credentials): Promise<void> => {
    const own = createClient(queueApi, { rootUrl, credentials, retries: 0 });
    const run = { taskId, runId: String(runId) };
    const outcome = payload.outcomes[runId];
    if (outcome === undefined) {
      ledger.problems.push(`${taskId} has a run ${runId} that nothing is the reason for`);
      return;
    }
    await sleep(payload.workMs);
    if (payload.artifact) {
      const expires = new Date(Date.now() + EXPIRES_MS).toISOString();
      await insist(() => {
        ledger.attempted(`artifact ${taskId}/${runId}`);
        return own.createArtifact(
          { ...run, name: 'public/link' },
          { storageType: 'reference', contentType: 'text/html', url: 'https://example.com/', expires },
        );
      }, ledger);
    }
    await insist<unknown>(() => {
      ledger.attempted(`report ${taskId}/${runId}`);
      if (isGood(outcome)) {
        return own.reportCompleted(run);
      }
      return outcome === 'failed' ? own.reportFailed(run) : own.reportException(run, { reason: outcome as 'worker-shutdown' });
    }, ledger);
  };

  const loop = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      if (working.size >= capacity) {
        await new Promise<void>(resolve => (freed = resolve));
        continue;
      }
      try {
        const { tasks } = await queue.claimWork({ taskQueueId }, { workerGroup: WORKER_GROUP, workerId, tasks: capacity - working.size });
        for (const { status, runId, takenUntil, task, credentials } of tasks) {
          const { taskId } = status;
          const key = `${taskId}/${runId}`;
          ledger.handedOut({ taskId, runId, worker: `${WORKER_GROUP}/${workerId}`, takenUntil });
          if (begun.has(key)) {
            continue; // the server could not know whether its answer had arrived, and gave it again
          }
          begun.add(key);
          const done = work(taskId, runId, task.payload as unknown as FakePayload, credentials)
            .catch((error: unknown) => {
              ledger.problems.push(`${key} could not be reported: ${(error as Error).message.split('\n')[0]}`);
            })
            .finally(() => {
              working.delete(key);
              freed();
            });
          working.set(key, done);
        }
      } catch (error) {
        if (!stopping.signal.aborted) {
          if (isPassing(error)) {
            ledger.unanswered.push((error as Error).message.split('\n')[0] ?? '');
          } else {
            ledger.problems.push(`${workerId} could not claim: ${(error as Error).message.split('\n')[0]}`);
          }
          await sleep(PAUSE_MS);
        }
      }
    }
  };

  const looping = loop();
  return {
    stop: async () => {
      stopping.abort();
      freed();
      await looping;
      await Promise.all(working.values());
    },
  };
};
