/**
 * `npm run bench`: starts an installation in a temporary folder, measures it warm, and writes `bench/results.md`. Load generator, server and Postgres
 * share the machine, as in the budget. Options: `--quick` for a tenth of the calls, `--no-write` to leave the file alone, `--only create,chain`,
 * `--profile DIR` for a CPU profile of the server, `--stored N` for another number of stored tasks than 2,000,000 (`flat`).
 */
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { fanOut, idleListeners } from './events-suites.ts';
import { startInstallation } from './installation.ts';
import { indexFinds, indexInserts, indexRoutes } from './index-suites.ts';
import { latency, rate, residentMiB, startStealWatch, yardstick } from './measure.ts';
import { hasItsOwn, suitesOfTheirOwn } from './own-installations.ts';
import { pgbench } from './pgbench.ts';
import { counted, type Figure, inRounds, rated, type Suite, timed } from './rounds.ts';
import {
  chainHops,
  creates,
  graphs,
  groupLists,
  handOffs,
  lifecycles,
  manyRoles,
  reads,
  secretReads,
  signedNoOps,
  type Target,
} from './suites.ts';

const ROOT = path.join(import.meta.dirname, '..');
const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    'no-write': { type: 'boolean', default: false },
    only: { type: 'string' },
    profile: { type: 'string' },
    stored: { type: 'string', default: '2000000' },
  },
});
/** Until then a process gets faster: it is being compiled. */
const WARM_LIFECYCLES = 30_000;
const ROUNDS = options.quick ? 1 : 5;
const scale = options.quick ? 0.1 : 1;
const times = (count: number): number => Math.max(20, Math.round(count * scale));

const profile = options.profile ? ['--cpu-prof', `--cpu-prof-dir=${options.profile}`] : [];

const rows: { what: string; goal: string; figure: string; best: string }[] = [];
const wanted = options.only?.split(',');
const isWanted = (name: string): boolean => !wanted || wanted.includes(name);
const tell = (what: string, goal: string, figure: string, best = ''): void => {
  rows.push({ what, goal, figure, best });
  console.log(`${what}: ${figure} (goal ${goal}${best && `; best round ${best}`})`);
};
const suite = async (name: string, what: string, goal: string, run: () => Promise<string>): Promise<void> => {
  if (isWanted(name)) {
    tell(what, goal, await run());
  }
};

const stolen = startStealWatch();

/** What is measured in rounds: one after the other, and all of them again, so that a slow minute of the machine does not decide about one of them. */
const hotPath = (target: Target): Suite[] => [
  rated('create', 'create, 16 at once', '≥ 5,000/s', () => creates(target, times(10_000))),
  counted(
    'yardstick',
    'what the machine itself does just now: 3 KB of JSON read, written and signed by one process, alone',
    '–',
    yardstick,
  ),
  rated('lifecycle', 'create → claim → complete, 8 + 8', '≥ 2,000/s', () => lifecycles(target, times(6_000))),
  timed('hand-off', 'hand-off to an idle worker', '≤ 3 / 5 / 10 ms', () => handOffs(target, times(200))),
  timed('chain', 'hop in a chain', 'p50 ≤ 2 ms', () => chainHops(target, times(300))),
];

/** The same for what else one installation is enough for, after that. */
const others = (target: Target): Suite[] => [
  rated('create-64', 'create, 64 at once', '–', () => creates(target, times(10_000), 64)),
  rated('create-1', 'create, 1 at once', '–', () => creates(target, times(1_000), 1)),
  rated('lifecycle-64', 'create → claim → complete, 64 + 64', '–', () => lifecycles(target, times(6_000), 64)),
  rated('status', 'status, 16 at once', '≥ 14,000/s', () => reads(target, times(20_000), 'status')),
  rated('task', 'task, 16 at once', '≥ 12,000/s', () => reads(target, times(20_000), 'task')),
  rated('secrets', 'get a secret, 16 at once', '≥ 10,000/s', () => secretReads(target, times(20_000))),
  timed('list', 'list a group of 2,000', '≤ 70 ms', () => groupLists(target, times(20))),
  rated('no-op', 'signed no-op call, 16 at once', '≥ 12,000/s', () => signedNoOps(target, times(20_000))),
  rated('index-insert', 'insert into the index, 16 at once', '≥ 5,000/s', () => indexInserts(target, times(10_000))),
  rated('index-find', 'find in the index, 16 at once', '≥ 12,000/s', () => indexFinds(target, times(20_000))),
  rated('index-routes', 'claim → complete → found by each of four routes, 16 at once', '–', () => indexRoutes(target, times(2_000))),
];

/** The same, last: what they leave, hundreds of thousands of events to relay and rows to analyze, would be the others' load. */
const heavy = (target: Target): Suite[] => [
  timed('graph', 'graph of 10,000 tasks and 30,000 edges in one call', '≤ 1,000 ms', () => graphs(target, times(5))),
];

/** Measures those of the suites that are wanted; answers with the medians, by name. */
const rounds = (suites: readonly Suite[]): Promise<ReadonlyMap<string, Figure>> =>
  inRounds(
    suites.filter(({ name }) => isWanted(name)),
    ROUNDS,
    tell,
  );

/** Everything that one installation is enough for. */
const measureOne = async (): Promise<void> => {
  const dataDir = await fs.mkdtemp(path.join(os.tmpdir(), 'taskcluster-bench-'));
  await (await startInstallation(dataDir)).stop();
  // all listeners of the suites are one caller
  const warm = await startInstallation(dataDir, { flags: profile, env: { EVENTS_MAX_CONNECTIONS_PER_CALLER: '2000' } });
  try {
    const { target } = warm;
    tell('ready, warm start', '≤ 2 s', `${(warm.readyMs / 1000).toFixed(2)} s`);
    await new Promise(resolve => setTimeout(resolve, 3_000));
    tell('idle memory of the server process', '≤ 250 MiB', `${Math.round(residentMiB(target.pids.server))} MiB`);

    tell('the first lifecycles of a process, 8 + 8', '–', rate(await lifecycles(target, times(3_000))));
    await creates(target, times(4_000));
    await lifecycles(target, times(WARM_LIFECYCLES));

    const medians = await rounds(hotPath(target));
    await rounds(others(target));
    await suite('roles', 'expandScopes with 1,000 roles; createRole as the 900th to 1,000th', '≥ 8,000/s; ≤ 5 ms', async () => {
      const { expand, createRole } = await manyRoles(target, times(20_000));
      return `${rate(expand)}; ${latency(createRole)}`;
    });
    await suite(
      'idle-listeners',
      'memory that 1,000 waiting listeners to events add',
      '≤ 50 MiB',
      async () => `${Math.round(await idleListeners(target, 1_000))} MiB`,
    );
    await suite('fan-out', '1,000 events/s to 200 listeners, create sent → event read, p50 / p95 / p99', 'p99 ≤ 100 ms', async () => {
      const { latencyMs, eventsPerSecond } = await fanOut(target, options.quick ? 3 : 15);
      return `${latency(latencyMs)} at ${Math.round(eventsPerSecond).toLocaleString('en')} events/s`;
    });
    tell('memory of the server process after all that', '–', `${Math.round(residentMiB(target.pids.server))} MiB`);

    await rounds(heavy(target));

    if (isWanted('pgbench')) {
      const admin = await warm.connect();
      await admin.query('create database bench');
      await admin.end();
      const tps = await pgbench(warm.postgres);
      tell(
        '`pgbench -N`, 16 clients, same Postgres (the ceiling of one transaction per call)',
        '–',
        typeof tps === 'number' ? `${Math.round(tps).toLocaleString('en')}/s` : tps,
      );
      for (const name of ['create', 'lifecycle']) {
        const perSecond = medians.get(name)?.perSecond;
        if (typeof tps === 'number' && perSecond !== undefined) {
          tell(`${name} as a share of that`, '–', `${Math.round((perSecond / tps) * 100)} %`);
        }
      }
    }
  } finally {
    await warm.stop();
    await fs.rm(dataDir, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  }
};

if (!wanted?.every(hasItsOwn)) {
  await measureOne();
}
await suitesOfTheirOwn({ isWanted, tell, times, stored: Math.max(100_000, Math.round(Number(options.stored) * scale)) });

tell('processor time that the host gave to others meanwhile', '–', `${(stolen() * 100).toFixed(1)} %`);

const text = `# Results

Measured by \`npm run bench${process.argv.length > 2 ? ` -- ${process.argv.slice(2).join(' ')}` : ''}\` on ${new Date().toISOString().slice(0, 10)}: ${os.cpus().length} cores (${os.cpus()[0]?.model ?? '?'}), ${Math.round(os.totalmem() / 2 ** 30)} GiB, ${os.type()} ${os.release()}, Node ${process.version}.
Warm: after ${times(WARM_LIFECYCLES).toLocaleString('en')} lifecycles. Server, Postgres (\`fsync\` and \`synchronous_commit\` on) and load generator share these cores. Definitions have about 2 KB. CPU is milliseconds of processor time
per item: server + Postgres + generator. Rates move by half and more with what else the host of the machine does: hold them against \`pgbench -N\` and what the
machine itself does. What has a best round was measured ${ROUNDS} times, one suite after the other and all of them again; beside it stands the median round.

| what | goal | measured | best round |
|---|---|---|---|
${rows.map(({ what, goal, figure, best }) => `| ${what} | ${goal} | ${figure} | ${best} |`).join('\n')}
`;
console.log(text);
if (!options['no-write'] && !wanted) {
  await fs.writeFile(path.join(ROOT, 'bench', 'results.md'), text);
}
