/** Suites that need an installation of their own: filled with millions of tasks, or with another server. */
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { callCosts, counterOptions, eventLogCost } from './cost-suites.ts';
import { type CallTimes, pendingDepths, storedTasks, whileExpiring } from './flat-suites.ts';
import { type Installation, startInstallation } from './installation.ts';
import { latency, rate } from './measure.ts';
import { creates, handOffs, lifecycles } from './suites.ts';

export interface Bench {
  /** Whether a suite is to run. */
  isWanted(name: string): boolean;
  /** Writes down a figure: what, goal, measured. */
  tell(what: string, goal: string, figure: string): void;
  /** How often, in this run. */
  times(count: number): number;
  /** How many tasks are stored for `flat`. */
  readonly stored: number;
}

type StartOptions = Parameters<typeof startInstallation>[1];

/** Gives `use` a folder, and a way to start an installation there; stops what runs, and removes the folder. */
const withFolder = async (
  use: (start: (options?: StartOptions) => Promise<Installation>, folder: string) => Promise<void>,
): Promise<void> => {
  const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'taskcluster-bench-'));
  let running: Installation | undefined;
  try {
    await use(async options => {
      await running?.stop();
      running = undefined;
      running = await startInstallation(path.join(folder, 'data'), options);
      return running;
    }, folder);
  } finally {
    await running?.stop();
    await fs.rm(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  }
};

const number = (n: number): string => Math.round(n).toLocaleString('en');
const callTimes = ({ create, claim, complete }: CallTimes): string =>
  `create ${latency(create)}, claim ${latency(claim)}, complete ${latency(complete)}`;

const pending = ({ tell, times }: Bench): Promise<void> =>
  withFolder(async start => {
    const installation = await start();
    await lifecycles(installation.target, times(4_000));
    for (const { depth, times: each } of await pendingDepths(installation, [100, 100_000], times(1_000))) {
      tell(`single calls with ${number(depth)} pending tasks, p50 / p95 / p99`, 'within 1.1 × of each other', callTimes(each));
    }
  });

const stored = ({ tell, times, stored: count }: Bench): Promise<void> =>
  withFolder(async start => {
    for (const found of await storedTasks(await start(), count, times)) {
      const where = `with ${number(found.stored)} stored tasks`;
      const goal = 'flat';
      tell(`single calls ${where}, p50 / p95 / p99`, goal, callTimes(found.times));
      tell(`create → claim → complete, 8 + 8, ${where}`, goal, rate(found.lifecycles));
      tell(`create, 16 at once, ${where}`, goal, rate(found.creates));
      tell(`status, 16 at once, ${where}`, goal, rate(found.status));
      tell(`list a group of 100 ${where}, p50 / p95 / p99`, goal, latency(found.list));
    }
    const expiring = await whileExpiring(await start());
    if (expiring) {
      const { during, afterwards, expiredPerSecond, lifecycles: done } = expiring;
      const removing = `${number(expiredPerSecond)} expired tasks/s are removed`;
      tell(`single calls while ${removing}, p50 / p95 / p99 of ${number(done)}`, '–', callTimes(during));
      tell('the same when that is done', '–', callTimes(afterwards));
    }
  });

const batching = ({ tell, times }: Bench): Promise<void> =>
  withFolder(async start => {
    const unbatched = ['--import', path.join(import.meta.dirname, 'unbatched.ts')];
    for (const [what, flags] of [
      ['with micro-batches', []],
      ['with a transaction per call', unbatched],
    ] as const) {
      const { target } = await start({ flags });
      await creates(target, times(4_000));
      await lifecycles(target, times(4_000));
      tell(`create → claim → complete, 8 + 8, ${what}`, '–', rate(await lifecycles(target, times(6_000))));
      tell(`create, 64 at once, ${what}`, '–', rate(await creates(target, times(10_000), 64)));
      tell(`hand-off to an idle worker, ${what}, p50 / p95 / p99`, '–', latency(await handOffs(target, times(500))));
    }
  });

const perCall = ({ tell, times }: Bench): Promise<void> =>
  withFolder(async (start, folder) => {
    const file = path.join(folder, 'statements.json');
    const installation = await start(counterOptions(file));
    await creates(installation.target, times(4_000));
    await lifecycles(installation.target, times(4_000));
    for (const parallel of [1, 16]) {
      for (const cost of await callCosts(installation, file, times(2_000), parallel)) {
        const { server, postgres, generator } = cost.cpuMs;
        tell(
          `${cost.call}, ${parallel} at once: per call`,
          '–',
          `${cost.statements.toFixed(2)} statements in ${cost.roundTrips.toFixed(2)} round trips; WAL ${number(cost.walBytes)} B; CPU ${server.toFixed(2)} + ${postgres.toFixed(2)} + ${generator.toFixed(2)} ms`,
        );
      }
    }
    for (const { logged, microseconds, walBytes } of await eventLogCost(installation.connect)) {
      tell(
        `taking a row of the outbox ${logged ? 'and writing it to the event log' : 'alone'}`,
        '–',
        `${microseconds.toFixed(1)} µs; WAL ${number(walBytes)} B`,
      );
    }
  });

const SUITES: Readonly<Record<string, (bench: Bench) => Promise<void>>> = {
  flat: async bench => {
    await pending(bench);
    await stored(bench);
  },
  batching,
  'per-call': perCall,
};

/** Whether a suite is one of these. */
export const hasItsOwn = (name: string): boolean => name in SUITES;

/** Runs those of these suites that are wanted. */
export const suitesOfTheirOwn = async (bench: Bench): Promise<void> => {
  for (const [name, run] of Object.entries(SUITES)) {
    if (bench.isWanted(name)) {
      await run(bench);
    }
  }
};
