/** Repeatable randomness: the same seed, the same choices. */

export interface Choices {
  /** At least 0, below 1. */
  float(): number;
  /** From `low` to `high`, both included. */
  integer(low: number, high: number): number;
  pick<T>(items: readonly T[]): T;
}

/** Mulberry32. */
export const seeded = (seed: number): Choices => {
  let state = seed >>> 0;
  const float = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
  const integer = (low: number, high: number): number => low + Math.floor(float() * (high - low + 1));
  return {
    float,
    integer,
    pick: items => {
      if (items.length === 0) {
        throw new RangeError('Nothing to pick from');
      }
      return items[integer(0, items.length - 1)] as (typeof items)[number];
    },
  };
};
