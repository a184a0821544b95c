/**
 * Which tasks of some groups have changed, from the event log: one reader per process, while somebody wants to know (`log-follower.ts`). It says that
 * something has happened to a task, not what: that is read from the task.
 */
import type { Db } from '../../../db/sql.ts';
import { type LogRow, readEventLog } from '../../../platform/event-log.ts';
import { type LogFollowerOptions, makeLogFollower } from '../../../platform/log-follower.ts';

const BATCH = 200;

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

export const makeGroupLog = (options: LogFollowerOptions): GroupLog => {
  const listeners = new Map<string, Set<GroupListener>>();

  const tell = (rows: readonly LogRow[]): void => {
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
    for (const [taskGroupId, taskIds] of changed) {
      listeners.get(taskGroupId)?.forEach(listener => listener.changed(taskIds));
    }
  };

  const follower = makeLogFollower(options, {
    batch: BATCH,
    rows: tell,
    lost: () => listeners.forEach(each => each.forEach(listener => listener.lost())),
  });

  return {
    listen: async (taskGroupId, listener) => {
      await follower.join();
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
          follower.leave();
        }
      };
    },
    get position() {
      return follower.position;
    },
    close: follower.close,
  };
};
