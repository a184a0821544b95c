/**
 * One follower's stream of a group, as server-sent events (WHATWG HTML): how its tasks are, then what changes, then that all is over.
 *
 * The body is made as it is taken: while the connection takes nothing, what changes is remembered by task, the latest only, so that a slow reader costs no
 * more than the group is large. Who takes nothing at all for some time is cut off. Every id is a place in the event log: whoever comes back with it is
 * told what has changed since, and perhaps more.
 */
import { Readable } from 'node:stream';
import { GROUP_STREAM_ID } from '@tscluster/api/scheduler/api.ts';
import type { Clock } from '../../../platform/clock.ts';
import { newestSeq } from '../../../platform/event-log.ts';
import { apiError } from '../../../platform/errors.ts';
import type { Log } from '../../../platform/log.ts';
import { SHUTTING_DOWN } from '../../../platform/service.ts';
import { type Waker, makeWaker } from '../../../platform/waker.ts';
import type { Db } from '../../../db/sql.ts';
import { type GroupRow, groupView, listGroupTaskIds } from '../groups.db.ts';
import { findChanged } from './group-log.ts';
import { type GroupWatch, type GroupWatches, readStates } from './group-watch.ts';

export const SSE_HEADERS: Readonly<Record<string, string>> = {
  'content-type': 'text/event-stream; charset=utf-8',
  'x-accel-buffering': 'no', // proxies are not to collect it
};

const HEARTBEAT_MS = 15_000;
/** Who takes nothing for so long is cut off. */
const MAX_STALL_MS = 60_000;
/** Credentials are looked at when a connection is made: so none lasts for long. */
const MAX_LIFE_MS = 10 * 60_000;
const MIN_LIFE_MS = 60_000;
/** Statuses per event. */
const CHUNK = 200;
/** Rows of the event log that are looked at for who comes back; after more, all tasks are told. */
const MAX_MISSED = 20_000;
const HIGH_WATER_BYTES = 64 * 1024;

/** The end of a stream whose group was resolved: who comes back with it is told that there is nothing more. */
const END = 'end';

export interface FollowOptions {
  readonly db: Db;
  readonly clock: Clock;
  readonly log: Log;
  readonly watches: GroupWatches;
  readonly group: GroupRow;
  /** `Last-Event-ID`, if there is one. */
  readonly lastId: string | undefined;
  /** Whether the statuses of all tasks are wanted first. */
  readonly isWhole: boolean;
  /** Browsers wait so long before they connect again. */
  readonly retryMs: number;
  /** When the credentials end. */
  readonly expires: Date | undefined;
  /** Aborted when the connection closes or the process shuts down. */
  readonly signal: AbortSignal;
}

/** Where a follower was. */
const readId = (text: string | undefined): { readonly seq: number; readonly isEnd: boolean } | undefined => {
  if (text === undefined) {
    return undefined;
  }
  const match = GROUP_STREAM_ID.exec(text);
  return match
    ? { seq: Number(match[1]), isEnd: match[2] !== undefined }
    : apiError(
        'InvalidRequestArguments',
        `Last-Event-ID: '${text}' is not an id of this stream: it does not match ${String(GROUP_STREAM_ID)}`,
      );
};

/** What a follower is told first: these tasks, or all. */
type First = ReadonlySet<string> | 'all';

/** What is to be told to one follower: the latest status by task. From when it is made, nothing is missed. */
const makeInbox = (watch: GroupWatch, wake: () => void) => {
  const pending = new Map<string, string>();
  const inbox = { pending, from: watch.position, isOver: watch.isResolved, stop: (): void => undefined };
  inbox.stop = watch.follow({
    told: statuses => {
      statuses.forEach((status, taskId) => pending.set(taskId, status));
      inbox.isOver = false;
      wake();
    },
    resolved: () => {
      inbox.isOver = true;
      wake();
    },
  });
  return inbox;
};

/** The body of the answer; undefined when a follower comes back after the end, and nothing has changed since. */
export const followGroup = async (options: FollowOptions): Promise<Readable | undefined> => {
  const { db, clock, watches, group, isWhole } = options;
  const last = readId(options.lastId);
  const { watch, release } = await watches.watch(group.taskGroupId);
  const ending = new AbortController();
  const waker = makeWaker(clock, ending.signal);
  const inbox = makeInbox(watch, waker.wake);
  const leave = (): void => {
    inbox.stop();
    release();
  };
  try {
    let first: First = isWhole ? 'all' : new Set<string>();
    if (last) {
      first = await findMissed(db, group.taskGroupId, last.seq, inbox.from);
    }
    if (last?.isEnd && inbox.isOver && first !== 'all' && first.size === 0) {
      leave();
      return undefined;
    }
    return makeBody(options, { watch, inbox, ending, waker, first, leave });
  } catch (error) {
    leave();
    throw error;
  }
};

const findMissed = async (db: Db, taskGroupId: string, after: number, upTo: number): Promise<First> => {
  if (after > (await newestSeq(db))) {
    return 'all'; // the id is of another installation
  }
  return after >= upTo ? new Set<string>() : ((await findChanged(db, taskGroupId, { after, upTo, maxRows: MAX_MISSED })) ?? 'all');
};

interface Parts {
  readonly watch: GroupWatch;
  readonly inbox: ReturnType<typeof makeInbox>;
  readonly ending: AbortController;
  readonly waker: Waker;
  readonly first: First;
  readonly leave: () => void;
}

const makeBody = (
  { db, clock, log, group, retryMs, expires, signal }: FollowOptions,
  { watch, inbox, ending, waker, first, leave }: Parts,
): Readable => {
  const { pending } = inbox;
  /** Everything up to here was told. */
  let upTo = inbox.from;
  let goodbye: { code: string; message: string } | undefined;
  const sayGoodbye = (code: string, message: string): void => {
    goodbye ??= { code, message };
    ending.abort();
    waker.wake();
  };
  const lifeMs = Math.min(MAX_LIFE_MS, expires ? Math.max(expires.getTime() - clock.nowMs(), MIN_LIFE_MS) : MAX_LIFE_MS);
  const life = clock.setTimer(
    lifeMs,
    () => sayGoodbye('ConnectionTooOld', 'A connection lasts ten minutes. Connect again with the last id, and nothing is missed.'),
    { unref: true },
  );

  const event = (name: string, data: string, id?: string): string =>
    `${id === undefined ? '' : `id: ${id}\n`}event: ${name}\ndata: ${data}\n\n`;
  const counts = (): string => JSON.stringify({ ...watch.counts, tasks: totalOf(watch) });
  const tasksEvent = (statuses: readonly string[], id?: string): string =>
    event('tasks', `{"counts":${counts()},"statuses":[${statuses.join(',')}]}`, id);

  async function* all(): AsyncGenerator<string> {
    for (let after = ''; ;) {
      const ids = first === 'all' ? await listGroupTaskIds(db, group.taskGroupId, after, CHUNK) : [];
      yield* some(ids);
      if (ids.length < CHUNK) {
        return;
      }
      after = ids.at(-1) as string;
    }
  }
  async function* some(ids: readonly string[]): AsyncGenerator<string> {
    for (let from = 0; from < ids.length && !ending.signal.aborted; from += CHUNK) {
      const rows = await readStates(db, ids.slice(from, from + CHUNK), clock.now());
      if (rows.length > 0) {
        yield tasksEvent(rows.map(({ status }) => status));
      }
    }
  }
  /** What is to be told now; the last part has the id up to which that is everything. */
  function* drain(): Generator<string> {
    while (pending.size > 0) {
      const part = [...pending].slice(0, CHUNK);
      part.forEach(([taskId]) => pending.delete(taskId));
      upTo = pending.size === 0 ? watch.position : upTo;
      yield tasksEvent(
        part.map(([, status]) => status),
        String(upTo),
      );
    }
    upTo = watch.position;
  }
  async function* body(): AsyncGenerator<string> {
    const { taskGroupId, ...rest } = groupView(group);
    const opening = { taskGroupId, ...rest, counts: { ...watch.counts, tasks: totalOf(watch) } };
    yield `retry: ${retryMs}\n${event('group', JSON.stringify(opening), first === 'all' || first.size > 0 ? undefined : String(upTo))}`;
    yield* first === 'all' ? all() : some([...first]);
    while (!ending.signal.aborted) {
      yield* drain();
      if (inbox.isOver && pending.size === 0) {
        yield event('resolved', `{"counts":${counts()}}`, `${upTo}-${END}`);
        return;
      }
      const waitedMs = clock.monotonicMs();
      await waker.wait(HEARTBEAT_MS);
      if (pending.size === 0 && !inbox.isOver && !ending.signal.aborted && clock.monotonicMs() - waitedMs >= HEARTBEAT_MS) {
        upTo = watch.position;
        yield event('ping', JSON.stringify({ time: clock.now().toISOString() }), String(upTo));
      }
    }
    if (goodbye) {
      yield event('error', JSON.stringify(goodbye));
    }
  }

  let takenMs = clock.monotonicMs();
  const iterator = body();
  const readable: Readable = new Readable({
    highWaterMark: HIGH_WATER_BYTES,
    read: () => {
      takenMs = clock.monotonicMs();
      iterator.next().then(
        ({ done, value }) => readable.push(done ? null : value),
        (error: unknown) => {
          log.warn({ err: error, taskGroupId: group.taskGroupId }, 'a follower of a task group was lost');
          readable.destroy(error as Error);
        },
      );
    },
    destroy: (error, callback) => {
      life.cancel();
      stall.cancel();
      signal.removeEventListener('abort', onSignal);
      ending.abort();
      waker.wake();
      leave();
      callback(error);
    },
  });
  const onSignal = (): void => {
    if (signal.reason === SHUTTING_DOWN) {
      sayGoodbye('ServiceUnavailable', 'This process is shutting down. Connect again with the last id, and nothing is missed.');
    } else {
      readable.destroy();
    }
  };
  const check = (): void => {
    // what was made is not taken: nobody has asked for more
    if (readable.readableLength > 0 && clock.monotonicMs() - takenMs >= MAX_STALL_MS) {
      readable.destroy(new Error('The connection took nothing for too long'));
    } else {
      stall = clock.setTimer(MAX_STALL_MS / 4, check, { unref: true });
    }
  };
  let stall = clock.setTimer(MAX_STALL_MS / 4, check, { unref: true });
  signal.addEventListener('abort', onSignal, { once: true });
  if (signal.aborted) {
    onSignal();
  }
  return readable;
};

const totalOf = ({ counts }: GroupWatch): number => {
  const { held: _, ...states } = counts;
  return Object.values(states).reduce((sum, count) => sum + count, 0);
};
