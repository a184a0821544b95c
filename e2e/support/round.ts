/** One load on an installation, with something happening to it meanwhile; in the end, the accounts that the audit compares. */
import { queueApi } from '@tscluster/api/queue/api.ts';
import { createClient } from '@tscluster/client/client.ts';
import type { Accounts, FinalTask } from './audit.ts';
import { countUndelivered, takeEvents } from './events.ts';
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

/** Works off a list with some at a time. */
const inParallel = async <T>(items: readonly T[], limit: number, work: (item: T) => Promise<void>): Promise<void> => {
  const rest = [...items];
  const next = async (): Promise<void> => {
    for (let item = rest.shift(); item !== undefined; item = rest.shift()) {
      await work(item);
    }
  };
  await Promise.all(Array.from({ length: limit }, next));
};

/** Whether a task has become what it can become. */
const isFinal = ({ outcomes }: PlannedTask, state: string): boolean => (outcomes ? FINAL_STATES.has(state) : state === 'unscheduled');

/**
 * Creates the tasks, lets them be worked off, and waits until each has its last state and every event is delivered.
 *
 * @param disturb what happens meanwhile
 */
export const runRound = async (
  installation: Installation,
  structures: readonly Structure[],
  disturb: (round: Round) => Promise<unknown>,
): Promise<Accounts> => {
  const { rootUrl, credentials } = installation;
  const queue = createClient(queueApi, { rootUrl, credentials, retries: 0 });
  const ledger = new Ledger();
  const workers = FAKE_QUEUES.flatMap(taskQueueId =>
    Array.from({ length: WORKERS_PER_QUEUE }, (_, index) =>
      startFakeWorker(installation, ledger, { taskQueueId, workerId: `${taskQueueId.split('/')[1]}-${index}`, capacity: CAPACITY }),
    ),
  );
  const created = inParallel(structures, CREATORS, async structure => {
    for (const { taskId, definition } of structure) {
      await insist(() => {
        ledger.attempted(`create ${taskId}`);
        return queue.createTask({ taskId }, definition);
      });
    }
  });
  const plans = structures.flat();
  const readStatuses = async () => {
    const { statuses } = await insist(() => queue.statuses({ taskIds: plans.map(({ taskId }) => taskId) }));
    return new Map(statuses.map(({ taskId, status }) => [taskId, status]));
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
  const database = await installation.connectDatabase();
  try {
    await waitFor('the delivery of all events', 30_000, async () => (await countUndelivered(database)) === 0);
    return { tasks, events: await takeEvents(database), ledger };
  } finally {
    await database.end();
  }
};
