/** The start contract: what a person and a script can rely on when they run `npm start`, and what happens when things go wrong. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs/promises';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { expect, test } from 'vitest';
import { authApi } from '@tscluster/api/auth/api.ts';
import { queueApi } from '@tscluster/api/queue/api.ts';
import { ApiCallError, type Client, createClient } from '@tscluster/client/client.ts';
import { slugid, systemClock, systemRandom } from '@tscluster/client/clock.ts';
import { ANONYMOUS_SCOPES } from '../server/local/first-start.ts';
import { ROOT, type Installation, makeFolder, readEnv, startInstallation, tryStart } from './support/installation.ts';
import { isRunning, until } from './support/processes.ts';

const canMount = spawnSync('unshare', ['-r', '-m', 'true']).status === 0;

/** As people start it. */
const start = (dataDir: string): Promise<Installation> => startInstallation({ program: 'npm start', dataDir });

type TaskDefinition = Parameters<Client<typeof queueApi>['createTask']>[1];
type Connected = Pick<Installation, 'rootUrl' | 'credentials'>;
const authOf = ({ rootUrl, credentials }: Connected): Client<typeof authApi> => createClient(authApi, { rootUrl, credentials });

const createKept = async (installation: Connected): Promise<void> => {
  await authOf(installation).createClient(
    { clientId: 'kept' },
    { expires: '2100-01-01T00:00:00.000Z', description: 'survives', scopes: ['a:b'] },
  );
};
const requireKept = async (installation: Connected): Promise<void> => {
  expect(await authOf(installation).client({ clientId: 'kept' })).toMatchObject({ description: 'survives', scopes: ['a:b'] });
};

/** Processes of this machine whose command line or environment names the folder. */
const listProcesses = async (dataDir: string): Promise<string[]> => {
  const found: string[] = [];
  for (const pid of (await fs.readdir('/proc')).filter(name => /^\d+$/.test(name) && Number(name) !== process.pid)) {
    const command = await fs.readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    const environment = await fs.readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '');
    if (command.includes(dataDir) || environment.includes(`TASKCLUSTER_LOCAL_WORKER=${dataDir}`)) {
      found.push(`${pid} ${command.replaceAll('\0', ' ')}`);
    }
  }
  return found;
};

test('the first start gives a working installation; the second keeps everything; the end leaves no process', async () => {
  const dataDir = path.join(await makeFolder(), 'data');
  const first = await start(dataDir);
  expect(first.output()).toContain(`Taskcluster is ready at ${first.rootUrl}\n`);
  expect((await fs.stat(path.join(dataDir, 'env'))).mode & 0o777).toBe(0o600);
  expect((await fs.stat(dataDir)).mode & 0o777).toBe(0o700);
  expect((await authOf(first).currentScopes()).scopes).toEqual(['*']);
  expect((await createClient(authApi, { rootUrl: first.rootUrl }).currentScopes()).scopes.toSorted()).toEqual(
    ['assume:anonymous', ...ANONYMOUS_SCOPES].sort(),
  );
  const page = await fetch(first.rootUrl);
  expect([page.status, page.headers.get('content-type')]).toEqual([200, 'text/html; charset=utf-8']);
  expect(await page.text()).toContain('<h1>Taskcluster</h1>');
  expect((await fetch(`${first.rootUrl}/references/manifest.json`)).status).toBe(200);
  const metricsUrl = /Metrics: (\S+)/.exec(first.output())?.[1] as string;
  expect(await (await fetch(metricsUrl)).text()).toContain('http_requests_total');

  await createKept(first);
  await authOf(first).updateRole({ roleId: 'anonymous' }, { scopes: ['auth:current-scopes'], description: 'private now' });
  expect(await first.end('SIGINT')).toBe(0);
  expect(await listProcesses(dataDir)).toEqual([]);

  const second = await start(dataDir);
  expect(second.credentials).toEqual(first.credentials);
  await requireKept(second);
  expect(await authOf(second).role({ roleId: 'anonymous' })).toMatchObject({ scopes: ['auth:current-scopes'] });
  expect(await second.end('SIGTERM')).toBe(0);
  expect(await listProcesses(dataDir)).toEqual([]);
});

test('a taken port and a used folder are told, with who has them, and change nothing', async () => {
  const folder = await makeFolder();
  const running = await start(path.join(folder, 'data'));
  const port = new URL(running.rootUrl).port;

  const samePort = tryStart(['--data-dir', path.join(folder, 'other'), '--port', port]);
  expect(await samePort.exited).toBe(1);
  expect(samePort.output()).toContain(`Port ${port} is taken by process ${await running.pid('server')} (`);
  expect(samePort.output()).toContain(`npm start -- --port ${Number(port) + 1}`);

  const sameFolder = tryStart(['--data-dir', running.dataDir, '--port', '0']);
  expect(await sameFolder.exited).toBe(1);
  expect(sameFolder.output()).toContain(
    `Another Taskcluster uses ${running.dataDir} already: process ${await running.pid('server')}, at ${running.rootUrl}.`,
  );
  expect((await authOf(running).currentScopes()).scopes).toEqual(['*']);

  const blocker = http.createServer();
  await new Promise<void>(resolve => blocker.listen(0, '127.0.0.1', resolve));
  const blocked = (blocker.address() as AddressInfo).port;
  const sameMetricsPort = tryStart(['--data-dir', path.join(folder, 'third'), '--port', '0', '--metrics-port', String(blocked)]);
  expect(await sameMetricsPort.exited).toBe(1);
  expect(sameMetricsPort.output()).toContain(`Port ${blocked} is taken by process ${process.pid} (`);
  expect(sameMetricsPort.output()).toContain(`--metrics-port ${blocked + 1}`);
  blocker.close();
  expect(await listProcesses(path.join(folder, 'third'))).toEqual([]);
});

test('a folder that cannot be written is told', async () => {
  const folder = await makeFolder();
  await fs.writeFile(path.join(folder, 'file'), '');
  const below = path.join(folder, 'file', 'data');
  const attempt = tryStart(['--data-dir', below, '--port', '0']);
  expect(await attempt.exited).toBe(1);
  expect(attempt.output()).toContain(
    `${below} cannot be written: a part of that path is a file. Choose another folder with --data-dir DIR.`,
  );
  if (process.getuid?.() !== 0) {
    await fs.chmod(folder, 0o500);
    const refused = tryStart(['--data-dir', path.join(folder, 'data'), '--port', '0']);
    expect(await refused.exited).toBe(1);
    expect(refused.output()).toContain(`${path.join(folder, 'data')} cannot be written: this user may not write there.`);
    await fs.chmod(folder, 0o700);
  }
});

test.runIf(canMount)('a full disk is told, at the start and later; with space again everything goes on', async () => {
  const folder = await makeFolder();
  const onSmallDisk = (size: string): string[] => [
    'unshare',
    '-r',
    '-m',
    'sh',
    '-c',
    `mount -t tmpfs -o size=${size} tmpfs ${folder} && exec "$@"`,
    'sh',
  ];
  const dataDir = path.join(folder, 'data');
  const tooSmall = tryStart(['--data-dir', dataDir, '--port', '0'], onSmallDisk('20m'));
  expect(await tooSmall.exited).toBe(1);
  expect(tooSmall.output()).toContain(`The disk that holds ${dataDir}/postgres is full: Postgres cannot write. Free some space.`);

  const running = tryStart(['--data-dir', dataDir, '--port', '0'], onSmallDisk('150m'));
  await until(() => running.output().includes('Taskcluster is ready at '));
  const seen = `/proc/${running.child.pid}/root`; // the disk is mounted for that process only
  const { rootUrl, credentials } = await readEnv(seen + dataDir);
  const installation = { rootUrl, credentials };
  await createKept(installation);
  const filler = await fs.open(`${seen}${folder}/filler`, 'w');
  await expect(
    (async () => {
      for (;;) {
        await filler.write(Buffer.alloc(65_536));
      }
    })(),
  ).rejects.toMatchObject({ code: 'ENOSPC' });
  await filler.close();

  const auth = createClient(authApi, { rootUrl, credentials, retries: 0 });
  const write = (id: number): Promise<unknown> =>
    auth.createRole({ roleId: `filled-${id}` }, { scopes: [], description: 'x'.repeat(10_000) });
  const refusals: unknown[] = [];
  let count = 0;
  for (; refusals.length === 0; count++) {
    await write(count).catch((error: unknown) => refusals.push(error));
  }
  expect(refusals[0]).toMatchObject({ statusCode: expect.toSatisfy((status: number) => status >= 500) as unknown });
  await fs.rm(`${seen}${folder}/filler`);
  await until(() =>
    write(count).then(
      () => true,
      () => false,
    ),
  );
  await requireKept(installation);
  for (let id = 0; id < count - 1; id++) {
    expect((await auth.role({ roleId: `filled-${id}` })).roleId).toBe(`filled-${id}`); // what was confirmed is there
  }
  running.child.kill('SIGTERM');
  expect(await running.exited).toBe(0);
});

test('a killed Postgres comes back, and with it the services', async () => {
  const installation = await start(path.join(await makeFolder(), 'data'));
  await createKept(installation);
  for (let round = 0; round < 3; round++) {
    const from = installation.output().length;
    process.kill(await installation.pid('postgres'), 'SIGKILL');
    await installation.says('Postgres runs again', from);
    await requireKept(installation);
    await authOf(installation).createRole({ roleId: `round-${round}` }, { scopes: [], description: '' });
  }
  expect((await authOf(installation).listRoleIds()).roleIds).toEqual(['anonymous', 'round-0', 'round-1', 'round-2']);
  expect(await installation.end('SIGTERM')).toBe(0);
});

test('after a kill -9 of everything the next start recovers', async () => {
  const dataDir = path.join(await makeFolder(), 'data');
  const first = await start(dataDir);
  await createKept(first);
  process.kill(-first.programPid, 'SIGKILL');
  const second = await start(dataDir); // at once: Postgres may not have noticed yet
  await requireKept(second);
  const [server, postgres] = [await second.pid('server'), await second.pid('postgres')];
  process.kill(server, 'SIGKILL');
  await until(async () => !(await isRunning(postgres))); // it ends with the server
  await until(async () => (await listProcesses(dataDir)).length === 0);
  const third = await start(dataDir);
  process.kill(await third.pid('postgres'), 'SIGKILL');
  process.kill(-third.programPid, 'SIGKILL');
  const fourth = await start(dataDir);
  await requireKept(fourth);
  expect(await fourth.end('SIGTERM')).toBe(0);
});

test('a server ends with the program that started it', async () => {
  const dataDir = path.join(await makeFolder(), 'data');
  const installation = await start(dataDir);
  const server = await installation.pid('server');
  process.kill(installation.programPid, 'SIGKILL');
  await until(async () => !(await isRunning(server)));
  await until(async () => (await listProcesses(dataDir)).length === 0);
});

test('what npm is told reaches the server, and npm waits for its end', async () => {
  const dataDir = path.join(await makeFolder(), 'data');
  const startWithNpm = async (): Promise<ChildProcess> => {
    const npm = spawn('npm', ['start', '--', '--data-dir', dataDir, '--port', '0'], {
      cwd: ROOT,
      stdio: ['ignore', 'pipe', 'inherit'],
      detached: true,
    });
    let output = '';
    npm.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    await until(() => output.includes('Taskcluster is ready at '));
    return npm;
  };
  const told = await startWithNpm();
  const exited = new Promise(resolve => told.once('exit', resolve));
  told.kill('SIGTERM');
  await exited;
  expect(await listProcesses(dataDir)).toEqual([]);

  const killed = await startWithNpm();
  killed.kill('SIGKILL');
  await until(async () => (await listProcesses(dataDir)).length === 0);
});

test('tasks of the built-in queues end as they say, also those that a killed server held', async () => {
  const dataDir = path.join(await makeFolder(), 'data');
  const first = await start(dataDir);
  const queue = createClient(queueApi, { ...first, retries: 0 });
  const define = (workerType: string): TaskDefinition => {
    const now = systemClock.nowMs();
    return {
      taskQueueId: `built-in/${workerType}`,
      created: new Date(now).toISOString(),
      deadline: new Date(now + 3_600_000).toISOString(),
      payload: {},
      metadata: { name: 'built-in', description: '', owner: 'nobody@example.com', source: 'https://example.com' },
    };
  };
  const confirmed = new Map<string, string>();
  const refused: unknown[] = [];
  const createMany = async (workerType: string): Promise<void> => {
    while (refused.length === 0) {
      const taskId = slugid(systemRandom);
      await queue.createTask({ taskId }, define(workerType)).then(
        () => confirmed.set(taskId, workerType === 'succeed' ? 'completed' : 'failed'),
        (error: unknown) => refused.push(error), // killed
      );
    }
  };
  const creating = Promise.all(['succeed', 'fail', 'succeed', 'fail'].map(createMany));
  await until(() => confirmed.size > 200);
  process.kill(-first.programPid, 'SIGKILL');
  await creating;

  const second = await start(dataDir);
  const restarted = createClient(queueApi, second);
  const states = new Map<string, string>();
  await until(async () => {
    for (const taskId of confirmed.keys()) {
      const { state } = (await restarted.status({ taskId })).status;
      states.set(taskId, state);
      if (!['completed', 'failed', 'exception'].includes(state)) {
        return false;
      }
    }
    return true;
  });
  expect(states).toEqual(confirmed);
  expect(await second.end('SIGTERM')).toBe(0);
});

test('a refused request is refused, also by an installation that has just started', async () => {
  const installation = await start(path.join(await makeFolder(), 'data'));
  const stranger = createClient(authApi, {
    rootUrl: installation.rootUrl,
    credentials: { clientId: 'static/taskcluster/root', accessToken: 'x'.repeat(44) },
  });
  const refusal = await stranger.listClients().catch((error: unknown) => error as ApiCallError);
  expect(refusal).toBeInstanceOf(ApiCallError);
  expect(refusal).toMatchObject({ code: 'AuthenticationFailed', statusCode: 401 });
});
