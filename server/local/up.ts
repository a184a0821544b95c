/**
 * A whole installation in one process: Postgres, all services and loops, and a local worker as a child. Everything durable is in the data folder:
 *
 *     env            for shells: root URL and root credentials        secrets.json   tokens and keys; as precious as the database
 *     postgres/      the database      objects/   artifacts           server.log, postgres.log, worker/worker.log
 *     run/           Unix sockets, and the lock that says who uses the folder
 *
 * Parts start in the order in which they need each other and stop in the reverse order; a part that fails to start stops those before it.
 */
import crypto from 'node:crypto';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { authApi } from '@tscluster/api/auth/api.ts';
import { loginApi } from '@tscluster/api/login/api.ts';
import { queueApi } from '@tscluster/api/queue/api.ts';
import { createClient } from '@tscluster/client/client.ts';
import { listRunsInHand } from '@tscluster/worker/state.ts';
import { systemClock as clock, systemRandom as random } from '../platform/clock.ts';
import { startProcess } from '../serve/process.ts';
import { allServices } from '../services/all.ts';
import { writeEnvFile } from './env-file.ts';
import { createAnonymousRole } from './first-start.ts';
import { openFrontDoor } from './front-door.ts';
import { takeInstanceLock } from './instance-lock.ts';
import { keysOf, watchKeys } from './keys.ts';
import { giveBackLostRuns, resolveBuiltInLeftovers } from './leftovers.ts';
import { openLogFile } from './log-file.ts';
import type { UpOptions } from './options.ts';
import { startPostgres } from './postgres.ts';
import { StartProblem, explainFileErrors } from './problem.ts';
import { chooseRunFolder } from './run-folder.ts';
import { loadSecrets } from './secrets.ts';
import { LOCAL_WORKER_CLIENT, SERVICE_CLIENTS, staticClients } from './static-clients.ts';
import { createSignInLink } from './sign-in-link.ts';
import { readQueues, statusPage } from './status-page.ts';
import { readVersion } from './version.ts';
import { startWorker } from './worker.ts';

export interface Installation {
  readonly rootUrl: string;
  readonly metricsUrl: string;
  readonly envFile: string;
  /** A link that signs one browser in with all rights, once, within ten minutes. */
  createSignInLink(): Promise<string>;
  /** Finishes what is in flight and stops everything, the worker's tasks first. */
  stop(): Promise<void>;
}

const GIVE_BACK_RETRY_MS = 500;

const HIDDEN_FROM_TASKS = (dataDir: string, runFolder: string): string[] => [
  dataDir,
  ...(runFolder.startsWith(dataDir + path.sep) ? [] : [runFolder]),
];

const makeDataFolder = async (dataDir: string): Promise<void> => {
  await explainFileErrors(dataDir, async () => {
    await fs.mkdir(dataDir, { recursive: true, mode: 0o700 });
    const probe = path.join(dataDir, `.probe-${process.pid}`);
    await fs.writeFile(probe, 'x'.repeat(4_096)); // more than nothing, so that a full disk shows
    await fs.rm(probe);
  });
};

const exists = (file: string): Promise<boolean> =>
  fs.access(file).then(
    () => true,
    () => false,
  );

/** Asks every API, as a client would, whether it answers. */
const requireAnswers = async (rootUrl: string, paths: readonly string[]): Promise<void> => {
  await Promise.all(
    paths.map(async each => {
      const response = await fetch(rootUrl + each);
      const body = await response.text();
      if (!response.ok) {
        throw new Error(`${rootUrl}${each} answers ${response.status}: ${body}`);
      }
    }),
  );
};

/**
 * Starts the installation; when this returns everything answers.
 *
 * @param tell shows a line to the person who started it
 * @throws StartProblem where that person can do something about it
 */
export const up = async (options: UpOptions, tell: (line: string) => void): Promise<Installation> => {
  const { dataDir } = options;
  await using parts = new AsyncDisposableStack();

  await makeDataFolder(dataDir);
  const runFolder = await chooseRunFolder(path.join(dataDir, 'run'));
  const lock = await takeInstanceLock(runFolder, dataDir, clock);
  parts.defer(() => lock.release());

  const door = await openFrontDoor(options.port);
  parts.defer(() => door.stopAccepting());
  parts.defer(() => door.closeConnections());
  const rootUrl = `http://localhost:${door.port}`;
  lock.announce(rootUrl);

  const { log, close: closeLog } = await explainFileErrors(dataDir, () =>
    Promise.resolve(openLogFile(path.join(dataDir, 'server.log'), tell)),
  );
  parts.defer(closeLog);
  process.on('unhandledRejection', error => log.error({ err: error }, 'unhandled rejection'));

  const cluster = path.join(dataDir, 'postgres');
  const clientIds = [...SERVICE_CLIENTS, LOCAL_WORKER_CLIENT];
  const secrets = await loadSecrets(dataDir, clientIds, await exists(cluster), random);
  const tokenOf = (clientId: string): string => {
    const token = secrets.accessTokens[clientId];
    if (token === undefined) {
      throw new Error(`There is no client ${clientId}`);
    }
    return token;
  };

  let told = '';
  const postgres = await startPostgres({
    folder: cluster,
    logPath: path.join(dataDir, 'postgres.log'),
    runFolder,
    clock,
    onEvent: ({ kind, message }) => {
      log.info({ kind, message }, 'postgres');
      // tried again and again with the same result: told once
      if (message !== told) {
        told = message;
        tell(message);
      }
    },
  });
  parts.defer(() => postgres.stop());
  const version = await readVersion();
  const envFile = path.join(dataDir, 'env');
  const shownEnvFile = path.relative(process.cwd(), envFile).startsWith('..') ? envFile : path.relative(process.cwd(), envFile);
  const { server, metricsPort } = await startProcess(parts, {
    connection: postgres.connection,
    poolSize: 20,
    keys: keysOf(secrets),
    metrics: { port: options.metricsPort, host: '127.0.0.1' },
    metricsOption: 'npm start -- --metrics-port',
    log,
    rootUrl,
    version,
    services: allServices,
    alone: true,
    environment: {
      OBJECTS_FOLDER: path.join(dataDir, 'objects'),
      WEBSOCKTUNNEL_SECRET: crypto.createHmac('sha256', secrets.signingSecret).update('websocktunnel').digest('base64url'),
      ...process.env,
      STATIC_CLIENTS: JSON.stringify(staticClients(tokenOf)),
    },
    serviceToken: service => tokenOf(`static/taskcluster/${service}`),
    signingSecret: Buffer.from(secrets.signingSecret, 'base64'),
    page: statusPage(async () => ({
      rootUrl,
      version,
      services: serviceNames,
      queues: await readQueues(anonymousQueue),
      envFile: shownEnvFile,
    })),
  });
  parts.defer(() => door.stopAccepting());
  const keys = watchKeys(dataDir, secrets, server.platform);
  parts.defer(() => keys.stop());
  const anonymousQueue = createClient(queueApi, { rootUrl, retries: 0 });
  const serviceNames = [...server.services.values()].flatMap(service => (service.apis ?? []).map(({ api }) => api.service));

  door.open(server.app.server);
  const initialised = path.join(dataDir, 'initialised');
  if (!(await exists(initialised))) {
    await createAnonymousRole(server.platform.client(authApi, 'root'));
    await explainFileErrors(initialised, () => fs.writeFile(initialised, ''));
  }
  await resolveBuiltInLeftovers(server.platform.client(queueApi, 'root'), log);
  await server.ready();
  await requireAnswers(rootUrl, [...serviceNames.map(name => `/api/${name}/v1/ping`), '/references/manifest.json']);
  await writeEnvFile(dataDir, { rootUrl, clientId: 'static/taskcluster/root', accessToken: tokenOf('static/taskcluster/root') });

  const workerFolder = path.join(dataDir, 'worker');
  const localWorker = { provisionerId: 'local', workerType: 'process', workerGroup: 'local', workerId: 'local-1' };
  const giveBackForWorker = async (signal: AbortSignal): Promise<void> => {
    const { provisionerId, workerType, ...names } = localWorker;
    while (!signal.aborted) {
      try {
        const known = new Set((await listRunsInHand(workerFolder)).map(({ taskId, runId }) => `${taskId}/${runId}`));
        const isKnown = ({ taskId, runId }: { taskId: string; runId: number }): boolean => known.has(`${taskId}/${runId}`);
        const queue = server.platform.client(queueApi, 'root', { retries: 0 });
        await giveBackLostRuns({ queue, taskQueueId: `${provisionerId}/${workerType}`, ...names, isKnown, log });
        return;
      } catch (error) {
        log.warn({ err: error }, 'runs of the local worker not given back yet');
        await clock.sleep(GIVE_BACK_RETRY_MS, signal).catch(() => undefined);
      }
    }
  };
  const worker = await startWorker({
    folder: workerFolder,
    clock,
    beforeStart: giveBackForWorker,
    config: {
      rootUrl,
      clientId: LOCAL_WORKER_CLIENT,
      accessToken: tokenOf(LOCAL_WORKER_CLIENT),
      certificate: '',
      ...localWorker,
      dataDir: workerFolder,
      hiddenPaths: HIDDEN_FROM_TASKS(dataDir, runFolder),
      stopOnStdinEnd: true,
      metadata: { 'local-worker': { hostname: os.hostname(), release: `${os.type()} ${os.release()}`, version: version.version } },
    },
    onEvent: ({ message }) => {
      log.info({ message }, 'local worker');
      tell(message);
    },
  });
  parts.defer(() => worker.stop());

  const started = parts.move();
  return {
    rootUrl,
    metricsUrl: `http://127.0.0.1:${metricsPort}/metrics`,
    envFile: shownEnvFile,
    createSignInLink: async () => {
      const [login, auth] = [server.platform.client(loginApi, 'root'), server.platform.client(authApi, 'root')];
      return (await createSignInLink({ login, auth, clock, random }, server.platform.serviceCredentials('root'))).url;
    },
    stop: () => {
      lock.announceEnd();
      return started.disposeAsync();
    },
  };
};

export { StartProblem };
