/**
 * Which tasks of some groups have changed, from the event log: one reader per process, while somebody wants to know. Woken by the relay, by way of the
 * platform's notifications, with a slow look as a safety net. It says that something has happened to a task, not what: that is read from the task.
 */
import type { Db } from '../../../db/sql.ts';
import type { Clock } from '../../../platform/clock.ts';
import { type LogRow, newestSeq, readEventLog } from '../../../platform/event-log.ts';
import type { Log } from '../../../platform/log.ts';
import { makeWaker } from '../../../platform/waker.ts';

const BATCH = 200;
const LOOK_MS = 5_000;
const RETRY_MS = 500;

/** The task and the group in the routing key of an event about a task. */
const TASK_EVENT = /"routingKey":"primary\.([\w-]{22})\.[^"]*\.([\w-]{22})\._"/g;

/** Calls back for each event about a task. */
const eachTask = ({ msg }: LogRow, callback: (taskGroupId: string, taskId: string) => void): void => {
  for (const [, taskId, taskGroupId] of msg.matchAll(TASK_EVENT)) {
    callback(taskGroupId as string, taskId as string);
  }
};

/**
 * The tasks of a group about which there were events after a row, up to another. Undefined when some of these rows are gone, or there are more than
 * `maxRows`.
 */
export const findChanged = async (
  db: Db,
  taskGroupId: string,
  { after, upTo, maxRows }: { readonly after: number; readonly upTo: number; readonly maxRows: number },
): Promise<Set<string> | undefined> => {
  const changed = new Set<string>();
  if (after > upTo || upTo - after > maxRows) {
    return undefined;
  }
  for (let seq = after; seq < upTo;) {
    const rows = await readEventLog(db, seq, BATCH);
    if (rows[0]?.seq !== seq + 1) {
      return undefined;
    }
    for (const row of rows) {
      eachTask(row, (group, taskId) => group === taskGroupId && changed.add(taskId));
    }
    seq = (rows.at(-1) as LogRow).seq;
  }
  return changed;
};

export interface GroupListener {
  /** Something happened to these tasks of the group. */
  changed(taskIds: ReadonlySet<string>): void;
  /** Anything may have happened to any of them: a part of the log was gone before it was read. */
  lost(): void;
}

export interface GroupLog {
  /** Calls `listener` about the tasks of a group; everything after `position` is told. Answers with how to stop. */
  listen(taskGroupId: string, listener: GroupListener): Promise<() => void>;
  /** The row of the log up to which everybody was told; in the same turn as the last call. */
  readonly position: number;
  close(): Promise<void>;
}

export interface GroupLogOptions {
  readonly db: Db;
  readonly clock: Clock;
  readonly log: Log;
  /** Calls back when the event log has grown. Returns how to stop. */
  readonly onGrown: (callback: () => void) => () => void;
}

export const makeGroupLog = ({ db, clock, log, onGrown }: GroupLogOptions): GroupLog => {
  const listeners = new Map<string, Set<GroupListener>>();
  let position = 0;
  let users = 0;
  let reader: { readonly started: Promise<void>; stop(): Promise<void> } | undefined;
  let stopped: Promise<void> = Promise.resolve();

  const tell = (rows: readonly LogRow[]): void => {
    if (rows[0] && rows[0].seq !== position + 1) {
      listeners.forEach(each => each.forEach(listener => listener.lost()));
    }
    const changed = new Map<string, Set<string>>();
    for (const row of rows) {
      eachTask(row, (taskGroupId, taskId) => {
        if (listeners.has(taskGroupId)) {
          const known = changed.get(taskGroupId);
          if (known) {
            known.add(taskId);
          } else {
            changed.set(taskGroupId, new Set([taskId]));
          }
        }
      });
    }
    position = rows.at(-1)?.seq ?? position;
    for (const [taskGroupId, taskIds] of changed) {
      listeners.get(taskGroupId)?.forEach(listener => listener.changed(taskIds));
    }
  };

  const start = (): NonNullable<typeof reader> => {
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
          const rows = await readEventLog(db, position, BATCH);
          if (isStopped()) {
            return;
          }
          tell(rows);
          if (rows.length === 0) {
            await waker.wait(LOOK_MS);
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

  const leave = (): void => {
    users--;
    if (users === 0 && reader) {
      stopped = reader.stop();
      reader = undefined;
    }
  };

  return {
    listen: async (taskGroupId, listener) => {
      users++;
      try {
        await stopped;
        reader ??= start();
        await reader.started;
      } catch (error) {
        void reader?.stop(); // the next one starts another
        reader = undefined;
        leave();
        throw error;
      }
      const same = listeners.get(taskGroupId) ?? new Set();
      listeners.set(taskGroupId, same.add(listener));
      let isListening = true;
      return () => {
        if (isListening) {
          isListening = false;
          same.delete(listener);
          if (same.size === 0) {
            listeners.delete(taskGroupId);
          }
          leave();
        }
      };
    },
    get position() {
      return position;
    },
    close: async () => {
      await reader?.stop();
      await stopped;
    },
  };
};
