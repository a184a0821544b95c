/**
 * A whole installation as a child process, for tests that look at it from outside and that kill parts of it. Each has a data folder and a port of its
 * own, so that several can run at once.
 *
 * Nothing stays behind, however the test ends: the program holds the other end of a pipe of ours and stops when it closes; what is stopped in order is
 * watched until its last process is gone, and a process that stays is killed and fails the test. What a test starts goes with that test, what is started
 * before all of them after the last.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { Client as Database } from 'pg';
import { afterAll, afterEach, beforeEach } from 'vitest';
import { findProcesses, isRunning, killNow, listDescendants, waitFor, waitUntilGone } from './processes.ts';

export const ROOT = path.join(import.meta.dirname, '..', '..');
const READY_MS = 120_000;
const STOP_MS = 60_000;

/** What starts an installation: the program that `npm start` continues with, that program of `npm start` itself, or the installed one. */
export type Program = 'server' | 'npm start' | 'taskcluster up';

const PROGRAMS: Readonly<Record<Program, readonly string[]>> = {
  server: ['server/local/start.ts'],
  'npm start': ['scripts/start.mjs'],
  'taskcluster up': ['cli/main.ts', 'up'],
};

export type Part = 'server' | 'postgres' | 'worker';

export interface InstallationOptions {
  /** More environment variables for the server. */
  readonly env?: Readonly<Record<string, string>>;
  /** Default: `server`. */
  readonly program?: Program;
  /** Default: a new folder. */
  readonly dataDir?: string;
  /** Default: a free one. */
  readonly port?: number;
}

export interface Installation {
  readonly rootUrl: string;
  readonly dataDir: string;
  readonly metricsUrl: string;
  /** Of the root client, as in `DIR/env`. */
  readonly credentials: { readonly clientId: string; readonly accessToken: string };
  /** Of the program that was started; `npm start` leads a process group of its own, and the server is its child. */
  readonly programPid: number;
  /** The process of a part; waits while it is being started again. */
  pid(part: Part): Promise<number>;
  /** SIGKILL; when this returns the process is gone. What the server has started notices by and by; starting it again does not wait for that. */
  kill(part: Part): Promise<void>;
  /** Starts the server again, on the same port; stops it before, if it runs. */
  restart(): Promise<void>;
  /** Shuts down as Ctrl-C does. The data folder stays until the end of the test or file. */
  stop(): Promise<void>;
  /** Sends a signal to the program; answers with its exit status. */
  end(signal: NodeJS.Signals): Promise<number | null>;
  /** Where its database listens, for the superuser. */
  databaseAddress(): Promise<{ host: string; port: number; user: string; database: string }>;
  /** A connection to its database, as the superuser; the caller ends it. */
  connectDatabase(): Promise<Database>;
  /** What it has printed so far. */
  output(): string;
  /** Resolves when the output contains the text, from `from` characters on. */
  says(text: string, from?: number): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** What is to be cleared away after a test, or after all of them. */
class Scope {
  readonly installations = new Set<InstallationProcess>();
  readonly attempts: Launched[] = [];
  readonly folders: string[] = [];

  async clear(): Promise<void> {
    const failures: unknown[] = [];
    const settle = async (work: readonly Promise<unknown>[]): Promise<void> => {
      failures.push(...(await Promise.allSettled(work)).flatMap(result => (result.status === 'rejected' ? [result.reason] : [])));
    };
    const installations = [...this.installations];
    // several may share a folder, one after the other: all are stopped before anything is removed
    await settle(installations.map(each => each.stop()));
    await settle(
      this.attempts.splice(0).map(({ child, exited }) => {
        child.kill('SIGTERM');
        return exited;
      }),
    );
    await settle(installations.map(each => each.discard()));
    await settle(this.folders.splice(0).map(removeFolder));
    if (failures.length > 0) {
      throw failures.length === 1 ? failures[0] : new AggregateError(failures, failures.map(error => (error as Error).message).join('\n'));
    }
  }
}

const removeFolder = (folder: string): Promise<void> =>
  // a Postgres whose server was killed may be writing its last
  fs.rm(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });

const ofFile = new Scope();
const ofTest = new Scope();
let scope = ofFile;

beforeEach(() => {
  scope = ofTest;
});
afterEach(async () => {
  scope = ofFile;
  await ofTest.clear();
}, 180_000);
afterAll(() => ofFile.clear(), 180_000);

/** A folder that goes with the test or file. */
export const makeFolder = async (): Promise<string> => {
  const folder = await fs.realpath(await fs.mkdtemp(path.join(os.tmpdir(), 'tc-e2e-')));
  scope.folders.push(folder);
  return folder;
};

/** What a shell reads from `DIR/env`. */
const readEnvFile = async (dataDir: string): Promise<Record<string, string>> => {
  const text = await fs.readFile(path.join(dataDir, 'env'), 'utf8');
  return Object.fromEntries([...text.matchAll(/^export (\w+)='?([^'\n]*)'?$/gm)].map(([, name, value]) => [name, value]));
};

export const readEnv = async (dataDir: string): Promise<Pick<Installation, 'rootUrl' | 'credentials'>> => {
  const values = await readEnvFile(dataDir);
  const [rootUrl = '', clientId = '', accessToken = ''] = ['ROOT_URL', 'CLIENT_ID', 'ACCESS_TOKEN'].map(
    name => values[`TASKCLUSTER_${name}`],
  );
  return { rootUrl, credentials: { clientId, accessToken } };
};

/** This process's environment without what it says about some other installation. */
const cleanEnvironment = (): NodeJS.ProcessEnv =>
  Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(TASKCLUSTER_|VITEST|NODE_OPTIONS$|NODE_ENV$)/.test(name)));

interface Launched {
  readonly child: ChildProcess;
  output(): string;
  /** `status 0`, or the signal that ended it; and its exit status. */
  readonly ended: Promise<string>;
  readonly exited: Promise<number | null>;
}

const launch = (program: Program, args: readonly string[], env: NodeJS.ProcessEnv = {}, wrap: readonly string[] = []): Launched => {
  const [file = '', ...first] = PROGRAMS[program];
  const isNpm = program === 'npm start';
  const [command, ...rest] = [...wrap, process.execPath, path.join(ROOT, file), ...first, ...args] as [string, ...string[]];
  const child = spawn(command, rest, {
    // as `npm start` does: descriptor 3 closes when we end
    stdio: ['ignore', 'pipe', 'pipe', ...(isNpm ? [] : ['pipe' as const])],
    cwd: ROOT,
    detached: isNpm,
    env: {
      ...cleanEnvironment(),
      NODE_COMPILE_CACHE: path.join(ROOT, 'node_modules', '.cache', 'compiled'),
      ...(isNpm ? {} : { TASKCLUSTER_PARENT_FD: '3' }),
      ...env,
    },
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  }
  const { promise: exited, resolve } = Promise.withResolvers<number | null>();
  const ended = new Promise<string>(tell => {
    child.once('error', error => tell(error.message));
    child.once('exit', (code, signal) => {
      tell(signal ?? `status ${code}`);
    });
    child.once('close', code => resolve(code));
  });
  return { child, output: () => output, ended, exited };
};

/** Runs the program of `npm start` with arguments, in a process group of its own, whatever becomes of it. `wrap` goes before the command. */
export const tryStart = (args: readonly string[], wrap: readonly string[] = []): Pick<Launched, 'child' | 'output' | 'exited'> => {
  const attempt = launch('npm start', args, {}, wrap);
  scope.attempts.push(attempt);
  return attempt;
};

class InstallationProcess implements Installation {
  readonly dataDir: string;
  readonly #options: InstallationOptions;
  #running: Launched | undefined;
  #before = '';
  #port: number;
  rootUrl = '';
  metricsUrl = '';
  credentials = { clientId: '', accessToken: '' };

  constructor(dataDir: string, options: InstallationOptions) {
    this.dataDir = dataDir;
    this.#options = options;
    this.#port = options.port ?? 0;
  }

  async start(): Promise<void> {
    const { program = 'server', env } = this.#options;
    const running = launch(program, ['--port', String(this.#port), '--data-dir', this.dataDir], env);
    this.#running = running;
    const end: { how?: string } = {};
    void running.ended.then(how => (end.how = how));
    await waitFor('the ready line', READY_MS, async () => {
      if (end.how !== undefined) {
        throw new Error(`The installation ended before it was ready (${end.how}):\n${running.output()}`);
      }
      return /^To use it from a shell/m.test(running.output());
    }).catch((error: Error) => {
      throw new Error(`${error.message}; it printed:\n${running.output()}`, { cause: error });
    });
    this.metricsUrl = /^Metrics: (\S+)$/m.exec(running.output())?.[1] ?? '';
    const { rootUrl, credentials } = await readEnv(this.dataDir);
    this.rootUrl = rootUrl;
    this.credentials = credentials;
    this.#port = Number(new URL(this.rootUrl).port);
  }

  get programPid(): number {
    return this.#running?.child.pid ?? 0;
  }

  #pidNow = async (part: Part): Promise<number | undefined> => {
    if (part === 'server') {
      const program = this.#running?.child.pid;
      return program === undefined || this.#options.program !== 'npm start' ? program : (await listDescendants(program))[0]?.pid;
    }
    const file = part === 'postgres' ? 'postgres/postmaster.pid' : 'worker/worker.pid';
    const pid = Number((await fs.readFile(path.join(this.dataDir, file), 'utf8').catch(() => '')).split('\n')[0]);
    return pid > 0 && (await isRunning(pid)) ? pid : undefined;
  };

  pid(part: Part): Promise<number> {
    return waitFor(`the ${part}`, 60_000, () => this.#pidNow(part));
  }

  async kill(part: Part): Promise<void> {
    const pid = await this.pid(part);
    killNow(pid);
    if (part === 'server') {
      await this.#running?.ended;
      this.#release();
    } else {
      await waitUntilGone([pid], 20_000);
    }
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  /** The program is no longer ours to stop; what it has printed stays. */
  #release(): void {
    this.#before = this.output();
    this.#running = undefined;
  }

  async stop(): Promise<void> {
    const running = this.#running;
    if (!running) {
      return;
    }
    if (running.child.exitCode !== null || running.child.signalCode !== null) {
      this.#release(); // a test has ended it in another way
      return;
    }
    running.child.kill('SIGTERM');
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      killNow(running.child.pid as number);
    }, STOP_MS);
    const how = await running.ended;
    clearTimeout(timer);
    this.#release();
    // one that a test has killed a moment ago is no failure
    if (how !== 'status 0' && (isLate || how !== 'SIGKILL')) {
      throw new Error(`The installation did not stop in order (${how}):\n${this.output().slice(-4_000)}`);
    }
  }

  end(signal: NodeJS.Signals): Promise<number | null> {
    this.#running?.child.kill(signal);
    return this.#running?.exited ?? Promise.resolve(null);
  }

  async databaseAddress(): Promise<{ host: string; port: number; user: string; database: string }> {
    const lines = (await fs.readFile(path.join(this.dataDir, 'postgres', 'postmaster.pid'), 'utf8')).split('\n');
    return { host: lines[4] ?? '', port: Number(lines[3]), user: 'postgres', database: 'postgres' };
  }

  async connectDatabase(): Promise<Database> {
    const client = new Database(await this.databaseAddress());
    client.on('error', () => undefined); // Postgres is killed in these tests; the next statement reports it
    await client.connect();
    return client;
  }

  output(): string {
    return this.#before + (this.#running?.output() ?? '');
  }

  async says(text: string, from = 0): Promise<void> {
    await waitFor(`it to say '${text}'`, READY_MS, async () => this.output().slice(from).includes(text));
  }

  /** Stops it, sees to it that no process is left, and removes the data folder. */
  async discard(): Promise<void> {
    ofFile.installations.delete(this);
    ofTest.installations.delete(this);
    const failures: Error[] = [];
    await this.stop().catch((error: unknown) => failures.push(error as Error));
    let left = await findProcesses(this.dataDir);
    const untilMs = Date.now() + STOP_MS;
    while (left.length > 0 && Date.now() < untilMs) {
      await new Promise(resolve => setTimeout(resolve, 100));
      left = await findProcesses(this.dataDir);
    }
    if (left.length > 0) {
      left.forEach(({ pid }) => killNow(pid));
      failures.push(
        new Error(
          `The installation left processes behind: ${left.map(({ pid, command }) => `${pid} ${command.slice(0, 200)}`).join('; ')}`,
        ),
      );
    }
    if (process.env['KEEP_DATA'] === undefined && this.#options.dataDir === undefined) {
      await removeFolder(this.dataDir);
    }
    if (failures.length > 0) {
      throw failures.length === 1 ? failures[0] : new AggregateError(failures, failures.map(({ message }) => message).join('\n'));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.discard();
  }
}

/**
 * Starts an installation; when this returns it is ready. It is discarded after the test or file, or by `await using`. With `KEEP_DATA=1` in the environment
 * the data folder that is made for it is kept, and its logs can be read.
 */
export const startInstallation = async (options: InstallationOptions = {}): Promise<Installation> => {
  const dataDir = options.dataDir ?? (await fs.realpath(await fs.mkdtemp(path.join(os.tmpdir(), 'tc-e2e-'))));
  const installation = new InstallationProcess(dataDir, options);
  scope.installations.add(installation);
  await installation.start();
  return installation;
};
