/**
 * Micro-batching: calls that arrive while a transaction is under way go into the next one together, each with its own outcome. An idle system waits
 * for nothing: the first call is flushed in the same turn of the event loop (`setImmediate`), with everything else that was read in that turn.
 */

export interface Batcher<Item, Outcome> {
  /** Adds an item; settles with its own outcome. */
  add(item: Item): Promise<Outcome>;
  /** Items waiting or in flight. */
  readonly size: number;
  /** Resolves when nothing is waiting or in flight. */
  drain(): Promise<void>;
}

export interface BatcherOptions<Item, Outcome> {
  /** Items per batch at most. Default 200. */
  readonly max?: number;
  /** Runs a batch in one transaction; answers with one outcome per item, in order. An `Error` as an outcome rejects that item alone. */
  readonly flush: (items: readonly Item[]) => Promise<readonly (Outcome | Error)[]>;
  /** Two items with the same key never share a batch (for example: the same task). */
  readonly key?: (item: Item) => string | undefined;
  /** Tells, of those who wait when a batch begins, which it takes: at least one. Undefined: all. The others wait for a later one. */
  readonly choose?: (waiting: readonly Item[]) => ((item: Item) => boolean) | undefined;
  /**
   * Between two batches callers who have just been answered are waited for, as they are about to ask again: until as many have come as there were, or
   * for so many turns of the event loop nobody came. Where a batch costs more than an item, fewer and larger ones are faster. Default: not at all.
   */
  readonly gather?: {
    readonly turns: number;
    /** Callers for whom there is no item of their own: those who wait now, and those whom the last batch answered. */
    readonly others: () => { readonly waiting: number; readonly answered: number };
    /** Whether the next batch begins at once: it is for those who wait already. Default: never. */
    readonly isReady?: (waiting: readonly Item[]) => boolean;
  };
}

let most = Number.POSITIVE_INFINITY;
/** For measurements of what batching brings: from now on no batch of this process holds more. */
export const limitBatches = (items: number): void => {
  most = items;
};

/** Fewer callers at work than these are never waited for: what they save is less than the wait. */
const MIN_GATHERED = 3;
/** Of the callers who were at work. */
const SHARE_GATHERED = 0.9;

type Waiting<Item, Outcome> = { item: Item; resolve: (outcome: Outcome) => void; reject: (error: unknown) => void };

/**
 * If a batch as a whole fails, its items are run one by one: one bad item never fails its neighbours.
 */
export const makeBatcher = <Item, Outcome>({
  max = 200,
  flush,
  key,
  choose,
  gather,
}: BatcherOptions<Item, Outcome>): Batcher<Item, Outcome> => {
  let waiting: Waiting<Item, Outcome>[] = [];
  let inFlight = 0;
  let scheduled = false;
  let idle: (() => void)[] = [];

  const take = (): Waiting<Item, Outcome>[] => {
    const limit = Math.min(max, most);
    const isChosen = choose?.(waiting.map(entry => entry.item));
    if (!isChosen && !key && waiting.length <= limit) {
      const all = waiting;
      waiting = [];
      return all;
    }
    const taken: Waiting<Item, Outcome>[] = [];
    const left: Waiting<Item, Outcome>[] = [];
    const keys = new Set<string>();
    for (const entry of waiting) {
      const itemKey = key?.(entry.item);
      if (taken.length < limit && (isChosen?.(entry.item) ?? true) && (itemKey === undefined || !keys.has(itemKey))) {
        if (itemKey !== undefined) {
          keys.add(itemKey);
        }
        taken.push(entry);
      } else {
        if (itemKey !== undefined) {
          keys.add(itemKey); // later ones with this key stay behind this one
        }
        left.push(entry);
      }
    }
    waiting = left;
    return taken;
  };

  const settle = (entry: Waiting<Item, Outcome>, outcome: Outcome | Error | undefined): void => {
    if (outcome instanceof Error) {
      entry.reject(outcome);
    } else {
      entry.resolve(outcome as Outcome);
    }
  };

  const runBatch = async (batch: readonly Waiting<Item, Outcome>[]): Promise<void> => {
    try {
      const outcomes = await flush(batch.map(entry => entry.item));
      batch.forEach((entry, i) => settle(entry, outcomes[i]));
    } catch (error) {
      if (batch.length === 1) {
        (batch[0] as Waiting<Item, Outcome>).reject(error);
        return;
      }
      for (const entry of batch) {
        await runBatch([entry]);
      }
    }
  };

  const next = (): void => {
    scheduled = false;
    if (inFlight > 0) {
      return;
    }
    if (waiting.length === 0) {
      const callbacks = idle;
      idle = [];
      for (const callback of callbacks) {
        callback();
      }
      return;
    }
    const batch = take();
    inFlight = batch.length;
    void runBatch(batch).finally(() => {
      inFlight = 0;
      if (gather && !gather.isReady?.(waiting.map(entry => entry.item))) {
        const others = gather.others();
        const callers = batch.length + waiting.length + others.answered + others.waiting;
        if (callers >= MIN_GATHERED) {
          scheduled = true;
          waitFor(Math.min(callers * SHARE_GATHERED, max, most), gather);
          return;
        }
      }
      next();
    });
  };

  /** Starts the next batch when that many callers are waiting, or nobody comes any more. */
  const waitFor = (wanted: number, { turns, others }: NonNullable<typeof gather>): void => {
    let seen = 0;
    let turnsLeft = turns;
    const look = (): void => {
      const present = waiting.length + others().waiting;
      if (present > seen) {
        seen = present;
        turnsLeft = turns;
      }
      turnsLeft -= 1;
      if (present >= wanted || turnsLeft < 0) {
        next();
      } else {
        setImmediate(look);
      }
    };
    look();
  };

  return {
    add: item =>
      new Promise<Outcome>((resolve, reject) => {
        waiting.push({ item, resolve, reject });
        if (inFlight === 0 && !scheduled) {
          scheduled = true;
          setImmediate(next);
        }
      }),
    get size() {
      return waiting.length + inFlight;
    },
    drain: () =>
      new Promise<void>(resolve => {
        if (waiting.length === 0 && inFlight === 0) {
          resolve();
        } else {
          idle.push(resolve);
        }
      }),
  };
};
