/**
 * A whole installation as a child process, for tests that look at it from outside and that kill parts of it. Each has a data folder and a port of its
 * own, so that several can run at once.
 *
 * Nothing stays behind, however the test ends: the program holds the other end of a pipe of ours and stops when it closes; what is stopped in order is
 * watched until its last process is gone, and a process that stays is killed and fails the test.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { Client as Database } from 'pg';
import { afterAll } from 'vitest';
import { findProcesses, isRunning, killNow, waitFor, waitUntilGone } from './processes.ts';

const ROOT = path.join(import.meta.dirname, '..', '..');
const READY_MS = 120_000;
const STOP_MS = 60_000;

export type Part = 'server' | 'postgres' | 'worker';

export interface InstallationOptions {
  /** More environment variables for the server. */
  readonly env?: Readonly<Record<string, string>>;
  /** What starts it. Default: the program that `npm start` continues with. */
  readonly program?: 'taskcluster up';
}

export interface Installation {
  readonly rootUrl: string;
  readonly dataDir: string;
  readonly metricsUrl: string;
  /** Of the root client, as in `DIR/env`. */
  readonly credentials: { readonly clientId: string; readonly accessToken: string };
  /** The process of a part; waits while it is being started again. */
  pid(part: Part): Promise<number>;
  /** SIGKILL; when this returns the process is gone. What the server has started notices by and by; starting it again does not wait for that. */
  kill(part: Part): Promise<void>;
  /** Starts the server again, on the same port; stops it before, if it runs. */
  restart(): Promise<void>;
  /** Shuts down as Ctrl-C does. The data folder stays until the end of the test file. */
  stop(): Promise<void>;
  /** Where its database listens, for the superuser. */
  databaseAddress(): Promise<{ host: string; port: number; user: string; database: string }>;
  /** A connection to its database, as the superuser; the caller ends it. */
  connectDatabase(): Promise<Database>;
  /** What it has printed so far. */
  output(): string;
  [Symbol.asyncDispose](): Promise<void>;
}

const installations = new Set<{ discard(): Promise<void> }>();

afterAll(async () => {
  const results = await Promise.allSettled([...installations].map(each => each.discard()));
  const failures = results.flatMap(result => (result.status === 'rejected' ? [result.reason as Error] : []));
  if (failures.length > 0) {
    throw failures.length === 1 ? failures[0] : new AggregateError(failures, failures.map(error => error.message).join('\n'));
  }
}, 180_000);

/** What a shell reads from `DIR/env`. */
export const readEnvFile = async (dataDir: string): Promise<Record<string, string>> => {
  const text = await fs.readFile(path.join(dataDir, 'env'), 'utf8');
  return Object.fromEntries([...text.matchAll(/^export (\w+)='?([^'\n]*)'?$/gm)].map(([, name, value]) => [name, value]));
};

/** This process's environment without what it says about some other installation. */
const cleanEnvironment = (): NodeJS.ProcessEnv =>
  Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(TASKCLUSTER_|VITEST|NODE_OPTIONS$|NODE_ENV$)/.test(name)));

interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<string>;
}

class InstallationProcess implements Installation {
  readonly dataDir: string;
  readonly #options: InstallationOptions;
  #running: Running | undefined;
  #output = '';
  #port = 0;
  rootUrl = '';
  metricsUrl = '';
  credentials = { clientId: '', accessToken: '' };

  constructor(dataDir: string, options: InstallationOptions) {
    this.dataDir = dataDir;
    this.#options = options;
  }

  async start(): Promise<void> {
    const before = this.#output.length;
    const child = spawn(process.execPath, [...this.#program(), '--port', String(this.#port), '--data-dir', this.dataDir], {
      // as `npm start` does: descriptor 3 closes when we end
      stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
      cwd: ROOT,
      env: {
        ...cleanEnvironment(),
        NODE_COMPILE_CACHE: path.join(ROOT, 'node_modules', '.cache', 'compiled'),
        TASKCLUSTER_PARENT_FD: '3',
        ...this.#options.env,
      },
    });
    const ended = new Promise<string>(resolve => {
      child.once('error', error => resolve(error.message));
      child.once('exit', (code, signal) => resolve(signal ?? `status ${code}`));
    });
    this.#running = { child, ended };
    const end: { how?: string } = {};
    void ended.then(how => (end.how = how));
    const collect = (chunk: Buffer): void => {
      this.#output += chunk.toString();
    };
    child.stdout?.on('data', collect);
    child.stderr?.on('data', collect);
    await waitFor(`the ready line; printed so far:\n${this.#output}`, READY_MS, async () => {
      if (end.how !== undefined) {
        throw new Error(`The installation ended before it was ready (${end.how}):\n${this.#output.slice(before)}`);
      }
      return /^To use it from a shell/m.test(this.#output.slice(before));
    });
    const said = this.#output.slice(before);
    this.rootUrl = /^Taskcluster is ready at (\S+)$/m.exec(said)?.[1] ?? '';
    this.metricsUrl = /^Metrics: (\S+)$/m.exec(said)?.[1] ?? '';
    this.#port = Number(new URL(this.rootUrl).port);
    const env = await readEnvFile(this.dataDir);
    this.credentials = { clientId: env['TASKCLUSTER_CLIENT_ID'] ?? '', accessToken: env['TASKCLUSTER_ACCESS_TOKEN'] ?? '' };
  }

  #program(): string[] {
    return this.#options.program === 'taskcluster up'
      ? [path.join(ROOT, 'cli', 'main.ts'), 'up']
      : [path.join(ROOT, 'server', 'local', 'start.ts')];
  }

  #pidNow = async (part: Part): Promise<number | undefined> => {
    if (part === 'server') {
      return this.#running?.child.pid;
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
      this.#running = undefined;
    } else {
      await waitUntilGone([pid], 20_000);
    }
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  async stop(): Promise<void> {
    const running = this.#running;
    if (!running) {
      return;
    }
    running.child.kill('SIGTERM');
    const timer = setTimeout(() => running.child.kill('SIGKILL'), STOP_MS);
    const how = await running.ended;
    clearTimeout(timer);
    this.#running = undefined;
    if (how !== 'status 0') {
      throw new Error(`The installation did not stop in order (${how}):\n${this.#output.slice(-4_000)}`);
    }
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
    return this.#output;
  }

  /** Stops it, sees to it that no process is left, and removes the data folder. */
  async discard(): Promise<void> {
    installations.delete(this);
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
    if (process.env['KEEP_DATA'] === undefined) {
      await fs.rm(this.dataDir, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
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
 * Starts an installation on free ports and in a new folder; when this returns it is ready. It is discarded at the end of the test file at the latest,
 * or by `await using`. With `KEEP_DATA=1` in the environment the data folder is kept, and its logs can be read.
 */
export const startInstallation = async (options: InstallationOptions = {}): Promise<Installation> => {
  const dataDir = await fs.realpath(await fs.mkdtemp(path.join(os.tmpdir(), 'tc-e2e-')));
  const installation = new InstallationProcess(dataDir, options);
  installations.add(installation);
  await installation.start();
  return installation;
};
