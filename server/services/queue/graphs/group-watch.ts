/**
 * What the tasks of a group are at present, while somebody follows it: read once, then kept up with the event log. The log says which tasks have changed;
 * what they are is read from their rows, which are never behind it. So nothing depends on the order or the number of events, and what is told is true
 * when it is told.
 *
 * Some changes have no event (`downstream.ts`), so that everything is read again now and then, and before a group is called resolved.
 */
import type { Db } from '../../../db/sql.ts';
import { textArray } from '../../../db/arrays.ts';
import type { Clock } from '../../../platform/clock.ts';
import type { Log } from '../../../platform/log.ts';
import { makeWaker } from '../../../platform/waker.ts';
import { TASK_STATES, type TaskState } from '@tscluster/api/queue/tasks.ts';
import { statusSql } from '../sql-text.ts';
import type { GroupLog } from './group-log.ts';

/** Rows read at once. */
const PAGE = 2_000;
const CHUNK = 500;
/** Changes within this time are told together. */
const REST_MS = 100;
const REREAD_MS = 30_000;
const RETRY_MS = 1_000;

export type GroupCounts = Readonly<Record<TaskState | 'held', number>>;

/** What followers are told. Each is told all of it, in order. */
export interface GroupFollower {
  /** Statuses by task, as JSON text: all that have changed since the last call. `position` is the place in the event log up to which this is everything. */
  told(statuses: ReadonlyMap<string, string>): void;
  /** Every task is resolved. */
  resolved(): void;
}

export interface GroupWatch {
  readonly counts: GroupCounts;
  /** The row of the event log up to which everything was told. */
  readonly position: number;
  readonly isResolved: boolean;
  /** Returns how to stop. */
  follow(follower: GroupFollower): () => void;
}

interface CompactRow {
  readonly taskId: string;
  readonly state: TaskState;
  readonly runId: number;
  readonly held: boolean;
}

const COMPACT = 't.task_id, t.state, t.run_id, t.held and t.deadline > $2::timestamptz as held';
const BY_GROUP = `select ${COMPACT} from queue.tasks t
where t.task_group_id = $1 and t.task_id collate platform.protocol_order > $3 order by t.task_group_id, t.task_id collate platform.protocol_order limit $4`;
const BY_ID = `select ${COMPACT}, ${statusSql('t')} as status from unnest($1::text[]) as x(task_id) join queue.tasks t on t.task_id = x.task_id`;

/** States of the tasks of a group, a page at a time. */
const readGroupPage = async (db: Db, taskGroupId: string, now: Date, after: string): Promise<CompactRow[]> =>
  (await db.run<CompactRow>({ text: BY_GROUP, values: [taskGroupId, now, after, PAGE] })).rows;

/** States and statuses of some tasks. */
export const readStates = async (db: Db, taskIds: readonly string[], now: Date): Promise<(CompactRow & { readonly status: string })[]> =>
  (await db.run<CompactRow & { status: string }>({ text: BY_ID, values: [textArray(taskIds), now] })).rows;

const noCounts = (): Record<TaskState | 'held', number> =>
  Object.fromEntries([...TASK_STATES, 'held'].map(state => [state, 0])) as Record<TaskState | 'held', number>;

const isOver = ({ unscheduled, pending, running, held }: GroupCounts): boolean => unscheduled + pending + running + held === 0;

const keyOf = ({ state, runId, held }: CompactRow): string => `${state} ${runId} ${held}`;

export interface GroupWatches {
  /** Joins the watch of a group, or starts it; `release` once it is not needed any more. */
  watch(taskGroupId: string): Promise<{ readonly watch: GroupWatch; release(): void }>;
  close(): Promise<void>;
}

export interface GroupWatchOptions {
  readonly db: Db;
  readonly clock: Clock;
  readonly log: Log;
  readonly groupLog: GroupLog;
}

export const makeGroupWatches = (options: GroupWatchOptions): GroupWatches => {
  const watches = new Map<string, { readonly started: Promise<Started>; users: number }>();
  const leave = (taskGroupId: string): void => {
    const entry = watches.get(taskGroupId);
    if (entry && --entry.users === 0) {
      watches.delete(taskGroupId);
      void entry.started.then(({ stop }) => stop()).catch(() => undefined);
    }
  };
  return {
    watch: async taskGroupId => {
      const entry = watches.get(taskGroupId) ?? { started: startWatch(options, taskGroupId), users: 0 };
      watches.set(taskGroupId, entry);
      entry.users++;
      try {
        const { watch } = await entry.started;
        return { watch, release: () => leave(taskGroupId) };
      } catch (error) {
        leave(taskGroupId);
        throw error;
      }
    },
    close: async () => {
      await Promise.all([...watches.values()].map(({ started }) => started.then(({ stop }) => stop()).catch(() => undefined)));
    },
  };
};

interface Started {
  readonly watch: GroupWatch;
  stop(): Promise<void>;
}

const startWatch = async ({ db, clock, log, groupLog }: GroupWatchOptions, taskGroupId: string): Promise<Started> => {
  const followers = new Set<GroupFollower>();
  const tasks = new Map<string, CompactRow>();
  const counts = noCounts();
  let changed = new Set<string>();
  let everythingMayHaveChanged = false;
  let position = 0;
  let isResolved = false;
  const stopping = new AbortController();
  const waker = makeWaker(clock, stopping.signal);

  const note = (row: CompactRow): boolean => {
    const before = tasks.get(row.taskId);
    if (before && keyOf(before) === keyOf(row)) {
      return false;
    }
    if (before) {
      counts[before.state]--;
      counts.held -= before.held ? 1 : 0;
    }
    counts[row.state]++;
    counts.held += row.held ? 1 : 0;
    tasks.set(row.taskId, row);
    return true;
  };

  /** Reads all tasks; answers with those that are not as they were known. */
  const readAll = async (): Promise<CompactRow[]> => {
    const different: CompactRow[] = [];
    const seen = new Set<string>();
    for (let after = ''; ;) {
      const rows = await readGroupPage(db, taskGroupId, clock.now(), after);
      for (const row of rows) {
        seen.add(row.taskId);
        const before = tasks.get(row.taskId);
        if (!before || keyOf(before) !== keyOf(row)) {
          different.push(row);
        }
      }
      const last = rows.at(-1);
      if (!last || rows.length < PAGE) {
        break;
      }
      after = last.taskId;
    }
    for (const [taskId, { state, held }] of tasks) {
      if (!seen.has(taskId)) {
        tasks.delete(taskId); // it has expired
        counts[state]--;
        counts.held -= held ? 1 : 0;
      }
    }
    return different;
  };

  /** Reads tasks and tells the followers of those that have changed. With the last of them everything up to `upTo` is told. */
  const update = async (taskIds: readonly string[], upTo: number): Promise<void> => {
    for (let from = 0; from < taskIds.length; from += CHUNK) {
      const statuses = new Map<string, string>();
      for (const { status, ...row } of await readStates(db, taskIds.slice(from, from + CHUNK), clock.now())) {
        if (note(row)) {
          statuses.set(row.taskId, status);
        }
      }
      if (from + CHUNK >= taskIds.length) {
        position = upTo;
      }
      if (statuses.size > 0) {
        followers.forEach(follower => follower.told(statuses));
      }
    }
  };

  /** Everything that is known to have changed by now. */
  const catchUp = async (): Promise<void> => {
    const upTo = groupLog.position;
    const ids = changed;
    changed = new Set();
    if (everythingMayHaveChanged) {
      everythingMayHaveChanged = false;
      (await readAll()).forEach(({ taskId }) => ids.add(taskId));
    }
    await update([...ids], upTo);
    position = upTo;
  };

  const work = async (): Promise<void> => {
    let readMs = clock.monotonicMs();
    while (!stopping.signal.aborted) {
      try {
        await catchUp();
        const nowMs = clock.monotonicMs();
        if (nowMs - readMs >= REREAD_MS || (isOver(counts) && !isResolved)) {
          readMs = nowMs;
          await update(
            (await readAll()).map(({ taskId }) => taskId),
            position,
          );
        }
        const wasResolved = isResolved;
        isResolved = isOver(counts) && changed.size === 0;
        if (isResolved && !wasResolved) {
          [...followers].forEach(follower => follower.resolved());
        }
        await clock.sleep(REST_MS, stopping.signal).catch(() => undefined);
        if (changed.size === 0 && !everythingMayHaveChanged) {
          await waker.wait(Math.max(0, REREAD_MS - (clock.monotonicMs() - readMs)));
        }
      } catch (error) {
        if (!stopping.signal.aborted) {
          log.warn({ err: error, taskGroupId }, 'a task group could not be followed');
          everythingMayHaveChanged = true;
          await clock.sleep(RETRY_MS, stopping.signal).catch(() => undefined);
        }
      }
    }
  };

  const stopListening = await groupLog.listen(taskGroupId, {
    changed: ids => {
      ids.forEach(id => changed.add(id));
      waker.wake();
    },
    lost: () => {
      everythingMayHaveChanged = true;
      waker.wake();
    },
  });
  position = groupLog.position;
  try {
    (await readAll()).forEach(note);
  } catch (error) {
    stopListening();
    throw error;
  }
  isResolved = isOver(counts);
  const finished = work();

  return {
    watch: {
      counts,
      get position() {
        return position;
      },
      get isResolved() {
        return isResolved;
      },
      follow: follower => {
        followers.add(follower);
        return () => followers.delete(follower);
      },
    },
    stop: async () => {
      stopListening();
      stopping.abort(new Error('Nobody follows the group any more'));
      waker.wake();
      await finished;
    },
  };
};
