/**
 * A server process of a distributed installation: some services, some loops, with or without the relay, on a database that others work on too. It keeps
 * nothing that is not in the database, and may be stopped or killed at any time.
 */
import type { AddressInfo } from 'node:net';
import { explainPortProblem } from '../local/front-door.ts';
import { StartProblem } from '../local/problem.ts';
import { readVersion } from '../local/version.ts';
import { busSettings } from '../platform/bus/open.ts';
import { systemClock as clock } from '../platform/clock.ts';
import { readAllSettings } from '../platform/config.ts';
import { eventLogSettings } from '../platform/event-log.ts';
import { makeLog } from '../platform/log.ts';
import { allServices } from '../services/all.ts';
import { prepareSchema, waitForDatabase } from './database.ts';
import { type Environment, readEnvironment } from './environment.ts';
import { type ServeOptions, chooseLoops, chooseServices } from './options.ts';
import { startProcess } from './process.ts';
import { readProcesses } from './processes.ts';
import { processSettings, requireDatabaseUrl } from './settings.ts';
import { checkTokens, findTokens } from './tokens.ts';

export interface ServingProcess {
  /** Finishes what is in flight and stops. */
  stop(): Promise<void>;
}

/**
 * Starts the process; when this returns it answers.
 *
 * @throws {StartProblem | SettingsError} where the person who starts it can do something about it
 */
export const startServing = async (options: ServeOptions, own: Environment): Promise<ServingProcess> => {
  const services = chooseServices(allServices, options.services);
  const names = services.map(({ name }) => name);
  const processes = (await readProcesses()).filter(({ service }) => names.includes(service));
  const loops = chooseLoops(options.loops, processes);
  if (loops.unknown.length > 0) {
    throw new StartProblem(`--loops names ${loops.unknown.join(', ')}, which none of these services has: ${names.join(', ')}.`);
  }
  const environment = await readEnvironment(options, own);
  const groups = [processSettings, busSettings, eventLogSettings, ...services.map(service => service.settings)] as const;
  const [settings] = readAllSettings(groups, environment, ([found]) => [
    ...requireDatabaseUrl(found),
    ...checkTokens(found, environment, names),
  ]);
  const { rootUrl, port, host, keys, signingSecret } = settings;
  const log = makeLog({ level: settings.level, toStdout: true });
  process.on('unhandledRejection', error => log.error({ err: error }, 'unhandled rejection'));
  const tokenOf = findTokens(settings, environment);

  await using parts = new AsyncDisposableStack();
  const { server, metricsPort } = await startProcess(parts, {
    connection: { connectionString: settings.databaseUrl ?? settings.writeDbUrl ?? '' },
    poolSize: settings.poolSize,
    prepare: async db => {
      await waitForDatabase(db, clock, log);
      await prepareSchema(db, settings.migrate, log);
    },
    keys,
    signingSecret,
    metrics: settings.metricsPort === undefined ? undefined : { port: settings.metricsPort, host },
    metricsOption: 'taskcluster serve --metrics-port',
    log,
    rootUrl,
    version: await readVersion(),
    services,
    environment,
    serviceToken: service => {
      const token = tokenOf(service);
      if (token === undefined) {
        throw new StartProblem(`SERVICE_TOKENS lacks the access token of ${service}.`);
      }
      return token;
    },
    loops: loops.isWanted,
    relay: options.relay,
    trustProxy: settings.trustProxy,
    forceTls: settings.forceTls,
    keepAliveMs: settings.keepAliveSeconds * 1000,
    internalUrls: settings.internalUrls,
  });
  await server.app.listen({ port, ...(host !== undefined && { host }) }).catch(async (error: NodeJS.ErrnoException) => {
    throw await explainPortProblem(error, port, 'taskcluster serve --port');
  });
  await server.ready();
  const address = server.app.server.address() as AddressInfo;
  log.info({ port: address.port, metricsPort, services: names, loops: options.loops, relay: options.relay }, 'ready');

  const started = parts.move();
  return {
    stop: async () => {
      log.info({}, 'stopping');
      server.leave();
      await clock.sleep(settings.leaveSeconds * 1000);
      await started.disposeAsync();
      log.info({}, 'stopped');
    },
  };
};
