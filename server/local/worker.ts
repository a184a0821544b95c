/**
 * The local worker: a child process that is started again when it dies, and that ends with this process, because its standard input does. It keeps
 * its identity, so that what it left when it was killed is resolved at once by its next life.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs/promises';
import path from 'node:path';
import type { Clock } from '@tscluster/client/clock.ts';

export interface WorkerOptions {
  /** What the worker reads from its standard input: its whole configuration, credentials included. */
  readonly config: Readonly<Record<string, unknown>>;
  /** The program; for tests another one. */
  readonly program?: string;
  /** Where its output goes, and the file that names its process. */
  readonly folder: string;
  readonly clock: Clock;
  /** Called before each of its lives, when none of its processes runs; it starts when this has resolved, and in any case when this has failed. */
  readonly beforeStart?: (signal: AbortSignal) => Promise<void>;
  readonly onEvent?: (event: { readonly kind: 'died' | 'started'; readonly message: string }) => void;
}

export interface SupervisedWorker {
  pid(): number | undefined;
  /** Lets it finish: it ends its tasks and tells the queue. Kills it when it takes too long. */
  stop(): Promise<void>;
}

const PROGRAM = path.join(import.meta.dirname, '..', '..', 'worker', 'main.ts');
const MARKER = 'TASKCLUSTER_LOCAL_WORKER';
const FIRST_WAIT_MS = 200;
const LONGEST_WAIT_MS = 10_000;
const HEALTHY_MS = 60_000;
const STOP_MS = 25_000;
const LOG_MAX_BYTES = 20_000_000;

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
};

/** Ends a worker that a killed server left and that has not noticed yet: two of one name must not share a folder. */
const endLeftover = async (pidFile: string, marker: string, clock: Clock): Promise<void> => {
  const pid = Number(await fs.readFile(pidFile, 'utf8').catch(() => ''));
  if (!(pid > 0) || !isAlive(pid)) {
    return;
  }
  if (process.platform === 'linux') {
    const environment = await fs.readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '');
    if (!environment.split('\0').includes(`${MARKER}=${marker}`)) {
      return; // the number belongs to another process by now
    }
  }
  // it would want to tell the server that is gone: its next life does that
  process.kill(pid, 'SIGKILL');
  while (isAlive(pid)) {
    await clock.sleep(10);
  }
};

/** What a person's shell says about some installation is not meant for this worker. */
const withoutCredentials = (environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv =>
  Object.fromEntries(Object.entries(environment).filter(([name]) => !name.startsWith('TASKCLUSTER_')));

const openLog = async (file: string): Promise<fs.FileHandle> => {
  const { size } = await fs.stat(file).catch(() => ({ size: 0 }));
  if (size > LOG_MAX_BYTES) {
    await fs.rename(file, `${file}.1`);
  }
  return fs.open(file, 'a', 0o600);
};

/** Starts the worker and keeps it running. */
export const startWorker = async (options: WorkerOptions): Promise<SupervisedWorker> => {
  const { clock, folder } = options;
  const pidFile = path.join(folder, 'worker.pid');
  const stopping = new AbortController();
  let child: ChildProcess | undefined;
  await fs.mkdir(folder, { recursive: true, mode: 0o700 });
  await endLeftover(pidFile, folder, clock);

  const runOnce = async (): Promise<string> => {
    const log = await openLog(path.join(folder, 'worker.log'));
    try {
      const current = spawn(process.execPath, [options.program ?? PROGRAM, '--config', '-'], {
        stdio: ['pipe', log.fd, log.fd],
        detached: true, // a terminal's Ctrl-C is for us: the worker stops when we tell it to
        cwd: folder,
        env: { ...withoutCredentials(process.env), [MARKER]: folder },
      });
      child = current;
      const exited = new Promise<string>(resolve => {
        current.once('error', error => resolve(error.message));
        current.once('exit', (code, signal) => resolve(signal ? `killed by ${signal}` : `status ${code}`));
      });
      current.stdin?.on('error', () => undefined); // it died: `exit` tells
      current.stdin?.write(`${JSON.stringify(options.config)}\n`);
      if (current.pid !== undefined) {
        await fs.writeFile(pidFile, String(current.pid)).catch(() => undefined);
      }
      if (stopping.signal.aborted) {
        current.stdin?.end();
      }
      return await exited;
    } finally {
      child = undefined;
      await log.close();
    }
  };

  const supervise = async (): Promise<void> => {
    let waitMs = FIRST_WAIT_MS;
    while (!stopping.signal.aborted) {
      await options.beforeStart?.(stopping.signal).catch(() => undefined);
      if (stopping.signal.aborted) {
        return;
      }
      const startedMs = clock.monotonicMs();
      const how = await runOnce().catch((error: unknown) => (error as Error).message);
      if (stopping.signal.aborted) {
        return;
      }
      if (clock.monotonicMs() - startedMs > HEALTHY_MS) {
        waitMs = FIRST_WAIT_MS;
      }
      options.onEvent?.({
        kind: 'died',
        message: `The local worker ended (${how}); starting it again. Its log: ${path.join(folder, 'worker.log')}`,
      });
      await clock.sleep(waitMs, stopping.signal).catch(() => undefined);
      waitMs = Math.min(waitMs * 2, LONGEST_WAIT_MS);
    }
  };
  const supervised = supervise();

  return {
    pid: () => child?.pid,
    stop: async () => {
      stopping.abort();
      const last = child;
      last?.stdin?.end();
      const timer = clock.setTimer(STOP_MS, () => last?.kill('SIGKILL'));
      await supervised;
      timer.cancel();
      await fs.rm(pidFile, { force: true }).catch(() => undefined);
    },
  };
};
