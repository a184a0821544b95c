/** What a task tries that it must not be able to do: each attempt is made by a real task, and each must see it fail. */
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { isNamespaced } from './testing/isolation.ts';
import { withWorker, type WorkerUnderTest } from './testing/with-worker.ts';

// processes start and end while the machine has other things to do
vi.setConfig({ testTimeout: 30_000 });

const sh = (script: string): string[] => ['/bin/bash', '--norc', '-c', script];
const SECRET = 'the-secret-of-the-installation';

/** Whether a process with these words on its command line lives. */
const isRunning = (words: string): boolean =>
  readdirSync('/proc').some(pid => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').includes(words);
    } catch {
      return false;
    }
  });

let t: WorkerUnderTest;
let installation: string;
let postgres: Server;

beforeAll(async () => {
  installation = mkdtempSync(join(tmpdir(), 'tscluster-installation-'));
  writeFileSync(join(installation, 'env'), `export TASKCLUSTER_ACCESS_TOKEN=${SECRET}\n`, { mode: 0o600 });
  mkdirSync(join(installation, 'run'));
  postgres = createServer(socket => socket.end('reached the database')).listen(join(installation, 'run', '.s.PGSQL.5432'));
  process.env['TEST_WORKER_SECRET'] = SECRET;
  t = await withWorker({ capacity: 3, hiddenPaths: [installation] });
});

afterAll(async () => {
  await t[Symbol.asyncDispose]();
  postgres.close();
  rmSync(installation, { recursive: true, force: true });
});

const run = async (script: string, payload: Record<string, unknown> = {}) => {
  const task = t.queue.addTask({ command: [sh(script)], maxRunTime: 60, ...payload });
  await t.queue.resolved(task);
  return { task, log: t.queue.log(task) };
};

describe.runIf(isNamespaced)('a task', () => {
  test('does not find the env file', async () => {
    const { log, task } = await run(`cat ${installation}/env; ls -A ${installation}; echo looked`);
    expect(log).toContain('No such file or directory');
    expect(log).toContain('looked\n');
    expect(log).not.toContain(SECRET);
    expect(task.state).toBe('completed');
  });

  test('does not uncover what is hidden', async () => {
    const { log } = await run(
      `umount ${installation}; umount -l ${installation}; unshare -r -m umount ${installation}; unshare -r -m umount -l ${installation};
       unshare -r -m sh -c 'mount --move ${installation} /mnt; cat ${installation}/env'; nsenter -t 1 -m cat ${installation}/env;
       cat /proc/1/root${installation}/env; cat /proc/1/cwd/../../env; cat ${installation}/env; echo tried`,
    );
    expect(log).toContain('tried\n');
    expect(log).not.toContain(`TOKEN=${SECRET}`);
  });

  test("does not reach the database's socket", async () => {
    const { log } = await run(
      `python3 -c 'import socket; s=socket.socket(socket.AF_UNIX); s.connect("${installation}/run/.s.PGSQL.5432"); print(s.recv(99))'; echo tried`,
    );
    expect(log).toContain('tried\n');
    expect(log).toContain('FileNotFoundError');
    expect(log).not.toContain('reached the database\n');
  });

  test("does not see the worker, its environment or its memory, nor its supervisor's", async () => {
    const { log } = await run(
      `for p in /proc/[0-9]*; do tr '\\0' '\\n' < $p/environ; tr '\\0' ' ' < $p/cmdline; done 2>/dev/null | sed 's/^/seen: /'
       head -c 1 /proc/1/mem; cat /proc/1/environ; ls -l /proc/1/fd; kill -9 1; kill -9 ${process.pid}; env; echo tried`,
    );
    expect(log).toContain('tried\n');
    expect(log).not.toContain(SECRET);
    expect(log).not.toContain(t.config.accessToken);
    expect(log).not.toContain('secret-token');
    expect(log).toContain('/proc/1/environ: Permission denied');
    expect(log).toContain(`kill: (${process.pid}) - No such process`);
  });

  test('sees neither the folders of other tasks nor the state of the worker', async () => {
    const neighbour = t.queue.addTask({ command: [sh('echo private > private.txt; sleep 60')], maxRunTime: 60 });
    await t.queue.until(() => neighbour.state === 'running');
    const { log } = await run(`ls ${t.config.tasksDir} | wc -l; find ${t.config.dataDir} -type f | sed 's/^/found: /'; echo looked`);
    t.queue.cancel(neighbour);
    expect(log).toContain('1\nlooked\n');
    expect(log).not.toContain('\nfound: ');
  });

  test('starts its programs only after the walls are built: its LD_PRELOAD and PATH do not reach the builders', async () => {
    const { log, task } = await run('echo ok', {
      env: { LD_PRELOAD: '/nonexistent.so', PATH: '/nonexistent', ENV: '/nonexistent', BASH_ENV: '/nonexistent' },
    });
    expect(log.match(/nonexistent.so/g)?.length ?? 0).toBeLessThanOrEqual(1);
    expect(task.state).toBe('completed');
  });
});

describe.each([
  ['in namespaces', 'auto'],
  ['without namespaces', 'none'],
])('%s, a task does not outlive its end', (_, isolation) => {
  let own: WorkerUnderTest;
  let count = 80_000 + (isolation === 'auto' ? 0 : 500);
  beforeAll(async () => {
    own = await withWorker({ isolation });
  });
  afterAll(async () => own[Symbol.asyncDispose]());

  const escapes = (): { words: string; script: string } => {
    const words = `sleep ${count++}.${process.pid}`;
    return {
      words,
      script: `setsid ${words} & (setsid nohup ${words} >/dev/null 2>&1 &) ; (trap '' TERM HUP INT; ${words}) & ( (${words} &) &) ;
               setsid setsid ${words} >/dev/null & `,
    };
  };

  test('when it ends by itself', async () => {
    const { words, script } = escapes();
    const task = own.queue.addTask({ command: [sh(`${script} exit 0`)], maxRunTime: 60 });
    await own.queue.resolved(task);
    expect(task.state).toBe('completed');
    expect(isRunning(words)).toBe(false);
  });

  test('when maxRunTime is over', async () => {
    const { words, script } = escapes();
    const task = own.queue.addTask({ command: [sh(`${script} trap '' TERM; ${words}`)], maxRunTime: 1 });
    await own.queue.resolved(task);
    expect(task.state).toBe('failed');
    expect(own.queue.log(task)).toContain('[taskcluster:error] The task exceeded its maxRunTime of 1 seconds');
    expect(isRunning(words)).toBe(false);
  });
});

describe('the proxy of a task', () => {
  const payload = { features: { taskclusterProxy: true } };

  test('serves its own processes, and neither its neighbours nor anybody else', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'tscluster-url-'));
    const file = join(folder, 'url');
    const own = t.queue.addTask({
      command: [
        sh(
          `echo $TASKCLUSTER_PROXY_URL > ${file}.new; mv ${file}.new ${file}; curl -s -o /dev/null -w 'own: %{http_code}\\n' $TASKCLUSTER_PROXY_URL/api/queue/v1/ping; while [ -e ${file} ]; do sleep 0.05; done`,
        ),
      ],
      maxRunTime: 60,
      ...payload,
    });
    const url = await t.queue.until(() => {
      try {
        return own.state === 'running' && t.queue.requests.some(({ path }) => path.endsWith('/ping')) && readFileSync(file, 'utf8').trim();
      } catch {
        return false;
      }
    });
    const { log } = await run(`curl -s -w '%{http_code}\\n' ${url}/api/queue/v1/ping`);
    expect(log).toContain('This proxy belongs to a task: only the processes of that task may use it.\n403\n');
    expect((await fetch(`${url}/api/queue/v1/ping`)).status).toBe(403);
    const outside = spawn('curl', ['-s', '-o', '/dev/null', '-w', '%{http_code}', `${url}/api/queue/v1/ping`]);
    expect(String(await outside.stdout.take(1).toArray())).toBe('403');
    rmSync(folder, { recursive: true });
    await t.queue.resolved(own);
    expect(t.queue.log(own)).toContain('own: 404\n');
  });
});
