/**
 * Whose turn it is on the hot path. To set up a statement costs Postgres as much as to run it for half a dozen tasks, so under load each batch holds calls
 * of one kind. Creators and workers take turns: while some are answered, read that and call again, the batch of the others is under way. Among workers
 * ends of runs go first, and claims stand back once for them, because whoever has ended a run is about to claim the next one: then they claim together.
 *
 * A few calls are quicker together, whatever their kind, and two workers among many creators need no turn of their own.
 */
export type Kind = 'create' | 'end' | 'claim';

/** Calls that wait, by kind. */
export type Waiting = Readonly<Record<Kind, number>>;

export interface Turns {
  /** What goes into the batch that begins now; undefined: everything. Never a kind that nobody waits with. */
  next(waiting: Waiting): Kind | undefined;
  /** Whether enough of those wait whose turn it is after the last batch, so that nobody need be waited for. */
  isReady(waiting: Waiting): boolean;
}

/** Fewer calls than these go together. */
const MIN_APART = 6;
/** Fewer creators or workers than these go with the others, rather than wait for a turn of their own. */
const MIN_OF_KIND = 3;

export const makeTurns = (): Turns => {
  let last: 'creators' | 'workers' | undefined;
  /** How many there were in their last turn. */
  let before = { creators: 0, workers: 0 };
  let claimsStoodBack = false;

  const workersTurn = ({ end, claim }: Waiting): Kind => {
    const kind = end > 0 && !(claimsStoodBack && claim > 0) ? 'end' : 'claim';
    claimsStoodBack = kind === 'end' && claim > 0;
    return kind;
  };

  return {
    next: waiting => {
      const now = { creators: waiting.create, workers: waiting.end + waiting.claim };
      const isFew = (who: keyof typeof now): boolean => now[who] > 0 && now[who] < MIN_OF_KIND && before[who] < MIN_OF_KIND;
      if (now.creators + now.workers < MIN_APART || isFew('creators') || isFew('workers')) {
        last = undefined;
        before = now;
        return undefined;
      }
      const isWorkersTurn = now.creators === 0 || (now.workers > 0 && last === 'creators');
      last = isWorkersTurn ? 'workers' : 'creators';
      before = {
        creators: isWorkersTurn && now.creators > 0 ? before.creators : now.creators,
        workers: !isWorkersTurn && now.workers > 0 ? before.workers : now.workers,
      };
      return isWorkersTurn ? workersTurn(waiting) : 'create';
    },
    isReady: ({ create, end, claim }) =>
      (last === 'creators' && end + claim >= MIN_OF_KIND) || (last === 'workers' && create >= MIN_OF_KIND),
  };
};
