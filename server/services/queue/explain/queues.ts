/** What is known of a task queue and its workers at a moment, as far as the caller may see it. */
import type { TaskExplanation } from '@tscluster/api/queue/explain.ts';
import type { Ctx } from '../ctx.ts';
import { splitTaskQueueId } from '../rules.ts';
import { MAX_COUNT, countHeld, countWorkers, listSomeWorkers } from './explain.db.ts';
import { POLL_GAP_MS, countQuarantinedAt, getPolls } from './history.db.ts';
import type { Sight } from './sight.ts';
import { counted, duration, plural, sentence } from './words.ts';

export type QueueView = TaskExplanation['taskQueues'][number];

/** Workers are written down at most this often while they are seen all the time, with some leeway. */
const ACTIVE_MS = 35 * 60_000;
const SHOWN_WORKERS = 10;

/** Reads what is known of a task queue. The recorders of this process have written what they were told. */
export const readQueue = async (
  { platform: { db }, config: { historyMs } }: Ctx,
  sight: Sight,
  taskQueueId: string,
  { atMs, isPast }: { readonly atMs: number; readonly isPast: boolean },
): Promise<QueueView> => {
  const at = new Date(atMs);
  const ids = { ...splitTaskQueueId(taskQueueId), taskQueueId };
  const mayPolls = sight.shows(`whether workers ask for work in ${taskQueueId}`, [
    ['getTaskQueue', ids],
    ['listTaskQueues', ids],
    ['listWorkers', ids],
    ['getWorkerType', ids],
  ]);
  const mayWorkers = sight.shows(`the workers of ${taskQueueId}`, [['listWorkers', ids]]);
  const mayClaims =
    !isPast &&
    sight.shows(`how many runs workers of ${taskQueueId} hold`, [
      ['taskQueueCounts', ids],
      ['listClaimedTasks', ids],
    ]);
  const [stretch, held, counts, some, quarantinedThen] = await Promise.all([
    mayPolls ? getPolls(db, taskQueueId, at) : undefined,
    mayClaims ? countHeld(db, taskQueueId, at) : undefined,
    mayWorkers && !isPast ? countWorkers(db, taskQueueId, at, new Date(atMs - ACTIVE_MS)) : undefined,
    mayWorkers && !isPast ? listSomeWorkers(db, taskQueueId, at, SHOWN_WORKERS) : [],
    mayWorkers && isPast ? countQuarantinedAt(db, taskQueueId, at, MAX_COUNT) : undefined,
  ]);
  const lastMs = stretch && Math.min(stretch.ended.getTime(), atMs);
  const lastPolled = lastMs !== undefined && lastMs >= atMs - historyMs ? lastMs : undefined;
  const view: Omit<QueueView, 'message'> = {
    taskQueueId,
    ...(mayPolls
      ? {
          polls: {
            isPolled: lastPolled !== undefined && lastPolled >= atMs - POLL_GAP_MS,
            ...(lastPolled === undefined ? {} : { lastPolled: new Date(lastPolled).toISOString() }),
          },
        }
      : {}),
    ...(held ? { claims: { runs: Math.min(held.runs, MAX_COUNT), workers: held.workers, isMore: held.runs > MAX_COUNT } } : {}),
    ...(counts
      ? {
          workers: {
            ...counts,
            known: Math.min(counts.known, MAX_COUNT),
            isMore: counts.known > MAX_COUNT,
            some: some.map(row => ({
              workerGroup: row.workerGroup,
              workerId: row.workerId,
              lastDateActive: row.lastDateActive.toISOString(),
              ...(row.quarantineUntil > at ? { quarantineUntil: row.quarantineUntil.toISOString() } : {}),
            })),
          },
        }
      : {}),
    ...(quarantinedThen === undefined ? {} : { quarantined: quarantinedThen }),
  };
  return { ...view, message: sentence(`in ${taskQueueId} ${queuePhrase(view, atMs, historyMs)}`) };
};

/** `no worker has asked for work for 3 hours`. */
export const pollPhrase = ({ polls }: Omit<QueueView, 'message'>, atMs: number, historyMs: number): string | undefined => {
  if (!polls || polls.isPolled) {
    return polls && 'workers ask for work';
  }
  return polls.lastPolled === undefined
    ? `no worker is known to have asked for work in ${duration(historyMs)}`
    : `no worker has asked for work for ${duration(atMs - Date.parse(polls.lastPolled))}`;
};

/** `no worker has asked for work for 3 hours; 2 workers hold 5 runs`. */
const queuePhrase = (queue: Omit<QueueView, 'message'>, atMs: number, historyMs: number): string => {
  const { claims, workers } = queue;
  const parts: string[] = [];
  const asked = pollPhrase(queue, atMs, historyMs);
  if (asked !== undefined) {
    parts.push(asked);
  }
  if (claims) {
    parts.push(
      claims.runs === 0
        ? 'no worker holds a run'
        : `${plural(claims.workers, 'worker holds', 'workers hold')} ${counted(claims.runs, claims.isMore)} ${claims.runs === 1 ? 'run' : 'runs'}`,
    );
  }
  if (workers) {
    parts.push(
      workers.known === 0
        ? 'no worker was seen within a day'
        : `${counted(workers.known, workers.isMore)} ${workers.known === 1 ? 'worker is' : 'workers are'} known${workers.quarantined > 0 ? `, ${counted(workers.quarantined, false)} of them quarantined` : ''}`,
    );
  }
  if (queue.quarantined) {
    parts.push(`${plural(queue.quarantined, 'worker was', 'workers were')} quarantined`);
  }
  return parts.length === 0 ? 'nothing is shown of its workers' : parts.join('; ');
};

/** Why nobody takes work from a task queue, as far as is seen. */
export const whyNobodyAsks = ({
  polls,
  claims,
  workers,
}: QueueView): 'no-worker-asks' | 'workers-quarantined' | 'workers-busy' | undefined => {
  // they may have asked just before they were quarantined
  if (workers && workers.quarantined > 0 && workers.quarantined === workers.known) {
    return 'workers-quarantined';
  }
  if (!polls || polls.isPolled) {
    return undefined;
  }
  return claims && claims.runs > 0 ? 'workers-busy' : 'no-worker-asks';
};
