/**
 * A RabbitMQ of a test's own, with the management plugin: its node name, ports, cookie, epmd and data folder are nobody else's, so that any number run
 * side by side, as root or not. It goes with the test's process, however that ends.
 *
 * Needs the Debian package `rabbitmq-server`; use `describeWith('rabbitmq-server', 'rabbitmq-server', …)`.
 */
import crypto from 'node:crypto';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { findProgram } from './programs.ts';
import { type Supervised, freePorts, signal, supervise } from './supervise.ts';

/** The package's wrapper in the PATH insists on an account of its own; this is what it runs. */
const SERVER = '/usr/lib/rabbitmq/bin/rabbitmq-server';
const START_MS = 120_000;

export interface Vhost {
  readonly name: string;
  /** For user `taskcluster`, who may do everything in it. */
  readonly url: string;
}

export interface TestRabbitmq {
  /** Of the management interface, with an administrator's name and password. */
  readonly managementUrl: string;
  readonly port: number;
  /** A call of the management API; answers with the parsed body. Throws for statuses other than 2xx. */
  api<T>(method: string, path: string, body?: unknown): Promise<T>;
  /** Makes a vhost that is empty. */
  makeVhost(): Promise<Vhost>;
  /** SIGKILL. */
  kill(): Promise<void>;
  /** As an operator would. */
  stop(): Promise<void>;
  /** Starts again on the same data. */
  start(): Promise<void>;
  /** Ends it and removes its data. */
  close(): Promise<void>;
}

/** The user of the buses under test; the password has characters that a URL must escape. */
export const BUS_USER = 'taskcluster';
const BUS_PASSWORD = 'p/a:s@s%w+r d';
const ADMIN = 'guest';

/** Starts one; ready when this returns. */
export const startRabbitmq = async (): Promise<TestRabbitmq> => {
  const epmd = findProgram('epmd');
  if (!epmd) {
    throw new Error('epmd is not installed; it comes with erlang-base');
  }
  const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'taskcluster-rabbitmq-'));
  const [port = 0, managementPort = 0, distributionPort = 0, epmdPort = 0] = await freePorts(4);
  const inFolder = (name: string): string => path.join(folder, name);
  const log = await fs.open(inFolder('output.log'), 'a');
  await fs.writeFile(inFolder('rabbitmq-env.conf'), '');
  await fs.writeFile(inFolder('enabled_plugins'), '[rabbitmq_management].\n');
  await fs.writeFile(
    inFolder('rabbitmq.conf'),
    `listeners.tcp.local = 127.0.0.1:${port}
management.tcp.ip = 127.0.0.1
management.tcp.port = ${managementPort}
disk_free_limit.absolute = 1MB
collect_statistics_interval = 500
`,
  );
  const env: NodeJS.ProcessEnv = {
    PATH: process.env['PATH'],
    LANG: 'C.UTF-8',
    HOME: folder, // the Erlang cookie is made here
    ERL_EPMD_PORT: String(epmdPort),
    ERL_EPMD_ADDRESS: '127.0.0.1',
    ERL_MAX_PORTS: '4096',
    RABBITMQ_NODENAME: `t${crypto.randomBytes(6).toString('hex')}@localhost`,
    RABBITMQ_DIST_PORT: String(distributionPort),
    RABBITMQ_MNESIA_BASE: inFolder('mnesia'),
    RABBITMQ_LOG_BASE: inFolder('log'),
    RABBITMQ_LOGS: inFolder('rabbitmq.log'),
    RABBITMQ_ENABLED_PLUGINS_FILE: inFolder('enabled_plugins'),
    RABBITMQ_PLUGINS_EXPAND_DIR: inFolder('expand'),
    RABBITMQ_CONFIG_FILE: inFolder('rabbitmq.conf'),
    RABBITMQ_CONF_ENV_FILE: inFolder('rabbitmq-env.conf'),
    RABBITMQ_GENERATED_CONFIG_DIR: inFolder('config'),
    RABBITMQ_SCHEMA_DIR: inFolder('schema'),
    // one process, that takes signals itself
    RABBITMQ_ALLOW_INPUT: '1',
    RABBITMQ_SERVER_START_ARGS: '-noinput',
  };
  const options = { env, cwd: folder, log: log.fd };
  const names = await supervise([epmd, '-address', '127.0.0.1', '-port', String(epmdPort)], options);
  let server: Supervised | undefined;

  const managementUrl = `http://${ADMIN}:${ADMIN}@127.0.0.1:${managementPort}`;
  const request = (method: string, route: string, body?: unknown): Promise<Response> =>
    fetch(`http://127.0.0.1:${managementPort}/api${route}`, {
      method,
      headers: {
        authorization: `Basic ${Buffer.from(`${ADMIN}:${ADMIN}`).toString('base64')}`,
        'content-type': 'application/json',
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  const api = async <T>(method: string, route: string, body?: unknown): Promise<T> => {
    const response = await request(method, route, body);
    const text = await response.text();
    if (!response.ok) {
      throw new Error(`${method} ${route}: ${response.status} ${text}`);
    }
    return (text === '' ? undefined : JSON.parse(text)) as T;
  };

  const isUp = async (): Promise<boolean> => {
    const health = await request('GET', '/health/checks/port-listener/' + String(port)).catch(() => undefined);
    await health?.body?.cancel();
    return health?.ok ?? false;
  };

  const start = async (): Promise<void> => {
    const started = await supervise([SERVER], options);
    server = started;
    const untilMs = performance.now() + START_MS;
    while (!(await isUp())) {
      if (!started.isRunning() || performance.now() > untilMs) {
        started.release();
        throw new Error(`RabbitMQ did not start: ${(await fs.readFile(inFolder('output.log'), 'utf8')).slice(-2_000)}`);
      }
      await new Promise(resolve => {
        setTimeout(resolve, 100);
      });
    }
  };
  const end = async (name: NodeJS.Signals): Promise<void> => {
    const ending = server;
    server = undefined;
    if (ending) {
      signal(ending.pid, name);
      await ending.exited;
      ending.release();
    }
  };
  const close = async (): Promise<void> => {
    await end('SIGKILL');
    signal(names.pid, 'SIGKILL');
    await names.exited;
    names.release();
    await log.close();
    await fs.rm(folder, { recursive: true, force: true, maxRetries: 5 });
  };

  try {
    await start();
    await api('PUT', `/users/${BUS_USER}`, { password: BUS_PASSWORD, tags: '' });
  } catch (error) {
    await close();
    throw error;
  }

  return {
    managementUrl,
    port,
    api,
    makeVhost: async () => {
      const name = `test/${crypto.randomBytes(4).toString('hex')}`;
      const encoded = encodeURIComponent(name);
      await api('PUT', `/vhosts/${encoded}`);
      await api('PUT', `/permissions/${encoded}/${BUS_USER}`, { configure: '.*', write: '.*', read: '.*' });
      return { name, url: `amqp://${BUS_USER}:${encodeURIComponent(BUS_PASSWORD)}@127.0.0.1:${port}/${encoded}` };
    },
    kill: () => end('SIGKILL'),
    stop: () => end('SIGTERM'),
    start,
    close,
  };
};
