/**
 * Follows the event log for this process: one reader, while somebody wants it. Woken by the relay, by way of the platform's notifications, with a slow
 * look as a safety net.
 */
import type { Db } from '../db/sql.ts';
import type { Clock } from './clock.ts';
import { type LogRow, newestSeq, readEventLog } from './event-log.ts';
import type { Log } from './log.ts';
import { makeWaker } from './waker.ts';

const LOOK_MS = 5_000;
const RETRY_MS = 500;

export interface LogFollowerOptions {
  readonly db: Db;
  readonly clock: Clock;
  readonly log: Log;
  /** Calls back when the event log has grown. Returns how to stop. */
  readonly onGrown: (callback: () => void) => () => void;
}

/** What is done with what was read. */
export interface LogReaction {
  /** Rows read at once: then others get a turn. */
  readonly batch: number;
  /** The rows after `from`, in order; `position` is at the last of them already. */
  rows(rows: readonly LogRow[], from: number): void;
  /** Rows were removed before they were read; called before what follows them. */
  lost(): void;
}

export interface LogFollower {
  /** Starts the reader, or joins those it reads for; call `leave` once for it. Afterwards `position` is known. Throws when the log cannot be read. */
  join(): Promise<void>;
  leave(): void;
  /** The row up to which everything was handed on. */
  readonly position: number;
  close(): Promise<void>;
}

interface Reader {
  readonly started: Promise<void>;
  stop(): Promise<void>;
}

export const makeLogFollower = ({ db, clock, log, onGrown }: LogFollowerOptions, reaction: LogReaction): LogFollower => {
  let position = 0;
  let users = 0;
  let reader: Reader | undefined;
  let stopped: Promise<void> = Promise.resolve();

  const handOn = (rows: readonly LogRow[]): void => {
    const from = position;
    const [first] = rows;
    position = rows.at(-1)?.seq ?? from;
    if (first && first.seq !== from + 1) {
      log.error({ position: from, first: first.seq }, 'the event log was trimmed before it was read');
      reaction.lost();
    }
    reaction.rows(rows, from);
  };

  const startReader = (): Reader => {
    const stopping = new AbortController();
    const isStopped = (): boolean => stopping.signal.aborted;
    const waker = makeWaker(clock, stopping.signal);
    const stopListening = onGrown(waker.wake);
    const begin = async (): Promise<void> => {
      position = await newestSeq(db);
    };
    const started = begin();
    const read = async (): Promise<void> => {
      await started;
      while (!isStopped()) {
        try {
          const rows = await readEventLog(db, position, reaction.batch);
          if (isStopped()) {
            return;
          }
          if (rows.length === 0) {
            await waker.wait(LOOK_MS);
          } else {
            handOn(rows);
          }
        } catch (error) {
          log.warn({ err: error }, 'the event log could not be read');
          await clock.sleep(RETRY_MS, stopping.signal).catch(() => undefined);
        }
      }
    };
    const finished = read().catch(() => undefined); // that it could not start is told by `started`
    return {
      started,
      stop: async () => {
        stopListening();
        stopping.abort(new Error('Nobody listens any more'));
        await finished;
      },
    };
  };

  const stopReader = (): void => {
    if (reader) {
      stopped = reader.stop();
      reader = undefined;
    }
  };

  const leave = (): void => {
    users -= 1;
    if (users === 0) {
      stopReader();
    }
  };

  return {
    join: async () => {
      users += 1;
      await stopped;
      reader ??= startReader();
      const joined = reader;
      try {
        await joined.started;
      } catch (error) {
        if (reader === joined) {
          stopReader(); // the next one starts another
        }
        leave();
        throw error;
      }
    },
    leave,
    get position() {
      return position;
    },
    close: async () => {
      await reader?.stop();
      await stopped;
    },
  };
};
