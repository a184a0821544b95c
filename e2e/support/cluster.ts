/**
 * An installation of many processes: Postgres, `taskcluster serve` as often as wanted, each with its part, and a load balancer in front. Everything it
 * started is gone after the test file, however it ends.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { systemClock, systemRandom } from '@tscluster/client/clock.ts';
import { Client as Database } from 'pg';
import { afterAll } from 'vitest';
import { type EmbeddedPostgres, startPostgres } from '../../server/local/postgres.ts';
import { BUILT_IN_CLIENTS } from '../../server/services/auth/static-clients.ts';
import { type Backend, type Front, startFront } from './front.ts';
import { killNow, waitFor, waitUntilGone } from './processes.ts';

const ROOT = path.join(import.meta.dirname, '..', '..');
const READY_MS = 120_000;
const STOP_MS = 60_000;

export interface Part {
  /** Options of `taskcluster serve`. */
  readonly args?: readonly string[];
  /** Path prefixes that the front sends to it. */
  readonly paths?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

export interface ServerProcess {
  readonly name: string;
  readonly port: number;
  readonly metricsUrl: string;
  pid(): number;
  readonly isRunning: boolean;
  /** SIGKILL; when this returns it is gone. */
  kill(): Promise<void>;
  /** SIGSTOP: it does nothing, and keeps its connections and locks. */
  pause(): void;
  resume(): void;
  /** SIGTERM; throws unless it ends in order. */
  stop(): Promise<void>;
  /** Starts it again, with another pid and perhaps another port. */
  start(): Promise<void>;
  output(): string;
}

export interface Cluster {
  readonly rootUrl: string;
  readonly credentials: { readonly clientId: string; readonly accessToken: string };
  readonly front: Front;
  readonly postgres: EmbeddedPostgres;
  /** Starts a process and puts it behind the front. */
  start(name: string, part: Part): Promise<ServerProcess>;
  readonly processes: readonly ServerProcess[];
  connectDatabase(): Promise<Database>;
  /** SIGKILL; Postgres starts again by itself. */
  killPostgres(): Promise<void>;
  /** Ends everything. */
  discard(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

const clusters = new Set<Cluster>();

afterAll(async () => {
  for (const cluster of clusters) {
    await cluster.discard();
  }
}, 180_000);

const cleanEnvironment = (): NodeJS.ProcessEnv =>
  Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(TASKCLUSTER_|VITEST|NODE_OPTIONS$|NODE_ENV$)/.test(name)));

const tokenOf = (service: string): string => `token-of-${service}-0123456789abcdef`;

interface ReadyLine {
  readonly msg: string;
  readonly port: number;
  readonly metricsPort?: number;
}

const findReady = (output: string): ReadyLine | undefined => {
  for (const line of output.split('\n')) {
    if (line.includes('"msg":"ready"')) {
      return JSON.parse(line) as ReadyLine;
    }
  }
  return undefined;
};

class ServeProcess implements ServerProcess {
  readonly name: string;
  readonly #part: Part;
  readonly #envFile: string;
  readonly #front: Front;
  #child: ChildProcess | undefined;
  #ended: Promise<string> = Promise.resolve('not started');
  #how = 'not started';
  #backend: Backend | undefined;
  #output = '';
  port = 0;
  metricsUrl = '';

  constructor(name: string, part: Part, envFile: string, front: Front) {
    this.name = name;
    this.#part = part;
    this.#envFile = envFile;
    this.#front = front;
  }

  get isRunning(): boolean {
    return this.#child !== undefined;
  }

  pid(): number {
    const pid = this.#child?.pid;
    if (pid === undefined) {
      throw new Error(`${this.name} does not run (${this.#how}):\n${this.#output.slice(-4_000)}`);
    }
    return pid;
  }

  async start(): Promise<void> {
    const args = ['--port', '0', '--metrics-port', '0', '--env-file', this.#envFile, ...(this.#part.args ?? [])];
    const from = this.#output.length;
    const child = spawn(process.execPath, [path.join(ROOT, 'server', 'serve', 'start.ts'), ...args], {
      stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
      cwd: ROOT,
      env: {
        ...cleanEnvironment(),
        NODE_COMPILE_CACHE: path.join(ROOT, 'node_modules', '.cache', 'compiled'),
        TASKCLUSTER_PARENT_FD: '3',
        ...this.#part.env,
      },
    });
    const end: { how?: string } = {};
    this.#child = child;
    this.#ended = new Promise<string>(resolve => {
      child.once('error', error => resolve(error.message));
      child.once('close', (code, signal) => resolve(signal ?? `status ${code}`));
    }).then(how => {
      end.how = how;
      this.#leaveFront();
      if (this.#child === child) {
        this.#child = undefined;
        this.#how = how;
      }
      return how;
    });
    const collect = (chunk: Buffer): void => {
      this.#output += chunk.toString();
    };
    child.stdout?.on('data', collect);
    child.stderr?.on('data', collect);
    const ready = await waitFor(`${this.name} to be ready`, READY_MS, async () => {
      if (end.how !== undefined) {
        throw new Error(`${this.name} ended before it was ready (${end.how}):\n${this.#output.slice(from)}`);
      }
      return findReady(this.#output.slice(from));
    });
    this.port = ready.port;
    this.metricsUrl = `http://127.0.0.1:${ready.metricsPort}/metrics`;
    if (this.#part.paths) {
      this.#backend = { port: this.port, paths: this.#part.paths };
      this.#front.add(this.#backend);
    }
  }

  #leaveFront(): void {
    if (this.#backend) {
      this.#front.remove(this.#backend);
      this.#backend = undefined;
    }
  }

  async kill(): Promise<void> {
    if (this.#child?.pid !== undefined) {
      killNow(this.#child.pid);
      await this.#ended;
    }
  }

  pause(): void {
    process.kill(this.pid(), 'SIGSTOP');
  }

  resume(): void {
    process.kill(this.pid(), 'SIGCONT');
  }

  async stop(): Promise<void> {
    const child = this.#child;
    if (!child) {
      return;
    }
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
    const how = await this.#ended;
    clearTimeout(timer);
    if (how !== 'status 0') {
      throw new Error(`${this.name} did not stop in order (${how}):\n${this.#output.slice(-4_000)}`);
    }
  }

  output(): string {
    return this.#output;
  }
}

export interface ClusterOptions {
  /** More settings of every process. */
  readonly env?: Readonly<Record<string, string>>;
}

/** Starts Postgres and the front; processes are added by `start`. With `KEEP_DATA=1` in the environment the folder stays. */
export const startCluster = async (options: ClusterOptions = {}): Promise<Cluster> => {
  const folder = await fs.realpath(await fs.mkdtemp(path.join(os.tmpdir(), 'tc-many-')));
  const postgres = await startPostgres({
    folder: path.join(folder, 'postgres'),
    logPath: path.join(folder, 'postgres.log'),
    runFolder: path.join(folder, 'run'),
    clock: systemClock,
  });
  const front = await startFront();
  const rootUrl = `http://localhost:${front.port}`;
  const envFile = path.join(folder, 'env');
  const { host, port, user, database } = postgres.connection;
  const base64 = (): string => Buffer.from(systemRandom.bytes(32)).toString('base64');
  const settings: Record<string, string> = {
    TASKCLUSTER_ROOT_URL: rootUrl,
    DATABASE_URL: `postgres://${user}@/${database}?host=${encodeURIComponent(host)}&port=${port}`,
    DB_CRYPTO_KEYS: JSON.stringify([{ id: 'test', algo: 'aes-256', key: base64() }]),
    SIGNING_SECRET: base64(),
    SERVICE_TOKENS: JSON.stringify(Object.fromEntries(Object.keys(BUILT_IN_CLIENTS).map(name => [name, tokenOf(name)]))),
    OBJECTS_FOLDER: path.join(folder, 'objects'),
    HOST: '127.0.0.1',
    DB_POOL_SIZE: '8',
    ...options.env,
  };
  await fs.writeFile(
    envFile,
    Object.entries(settings)
      .map(([name, value]) => `${name}='${value}'\n`)
      .join(''),
    { mode: 0o600 },
  );
  const processes: ServeProcess[] = [];

  const cluster: Cluster = {
    rootUrl,
    credentials: { clientId: 'static/taskcluster/root', accessToken: tokenOf('root') },
    front,
    postgres,
    processes,
    start: async (name, part) => {
      const added = new ServeProcess(name, part, envFile, front);
      processes.push(added);
      await added.start();
      return added;
    },
    connectDatabase: async () => {
      const client = new Database(postgres.connection);
      client.on('error', () => undefined); // the next statement reports it
      await client.connect();
      return client;
    },
    killPostgres: async () => {
      const pid = postgres.pid();
      if (pid !== undefined) {
        killNow(pid);
        await waitUntilGone([pid], STOP_MS);
      }
    },
    discard: async () => {
      if (!clusters.delete(cluster)) {
        return;
      }
      const pids = processes.flatMap(each => (each.isRunning ? [each.pid()] : []));
      await Promise.all(processes.map(each => each.kill()));
      await waitUntilGone(pids, STOP_MS);
      await front.close();
      await postgres.stop();
      if (process.env['KEEP_DATA'] === undefined) {
        await fs.rm(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
      }
    },
    [Symbol.asyncDispose]: () => cluster.discard(),
  };
  clusters.add(cluster);
  return cluster;
};

/** Paths of services as a load balancer has them. */
export const pathsOf = (...services: readonly string[]): string[] =>
  services.flatMap(service => [`/api/${service}/`, ...(service === 'object' ? ['/objects/'] : [])]);
