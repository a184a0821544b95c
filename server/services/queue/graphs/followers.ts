/** How many may follow groups at once. */
import { apiError } from '../../../platform/errors.ts';

const MAX_FOLLOWERS = 1_000;
const MAX_PER_CALLER = 100;

/** Places for followers. */
export interface Followers {
  /** Throws `TooManyConnections`, or 503, when there is no place. Returns how to give it back. */
  enter(caller: string): () => void;
}

export const makeFollowers = (): Followers => {
  const counts = new Map<string, number>();
  let all = 0;
  return {
    enter: caller => {
      const count = counts.get(caller) ?? 0;
      if (count >= MAX_PER_CALLER) {
        apiError('TooManyConnections', `${caller} follows ${count} groups, and nobody may follow more at once. Close some connections.`);
      }
      if (all >= MAX_FOLLOWERS) {
        apiError('ServiceUnavailable', `This process serves ${all} followers, and no more. Try again later.`);
      }
      all++;
      counts.set(caller, count + 1);
      return () => {
        all--;
        const left = (counts.get(caller) ?? 1) - 1;
        if (left > 0) {
          counts.set(caller, left);
        } else {
          counts.delete(caller);
        }
      };
    },
  };
};
