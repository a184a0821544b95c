/** Measuring in rounds, where the machine is faster in one minute than in another: the median tells what to expect, the best round what the code can do. */
import { latency, type Measured, type Percentiles, rate } from './measure.ts';

/** One measurement. Of two the one with the lower cost is the better one. */
export interface Figure {
  readonly text: string;
  readonly cost: number;
  /** Of a rate. */
  readonly perSecond?: number;
}

export interface Suite {
  readonly name: string;
  readonly what: string;
  readonly goal: string;
  readonly run: () => Promise<Figure>;
}

/** A suite whose figure is a rate. */
export const rated = (name: string, what: string, goal: string, run: () => Promise<Measured>): Suite => ({
  name,
  what,
  goal,
  run: async () => {
    const measured = await run();
    return { text: rate(measured), cost: 1 / measured.perSecond, perSecond: measured.perSecond };
  },
});

/** A suite whose figure is a rate of this process itself. */
export const counted = (name: string, what: string, goal: string, run: () => number): Suite => ({
  name,
  what,
  goal,
  run: () => {
    const perSecond = run();
    return Promise.resolve({ text: `${Math.round(perSecond).toLocaleString('en')}/s`, cost: 1 / perSecond });
  },
});

/** A suite whose figure is a duration; the better of two has the lower median. */
export const timed = (name: string, what: string, goal: string, run: () => Promise<Percentiles>): Suite => ({
  name,
  what: `${what}, p50 / p95 / p99`,
  goal,
  run: async () => {
    const measured = await run();
    return { text: latency(measured), cost: measured.p50 };
  },
});

/** Runs all suites, and all again, and tells the median and the best of each. Answers with the medians, by name. */
export const inRounds = async (
  suites: readonly Suite[],
  rounds: number,
  tell: (what: string, goal: string, figure: string, best: string) => void,
): Promise<ReadonlyMap<string, Figure>> => {
  const figures = suites.map((): Figure[] => []);
  for (let round = 1; round <= rounds; round++) {
    for (const [i, { what, run }] of suites.entries()) {
      const figure = await run();
      figures[i]?.push(figure);
      console.log(`round ${round}: ${what}: ${figure.text}`);
    }
  }
  const medians = new Map<string, Figure>();
  for (const [i, { name, what, goal }] of suites.entries()) {
    const sorted = (figures[i] as Figure[]).toSorted((a, b) => a.cost - b.cost);
    const [best, median] = [sorted[0] as Figure, sorted[Math.floor(sorted.length / 2)] as Figure];
    medians.set(name, median);
    tell(what, goal, median.text, best.text);
  }
  return medians;
};
