/** Drives the real queue through rounds of operations, and shrinks a sequence that it does not survive. */
import { ApiCallError } from '@tscluster/client/client.ts';
import { makeFakeClock } from '../../../testing/clock.ts';
import { seededRandom } from '../../../testing/server.ts';
import { testDatabase } from '../../../testing/template.ts';
import { claimExpiry, deadlines, dependencies } from '../loops.ts';
import { type QueueServer, aTask, findBreaches, withQueue } from '../testing.ts';
import type { Answer } from './apply.ts';
import { Divergence, explainRound } from './check.ts';
import { type NewTaskOperation, type Operation, type Round, chooseRound } from './operations.ts';
import { type Task, World } from './world.ts';

/** Changes a fresh database so that the queue does something wrong: for tests of this test. */
export type Plant = (server: QueueServer) => Promise<void>;

const send = async (server: QueueServer, operation: Operation): Promise<unknown> => {
  const { queue } = server;
  switch (operation.kind) {
    case 'create': {
      const { kind: _kind, taskId, deadlineMs, createdMs, ...fields } = operation;
      const task = { ...fields, dependencies: [...fields.dependencies] };
      return queue.createTask({ taskId }, aTask(server.clock, { ...task, created: iso(createdMs), deadline: iso(deadlineMs) }));
    }
    case 'schedule':
      return queue.scheduleTask({ taskId: operation.taskId });
    case 'rerun':
      return queue.rerunTask({ taskId: operation.taskId });
    case 'cancel':
      return queue.cancelTask({ taskId: operation.taskId });
    case 'priority':
      return queue.changeTaskPriority({ taskId: operation.taskId }, { newPriority: operation.priority });
    case 'claimWork': {
      const { taskQueueId, workerId, tasks } = operation;
      return queue.claimWork({ taskQueueId }, { workerGroup: 'wg', workerId, tasks });
    }
    case 'claimTask':
      return queue.claimTask(
        { taskId: operation.taskId, runId: String(operation.runId) },
        { workerGroup: 'wg', workerId: operation.workerId },
      );
    case 'reclaim':
      return queue.reclaimTask({ taskId: operation.taskId, runId: String(operation.runId) });
    case 'completed':
      return queue.reportCompleted({ taskId: operation.taskId, runId: String(operation.runId) });
    case 'failed':
      return queue.reportFailed({ taskId: operation.taskId, runId: String(operation.runId) });
    case 'exception':
      return queue.reportException({ taskId: operation.taskId, runId: String(operation.runId) }, { reason: operation.reason });
    case 'seal':
      return queue.sealTaskGroup({ taskGroupId: operation.taskGroupId });
    case 'cancelGroup':
      return queue.cancelTaskGroup({ taskGroupId: operation.taskGroupId });
    case 'wait':
      server.clock.advance({ ms: operation.ms });
      await server.runLoop(claimExpiry);
      await server.runLoop(deadlines);
      return server.runLoop(dependencies);
  }
};

const iso = (ms: number): string => new Date(ms).toISOString();

type ClaimReply = { tasks: { status: { taskId: string }; runId: number }[] };

const toAnswer = (operation: Operation, reply: unknown): Answer => {
  switch (operation.kind) {
    case 'claimWork':
      return { claimed: (reply as ClaimReply).tasks.map(({ status, runId }) => `${status.taskId}/${runId}`) };
    case 'seal':
    case 'wait':
      return { status: null };
    case 'cancelGroup':
      return { status: (reply as { taskIds: string[] }).taskIds.toSorted() };
    default:
      return { status: (reply as { status: unknown }).status };
  }
};

const ask = async (server: QueueServer, operation: Operation): Promise<Answer> => {
  try {
    return toAnswer(operation, await send(server, operation));
  } catch (error) {
    if (!(error instanceof ApiCallError)) {
      throw error;
    }
    if (error.statusCode >= 500) {
      throw new Divergence(`${JSON.stringify(operation)} was answered ${error.statusCode}: ${error.message}`);
    }
    return { refused: error.statusCode };
  }
};

const LONG_POLL_SECONDS = 20;

/** Nobody waits for work that is there: whoever does was not woken. */
const requireNoWork = async (server: QueueServer, round: Round): Promise<void> => {
  const { db, clock, ctx } = server;
  const queues = round.flatMap(operation => (operation.kind === 'claimWork' ? [operation.taskQueueId] : []));
  const rows = await db<{ taskId: string; taskQueueId: string }>`
    select task_id, task_queue_id from queue.pending where task_queue_id = any(${queues}) and deadline > ${clock.now()}`;
  const waiting = ctx.waiters.waitingIn(queues);
  const missed = rows.filter(row => waiting.includes(row.taskQueueId));
  if (missed.length > 0) {
    throw new Divergence(`a worker waits although there is work: ${JSON.stringify(missed)}\nround: ${JSON.stringify(round)}`);
  }
};

/** Sends a round at once. Who still waits for work when nothing moves any more is let wait to the end. */
const sendRound = async (server: QueueServer, round: Round): Promise<{ answers: Answer[]; nowMs: number }> => {
  const { clock, ctx } = server;
  const state = { left: round.length };
  const asked = round.map(operation =>
    ask(server, operation).finally(() => {
      state.left -= 1;
    }),
  );
  for (const each of asked) {
    each.catch(() => undefined);
  }
  let nowMs = clock.nowMs();
  while (state.left > 0) {
    await new Promise<void>(resolve => {
      setImmediate(resolve);
    });
    await ctx.hot.drain();
    if (state.left > 0 && ctx.waiters.size === state.left && ctx.waiters.asking === 0) {
      nowMs = clock.nowMs();
      await requireNoWork(server, round);
      await clock.tick({ seconds: LONG_POLL_SECONDS });
    }
  }
  return { answers: await Promise.all(asked), nowMs: round[0]?.kind === 'wait' ? clock.nowMs() : nowMs };
};

const statusesOf =
  (server: QueueServer) =>
  async (taskIds: readonly string[]): Promise<Map<string, unknown>> => {
    const { statuses } = await server.queue.statuses({ taskIds: [...taskIds] });
    return new Map(statuses.map(({ taskId, status }) => [taskId, status]));
  };

const unmetOf =
  ({ db }: QueueServer) =>
  async (tasks: readonly Task[]): Promise<Map<string, string[]>> => {
    const edges = tasks.flatMap(({ taskId, dependencies }) => dependencies.map(required => ({ dependent: taskId, required })));
    const rows =
      edges.length === 0
        ? []
        : await db<{ dependent: string; required: string }>`
            select d.dependent, d.required
            from unnest(${edges.map(each => each.required)}::text[], ${edges.map(each => each.dependent)}::text[]) as e(required, dependent)
            join queue.deps d on d.required = e.required and d.dependent = e.dependent
            where not d.satisfied order by d.required`;
    return new Map([...Map.groupBy(rows, row => row.dependent)].map(([id, unmet]) => [id, unmet.map(({ required }) => required)]));
  };

const playRound = async (server: QueueServer, world: World, round: Round): Promise<void> => {
  server.clock.advance({ ms: 1 });
  const { answers, nowMs } = await sendRound(server, round);
  const events = await server.drain();
  await explainRound(world, round, { answers, events, statuses: statusesOf(server), unmet: unmetOf(server) }, nowMs);
};

const requireNoBreaches = async (server: QueueServer): Promise<void> => {
  const breaches = await findBreaches(server);
  if (breaches.length > 0) {
    throw new Divergence(`the tables contradict each other: ${breaches.slice(0, 5).join('; ')}`);
  }
};

const BREACHES_EVERY = 500;

/** The same in every run, so that a sequence can be played again. */
const START_MS = Date.parse('2030-01-01T00:00:00.000Z');

/** Plays on a fresh queue with a database of its own; answers with what could not be explained. */
const findDivergence = async (
  play: (server: QueueServer, world: World) => Promise<void>,
  plant?: Plant,
): Promise<Divergence | undefined> => {
  const database = await testDatabase();
  const server = await withQueue({ db: database.db, relay: true, clock: makeFakeClock(START_MS) });
  try {
    await plant?.(server);
    await play(server, new World());
    return undefined;
  } catch (error) {
    if (error instanceof Divergence) {
      return error;
    }
    throw error;
  } finally {
    await server.close();
    await database.drop();
  }
};

/** Random rounds until that many operations were sent. Answers with the rounds, of which the last one is the one that failed. */
const explore = async (
  seed: number,
  operations: number,
  plant?: Plant,
): Promise<{ rounds: Round[]; divergence: Divergence | undefined }> => {
  const random = seededRandom(seed);
  const created: NewTaskOperation[] = [];
  const rounds: Round[] = [];
  const divergence = await findDivergence(async (server, world) => {
    for (let sent = 0; sent < operations;) {
      const round = chooseRound({ random, world, nowMs: server.clock.nowMs(), created });
      rounds.push(round);
      sent += round.length;
      await playRound(server, world, round);
      created.push(...round.filter(operation => operation.kind === 'create'));
      if (rounds.length % BREACHES_EVERY === 0) {
        await requireNoBreaches(server);
      }
    }
    await requireNoBreaches(server);
  }, plant);
  return { rounds, divergence };
};

/** The same rounds again. */
const replay = (rounds: readonly Round[], plant?: Plant): Promise<Divergence | undefined> =>
  findDivergence(async (server, world) => {
    for (const round of rounds) {
      await playRound(server, world, round);
    }
  }, plant);

const MAX_REPLAYS = 60;

/**
 * Leaves out what the failure does not need (delta debugging: halves, quarters, … of the rounds). What does not fail when it is played once more was
 * luck, and all of it stays.
 */
const shrink = async (
  rounds: readonly Round[],
  plant?: Plant,
): Promise<{ rounds: readonly Round[]; divergence: Divergence | undefined }> => {
  if (!(await replay(rounds, plant))) {
    return { rounds, divergence: undefined };
  }
  let kept = rounds;
  let divergence: Divergence | undefined;
  let replays = 0;
  for (let size = Math.ceil(kept.length / 2); size >= 1 && replays < MAX_REPLAYS; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let from = 0; from < kept.length && replays < MAX_REPLAYS;) {
      const fewer = kept.toSpliced(from, size);
      replays += 1;
      const failed = fewer.length > 0 ? await replay(fewer, plant) : undefined;
      if (failed) {
        kept = fewer;
        divergence = failed;
      } else {
        from += size;
      }
    }
  }
  return { rounds: kept, divergence };
};

export interface Failure {
  readonly seed: number;
  /** Rounds until it showed. */
  readonly found: number;
  readonly divergence: Divergence;
  /** The fewest rounds found that fail. */
  readonly rounds: readonly Round[];
}

/** Explores with a seed; undefined when everything could be explained. */
export const runModel = async (seed: number, operations: number, plant?: Plant): Promise<Failure | undefined> => {
  const { rounds, divergence } = await explore(seed, operations, plant);
  if (!divergence) {
    return undefined;
  }
  const shrunk = await shrink(rounds, plant);
  return { seed, found: rounds.length, divergence: shrunk.divergence ?? divergence, rounds: shrunk.rounds };
};

const MAX_SHOWN = 40;

/** A failure for people. */
export const describeFailure = ({ seed, divergence, rounds }: Failure): string =>
  [
    `MODEL_SEED=${seed} fails: ${divergence.message}`,
    '',
    rounds.length <= MAX_SHOWN ? 'The fewest rounds that fail:' : `The last ${MAX_SHOWN} of ${rounds.length} rounds:`,
    ...rounds.slice(-MAX_SHOWN).map(round => JSON.stringify(round)),
  ].join('\n');
