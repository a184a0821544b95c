/**
 * Records what workers and task queues show of themselves, behind the hot path: telling costs a map entry, one transaction for all of them follows a
 * second later. A worker that only asks is written once in half an hour; the runs it claims are written each time, so many as it gets in that second
 * in one row. What was told but not written when the process dies is lost: it is information for people, nothing depends on it.
 *
 * Quarantined workers are few and asked for at every claim: all of them are kept in memory, changed at once by a change in this process, and read again
 * when another process says so, or every half minute if that word was lost.
 */
import type { Timer } from '../../platform/clock.ts';
import type { Platform } from '../../platform/service.ts';
import type { SeenRecorder } from './seen.ts';
import { upsertTaskQueues } from './task-queues.db.ts';
import { listQuarantined, type SeenWorker, upsertSeenWorkers, type WorkerKey } from './workers.db.ts';

const DAY_MS = 24 * 3_600_000;
/** How often a worker or a task queue is renewed that is seen all the time. */
const RENEW_MS = 30 * 60_000;
/** Under load one transaction a second serves everybody; whoever reads workers lets it be written first. */
const WRITE_DELAY_MS = 1_000;
const RECENT_TASKS = 20;
/** Keys whose last renewal is remembered; beyond that the ones renewed first are forgotten, which costs a write too many. */
const MAX_REMEMBERED = 50_000;
const QUARANTINE_REFRESH_MS = 30_000;
const QUARANTINE_CHANGED = 'queue/quarantine';

export interface WorkerRecorder extends SeenRecorder {
  /** Reads who is quarantined. Before the first call nobody is. */
  start(): Promise<void>;
  /** Writes what was told so far; whoever reads workers calls it first. */
  flush(): Promise<void>;
  /** A worker's quarantine was changed, and the change is committed. */
  quarantineChanged(worker: WorkerKey, until: Date): void;
  close(): Promise<void>;
}

/** Remembers when keys were renewed last: `due` once in half an hour for each. Of at most so many keys, so that it never grows without end. */
export const makeThrottle = (maxRemembered = MAX_REMEMBERED): { due(key: string, nowMs: number): boolean; forget(key: string): void } => {
  const renewed = new Map<string, number>();
  return {
    due: (key, nowMs) => {
      const last = renewed.get(key);
      if (last !== undefined && nowMs - last < RENEW_MS) {
        return false;
      }
      renewed.delete(key); // the newest stands last
      renewed.set(key, nowMs);
      if (renewed.size > maxRemembered) {
        renewed.delete(renewed.keys().next().value as string);
      }
      return true;
    },
    forget: key => void renewed.delete(key),
  };
};

const keyOf = ({ taskQueueId, workerGroup, workerId }: WorkerKey): string => `${taskQueueId} ${workerGroup} ${workerId}`;

export const makeWorkerRecorder = ({
  db,
  clock,
  log,
  notify,
  onNotify,
}: Pick<Platform, 'db' | 'clock' | 'log' | 'notify' | 'onNotify'>): WorkerRecorder => {
  let workers = new Map<string, SeenWorker & { runs: string[] }>();
  let queues = new Map<string, number>();
  const workerThrottle = makeThrottle();
  const queueThrottle = makeThrottle();
  let timer: Timer | undefined;
  let writing: Promise<void> = Promise.resolve();

  let quarantined = new Map<string, number>();
  let refreshTimer: Timer | undefined;
  let stopListening: (() => void) | undefined;
  let closed = false;

  const write = async (): Promise<void> => {
    if (workers.size === 0 && queues.size === 0) {
      return;
    }
    const [seen, used] = [workers, queues];
    [workers, queues] = [new Map(), new Map()];
    const now = clock.now();
    try {
      await db.tx(async tx => {
        if (used.size > 0) {
          await upsertTaskQueues(
            tx,
            [...used].map(([taskQueueId, expiresMs]) => ({ taskQueueId, expiresMs })),
            now,
          );
        }
        if (seen.size > 0) {
          await upsertSeenWorkers(tx, [...seen.values()], now, new Date(now.getTime() + DAY_MS));
        }
      });
    } catch (error) {
      log.warn({ err: error, workers: seen.size, taskQueues: used.size }, 'what was seen of workers could not be written');
      for (const key of seen.keys()) {
        workerThrottle.forget(key);
      }
      for (const key of used.keys()) {
        queueThrottle.forget(key);
      }
    }
  };

  const flush = (): Promise<void> => {
    timer?.cancel();
    timer = undefined;
    writing = writing.then(write);
    return writing;
  };

  const writeSoon = (): void => {
    timer ??= clock.setTimer(WRITE_DELAY_MS, () => void flush(), { unref: true });
  };

  const useQueue = (taskQueueId: string, expiresMs: number): void => {
    queues.set(taskQueueId, Math.max(queues.get(taskQueueId) ?? 0, expiresMs));
    writeSoon();
  };

  const readQuarantined = async (): Promise<void> => {
    const rows = await listQuarantined(db, clock.now());
    quarantined = new Map(rows.map(row => [keyOf(row), row.quarantineUntil.getTime()]));
  };

  const refresh = (): void => {
    readQuarantined().catch((error: unknown) => log.warn({ err: error }, 'quarantined workers could not be read'));
  };

  const refreshLater = (): void => {
    if (!closed) {
      refreshTimer = clock.setTimer(
        QUARANTINE_REFRESH_MS,
        () => {
          refresh();
          refreshLater();
        },
        { unref: true },
      );
    }
  };

  return {
    worker: (taskQueueId, workerGroup, workerId, claimed) => {
      const nowMs = clock.nowMs();
      if (queueThrottle.due(taskQueueId, nowMs)) {
        useQueue(taskQueueId, nowMs + DAY_MS);
      }
      const key = keyOf({ taskQueueId, workerGroup, workerId });
      const isDue = workerThrottle.due(key, nowMs);
      if (!isDue && claimed.length === 0) {
        return;
      }
      let entry = workers.get(key);
      if (!entry) {
        entry = { taskQueueId, workerGroup, workerId, runs: [] };
        workers.set(key, entry);
      }
      for (const { taskId, runId } of claimed) {
        entry.runs.push(`${taskId}/${runId}`);
      }
      if (entry.runs.length > RECENT_TASKS) {
        entry.runs.splice(0, entry.runs.length - RECENT_TASKS);
      }
      writeSoon();
    },
    taskQueue: (taskQueueId, expiresMs) => {
      if (queueThrottle.due(`${taskQueueId} directly`, clock.nowMs())) {
        useQueue(taskQueueId, expiresMs);
      }
    },
    isQuarantined: (taskQueueId, workerGroup, workerId) => {
      if (quarantined.size === 0) {
        return false;
      }
      const until = quarantined.get(keyOf({ taskQueueId, workerGroup, workerId }));
      return until !== undefined && until > clock.nowMs();
    },
    start: async () => {
      stopListening = onNotify(QUARANTINE_CHANGED, refresh);
      await readQuarantined();
      refreshLater();
    },
    flush,
    quarantineChanged: (worker, until) => {
      quarantined.set(keyOf(worker), until.getTime());
      notify(QUARANTINE_CHANGED);
    },
    close: async () => {
      closed = true;
      refreshTimer?.cancel();
      stopListening?.();
      await flush();
    },
  };
};
