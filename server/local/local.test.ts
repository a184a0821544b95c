import fs from 'node:fs/promises';
import http from 'node:http';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock, systemRandom } from '@tscluster/client/clock.ts';
import { writeEnvFile } from './env-file.ts';
import { type FrontDoor, openFrontDoor } from './front-door.ts';
import { type InstanceLock, takeInstanceLock } from './instance-lock.ts';
import { openLogFile } from './log-file.ts';
import { readOptions } from './options.ts';
import { StartProblem, explainFileErrors } from './problem.ts';
import { chooseRunFolder } from './run-folder.ts';
import { loadSecrets } from './secrets.ts';
import { SERVICE_CLIENTS, staticClients } from './static-clients.ts';
import { renderStatus, statusPage } from './status-page.ts';
import { startWorker } from './worker.ts';

let dir: string;
const cleanups: (() => Promise<unknown> | void)[] = [];
beforeEach(async () => {
  dir = await fs.mkdtemp(path.join(os.tmpdir(), 'taskcluster-local-'));
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) {
    await cleanup();
  }
  await fs.rm(dir, { recursive: true, force: true });
});

describe('options', () => {
  test('have defaults', () => {
    expect(readOptions([], '/home/me')).toEqual({ port: 8080, dataDir: '/home/me/.taskcluster', metricsPort: 0 });
  });
  test('are taken', () => {
    expect(readOptions(['--port', '9', '--data-dir', '/d', '--metrics-port=7'], '/home/me')).toEqual({
      port: 9,
      dataDir: '/d',
      metricsPort: 7,
    });
    expect(readOptions(['-h'], '/')).toBe('help');
  });
  test.each([
    [['--port', '70000'], "--port must be a port number from 0 to 65535, got '70000'."],
    [['--port', 'x'], "--port must be a port number from 0 to 65535, got 'x'."],
    [['--metrics-port', '-1'], /^Option '--metrics-port' argument is ambiguous/],
    [['--data-dir', ''], '--data-dir must name a folder.'],
    [['--prot', '1'], /^Unknown option '--prot'/],
    [['here'], /^Unexpected argument 'here'/],
  ])('%j is refused', (args, message) => {
    expect(() => readOptions(args, '/')).toThrow(message);
    expect(() => readOptions(args, '/')).toThrow(StartProblem);
  });
});

describe('the lock', () => {
  const take = async (): Promise<InstanceLock> => {
    const lock = await takeInstanceLock(dir, '/data', systemClock);
    cleanups.push(() => lock.release());
    return lock;
  };

  test('names its holder, and is free again after it', async () => {
    const lock = await take();
    await expect(takeInstanceLock(dir, '/data', systemClock)).rejects.toThrow(
      `Another Taskcluster uses /data already: process ${process.pid}, which is starting.`,
    );
    lock.announce('http://localhost:1234');
    await expect(takeInstanceLock(dir, '/data', systemClock)).rejects.toThrow(`process ${process.pid}, at http://localhost:1234.`);
    await lock.release();
    await take();
  });

  test('is waited for while its holder stops', async () => {
    const lock = await take();
    lock.announceEnd();
    let isTaken = false;
    const next = take().then(() => (isTaken = true));
    await systemClock.sleep(0);
    expect(isTaken).toBe(false);
    await lock.release();
    expect(await next).toBe(true);
  });

  test('left by a killed process is free', async () => {
    const dead = net.createServer();
    await new Promise<void>(resolve => dead.listen(path.join(dir, 'dead'), resolve));
    await fs.link(path.join(dir, 'dead'), path.join(dir, 'lock')); // stays when the socket is closed, as after a kill
    await new Promise(resolve => dead.close(resolve));
    const results = await Promise.allSettled([take(), take()]);
    expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    expect((await fs.readdir(dir)).filter(name => name.endsWith('.dead'))).toEqual([]);
  });
});

describe('secrets', () => {
  test('are made once, private, and completed', async () => {
    const first = await loadSecrets(dir, ['static/a'], false, systemRandom);
    const { mode } = await fs.stat(path.join(dir, 'secrets.json'));
    expect(mode & 0o777).toBe(0o600);
    expect(first.accessTokens['static/a']).toMatch(/^[\w-]{44}$/);
    expect(Buffer.from(first.signingSecret, 'base64')).toHaveLength(32);
    const second = await loadSecrets(dir, ['static/a', 'static/b'], true, systemRandom);
    expect(second).toEqual({
      ...first,
      accessTokens: { 'static/a': first.accessTokens['static/a'], 'static/b': expect.stringMatching(/^[\w-]{44}$/) as unknown },
    });
    expect(await loadSecrets(dir, ['static/b'], true, systemRandom)).toEqual(second);
    expect(await fs.readdir(dir)).toEqual(['secrets.json']);
  });
  test('missing beside a database, or damaged, are not replaced', async () => {
    await expect(loadSecrets(dir, [], true, systemRandom)).rejects.toThrow(
      `${dir}/secrets.json is missing, and with it the keys of the database`,
    );
    await fs.writeFile(path.join(dir, 'secrets.json'), '{"accessTokens": {}');
    await expect(loadSecrets(dir, [], true, systemRandom)).rejects.toThrow(`${dir}/secrets.json is damaged.`);
  });
  test('give the local worker a client that may only claim, and every service one of its own', () => {
    expect(SERVICE_CLIENTS).toContain('static/taskcluster/root');
    expect(staticClients(id => `token of ${id}`)).toEqual([
      {
        clientId: 'static/local/worker',
        accessToken: 'token of static/local/worker',
        description: 'The local worker: may only claim from its own task queue, as itself, and ask which caches to purge.',
        scopes: ['purge-cache:purge-requests::local/process', 'queue:claim-work:local/process', 'queue:worker-id:local/local-1'],
      },
    ]);
  });
});

test('the env file is a shell file that only its owner reads', async () => {
  const file = await writeEnvFile(dir, { rootUrl: 'http://localhost:8080', clientId: 'static/taskcluster/root', accessToken: 'secret_-1' });
  expect((await fs.stat(file)).mode & 0o777).toBe(0o600);
  expect(await fs.readFile(file, 'utf8')).toBe(
    'export TASKCLUSTER_ROOT_URL=http://localhost:8080\nexport TASKCLUSTER_CLIENT_ID=static/taskcluster/root\nexport TASKCLUSTER_ACCESS_TOKEN=secret_-1\nunset TASKCLUSTER_CERTIFICATE\n',
  );
});

describe('file problems', () => {
  test('are explained', async () => {
    await fs.writeFile(path.join(dir, 'file'), '');
    const folder = path.join(dir, 'file', 'data');
    await expect(explainFileErrors(folder, () => fs.mkdir(folder))).rejects.toThrow(
      `${folder} cannot be written: a part of that path is a file.`,
    );
    const full = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
    await expect(explainFileErrors('/data', () => Promise.reject(full))).rejects.toThrow(
      '/data cannot be written: the disk is full. Free some space, and start again.',
    );
  });
  test('of another kind pass', async () => {
    const other = new Error('other');
    await expect(explainFileErrors('/data', () => Promise.reject(other))).rejects.toBe(other);
  });
});

test('sockets get a short folder where the wanted one is too long', async () => {
  const short = path.join(dir, 'run');
  expect(await chooseRunFolder(short)).toBe(short);
  expect((await fs.stat(short)).mode & 0o777).toBe(0o700);
  const long = path.join(dir, 'x'.repeat(120), 'run');
  const chosen = await chooseRunFolder(long);
  cleanups.push(() => fs.rm(chosen, { recursive: true }));
  expect(chosen).toBe(await chooseRunFolder(long));
  expect(chosen.length).toBeLessThan(90);
  expect((await fs.stat(chosen)).mode & 0o777).toBe(0o700);
});

describe('the front door', () => {
  const open = async (port: number): Promise<FrontDoor> => {
    const door = await openFrontDoor(port);
    cleanups.push(async () => {
      door.closeConnections();
      await door.stopAccepting();
    });
    return door;
  };
  const get = (port: number, url: string, host = '127.0.0.1'): Promise<{ status: number | undefined; body: string }> =>
    new Promise((resolve, reject) => {
      http
        .get({ host, port, path: url, agent: false }, response => {
          let body = '';
          response.on('data', (chunk: Buffer) => (body += chunk.toString()));
          response.on('end', () => resolve({ status: response.statusCode, body }));
        })
        .on('error', reject);
    });

  test('says that the server is starting, then lets it answer', async () => {
    const door = await open(0);
    expect(await get(door.port, '/')).toMatchObject({ status: 503, body: expect.stringContaining('Taskcluster is starting') as unknown });
    expect(await get(door.port, '/api/queue/v1/ping')).toEqual({
      status: 503,
      body: '{"code":"ServiceUnavailable","message":"Taskcluster is starting; try again in a second."}',
    });
    door.open(http.createServer((request, response) => response.end(`served ${request.url}`)));
    expect(await get(door.port, '/x')).toEqual({ status: 200, body: 'served /x' });
  });

  test('finds a taken port and names who has it', async () => {
    const door = await open(0);
    await expect(openFrontDoor(door.port)).rejects.toThrow(
      process.platform === 'linux' ? `Port ${door.port} is taken by process ${process.pid} (` : `Port ${door.port} is taken`,
    );
  });

  test('takes no connection after the end', async () => {
    const door = await open(0);
    door.open(http.createServer((_request, response) => response.end('served')));
    await door.stopAccepting();
    await expect(get(door.port, '/')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });
});

test('the log is kept in a file of bounded size, and warnings are told once', async () => {
  const told: string[] = [];
  const file = path.join(dir, 'server.log');
  const { log, close } = openLogFile(file, line => told.push(line), 400);
  log.info({ n: 1 }, 'quiet');
  log.warn({ err: new Error('why') }, 'loud');
  log.warn({ err: new Error('why') }, 'loud');
  log.error('louder');
  for (let n = 0; n < 20; n++) {
    log.info({ n }, 'filling');
  }
  close();
  expect(told).toEqual(['warn: loud (why)', 'error: louder']);
  for (const { size, mode } of [await fs.stat(file), await fs.stat(`${file}.1`)]) {
    expect(size).toBeLessThan(3_000);
    expect(mode & 0o777).toBe(0o600);
  }
});

describe('the status page', () => {
  const status = {
    rootUrl: 'http://localhost:8080',
    version: { version: '1.2.3', commit: '0123456789abcdef', source: '', build: '' },
    services: ['queue'],
    envFile: '.taskcluster/env',
  };
  test('shows what runs and what waits, escaped, without scripts', () => {
    const html = renderStatus({ ...status, queues: [{ taskQueueId: 'local/<b>', pendingTasks: 3 }] });
    expect(html).toContain('Version 1.2.3, commit <code>0123456789ab</code>');
    expect(html).toContain('<a href="/references/queue/v1/api.json">reference</a>');
    expect(html).toContain('<td><code>local/&lt;b&gt;</code></td><td class="number">3</td>');
    expect(html).not.toMatch(/<script/i);
  });
  test('says when queues are not for everybody', () => {
    expect(renderStatus({ ...status, queues: undefined })).toContain('Callers without credentials may not see the task queues here.');
  });
  test('answers every path that people open, and no path of programs', async () => {
    const page = statusPage(() => Promise.resolve({ ...status, queues: [] }));
    expect(await page('/')).toMatchObject({ status: 200, headers: { 'content-type': 'text/html; charset=utf-8' } });
    expect((await page('/tasks/fN1SbArXTPSVFNUvaOlinQ/runs/0'))?.body).toContain(
      '<a href="/api/queue/v1/task/fN1SbArXTPSVFNUvaOlinQ/status">',
    );
    expect((await page('/tasks/groups/fN1SbArXTPSVFNUvaOlinQ'))?.body).toContain(
      '<a href="/api/queue/v1/task-group/fN1SbArXTPSVFNUvaOlinQ/list">',
    );
    expect((await page('/<script>'))?.body).toContain('There is no page for <code>/&lt;script&gt;</code> yet.');
    for (const path of ['/api/none/v1/x', '/references/none', '/schemas', '/graphql', '/login/x', '/__none__']) {
      expect(await page(path)).toBeUndefined();
    }
  });
});

describe('the local worker', () => {
  // a worker that notes each life and its configuration, and ends with its standard input
  const PROGRAM = `
    const { appendFileSync } = require('node:fs');
    let text = '';
    process.stdin.on('data', chunk => {
      text += chunk;
      if (text.endsWith('\\n')) { appendFileSync('lives', text); text = ''; }
    });
    process.stdin.on('end', () => { appendFileSync('lives', 'ended\\n'); process.exit(0); });
  `;
  const start = async (): Promise<{ pid: () => number | undefined; stop: () => Promise<void>; lives: () => Promise<string[]> }> => {
    const program = path.join(dir, 'worker.cjs');
    await fs.writeFile(program, PROGRAM);
    const folder = path.join(dir, 'worker');
    const worker = await startWorker({ folder, program, clock: systemClock, config: { name: 'w' } });
    cleanups.push(() => worker.stop());
    const lives = (): Promise<string[]> =>
      fs.readFile(path.join(folder, 'lives'), 'utf8').then(
        text => text.split('\n').filter(line => line !== ''),
        () => [],
      );
    return { pid: () => worker.pid(), stop: () => worker.stop(), lives };
  };
  const until = async <T>(read: () => Promise<T>, isEnough: (value: T) => boolean): Promise<T> => {
    for (;;) {
      const value = await read();
      if (isEnough(value)) {
        return value;
      }
      await systemClock.sleep(5);
    }
  };

  test('is started again when it dies, and told to stop at the end', async () => {
    const worker = await start();
    await until(worker.lives, lives => lives.length === 1);
    process.kill(worker.pid() as number, 'SIGKILL');
    await until(worker.lives, lives => lives.length === 2);
    await worker.stop();
    expect(await worker.lives()).toEqual(['{"name":"w"}', '{"name":"w"}', 'ended']);
    expect(worker.pid()).toBeUndefined();
  });

  test('of a killed server is ended before the next one starts', async () => {
    const first = await start();
    await until(first.lives, lives => lives.length === 1);
    const left = first.pid() as number;
    const second = await start();
    await until(second.lives, lives => lives.length >= 2);
    expect(second.pid()).not.toBe(left);
    await first.stop();
  });
});
