/**
 * A graph of 10,000 tasks with 30,000 dependencies, submitted in one call, and kill -9 while it is on its way, checked, written, committed or announced.
 * Afterwards all of its tasks are there, or none; the same call again makes it all, once; and in the end a listener, who was cut off by every kill, has
 * seen each task announced exactly once.
 *
 * `GRAPH_KILLS=40` kills that often (default 6), `GRAPH_SEED=N` repeats the choices of an earlier run.
 */
import type { MethodInput } from '@tscluster/api/define.ts';
import { queueApi } from '@tscluster/api/queue/api.ts';
import { schedulerApi } from '@tscluster/api/scheduler/api.ts';
import { type Client, createClient } from '@tscluster/client/client.ts';
import { systemClock } from '@tscluster/client/clock.ts';
import { listen } from '@tscluster/client/events.ts';
import { beforeAll, expect, test } from 'vitest';
import { openDb } from '../server/db/sql.ts';
import { findBreaches } from '../server/services/queue/testing.ts';
import { queueExchanges } from './support/events.ts';
import { insist } from './support/fake-workers.ts';
import { type Installation, startInstallation } from './support/installation.ts';
import { waitFor } from './support/processes.ts';
import { type Choices, seeded } from './support/random.ts';
import { aTask, newId } from './support/tasks.ts';

const KILLS = Number(process.env['GRAPH_KILLS'] ?? 6);
const SEED = Number(process.env['GRAPH_SEED'] ?? Math.floor(Math.random() * 1_000_000));
const TASKS = 10_000;
const ROOTS = 100;
const DEPENDENCIES = 30_000;
const ANSWER_MS = 300_000;

type Graph = MethodInput<(typeof schedulerApi)['methods']['submitGraph']>;

let installation: Installation;
let scheduler: Client<typeof schedulerApi>;
let queue: Client<typeof queueApi>;
/** How long it takes undisturbed, here and now: kills are spread over this. */
let calmMs = 0;
const taskIds: string[] = [];
/** How often each was announced: `<exchange> <taskId>`. */
const announced = new Map<string, number>();
/** How many events there were of each group. */
const eventsOf = new Map<string, number>();

const sleep = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms));

/** Roots depend on nothing, and every other task on three that come before it; some on four. */
const aGraph = (choices: Choices): Graph => {
  const ids = Array.from({ length: TASKS }, newId);
  taskIds.push(...ids);
  const extra = DEPENDENCIES - 3 * (TASKS - ROOTS);
  // nobody works on them
  const definition = aTask({ taskQueueId: 'e2e/graph' });
  return {
    tasks: ids.map((taskId, i) => {
      const dependencies = new Set<string>();
      while (i >= ROOTS && dependencies.size < (i < ROOTS + extra ? 4 : 3)) {
        dependencies.add(ids[choices.integer(0, i - 1)] as string);
      }
      return { taskId, task: { ...definition, dependencies: [...dependencies] } };
    }),
  };
};

/** Follows the stream of events through every end of it. */
const follow = async (): Promise<void> => {
  const { rootUrl, credentials } = installation;
  const bindings = queueExchanges.map(exchange => ({ exchange, routingKeyPattern: '#' }));
  await new Promise<void>((resolve, reject) => {
    const read = async (): Promise<void> => {
      for await (const { message } of listen({ rootUrl, credentials, bindings, onReady: resolve })) {
        const { status } = message.payload as { status: { taskId: string; taskGroupId: string } };
        const key = `${message.exchange.slice(message.exchange.lastIndexOf('/') + 1)} ${status.taskId}`;
        announced.set(key, (announced.get(key) ?? 0) + 1);
        eventsOf.set(status.taskGroupId, (eventsOf.get(status.taskGroupId) ?? 0) + 1);
      }
    };
    read().catch(reject);
  });
};

beforeAll(async () => {
  console.log(`GRAPH_SEED=${SEED}`);
  installation = await startInstallation();
  const { rootUrl, credentials } = installation;
  scheduler = createClient(schedulerApi, { rootUrl, credentials, retries: 0, timeoutMs: ANSWER_MS });
  queue = createClient(queueApi, { rootUrl, credentials, retries: 0 });
  await follow();
});

/** What is stored of a group: rows of its tasks, their dependencies, its places in line. */
const countRows = async (taskGroupId: string): Promise<{ tasks: number; dependencies: number; pending: number; groups: number }> => {
  const database = await installation.connectDatabase();
  try {
    const { rows } = await database.query<{ tasks: number; dependencies: number; pending: number; groups: number }>(
      `with mine as (select task_id from queue.tasks where task_group_id = $1)
       select (select count(*)::int from mine) as tasks,
         (select count(*)::int from queue.deps where dependent collate "C" in (select task_id from mine)) as dependencies,
         (select count(*)::int from queue.pending where task_id in (select task_id from mine)) as pending,
         (select count(*)::int from queue.groups where task_group_id = $1) as groups`,
      [taskGroupId],
    );
    return rows[0] as Awaited<ReturnType<typeof countRows>>;
  } finally {
    await database.end();
  }
};

/** What the queue tells about a group. */
const readGroup = async (taskGroupId: string): Promise<{ states: Record<string, number>; ids: Set<string> }> => {
  const states: Record<string, number> = {};
  const ids = new Set<string>();
  let continuationToken: string | undefined;
  do {
    const page = await queue.listTaskGroup({ taskGroupId }, { continuationToken });
    for (const { status } of page.tasks) {
      states[status.state] = (states[status.state] ?? 0) + 1;
      ids.add(status.taskId);
    }
    continuationToken = page.continuationToken;
  } while (continuationToken !== undefined);
  return { states, ids };
};

const ALL = { tasks: TASKS, dependencies: DEPENDENCIES, pending: ROOTS, groups: 1 };
const NONE = { tasks: 0, dependencies: 0, pending: 0, groups: 0 };

/** Answers: of a call that made it, and of one that found it. */
const CREATED = { tasks: TASKS, dependencies: DEPENDENCIES, created: TASKS, existing: 0, pending: ROOTS };
const EXISTING = { tasks: TASKS, dependencies: DEPENDENCIES, created: 0, existing: TASKS };

const expectAll = async (taskGroupId: string, { tasks }: Graph): Promise<void> => {
  expect(await countRows(taskGroupId)).toEqual(ALL);
  const { states, ids } = await readGroup(taskGroupId);
  expect(states).toEqual({ pending: ROOTS, unscheduled: TASKS - ROOTS });
  expect(ids).toEqual(new Set(tasks.map(({ taskId }) => taskId)));
};

const expectUnknown = async (taskGroupId: string, { tasks }: Graph): Promise<void> => {
  await expect(queue.getTaskGroup({ taskGroupId })).rejects.toMatchObject({ statusCode: 404 });
  await expect(queue.status({ taskId: tasks.at(-1)?.taskId as string })).rejects.toMatchObject({ statusCode: 404 });
};

test('undisturbed, it is there with one call', async () => {
  const [graph, taskGroupId] = [aGraph(seeded(SEED)), newId()];
  const startMs = performance.now();
  expect(await scheduler.submitGraph({ taskGroupId }, graph)).toMatchObject(CREATED);
  calmMs = performance.now() - startMs;
  expect(await countRows(taskGroupId)).toEqual(ALL);
});

interface Point {
  readonly moment: string;
  readonly part: 'server' | 'postgres';
  /** Resolves when it is time. */
  readonly wait: (choices: Choices, taskGroupId: string) => Promise<unknown>;
  /** Whether everything is committed by then. */
  readonly isCommitted: boolean;
}

/** Asks the database until it says yes; what it is asked about may never come to be, when the call is over before. */
const untilDatabaseSays = async (statement: string, ...values: string[]): Promise<void> => {
  const database = await installation.connectDatabase();
  try {
    await waitFor(statement, ANSWER_MS, async () => (await database.query<{ yes: boolean }>(statement, values)).rows[0]?.yes);
  } finally {
    await database.end();
  }
};

const someTime: Point['wait'] = choices => sleep(choices.float() * calmMs);
/** From the first insert to the last takes about half of the time. */
const duringInserts: Point['wait'] = async choices => {
  await untilDatabaseSays(`select exists (
    select from pg_stat_activity where state <> 'idle' and xact_start is not null and query like '%insert into queue.tasks%' and pid <> pg_backend_pid()) as yes`);
  await sleep((choices.float() * calmMs) / 2);
};
const afterCommit: Point['wait'] = (_, taskGroupId) =>
  untilDatabaseSays('select exists (select from queue.tasks where task_group_id = $1) as yes', taskGroupId);
const duringEvents: Point['wait'] = async (choices, taskGroupId) => {
  const target = choices.integer(1, TASKS);
  await waitFor('some of the events', ANSWER_MS, async () => (eventsOf.get(taskGroupId) ?? 0) >= target);
};

const MOMENTS: readonly Point[] = [
  { moment: 'at any moment', part: 'server', wait: someTime, isCommitted: false },
  { moment: 'while it is written', part: 'server', wait: duringInserts, isCommitted: false },
  { moment: 'while it is written', part: 'postgres', wait: duringInserts, isCommitted: false },
  { moment: 'when it is committed', part: 'server', wait: afterCommit, isCommitted: true },
  { moment: 'at any moment', part: 'server', wait: someTime, isCommitted: false },
  { moment: 'while it is announced', part: 'server', wait: duringEvents, isCommitted: true },
];
const outcomes: string[] = [];
const points = Array.from({ length: KILLS }, (_, i) => ({ ...(MOMENTS[i % MOMENTS.length] as Point), point: i + 1 }));

/** The graph that is to be submitted: one that a kill has prevented is submitted again. */
let current: { graph: Graph; taskGroupId: string } | undefined;

test.each(points)('point $point: the $part is killed $moment', async ({ point, part, wait, isCommitted }) => {
  const choices = seeded(SEED * 1_000 + point);
  const { graph, taskGroupId } = (current ??= { graph: aGraph(choices), taskGroupId: newId() });
  const submission = scheduler.submitGraph({ taskGroupId }, graph).then(
    answer => answer,
    () => undefined,
  );
  await wait(choices, taskGroupId);
  await installation.kill(part);
  const answer = await submission;
  await (part === 'server' ? installation.restart() : installation.pid('postgres'));
  await insist(() => queue.taskQueueCounts({ taskQueueId: 'e2e/graph' }));

  const found = await countRows(taskGroupId);
  const isThere = answer !== undefined || isCommitted || found.tasks > 0;
  outcomes.push(isThere ? 'all' : 'none');
  expect(found).toEqual(isThere ? ALL : NONE);
  expect(answer ?? CREATED).toMatchObject(CREATED);
  if (isThere) {
    expect(await scheduler.submitGraph({ taskGroupId }, graph)).toMatchObject(EXISTING);
    await expectAll(taskGroupId, graph);
    current = undefined;
  } else {
    await expectUnknown(taskGroupId, graph);
  }
});

test('what was prevented to the last is there with one call', async () => {
  if (current) {
    const { graph, taskGroupId } = current;
    expect(await scheduler.submitGraph({ taskGroupId }, graph)).toMatchObject(CREATED);
    await expectAll(taskGroupId, graph);
  }
});

test('each task was announced exactly once, and the tables agree with each other', async () => {
  console.log(`After each kill, of the graph: ${outcomes.join(', ')}`);
  const last = newId();
  await insist(() => queue.createTask({ taskId: last }, aTask({ taskQueueId: 'e2e/graph' })));
  await waitFor('the last event', ANSWER_MS, async () => announced.get(`task-pending ${last}`));
  const counts = Map.groupBy(announced, ([, count]) => count);
  expect([...counts.keys()]).toEqual([1]);
  expect(taskIds.filter(taskId => !announced.has(`task-defined ${taskId}`))).toEqual([]);
  const roots = (taskIds.length / TASKS) * ROOTS + 1;
  expect([...announced.keys()].filter(key => key.startsWith('task-pending '))).toHaveLength(roots);
  expect(announced.size).toBe(taskIds.length + 1 + roots);
  const db = openDb({ connection: await installation.databaseAddress() });
  try {
    expect(await findBreaches({ db, clock: systemClock as never })).toEqual([]);
  } finally {
    await db.close();
  }
});
