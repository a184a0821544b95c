/**
 * A server for tests: real Postgres, real HTTP through `inject`, a fake clock, seeded randomness, every event recorded.
 *
 *   const { client, clock, events } = await withServer([queueService]);
 *   const queue = client(queueApi);                       // may do everything
 *   const stranger = client(queueApi, { scopes: [] });
 */
import type { Api } from '@tscluster/api/define.ts';
import { type Client, createClient } from '@tscluster/client/client.ts';
import { afterAll } from 'vitest';
import type { Db } from '../db/sql.ts';
import { type RunningServer, type ServerOptions, startServer } from '../main.ts';
import { openMemoryBus } from '../platform/bus/memory.ts';
import { type Random, systemClock } from '../platform/clock.ts';
import { newestSeq, parseEvents, readEventLog } from '../platform/event-log.ts';
import type { BusEvent } from '../platform/events.ts';
import { openKeyring } from '../platform/keyring.ts';
import { makeLocalFetch } from '../platform/local-fetch.ts';
import { type Log, silentLog } from '../platform/log.ts';
import { makeMetrics } from '../platform/metrics.ts';
import type { Platform, Service } from '../platform/service.ts';
import { makeTestAuthenticator } from './authenticator.ts';
import { type FakeClock, makeFakeClock } from './clock.ts';
import { isSplit, makeAuthStandIn, startSplitServer } from './split.ts';
import { testDatabase } from './template.ts';

export interface TestServer {
  readonly server: RunningServer;
  /** The server of auth, where it has one of its own. */
  readonly authServer: RunningServer | undefined;
  readonly platform: Platform;
  readonly db: Db;
  readonly clock: FakeClock;
  readonly rootUrl: string;
  /** Everything that `drain` has taken so far, in order. */
  readonly events: BusEvent[];
  /** Waits until the outbox is empty and what was subscribed to is handled, and takes the events published since the last call. */
  drain(): Promise<BusEvent[]>;
  /** A client whose caller has these scopes (default `*`); without `credentials` in the request when `scopes` is null. */
  client<A extends Api>(
    api: A,
    options?: {
      scopes?: readonly string[] | null;
      clientId?: string;
      credentials?: { clientId: string; accessToken: string; certificate?: string };
    },
  ): Client<A>;
  /** A plain request, for what no client sends. */
  readonly fetch: typeof fetch;
  /** What callers without credentials may do. */
  setAnonymousScopes(scopes: readonly string[]): void;
  close(): Promise<void>;
}

/** Deterministic bytes (mulberry32): the same seed gives the same run. */
export const seededRandom = (seed: number): Random => {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
  return { float: next, bytes: count => Uint8Array.from({ length: count }, () => Math.floor(next() * 256)) };
};

const open: TestServer[] = [];
/** Each of a file's servers has randomness of its own. */
let servers = 0;
afterAll(async () => {
  for (const server of open.splice(0)) {
    await server.close();
  }
});

const ROOT_URL = 'http://taskcluster.test';

export interface WithServerOptions {
  readonly environment?: Readonly<Record<string, string>>;
  /** Loops run by themselves (default false: tests call them). */
  readonly loops?: boolean;
  /** Delivers the events (default: unless the database was given, because then another one may, and only one works at a time). */
  readonly relay?: boolean;
  readonly clock?: FakeClock;
  /** Default: nothing is logged. */
  readonly log?: Log;
  readonly db?: Db;
  /** No other server works on the database (default); else they wake each other. */
  readonly alone?: boolean;
  /** Auth runs in a server of its own (default: where the environment says so for all tests). */
  readonly split?: boolean;
  /** A proxy in front is believed, and what came without TLS is refused. */
  readonly forceTls?: boolean;
}

/** Starts services on a database of their own; closed after the test file. */
export const withServer = async (services: readonly Service[], options: WithServerOptions = {}): Promise<TestServer> => {
  servers += 1;
  const seed = servers;
  const db = options.db ?? (await testDatabase()).db;
  const clock = options.clock ?? makeFakeClock();
  const bus = openMemoryBus(db);
  const events: BusEvent[] = [];
  let seen = await newestSeq(db);

  const scopes = new Map<string, readonly string[]>([['anonymous', []]]);
  const testAuth = makeAuthStandIn(
    makeTestAuthenticator(clock, id => scopes.get(id) ?? (id.startsWith('static/taskcluster/') ? ['*'] : undefined)),
  );
  const auth = services.find(service => service.name === 'auth') ?? testAuth;
  const others = services.filter(service => service !== auth);
  const serverOptions: ServerOptions = {
    db,
    bus,
    clock,
    random: seededRandom(seed),
    log: options.log ?? silentLog,
    metrics: makeMetrics(),
    keyring: openKeyring([{ id: 'test', key: Buffer.alloc(32, 1) }], seededRandom(2)),
    rootUrl: ROOT_URL,
    version: { version: 'dev', commit: '', source: '', build: '' },
    services: [auth, ...others],
    // a test may let days pass before it looks
    environment: { EVENT_LOG_KEEP_SECONDS: String(10 * 365 * 86_400), ...options.environment },
    serviceToken: service => `token-of-${service}-0123456789abcdef`,
    signingSecret: Buffer.alloc(32, 7),
    loops: options.loops ?? false,
    relay: options.db === undefined || (options.relay ?? false),
    validateOutput: true,
    ...(options.forceTls ? { forceTls: true, trustProxy: true } : {}),
    alone: options.alone ?? true,
  };
  const split = (options.split ?? isSplit()) && others.length > 0 ? await startSplitServer(serverOptions, [auth, ...others]) : undefined;
  const server = split ?? (await startServer(serverOptions));
  await server.ready();
  const toServer = makeLocalFetch(() => server.app);
  const toAuth = split && makeLocalFetch(() => split.auth.app);
  const localFetch: typeof fetch = async (input, init) => {
    const url = new URL(input instanceof Request ? input.url : input);
    return toAuth && url.pathname.startsWith('/api/auth/') ? toAuth(input, init) : toServer(input, init);
  };

  // signatures carry the test's time; a request's own timeout stays real
  const signingClock = { ...systemClock, nowMs: clock.nowMs, now: clock.now };
  let callers = 0;
  let closed = false;
  const result: TestServer = {
    server,
    authServer: split?.auth,
    platform: server.platform,
    db,
    clock,
    rootUrl: ROOT_URL,
    events,
    drain: async () => {
      await server.relay?.drain();
      await bus.settled();
      const rows = await readEventLog(db, seen, Number.MAX_SAFE_INTEGER);
      seen = rows.at(-1)?.seq ?? seen;
      const fresh = rows.flatMap(({ outboxId, msg }) => parseEvents(outboxId, msg));
      events.push(...fresh);
      return fresh;
    },
    client: (api, { scopes: wanted = ['*'], clientId = `caller-${callers++}`, credentials } = {}) => {
      if (wanted !== null && !credentials) {
        scopes.set(clientId, wanted);
      }
      const given = credentials ?? (wanted === null ? undefined : { clientId, accessToken: 'a-token-that-nobody-checks' });
      return createClient(api, { rootUrl: ROOT_URL, fetch: localFetch, retries: 0, credentials: given, clock: signingClock });
    },
    fetch: localFetch,
    setAnonymousScopes: anonymous => void scopes.set('anonymous', anonymous),
    close: async () => {
      if (!closed) {
        closed = true;
        await server.close();
      }
    },
  };
  open.push(result);
  return result;
};
