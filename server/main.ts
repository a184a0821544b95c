/**
 * Puts the parts together: a server process with any choice of services and loops, from a database and settings. `local/up.ts` makes a whole
 * installation around it.
 */
import { authApi } from '@tscluster/api/auth/api.ts';
import type { Api } from '@tscluster/api/define.ts';
import { createClient } from '@tscluster/client/client.ts';
import type { FastifyInstance } from 'fastify';
import { type Lane, openLane } from './db/lane.ts';
import type { Db } from './db/sql.ts';
import type { Bus } from './platform/bus/bus.ts';
import type { Authenticator } from './platform/caller.ts';
import { type Clock, type Random, settlesWithin } from './platform/clock.ts';
import { readAllSettings } from './platform/config.ts';
import { EVENT_LOG, eventLogSettings } from './platform/event-log.ts';
import { reencryption } from './platform/encrypted-columns.ts';
import { onOutboxWritten } from './platform/events.ts';
import { type HttpOptions, makeHttpServer } from './platform/http.ts';
import type { Keyring } from './platform/keyring.ts';
import { makeLocalFetch } from './platform/local-fetch.ts';
import type { Log } from './platform/log.ts';
import { type BoundLoop, type RunningLoop, run } from './platform/loop.ts';
import type { Metrics } from './platform/metrics.ts';
import { AUTH_CHANGED, openNotifier } from './platform/notify.ts';
import type { Version } from './platform/operational.ts';
import { type Relay, startRelay } from './platform/relay.ts';
import { makeRemoteAuthenticator } from './platform/remote-authenticator.ts';
import { type InternalUrls, makeServiceFetch } from './platform/service-fetch.ts';
import { stuckSessions } from './platform/stuck-sessions.ts';
import type { Platform, RunningService, Service } from './platform/service.ts';
import { makeVacuum } from './platform/vacuum.ts';

export interface ServerOptions {
  readonly db: Db;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly keyring: Keyring;
  readonly rootUrl: string;
  readonly version: Version;
  readonly services: readonly Service[];
  /** Settings by environment variable. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** The access token of `static/taskcluster/<service>`. */
  readonly serviceToken: (service: string) => string;
  readonly signingSecret: Uint8Array;
  /** Which loops run in this process (default all). False: none, not even those that every process runs; for tests. */
  readonly loops?: boolean | ((name: string) => boolean);
  readonly relay?: boolean;
  /** No other process works on this database: nobody else is to be woken. */
  readonly alone?: boolean;
  readonly validateOutput?: boolean;
  readonly trustProxy?: boolean;
  /** Sends who comes without TLS to https. */
  readonly forceTls?: boolean;
  /** Default 90 000. */
  readonly keepAliveMs?: number;
  /** Where services that this process does not serve are called (default: the root URL). */
  readonly internalUrls?: InternalUrls;
  readonly page?: HttpOptions['page'];
}

export interface RunningServer {
  readonly app: FastifyInstance;
  readonly platform: Platform;
  readonly relay: Relay | undefined;
  readonly services: ReadonlyMap<string, RunningService>;
  /** Calls each service's `ready`; once, after listening. */
  ready(): Promise<void>;
  /** From now on load balancers are told to send requests elsewhere; those that come are answered. */
  leave(): void;
  /** Finishes requests and batches in flight, then loops, relay and connections. The database stays open: its owner closes it. */
  close(): Promise<void>;
}

/** One attempt to ask auth; the authenticator makes others. */
const AUTH_TIMEOUT_MS = 3_000;
/** How long a batch of events may take that was begun before the end. */
const RELAY_STOP_MS = 5_000;

/**
 * Starts the services of a process; the caller listens on `app`. The database must be migrated.
 *
 * @throws {SettingsError} with all mistakes in the settings of all services
 */
export const startServer = async (options: ServerOptions): Promise<RunningServer> => {
  const { db, clock, log, metrics, rootUrl } = options;
  const [keep, ...configs] = readAllSettings([eventLogSettings, ...options.services.map(service => service.settings)], options.environment);
  const lanes: Lane[] = [];
  const vacuum = makeVacuum({ db, log });
  const notifier = openNotifier({ db, clock, random: options.random, log, alone: options.alone ?? false });
  options.bus.attach(notifier);
  let app: FastifyInstance | undefined;

  const requireApp = (): FastifyInstance => {
    if (!app) {
      throw new Error('A service called another before the server was put together: do it in ready()');
    }
    return app;
  };
  const served = new Set<string>();
  /** Ends calls of services by services: what they would wait for does not come back. */
  const closing = new AbortController();
  const serviceFetch = makeServiceFetch({
    local: makeLocalFetch(requireApp),
    isLocal: service => served.has(service),
    internalUrls: options.internalUrls ?? {},
  });
  const serviceCredentials = (service: string): { clientId: string; accessToken: string } => ({
    clientId: `static/taskcluster/${service}`,
    accessToken: options.serviceToken(service),
  });

  const platform: Platform = {
    db,
    clock,
    random: options.random,
    log,
    metrics,
    keyring: options.keyring,
    bus: options.bus,
    vacuum,
    alone: options.alone ?? false,
    rootUrl,
    openLane: (name, setup) => {
      const lane = openLane(db, `taskcluster ${name}`, setup);
      lanes.push(lane);
      return lane;
    },
    client: <A extends Api>(api: A, service: string, clientOptions: object = {}) =>
      createClient(api, {
        rootUrl,
        credentials: serviceCredentials(service),
        fetch: serviceFetch,
        clock,
        random: options.random,
        signal: closing.signal,
        ...clientOptions,
      }),
    serviceCredentials,
    signingSecret: options.signingSecret,
    notify: name => notifier.notify(name),
    onNotify: (name, callback) => notifier.onNotify(name, callback),
  };

  const askAuth = (): Authenticator => {
    const asked = makeRemoteAuthenticator({
      auth: createClient(authApi, { rootUrl, fetch: serviceFetch, clock, random: options.random, retries: 0, timeoutMs: AUTH_TIMEOUT_MS }),
      clock,
      log,
      metrics,
    });
    notifier.onNotify(AUTH_CHANGED, () => asked.forget());
    return asked;
  };

  const services = new Map<string, RunningService>();
  for (const [index, service] of options.services.entries()) {
    const started = await service.start(platform, configs[index] as never);
    const moves = (service.encrypted ?? []).map(column => reencryption(service.name, column, platform));
    services.set(service.name, Object.assign(started, { loops: [...(started.loops ?? []), ...moves] }));
    started.apis?.forEach(({ api }) => served.add(api.service));
  }
  const running = [...services.values()];
  const authenticator = running.find(service => service.authenticator)?.authenticator ?? askAuth();

  const http = makeHttpServer({
    apis: running.flatMap(service => service.apis ?? []),
    routes: running.flatMap(service => service.routes ?? []),
    authenticator: () => authenticator,
    rootUrl,
    version: options.version,
    clock,
    log,
    metrics,
    validateOutput: options.validateOutput ?? false,
    trustProxy: options.trustProxy ?? false,
    forceTls: options.forceTls ?? false,
    keepAliveMs: options.keepAliveMs ?? 90_000,
    ...(options.page ? { page: options.page } : {}),
  });
  app = http.app;
  await app.ready();

  for (const subscription of running.flatMap(service => service.subscriptions ?? [])) {
    await options.bus.subscribe(subscription);
  }
  const relay =
    options.relay === false
      ? undefined
      : startRelay({
          db,
          bus: options.bus,
          clock,
          log,
          metrics,
          vacuum,
          keep,
          alone: options.alone ?? false,
          onLogged: () => notifier.notify(EVENT_LOG),
          onReleased: () => notifier.notify('relay'),
        });
  const stopOutbox = onOutboxWritten(() => {
    relay?.wake();
    if (!relay?.isActive) {
      notifier.notify('outbox');
    }
  });
  const stopNotifications = [notifier.onNotify('outbox', () => relay?.wake()), notifier.onNotify('relay', () => relay?.take())];
  const { loops: wanted = true } = options;
  const isWanted = ({ name, everywhere }: BoundLoop): boolean => (typeof wanted === 'boolean' ? wanted : everywhere || wanted(name));
  const loops: RunningLoop[] = running
    .flatMap(service => service.loops ?? [])
    .filter(isWanted)
    // any process may be the only one that moves
    .concat(wanted === false || options.alone ? [] : run(stuckSessions, { db, log }))
    .map(each => each.start({ clock, log, metrics }));

  return {
    app,
    platform,
    relay,
    services,
    ready: async () => {
      for (const service of running) {
        await service.ready?.();
      }
    },
    leave: http.leave,
    close: async () => {
      await http.close();
      closing.abort(new Error('The server is stopping'));
      await Promise.all(loops.map(each => each.stop()));
      for (const service of running.toReversed()) {
        await service.close?.();
      }
      stopOutbox();
      stopNotifications.forEach(stop => stop());
      const relayed = relay?.stop() ?? Promise.resolve();
      // a broker that takes events and confirms nothing holds nobody up: without its connection the batch ends, and its events are sent again
      await settlesWithin(clock, relayed, RELAY_STOP_MS);
      await options.bus.close();
      await relayed;
      await Promise.all(lanes.map(lane => lane.close()));
      await vacuum.stop();
      await notifier.close();
    },
  };
};
