/**
 * The one lane on which tasks are created, claimed, prolonged and resolved. What arrives while a transaction is under way goes into the next one
 * together: its ends of runs first, then the release of their dependents, prolonged claims, new tasks, and last the claims of workers who wait, so that
 * a task created in this batch is handed out in it. Under load it holds one kind of them (`turns.ts`), and of claims those of workers who wait for a task
 * created in it. At most one item per task and batch, so that within a batch nothing depends on the order of items.
 */
import { type Batcher, makeBatcher } from '../../db/batcher.ts';
import type { Lane } from '../../db/lane.ts';
import type { Row, Statement } from '../../db/sql.ts';
import { isConnectionError, isRetryable } from '../../db/sql.ts';
import type { Clock, Timer } from '../../platform/clock.ts';
import { notifyOutbox } from '../../platform/events.ts';
import type { Vacuum } from '../../platform/vacuum.ts';
import { type ClaimRequest, type ClaimedRow, type ReclaimedRow, answeredStatement, claimStatement, reclaimStatement } from './claim.db.ts';
import { type CreatedRow, createStatement } from './create.db.ts';
import type { NewTask } from './definition.ts';
import { type EndedRow, type ReleasedRow, type RunEnd, endRunsStatement, satisfyIfRequiredStatement } from './resolve.db.ts';
import type { Wake } from './ctx.ts';
import { type Kind, makeTurns, type Waiting } from './turns.ts';
import type { Waiters } from './waiters.ts';

export interface Run {
  readonly taskId: string;
  readonly runId: number;
}

export interface AnsweredClaim extends Run {
  readonly takenUntilMs: number;
}

export interface Reclaimed extends ReclaimedRow {
  readonly takenUntilMs: number;
  readonly nowMs: number;
}

export interface HotPath {
  /** Stores a task and announces it. Undefined: it existed, or was refused; look why outside the batch. `nowIso` is when its run became pending. */
  create(task: NewTask): Promise<Created | undefined>;
  /** Ends the last, running run of a task. Undefined: it is not that. */
  end(end: RunEnd): Promise<EndedRow | undefined>;
  /** Prolongs a claim. Undefined: the run is not the last one, not running, or past its deadline. */
  reclaim(run: Run): Promise<Reclaimed | undefined>;
  /** Somebody waits for work: a batch runs soon. */
  ask(): void;
  /**
   * Notes, after a while and unless the run has ended by then, that a worker has received its claim.
   *
   * @param onSettled it is noted, or the run has ended
   */
  answered(claim: AnsweredClaim, onSettled?: () => void): void;
  /** Resolves when nothing is waiting or in flight. */
  drain(): Promise<void>;
}

export interface HotPathOptions {
  readonly lane: Lane;
  readonly clock: Clock;
  readonly claimTimeoutMs: number;
  readonly vacuum: Vacuum;
  readonly waiters: () => Waiters;
  readonly wake: Wake;
  /** A worker may hold claims of which it does not know: these, or nobody knows which. */
  readonly onDoubt: (worker: ClaimRequest, claims?: readonly Run[]) => void;
}

type Item =
  | { readonly kind: 'create'; readonly task: NewTask }
  | { readonly kind: 'end'; readonly end: RunEnd }
  | { readonly kind: 'reclaim'; readonly run: Run }
  | { readonly kind: 'ask' }
  | { readonly kind: 'note' };
type Created = { readonly state: 'pending' | 'unscheduled'; readonly nowIso: string };
/** Whose turn each kind waits for; the others go with any. */
const TURNS: Partial<Record<Item['kind'], Kind>> = { create: 'create', end: 'end', ask: 'claim' };
/** Not done for want of room: to be added again. */
const LATER = Symbol('later');
type Outcome = Created | EndedRow | Reclaimed | typeof LATER | undefined;

const MAX_BATCH = 200;
/** A fraction of a millisecond, if nothing happens. */
const GATHER_TURNS = 40;
/** Most runs of a busy queue are over before this: then nothing has to be noted. */
const NOTE_DELAY_MS = 250;
/** A task with more dependencies goes alone, on another connection. */
export const MAX_HOT_DEPENDENCIES = 100;
const MAX_BATCH_EDGES = 1_000;
/** Larger definitions go alone, on another connection. */
export const MAX_HOT_DEFINITION = 256 * 1024;

const itemKey = (item: Item): string | undefined => {
  switch (item.kind) {
    case 'create':
      return item.task.taskId;
    case 'end':
      return item.end.taskId;
    case 'reclaim':
      return item.run.taskId;
    default:
      return undefined;
  }
};

const runKey = ({ taskId, runId }: Run): string => `${taskId}/${runId}`;

const countBy = (keys: Iterable<string>): Map<string, number> => {
  const counts = new Map<string, number>();
  for (const key of keys) {
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return counts;
};

/** Creates that can share a transaction: a group with two schedulers is decided one by one, and edges are not without number. The others come later. */
const pickCreates = (items: readonly Item[]): { picked: NewTask[]; postponed: Set<Item> } => {
  const schedulers = new Map<string, string>();
  const picked: NewTask[] = [];
  const postponed = new Set<Item>();
  let edges = 0;
  for (const item of items) {
    if (item.kind === 'create') {
      const { taskGroupId, schedulerId, dependencies } = item.task;
      if (
        (schedulers.get(taskGroupId) ?? schedulerId) !== schedulerId ||
        (picked.length > 0 && edges + dependencies.length > MAX_BATCH_EDGES)
      ) {
        postponed.add(item);
      } else {
        edges += dependencies.length;
        schedulers.set(taskGroupId, schedulerId);
        picked.push(item.task);
      }
    }
  }
  return { picked, postponed };
};

export const makeHotPath = (options: HotPathOptions): HotPath => {
  const { lane, clock, claimTimeoutMs } = options;
  let asked = false;
  /** Workers whom the last batch gave something, less the item with which all of them ask. */
  let servedBeside = 0;
  const answers = new Map<string, AnsweredClaim & { readonly onSettled?: (() => void) | undefined }>();
  let noteTimer: Timer | undefined;

  const flush = async (items: readonly Item[]): Promise<(Outcome | Error)[]> => {
    const nowMs = clock.nowMs();
    const nowIso = new Date(nowMs).toISOString();
    const takenUntilMs = nowMs + claimTimeoutMs;
    const takenUntilIso = new Date(takenUntilMs).toISOString();
    const hasAsk = items.some(item => item.kind === 'ask');
    asked &&= !hasAsk;
    servedBeside = hasAsk ? -1 : 0;

    const ends = items.flatMap(item => (item.kind === 'end' ? [item.end] : []));
    const reclaims = items.flatMap(item => (item.kind === 'reclaim' ? [item.run] : []));
    const { picked: creates, postponed } = pickCreates(items);
    const newRuns = countBy(creates.filter(task => task.dependencies.length === 0).map(task => task.taskQueueId));
    const deal = hasAsk || options.waiters().areAwaited(newRuns) ? options.waiters().deal(newRuns) : undefined;
    const noted = items.some(item => item.kind === 'note') ? [...answers.values()].slice(0, MAX_BATCH) : [];
    for (const claim of noted) {
      answers.delete(runKey(claim));
    }
    const settling = [...noted];
    for (const end of ends) {
      const answer = answers.get(runKey(end));
      if (answer) {
        answers.delete(runKey(end));
        settling.push(answer);
      }
    }

    const statements: Statement[] = [];
    const add = (statement: Statement): number => statements.push(statement) - 1;
    const endAt = ends.length > 0 ? add(endRunsStatement(ends, nowIso)) : -1;
    const satisfyAt = ends.length > 0 ? add(satisfyIfRequiredStatement(ends, nowIso)) : -1;
    const reclaimAt = reclaims.length > 0 ? add(reclaimStatement(reclaims, nowIso, takenUntilIso)) : -1;
    const createAt = creates.length > 0 ? add(createStatement(sortByGroup(creates), nowIso)) : -1;
    const claimAt = deal ? add(claimStatement(deal.requests, deal.places, nowIso, takenUntilIso)) : -1;
    if (noted.length > 0) {
      add(answeredStatement(noted));
    }
    if (statements.length === 0) {
      return items.map(() => undefined);
    }

    let results: Row[][];
    try {
      results = await runRetrying(lane, statements);
    } catch (error) {
      for (const claim of settling) {
        answers.set(runKey(claim), claim);
      }
      if (deal) {
        if (isConnectionError(error)) {
          deal.requests.forEach(worker => options.onDoubt(worker));
        }
        deal.release(error);
      }
      throw error;
    }
    const rowsAt = <R extends Row>(at: number): R[] => (at === -1 ? [] : (results[at] as R[]));

    const ended = new Map(rowsAt<EndedRow>(endAt).map(row => [row.taskId, row]));
    const created = new Map(rowsAt<CreatedRow>(createAt).map(row => [row.taskId, row]));
    const reclaimed = new Map(rowsAt<ReclaimedRow>(reclaimAt).map(row => [row.taskId, row]));
    const claimed = rowsAt<ClaimedRow>(claimAt);
    const released = rowsAt<ReleasedRow>(satisfyAt);
    options.vacuum.removed('queue.pending', claimed.length);
    options.vacuum.removed('queue.claims', ended.size + reclaimed.size);
    servedBeside += new Set(claimed.map(row => row.request)).size;

    settling.forEach(({ onSettled }) => onSettled?.());
    for (const { worker, claimed: runs } of deal?.deliver(claimed, takenUntilMs) ?? []) {
      options.onDoubt(worker, runs);
    }
    if (claimed.length > 0 || reclaimed.size > 0) {
      options.wake.claims(takenUntilMs);
    }
    announcePending(creates, created, ended, released, claimed);
    if (created.size > 0) {
      options.wake.deadline(creates.reduce((first, task) => Math.min(first, task.deadlineMs), Number.POSITIVE_INFINITY));
    }
    if (ended.size > 0 || created.size > 0 || claimed.length > 0) {
      notifyOutbox();
    }

    return items.map((item): Outcome => {
      switch (item.kind) {
        case 'create': {
          const row = created.get(item.task.taskId);
          return postponed.has(item) ? LATER : row && { state: row.state, nowIso };
        }
        case 'end':
          return ended.get(item.end.taskId);
        case 'reclaim': {
          const row = reclaimed.get(item.run.taskId);
          return row && { ...row, takenUntilMs, nowMs };
        }
        default:
          return undefined;
      }
    });
  };

  /** Tells of runs that became pending and were not handed out in the same transaction. */
  const announcePending = (
    creates: readonly NewTask[],
    created: ReadonlyMap<string, CreatedRow>,
    ended: ReadonlyMap<string, EndedRow>,
    released: readonly ReleasedRow[],
    claimed: readonly ClaimedRow[],
  ): void => {
    const counts = countBy([
      ...creates.flatMap(task => (created.get(task.taskId)?.state === 'pending' ? [task.taskQueueId] : [])),
      ...[...ended.values()].flatMap(row => (row.state === 'pending' ? [row.taskQueueId] : [])),
    ]);
    for (const row of released) {
      if (row.later) {
        options.wake.fanouts();
      } else if (row.taskQueueId !== null) {
        counts.set(row.taskQueueId, (counts.get(row.taskQueueId) ?? 0) + row.pending);
      }
    }
    if (counts.size > 0) {
      const mine = new Set(claimed.map(row => row.taskId));
      for (const task of creates) {
        if (mine.has(task.taskId)) {
          counts.set(task.taskQueueId, (counts.get(task.taskQueueId) ?? 1) - 1);
        }
      }
      for (const [taskQueueId, count] of counts) {
        if (count > 0) {
          options.wake.pending(taskQueueId, count);
        }
      }
    }
  };

  const noteSoon = (): void => {
    noteTimer ??= clock.setTimer(
      NOTE_DELAY_MS,
      () => {
        noteTimer = undefined;
        batcher.add({ kind: 'note' }).then(
          () => answers.size > 0 && noteSoon(),
          () => noteSoon(),
        );
      },
      { unref: true },
    );
  };

  // workers ask together, with one item
  const countKinds = (items: readonly Item[]): Waiting => ({
    create: items.filter(item => item.kind === 'create').length,
    end: items.filter(item => item.kind === 'end').length,
    claim: items.some(item => item.kind === 'ask') ? options.waiters().asking : 0,
  });
  const turns = makeTurns();
  const batcher: Batcher<Item, Outcome> = makeBatcher<Item, Outcome>({
    max: MAX_BATCH,
    key: itemKey,
    flush,
    choose: items => {
      const turn = turns.next(countKinds(items));
      return turn && (({ kind }) => (TURNS[kind] ?? turn) === turn);
    },
    gather: {
      turns: GATHER_TURNS,
      others: () => ({ waiting: options.waiters().asking - (asked ? 1 : 0), answered: servedBeside }),
      isReady: items => turns.isReady(countKinds(items)),
    },
  });

  return {
    create: async task => {
      for (;;) {
        const outcome = await batcher.add({ kind: 'create', task });
        if (outcome !== LATER) {
          return outcome as Created | undefined;
        }
      }
    },
    end: async end => (await batcher.add({ kind: 'end', end })) as EndedRow | undefined,
    reclaim: async run => (await batcher.add({ kind: 'reclaim', run })) as Reclaimed | undefined,
    ask: () => {
      if (!asked) {
        asked = true;
        batcher.add({ kind: 'ask' }).catch(() => undefined); // waiters learn of a failure themselves
      }
    },
    answered: (claim, onSettled) => {
      answers.set(runKey(claim), { ...claim, onSettled });
      noteSoon();
    },
    drain: () => batcher.drain(),
  };
};

const MAX_TRIES = 4;

/** A deadlock with another process undid everything: it is simply run again. */
const runRetrying = async (lane: Lane, statements: readonly Statement[]): Promise<Row[][]> => {
  for (let tries = 1; ; tries++) {
    try {
      return await lane.run(statements);
    } catch (error) {
      if (!isRetryable(error) || tries >= MAX_TRIES) {
        throw error;
      }
    }
  }
};

/** Groups are locked in the order of their ids. */
const sortByGroup = (tasks: readonly NewTask[]): NewTask[] =>
  tasks.toSorted((a, b) => (a.taskGroupId === b.taskGroupId ? (a.taskId < b.taskId ? -1 : 1) : a.taskGroupId < b.taskGroupId ? -1 : 1));
