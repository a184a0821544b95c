/**
 * Indexing by routes: what the queue says of runs that ended becomes history, and for completed ones entries. Events may come again, late and in any
 * order; what is there in the end depends only on which events there were.
 *
 * Messages do not carry `extra.index`, so the definitions are asked for, many with one call. A queue that does not answer holds nothing up and loses
 * nothing: the runs are noted and a loop tries again.
 */
import type { queueApi } from '@tscluster/api/queue/api.ts';
import { queueEvents } from '@tscluster/api/queue/events.ts';
import type { TaskStatus } from '@tscluster/api/queue/tasks.ts';
import { exchangeName } from '@tscluster/api/define.ts';
import type { Client } from '@tscluster/client/client.ts';
import type { Db, Tx } from '../../db/sql.ts';
import type { Subscription } from '../../platform/bus/bus.ts';
import type { Clock } from '../../platform/clock.ts';
import type { BusEvent } from '../../platform/events.ts';
import type { Log } from '../../platform/log.ts';
import { loop } from '../../platform/loop.ts';
import { parseDateTime } from '../../platform/validate.ts';
import { insertStatement, type NewEntry } from './entries.db.ts';
import { addHistory, type RunRow } from './history.db.ts';
import { type IndexedDefinition, readOptions } from './options.ts';
import { pathsOfRoutes, placeOf } from './paths.ts';
import { type CompletedRun, postpone, takeWaiting } from './waiting.db.ts';

export interface IndexingCtx {
  readonly db: Db;
  readonly clock: Clock;
  readonly log: Log;
  readonly queue: Pick<Client<typeof queueApi>, 'tasks'>;
}

interface EndedRun {
  readonly paths: readonly string[];
  readonly run: RunRow;
}

const toTime = (text: string): Date => new Date(parseDateTime(text));

/** The run that an event tells the end of, and where its task wants to be found; undefined when that is nowhere. */
const readEvent = ({ cc, payload }: BusEvent): EndedRun | undefined => {
  const paths = pathsOfRoutes(cc);
  const { status, runId } = payload as { status: TaskStatus; runId?: number };
  const run = runId === undefined ? undefined : status.runs[runId];
  if (paths.length === 0 || !run || run.resolved === undefined) {
    return undefined;
  }
  const { taskId, taskGroupId, expires } = status;
  return {
    paths,
    run: {
      taskId,
      runId: run.runId,
      taskGroupId,
      state: run.state as RunRow['state'],
      reason: run.reasonResolved ?? run.state,
      scheduled: toTime(run.scheduled),
      started: run.started === undefined ? null : toTime(run.started),
      resolved: toTime(run.resolved),
      workerGroup: run.workerGroup ?? null,
      workerId: run.workerId ?? null,
      expires: toTime(expires),
    },
  };
};

const rankOrder = (a: NewEntry, b: NewEntry): number =>
  a.rank - b.rank || a.insertedMs - b.insertedMs || (a.taskId < b.taskId ? -1 : a.taskId > b.taskId ? 1 : 0);

/** What the queue says of the tasks; those that have expired are missing. */
const fetchDefinitions = async ({ queue }: IndexingCtx, runs: readonly CompletedRun[]): Promise<ReadonlyMap<string, IndexedDefinition>> => {
  const { tasks } = await queue.tasks({ taskIds: [...new Set(runs.map(run => run.taskId))] });
  return new Map(tasks.map(({ taskId, task }) => [taskId, task]));
};

/** Puts completed runs where they are to be found. */
const indexRuns = async (
  { clock, log }: IndexingCtx,
  tx: Tx,
  runs: readonly CompletedRun[],
  definitions: ReadonlyMap<string, IndexedDefinition>,
): Promise<void> => {
  const entries = new Map<string, NewEntry>();
  for (const { taskId, runId, resolved, paths } of runs) {
    const definition = definitions.get(taskId);
    const options = definition && readOptions(definition);
    if (!options) {
      log.info({ taskId, runId }, definition ? 'task not indexed: its extra.index is not valid' : 'task not indexed: it has expired');
      continue;
    }
    for (const path of paths) {
      const entry = { ...placeOf(path), ...options, taskId, insertedMs: resolved.getTime() };
      const other = entries.get(path);
      entries.set(path, other && rankOrder(other, entry) > 0 ? other : entry);
    }
  }
  if (entries.size > 0) {
    await tx.run(insertStatement([...entries.values()], 'event', clock.nowMs()));
  }
};

const handleEvents = async (ctx: IndexingCtx, events: readonly BusEvent[], tx: Tx): Promise<void> => {
  const ended = events.flatMap(event => readEvent(event) ?? []);
  await addHistory(
    tx,
    ended.flatMap(({ paths, run }) => paths.map(path => ({ path, run }))),
  );
  const completed = ended.flatMap(({ paths, run }) => (run.state === 'completed' ? [{ ...run, paths }] : []));
  if (completed.length === 0) {
    return;
  }
  const definitions = await fetchDefinitions(ctx, completed).catch((error: unknown) => {
    ctx.log.warn({ err: error, tasks: completed.length }, 'tasks are not indexed yet, because the queue does not say what they are');
    return undefined;
  });
  await (definitions ? indexRuns(ctx, tx, completed, definitions) : postpone(tx, completed));
};

const { exchanges } = queueEvents;

/** Runs that ended, of tasks that want to be indexed. */
export const endedRuns = (ctx: IndexingCtx): Subscription => ({
  name: 'index/ended-runs',
  bindings: [exchanges.taskCompleted, exchanges.taskFailed, exchanges.taskException].map(({ exchange }) => ({
    exchange: exchangeName(queueEvents, exchange),
    pattern: 'route.index.#',
  })),
  handle: (event, tx) => handleEvents(ctx, [event], tx),
  handleMany: (events, tx) => handleEvents(ctx, events, tx),
});

/** Indexes what was noted while the queue did not answer. */
export const retryLoop = loop<IndexingCtx>({
  name: 'index/retry',
  everyMs: 30_000,
  batch: 100,
  run: (ctx, limit) =>
    ctx.db.tx(async tx => {
      const runs = await takeWaiting(tx, limit);
      if (runs.length > 0) {
        await indexRuns(ctx, tx, runs, await fetchDefinitions(ctx, runs));
      }
      return runs.length;
    }),
});
