/** One load on an installation, with something happening to it meanwhile; in the end, the accounts that the audit compares. */
import { queueApi } from '@tscluster/api/queue/api.ts';
import { createClient } from '@tscluster/client/client.ts';
import type { Accounts, FinalTask } from './audit.ts';
import { type EventSource, fromSubscription } from './events.ts';
import { Ledger, insist, startFakeWorker } from './fake-workers.ts';
import type { Installation } from './installation.ts';
import { FAKE_QUEUES, type PlannedTask, type Structure } from './load.ts';
import { waitFor } from './processes.ts';

const CREATORS = 8;
const WORKERS_PER_QUEUE = 2;
const CAPACITY = 6;
const FINAL_MS = 150_000;
const FINAL_STATES = new Set(['completed', 'failed', 'exception']);

export interface Round {
  readonly ledger: Ledger;
  /** Resolves when every task is created. */
  readonly created: Promise<void>;
}

/** Works off items with some at a time, each taken when there is somebody for it. */
const inParallel = async <T>(items: Iterable<T>, limit: number, work: (item: T) => Promise<void>): Promise<void> => {
  const rest = items[Symbol.iterator]();
  const next = async (): Promise<void> => {
    for (let item = rest.next(); !item.done; item = rest.next()) {
      await work(item.value);
    }
  };
  await Promise.all(Array.from({ length: limit }, next));
};

/** Asked for at once. */
const STATUSES = 500;

/** Whether a task has become what it can become. */
const isFinal = ({ outcomes }: PlannedTask, state: string): boolean => (outcomes ? FINAL_STATES.has(state) : state === 'unscheduled');

export interface RoundAccounts extends Accounts {
  /** Calls that had to be repeated. */
  readonly unanswered: readonly string[];
}

export interface RoundOptions {
  /** Where the events are found. */
  readonly source?: EventSource;
  /** Between two structures of one creator. */
  readonly pauseMs?: number;
}

/**
 * Creates the tasks, lets them be worked off, and waits until each has its last state and every event is delivered.
 *
 * @param structures taken one by one, so that a load may go on for as long as something happens to it
 * @param disturb what happens meanwhile
 */
export const runRound = async (
  installation: Pick<Installation, 'rootUrl' | 'credentials' | 'connectDatabase'>,
  structures: Iterable<Structure>,
  disturb: (round: Round) => Promise<unknown>,
  { source = fromSubscription, pauseMs = 0 }: RoundOptions = {},
): Promise<RoundAccounts> => {
  const { rootUrl, credentials } = installation;
  const queue = createClient(queueApi, { rootUrl, credentials, retries: 0 });
  const ledger = new Ledger();
  const workers = FAKE_QUEUES.flatMap(taskQueueId =>
    Array.from({ length: WORKERS_PER_QUEUE }, (_, index) =>
      startFakeWorker(installation, ledger, { taskQueueId, workerId: `${taskQueueId.split('/')[1]}-${index}`, capacity: CAPACITY }),
    ),
  );
  const plans: PlannedTask[] = [];
  const created = inParallel(structures, CREATORS, async structure => {
    await new Promise(resolve => setTimeout(resolve, pauseMs));
    plans.push(...structure);
    for (const { taskId, definition } of structure) {
      await insist(() => {
        ledger.attempted(`create ${taskId}`);
        return queue.createTask({ taskId }, definition);
      }, ledger);
    }
  });
  const readStatuses = async () => {
    const parts = Array.from({ length: Math.ceil(plans.length / STATUSES) }, (_, i) => plans.slice(i * STATUSES, (i + 1) * STATUSES));
    const answers = await Promise.all(parts.map(part => insist(() => queue.statuses({ taskIds: part.map(({ taskId }) => taskId) }))));
    return new Map(answers.flatMap(({ statuses }) => statuses.map(({ taskId, status }) => [taskId, status])));
  };
  try {
    await Promise.all([created, disturb({ ledger, created })]);
    let unfinished: string[] = [];
    await waitFor('the last task', FINAL_MS, async () => {
      const statuses = await readStatuses();
      unfinished = plans.flatMap(plan => {
        const status = statuses.get(plan.taskId);
        const handOuts = ledger.handOuts.filter(({ taskId }) => taskId === plan.taskId);
        return status && isFinal(plan, status.state)
          ? []
          : [`${plan.taskId}: ${JSON.stringify(status?.runs ?? 'missing')}, handed out: ${JSON.stringify(handOuts)}`];
      });
      return unfinished.length === 0;
    }).catch(() => ledger.problems.push(...unfinished.map(each => `never finished: ${each}`)));
  } finally {
    await Promise.all(workers.map(worker => worker.stop()));
  }

  const artifactsOf = async (taskId: string, runId: number): Promise<string[]> => {
    const run = { taskId, runId: String(runId) };
    const { artifacts } = await insist(() => queue.listArtifacts(run));
    const announced = await Promise.all(
      artifacts.map(async ({ name, storageType }) => {
        // an object is announced when it is finished, which an upload cut short is not
        const isThere =
          storageType !== 's3' &&
          (storageType !== 'object' ||
            (await queue.artifactInfo({ ...run, name }).then(
              () => true,
              () => false,
            )));
        return isThere ? [name] : [];
      }),
    );
    return announced.flat();
  };
  const tasks: FinalTask[] = [];
  const statuses = await readStatuses();
  await inParallel(plans, CREATORS, async plan => {
    const status = statuses.get(plan.taskId) ?? { taskId: plan.taskId, state: 'missing', retriesLeft: -1, runs: [] };
    tasks.push({ plan, status, artifacts: await Promise.all(status.runs.map(({ runId }) => artifactsOf(plan.taskId, runId))) });
  });
  return { tasks, events: await source(installation), ledger, unanswered: ledger.unanswered };
};
