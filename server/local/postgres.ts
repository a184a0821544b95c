/**
 * The embedded Postgres: a real one, whose life is that of this process.
 *
 * Between this process and Postgres stands a shell that reads a pipe from us. However we end, also by kill -9, the pipe closes and the shell shuts
 * Postgres down. Both are in a session of their own, so that a terminal's Ctrl-C reaches only us and we stop Postgres last. When Postgres dies under
 * us it is started again; its address stays the same, so that a connection pool recovers by reconnecting.
 *
 * A data folder has one user at a time: the caller holds the installation's lock. Whatever still runs on the folder when a start comes is therefore
 * left over from a killed one, and is stopped or waited for.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs/promises';
import path from 'node:path';
import type { Clock } from '@tscluster/client/clock.ts';
import { type Binaries, type RunAs, chooseUser, findBinaries } from './postgres-binaries.ts';
import { StartProblem, explainFileErrors } from './problem.ts';
import { chooseRunFolder } from './run-folder.ts';

export interface PostgresOptions {
  /** The cluster's folder; made at the first start. Its parent must exist. */
  readonly folder: string;
  /** Postgres's own log. */
  readonly logPath: string;
  /** The socket's folder; one below the system's temporary folder is taken instead where the path is too long for a socket. */
  readonly runFolder: string;
  readonly clock: Clock;
  /** More settings, or others. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Removed when Postgres has ended, however it ended: for tests. */
  readonly removeAtEnd?: string;
  /** Told when Postgres has died, runs again, or cannot be started again yet. */
  readonly onEvent?: (event: PostgresEvent) => void;
}

export interface PostgresEvent {
  readonly kind: 'died' | 'recovered' | 'not-recovered';
  readonly message: string;
}

export interface EmbeddedPostgres {
  /** What `pg` needs to connect; `host` is the socket's folder. */
  readonly connection: { readonly host: string; readonly port: number; readonly user: string; readonly database: string };
  /** The process id of the server that runs now. */
  pid(): number | undefined;
  /** Shuts down cleanly; later calls wait for the same end. */
  stop(): Promise<void>;
}

const PORT = 5432; // only a part of the socket's name: nothing listens on TCP
const POSTGRES_MAJOR = '18';

/** Measured: Postgres's defaults cost 8 to 13 % of the hot path; JIT compiles for longer than our statements run; a title per statement costs 2 %. */
const SETTINGS: Readonly<Record<string, string>> = {
  listen_addresses: '',
  unix_socket_permissions: '0700',
  shared_buffers: '256MB',
  max_wal_size: '4GB',
  jit: 'off',
  update_process_title: 'off',
  fsync: 'on',
  synchronous_commit: 'on',
  max_connections: '200',
  // containers give 64 MB of /dev/shm, which parallel queries would fill
  max_parallel_workers_per_gather: '0',
  timezone: 'UTC',
  log_timezone: 'UTC',
  log_line_prefix: '%m [%p] ',
};

/** For tests: what is lost in a crash of the machine does not matter. */
export const NOT_DURABLE: Readonly<Record<string, string>> = {
  fsync: 'off',
  synchronous_commit: 'off',
  full_page_writes: 'off',
  autovacuum: 'off',
  max_connections: '400',
};

// The command's standard input is our pipe. `read` ends when the pipe does; then Postgres is told to end at once (clients are disconnected), and
// after half a minute without a checkpoint.
const WATCHDOG = `
remove=$1; shift
exec 3<&0 </dev/null
"$@" 3<&- &
pid=$!
(
  while read -r line <&3; do :; done
  kill -INT "$pid"
  tries=0
  while [ "$tries" -lt 300 ] && kill -0 "$pid" 2>/dev/null; do sleep 0.1; tries=$((tries + 1)); done
  kill -QUIT "$pid" 2>/dev/null
) &
watcher=$!
exec 3<&-
wait "$pid"
status=$?
kill "$watcher" 2>/dev/null
if [ -n "$remove" ]; then rm -rf "$remove"; fi
exit "$status"
`;

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
};

const commandOf = async (pid: number): Promise<string> => {
  if (process.platform === 'linux') {
    return fs.readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
  }
  return new Promise(resolve => {
    const child = spawn('ps', ['-o', 'command=', '-p', String(pid)], { stdio: ['ignore', 'pipe', 'ignore'] });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.on('error', () => resolve(''));
    child.on('close', () => resolve(output));
  });
};

// Its lines: process id, folder, start time, port, socket folder, listen address, shared memory key, status.
const readPidFile = async (folder: string): Promise<string[] | undefined> => {
  const text = await fs.readFile(path.join(folder, 'postmaster.pid'), 'utf8').catch(() => undefined);
  return text?.split('\n');
};

const waitUntilDead = async (clock: Clock, pid: number, timeoutMs: number): Promise<boolean> => {
  const untilMs = clock.monotonicMs() + timeoutMs;
  while (isAlive(pid)) {
    if (clock.monotonicMs() > untilMs) {
      return false;
    }
    await clock.sleep(10);
  }
  return true;
};

/**
 * Ends a Postgres that a killed process left, and makes its lock file harmless. The lock file names a process id, and Postgres refuses to start when
 * any process has it, which after a restart of the machine some other one may; the line with the shared memory key stays, so that Postgres itself
 * still waits for children of a killed server.
 */
const clearLeftover = async (clock: Clock, folder: string): Promise<void> => {
  const lines = await readPidFile(folder);
  if (!lines) {
    return;
  }
  const pid = Number(lines[0]);
  if (pid > 0 && isAlive(pid) && /postgres/.test(await commandOf(pid)) && (await commandOf(pid)).includes(folder)) {
    for (const [signal, timeoutMs] of [
      ['SIGINT', 15_000],
      ['SIGQUIT', 5_000],
      ['SIGKILL', 2_000],
    ] as const) {
      try {
        process.kill(pid, signal);
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code === 'EPERM') {
          throw new StartProblem(
            `A Postgres of another user (process ${pid}) runs on ${folder}. Stop it, or choose another folder with --data-dir DIR.`,
            {
              cause: error,
            },
          );
        }
      }
      if (await waitUntilDead(clock, pid, timeoutMs)) {
        break;
      }
    }
  }
  const left = await readPidFile(folder);
  if (left) {
    const NOBODY = '2147483646'; // no machine has this process id
    await fs.writeFile(path.join(folder, 'postmaster.pid'), [NOBODY, ...left.slice(1, 7), ''].join('\n'));
  }
};

const spawnFree = (runAs: RunAs, command: readonly string[], log: number): ChildProcess => {
  const [program, ...args] = [...runAs.prefix, ...command] as [string, ...string[]];
  return spawn(program, args, {
    cwd: '/',
    detached: true,
    stdio: ['pipe', log, log],
    env: { PATH: process.env['PATH'] ?? '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' },
    ...runAs.account,
  });
};

const whenDone = (child: ChildProcess): Promise<{ code: number | null; signal: NodeJS.Signals | null }> =>
  new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', (code, signal) => resolve({ code, signal }));
  });

/** Changes the owner of a folder and everything below, where the folder has another one. */
const giveTo = async (folder: string, owner: { uid: number; gid: number }): Promise<void> => {
  if ((await fs.stat(folder)).uid !== owner.uid) {
    for (const name of await fs.readdir(folder, { recursive: true })) {
      await fs.lchown(path.join(folder, name), owner.uid, owner.gid);
    }
    await fs.chown(folder, owner.uid, owner.gid); // last, so that a change cut short is taken up again
  }
};

const LOG_MAX_BYTES = 10_000_000;

/** The end of the log from an offset on, at most 4 kB. */
const readLogSince = async (logPath: string, offset: number): Promise<string> => {
  const file = await fs.open(logPath, 'r').catch(() => undefined);
  if (!file) {
    return '';
  }
  try {
    const { size } = await file.stat();
    const from = Math.max(offset, size - 4_096);
    const buffer = Buffer.alloc(Math.max(0, size - from));
    await file.read(buffer, 0, buffer.length, from);
    return buffer.toString();
  } finally {
    await file.close();
  }
};

const explainLog = (folder: string, logPath: string, log: string): string => {
  if (/No space left on device|Disk quota exceeded/.test(log)) {
    return `The disk that holds ${folder} is full: Postgres cannot write. Free some space.`;
  }
  const lines = log
    .trim()
    .split('\n')
    .slice(-6)
    .map(line => `  ${line}`);
  return [`Postgres did not start on ${folder}. Its last words (all of them are in ${logPath}):`, ...lines].join('\n');
};

const createCluster = async (options: PostgresOptions, binaries: Binaries, runAs: RunAs): Promise<void> => {
  const version = await fs.readFile(path.join(options.folder, 'PG_VERSION'), 'utf8').catch(() => undefined);
  if (version !== undefined) {
    if (version.trim() !== POSTGRES_MAJOR) {
      throw new StartProblem(
        `${options.folder} holds a database of Postgres ${version.trim()}, and this release brings ${POSTGRES_MAJOR}. Start the release that made it, or choose another folder with --data-dir DIR.`,
      );
    }
    return;
  }
  // made under another name and renamed, so that a start killed half-way leaves nothing that looks finished
  const unfinished = `${options.folder}.new`;
  await explainFileErrors(options.folder, async () => {
    await fs.rm(unfinished, { recursive: true, force: true });
    await fs.mkdir(unfinished, { mode: 0o700 });
    if (runAs.account) {
      await fs.chown(unfinished, runAs.account.uid, runAs.account.gid);
    }
  });
  const log = await fs.open(options.logPath, 'a', 0o600);
  try {
    const { size } = await log.stat();
    const durable = options.settings?.['fsync'] !== 'off';
    const child = spawnFree(
      runAs,
      // prettier-ignore
      [binaries.initdb, '-D', unfinished, '-U', 'postgres', '--auth=trust', '--encoding=UTF8', '--locale=C', '--no-instructions', ...(durable ? [] : ['--no-sync'])],
      log.fd,
    );
    child.stdin?.end();
    const { code, signal } = await whenDone(child);
    if (code !== 0) {
      throw new StartProblem(
        explainLog(options.folder, options.logPath, (await readLogSince(options.logPath, size)) || `initdb ended with ${signal ?? code}`),
      );
    }
  } finally {
    await log.close();
  }
  await fs.rename(unfinished, options.folder);
};

/** Starts one server and waits until it accepts connections. Throws a `StartProblem` with its last words when it ends before. */
const launch = async (
  options: PostgresOptions,
  binaries: Binaries,
  runAs: RunAs,
  runFolder: string,
): Promise<{ child: ChildProcess; exited: Promise<unknown>; pid: number }> => {
  const { clock, folder, logPath } = options;
  const deadlineMs = clock.monotonicMs() + 120_000; // recovery after a crash replays up to max_wal_size
  for (;;) {
    await clearLeftover(clock, folder);
    await fs.rm(path.join(runFolder, `.s.PGSQL.${PORT}.lock`), { force: true });
    const log = await explainFileErrors(logPath, () => fs.open(logPath, 'a', 0o600));
    const { size: logOffset } = await log.stat();
    const settings = { ...SETTINGS, ...options.settings, unix_socket_directories: runFolder };
    const command = [
      binaries.postgres,
      '-D',
      folder,
      '-p',
      String(PORT),
      ...Object.entries(settings).flatMap(([k, v]) => ['-c', `${k}=${v}`]),
    ];
    const child = spawnFree(runAs, ['sh', '-c', WATCHDOG, 'watchdog', options.removeAtEnd ?? '', ...command], log.fd);
    await log.close();
    child.stdin?.on('error', () => undefined); // the watchdog is gone; `exit` tells
    const end = { reached: false };
    const exited = whenDone(child).then(
      () => (end.reached = true),
      () => (end.reached = true),
    );
    while (!end.reached) {
      const lines = await readPidFile(folder);
      if (lines?.[7]?.trim() === 'ready') {
        return { child, exited, pid: Number(lines[0]) };
      }
      if (clock.monotonicMs() > deadlineMs) {
        child.stdin?.end();
        await exited;
        break;
      }
      await clock.sleep(5);
    }
    const words = await readLogSince(logPath, logOffset);
    // children of a killed server that have not noticed yet: they do within a moment
    const isOccupied = /pre-existing shared memory block|lock file .* already exists/.test(words);
    if (!isOccupied || clock.monotonicMs() > deadlineMs) {
      throw new StartProblem(explainLog(folder, logPath, words));
    }
    await clock.sleep(50);
  }
};

/**
 * Starts Postgres on `options.folder` (made at the first start), with a database `postgres` and the superuser `postgres`, whom everybody is who can
 * reach the socket: its folder is 0700. Throws a `StartProblem` that says what to do.
 */
export const startPostgres = async (options: PostgresOptions): Promise<EmbeddedPostgres> => {
  const { clock, folder, logPath } = options;
  const binaries = await findBinaries();
  const runAs = await chooseUser(binaries, path.dirname(folder));
  const runFolder = await chooseRunFolder(options.runFolder);
  const logSize = await fs.stat(logPath).then(
    stat => stat.size,
    () => 0,
  );
  if (logSize > LOG_MAX_BYTES) {
    await fs.rename(logPath, `${logPath}.1`);
  }
  await createCluster(options, binaries, runAs);
  if (process.getuid?.() === 0) {
    // root may have been given another kind of user at an earlier start
    await giveTo(folder, runAs.account ?? { uid: 0, gid: 0 });
    await giveTo(runFolder, runAs.account ?? { uid: 0, gid: 0 });
  }

  let current = await launch(options, binaries, runAs, runFolder);
  let pid: number | undefined = current.pid;
  const stopping = new AbortController();

  const supervise = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      await current.exited;
      pid = undefined;
      if (stopping.signal.aborted) {
        return;
      }
      options.onEvent?.({ kind: 'died', message: 'Postgres ended unexpectedly; starting it again' });
      for (let waitMs = 100; !stopping.signal.aborted; waitMs = Math.min(waitMs * 2, 5_000)) {
        try {
          current = await launch(options, binaries, runAs, runFolder);
          pid = current.pid;
          options.onEvent?.({ kind: 'recovered', message: 'Postgres runs again' });
          break;
        } catch (error) {
          options.onEvent?.({ kind: 'not-recovered', message: (error as Error).message });
          await clock.sleep(waitMs, stopping.signal).catch(() => undefined);
        }
      }
    }
  };
  const supervised = supervise();

  return {
    connection: { host: runFolder, port: PORT, user: 'postgres', database: 'postgres' },
    pid: () => pid,
    stop: async () => {
      stopping.abort();
      current.child.stdin?.end();
      await supervised;
      current.child.stdin?.end();
      await current.exited;
    },
  };
};
