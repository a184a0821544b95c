/**
 * `npm run bench`: starts an installation in a temporary folder, measures it warm, and writes `bench/results.md`. Load generator, server and Postgres
 * share the machine, as in the budget. Options: `--quick` for a tenth of the calls, `--no-write` to leave the file alone, `--only create,chain`,
 * `--profile DIR` for a CPU profile of the server.
 */
import { spawn } from 'node:child_process';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import pg from 'pg';
import { fanOut, idleListeners } from './events-suites.ts';
import { indexFinds, indexInserts, indexRoutes } from './index-suites.ts';
import { type Measured, type Percentiles, residentMiB } from './measure.ts';
import { pgbench } from './pgbench.ts';
import {
  type Target,
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
} from './suites.ts';

const ROOT = path.join(import.meta.dirname, '..');
const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    'no-write': { type: 'boolean', default: false },
    only: { type: 'string' },
    profile: { type: 'string' },
  },
});
const scale = options.quick ? 0.1 : 1;
const times = (count: number): number => Math.max(20, Math.round(count * scale));

const start = async (dataDir: string): Promise<{ child: ReturnType<typeof spawn>; readyMs: number }> => {
  const startedMs = performance.now();
  const profile = options.profile ? ['--cpu-prof', `--cpu-prof-dir=${options.profile}`] : [];
  const child = spawn(process.execPath, [...profile, path.join(ROOT, 'server/local/start.ts'), '--data-dir', dataDir, '--port', '0'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await new Promise<void>((resolve, reject) => {
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString();
      if (output.includes('Taskcluster is ready')) {
        resolve();
      }
    });
    child.once('exit', code => reject(new Error(`The server ended with status ${code}:\n${output}`)));
  });
  return { child, readyMs: performance.now() - startedMs };
};

const stop = (child: ReturnType<typeof spawn>): Promise<void> =>
  new Promise(resolve => {
    child.removeAllListeners('exit');
    child.once('exit', () => resolve());
    child.kill('SIGTERM');
  });

const rate = ({ perSecond, cpuMs }: Measured): string =>
  `${Math.round(perSecond).toLocaleString('en')}/s; CPU ${cpuMs.server.toFixed(2)} + ${cpuMs.postgres.toFixed(2)} + ${cpuMs.generator.toFixed(2)} ms`;
const latency = ({ p50, p95, p99 }: Percentiles): string => `${p50.toFixed(2)} / ${p95.toFixed(2)} / ${p99.toFixed(2)} ms`;

const dataDir = await fs.mkdtemp(path.join(os.tmpdir(), 'taskcluster-bench-'));
const rows: [string, string, string][] = [];
const wanted = options.only?.split(',');
const suite = async (name: string, what: string, goal: string, run: () => Promise<string>): Promise<void> => {
  if (!wanted || wanted.includes(name)) {
    const figure = await run();
    rows.push([what, goal, figure]);
    console.log(`${what}: ${figure} (goal ${goal})`);
  }
};

await stop((await start(dataDir)).child);
const warm = await start(dataDir);
try {
  const env = await fs.readFile(path.join(dataDir, 'env'), 'utf8');
  const value = (name: string): string => new RegExp(`${name}='?([^'\n]*)'?`).exec(env)?.[1] ?? '';
  const [postmaster] = (await fs.readFile(path.join(dataDir, 'postgres', 'postmaster.pid'), 'utf8')).split('\n');
  const postgresPid = Number(postmaster);
  const target: Target = {
    rootUrl: value('TASKCLUSTER_ROOT_URL'),
    credentials: { clientId: value('TASKCLUSTER_CLIENT_ID'), accessToken: value('TASKCLUSTER_ACCESS_TOKEN') },
    pids: { server: warm.child.pid as number, postgres: postgresPid },
  };
  rows.push(['ready, warm start', '≤ 2 s', `${(warm.readyMs / 1000).toFixed(2)} s`]);
  await new Promise(resolve => setTimeout(resolve, 3_000));
  rows.push(['idle memory of the server process', '≤ 250 MiB', `${Math.round(residentMiB(target.pids.server))} MiB`]);

  // the first second of a process measures the compiler
  await creates(target, times(4_000));
  await lifecycles(target, times(4_000));

  await suite('create', 'create, 16 at once', '≥ 5,000/s', async () => rate(await creates(target, times(20_000))));
  await suite('create-64', 'create, 64 at once', '–', async () => rate(await creates(target, times(20_000), 64)));
  await suite('create-1', 'create, 1 at once', '–', async () => rate(await creates(target, times(3_000), 1)));
  await suite('lifecycle', 'create → claim → complete, 8 + 8', '≥ 2,000/s', async () => rate(await lifecycles(target, times(10_000))));
  await suite('hand-off', 'hand-off to an idle worker, p50 / p95 / p99', '≤ 3 / 5 / 10 ms', async () =>
    latency(await handOffs(target, times(500))),
  );
  await suite('chain', 'hop in a chain, p50 / p95 / p99', 'p50 ≤ 2 ms', async () => latency(await chainHops(target, times(500))));
  await suite('status', 'status, 16 at once', '≥ 14,000/s', async () => rate(await reads(target, times(40_000), 'status')));
  await suite('task', 'task, 16 at once', '≥ 12,000/s', async () => rate(await reads(target, times(40_000), 'task')));
  await suite('secrets', 'get a secret, 16 at once', '≥ 10,000/s', async () => rate(await secretReads(target, times(40_000))));
  await suite('list', 'list a group of 2,000, p50 / p95 / p99', '≤ 70 ms', async () => latency(await groupLists(target, times(20))));
  await suite('graph', 'graph of 10,000 tasks and 30,000 edges in one call, p50 / p95 / p99', '≤ 1,000 ms', async () =>
    latency(await graphs(target, times(20))),
  );
  await suite('no-op', 'signed no-op call, 16 at once', '≥ 12,000/s', async () => rate(await signedNoOps(target, times(40_000))));
  await suite('index-insert', 'insert into the index, 16 at once', '≥ 5,000/s', async () =>
    rate(await indexInserts(target, times(20_000))),
  );
  await suite('index-find', 'find in the index, 16 at once', '≥ 12,000/s', async () => rate(await indexFinds(target, times(40_000))));
  await suite('index-routes', 'claim → complete → found by each of four routes, 16 at once', '–', async () =>
    rate(await indexRoutes(target, times(5_000))),
  );
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
  rows.push(['memory of the server process after all that', '–', `${Math.round(residentMiB(target.pids.server))} MiB`]);

  if (!wanted || wanted.includes('pgbench')) {
    const [, , , port, host] = (await fs.readFile(path.join(dataDir, 'postgres', 'postmaster.pid'), 'utf8')).split('\n');
    const admin = new pg.Client({ host: host as string, port: Number(port), user: 'postgres', database: 'postgres' });
    await admin.connect();
    const user = admin.user ?? 'postgres';
    await admin.query('create database bench');
    await admin.end();
    const tps = await pgbench({ host: host as string, port: Number(port), user });
    rows.push([
      '`pgbench -N`, 16 clients, same Postgres (the ceiling of one transaction per call)',
      '–',
      typeof tps === 'number' ? `${Math.round(tps).toLocaleString('en')}/s` : tps,
    ]);
  }
} finally {
  await stop(warm.child);
  await fs.rm(dataDir, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
}

const text = `# Results

Measured by \`npm run bench\`${options.quick ? ' -- --quick' : ''} on ${new Date().toISOString().slice(0, 10)}: ${os.cpus().length} cores (${os.cpus()[0]?.model ?? '?'}), ${Math.round(os.totalmem() / 2 ** 30)} GiB, ${os.type()} ${os.release()}, Node ${process.version}.
Server, Postgres (\`fsync\` and \`synchronous_commit\` on) and load generator share these cores. Definitions have about 2 KB. CPU is milliseconds of processor time
per item: server + Postgres + generator. Rates move by some 10 % from run to run.

| what | goal | measured |
|---|---|---|
${rows.map(row => `| ${row.join(' | ')} |`).join('\n')}
`;
console.log(text);
if (!options['no-write'] && !wanted) {
  await fs.writeFile(path.join(ROOT, 'bench', 'results.md'), text);
}
