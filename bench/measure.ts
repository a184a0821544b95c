/** Figures: rates, percentiles, and who used the processor meanwhile. */
import crypto from 'node:crypto';
import fs from 'node:fs';

export interface Percentiles {
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
}

export const percentiles = (valuesMs: readonly number[]): Percentiles => {
  const sorted = valuesMs.toSorted((a, b) => a - b);
  const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
  return { p50: at(0.5), p95: at(0.95), p99: at(0.99) };
};

const TICKS_PER_SECOND = 100; // USER_HZ on Linux

/** Seconds of processor time a process has used, its ended children included. 0 where /proc is absent. */
const cpuSeconds = (pid: number): number => {
  try {
    const fields = fs
      .readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ');
    return [11, 12, 13, 14].reduce((sum, i) => sum + Number(fields[i]), 0) / TICKS_PER_SECOND;
  } catch {
    return 0;
  }
};

const childrenOf = (pid: number): number[] => {
  try {
    return fs
      .readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
      .trim()
      .split(' ')
      .filter(text => text !== '')
      .map(Number);
  } catch {
    return [];
  }
};

/** Resident memory in MiB. */
export const residentMiB = (pid: number): number => {
  try {
    return Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024;
  } catch {
    return 0;
  }
};

/**
 * A stopwatch for processor time that the host of a virtual machine gave to others (`steal` of /proc/stat): the share of all time since, 0 to 1. 0 where
 * /proc is absent.
 */
export const startStealWatch = (): (() => number) => {
  const now = (): { stolen: number; all: number } => {
    try {
      const ticks = (fs.readFileSync('/proc/stat', 'utf8').split('\n')[0] as string).trim().split(/\s+/).slice(1, 9).map(Number);
      return { stolen: ticks[7] ?? 0, all: ticks.reduce((sum, n) => sum + n, 0) };
    } catch {
      return { stolen: 0, all: 0 };
    }
  };
  const before = now();
  return () => {
    const { stolen, all } = now();
    return all === before.all ? 0 : (stolen - before.stolen) / (all - before.all);
  };
};

const YARDSTICK_MS = 1_000;
/**
 * How fast the machine is just now: how often in a second one process reads and writes 3 KB of JSON and signs it. Who else is at work on the host of a
 * virtual machine can halve this, as it can halve what a server does, without any of it counting as taken away; a plain loop of additions would not tell.
 */
export const yardstick = (): number => {
  const text = JSON.stringify(Array.from({ length: 40 }, (_, id) => ({ id, name: 'x'.repeat(40), values: [1, 2, 3] })));
  const startedMs = performance.now();
  let count = 0;
  while (performance.now() - startedMs < YARDSTICK_MS) {
    crypto
      .createHmac('sha256', 'yardstick')
      .update(JSON.stringify(JSON.parse(text)))
      .digest();
    count++;
  }
  return (count / YARDSTICK_MS) * 1_000;
};

export interface CpuSplit {
  readonly server: number;
  readonly postgres: number;
  readonly generator: number;
}

const cpuNow = (serverPid: number, postgresPid: number): CpuSplit => {
  const own = process.cpuUsage();
  return {
    server: cpuSeconds(serverPid),
    postgres: [postgresPid, ...childrenOf(postgresPid)].reduce((sum, pid) => sum + cpuSeconds(pid), 0),
    generator: (own.user + own.system) / 1e6,
  };
};

export interface Measured {
  readonly count: number;
  readonly seconds: number;
  readonly perSecond: number;
  /** Milliseconds of processor time per item. */
  readonly cpuMs: CpuSplit;
}

/** As text: the rate, and who used the processor. */
export const rate = ({ perSecond, cpuMs }: Measured): string =>
  `${Math.round(perSecond).toLocaleString('en')}/s; CPU ${cpuMs.server.toFixed(2)} + ${cpuMs.postgres.toFixed(2)} + ${cpuMs.generator.toFixed(2)} ms`;

/** As text: p50, p95 and p99. */
export const latency = ({ p50, p95, p99 }: Percentiles): string => `${p50.toFixed(2)} / ${p95.toFixed(2)} / ${p99.toFixed(2)} ms`;

/** Runs work and measures it; `run` answers with how many items it did. */
export const measure = async (pids: { server: number; postgres: number }, run: () => Promise<number>): Promise<Measured> => {
  const before = cpuNow(pids.server, pids.postgres);
  const startedMs = performance.now();
  const count = await run();
  const seconds = (performance.now() - startedMs) / 1000;
  const after = cpuNow(pids.server, pids.postgres);
  const each = (key: keyof CpuSplit): number => ((after[key] - before[key]) * 1000) / count;
  return {
    count,
    seconds,
    perSecond: count / seconds,
    cpuMs: { server: each('server'), postgres: each('postgres'), generator: each('generator') },
  };
};

/** `count` calls by `workers` callers, each with one call under way at a time. */
export const inParallel = async (workers: number, count: number, call: (worker: number, i: number) => Promise<void>): Promise<void> => {
  let next = 0;
  await Promise.all(
    Array.from({ length: workers }, async (_, worker) => {
      while (next < count) {
        await call(worker, next++);
      }
    }),
  );
};
