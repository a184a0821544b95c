/**
 * Records when workers ask for work in each task queue, a minute after another: a map entry per poll, one statement per minute for all task queues of
 * this process. What was not written when the process dies is lost; nothing depends on it.
 */
import type { Timer } from '../../../platform/clock.ts';
import type { Platform } from '../../../platform/service.ts';
import { notePolls } from './history.db.ts';

const WRITE_EVERY_MS = 60_000;

export interface PollRecorder {
  /** A worker that may get tasks asked for some. */
  polled(taskQueueId: string): void;
  /** Writes what was told so far; whoever reads polls calls it first. */
  flush(): Promise<void>;
  close(): Promise<void>;
}

export const makePollRecorder = ({ db, clock, log }: Pick<Platform, 'db' | 'clock' | 'log'>): PollRecorder => {
  let told = new Map<string, { firstMs: number; lastMs: number }>();
  let timer: Timer | undefined;
  let writing: Promise<void> = Promise.resolve();

  const write = async (): Promise<void> => {
    if (told.size === 0) {
      return;
    }
    const stretches = [...told].map(([taskQueueId, stretch]) => ({ taskQueueId, ...stretch }));
    told = new Map();
    try {
      await notePolls(db, stretches);
    } catch (error) {
      log.warn({ err: error, taskQueues: stretches.length }, 'when workers asked for work could not be written');
    }
  };

  const flush = (): Promise<void> => {
    timer?.cancel();
    timer = undefined;
    writing = writing.then(write);
    return writing;
  };

  return {
    polled: taskQueueId => {
      const nowMs = clock.nowMs();
      const stretch = told.get(taskQueueId);
      if (stretch) {
        stretch.lastMs = nowMs;
        return;
      }
      told.set(taskQueueId, { firstMs: nowMs, lastMs: nowMs });
      timer ??= clock.setTimer(WRITE_EVERY_MS, () => void flush(), { unref: true });
    },
    flush,
    close: flush,
  };
};
