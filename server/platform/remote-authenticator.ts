/**
 * Who calls, in a process without the auth service: it asks auth over HTTP (protocol: "How a service authenticates a request"). Checks that come while
 * one is under way go into the next call together. Auth's brief absence is waited out; after that a request is refused with 503, never let in.
 *
 * What callers without credentials may do is remembered for as long as auth says, so that a changed role holds here as soon as everywhere. Nothing else
 * is: only auth has the keys that signatures are checked with.
 */
import type { authApi } from '@tscluster/api/auth/api.ts';
import type { AuthenticateHawkResponse } from '@tscluster/api/auth/scopes.ts';
import { ApiCallError, type Client, ConnectionError } from '@tscluster/client/client.ts';
import { type Batcher, makeBatcher } from '../db/batcher.ts';
import type { Authenticator, AuthResult, HawkRequest } from './caller.ts';
import type { Clock } from './clock.ts';
import { ApiError } from './errors.ts';
import type { Log } from './log.ts';
import type { Metrics } from './metrics.ts';

/** Calls under way at once: one that hangs, because the process behind it does, must not hold up everybody. */
const CALLS = 4;
const MAX_BATCH = 200;
/** How long auth may be away before requests are refused. */
const PATIENCE_MS = 10_000;
const PAUSE_MS = 100;
const NO_AUTH_LIFETIME_MS = 15 * 60 * 1000;
const SECONDS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10];

export interface RemoteAuthenticator extends Authenticator {
  /** Clients or roles were changed. */
  forget(): void;
}

export interface RemoteAuthenticatorOptions {
  /** A client of auth that needs no credentials, does not retry by itself, and gives up after a few seconds. */
  readonly auth: Pick<Client<typeof authApi>, 'authenticateHawkBatch'>;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
}

const toResult = (reply: AuthenticateHawkResponse): AuthResult => {
  if (reply.status === 'auth-failed') {
    return reply;
  }
  const expires = new Date(Date.parse(reply.expires));
  if (reply.status === 'no-auth') {
    return { ...reply, expires };
  }
  const { hash, ...rest } = reply;
  return { ...rest, expires, ...(typeof hash === 'string' ? { hash } : {}) };
};

const isPassing = (error: unknown): boolean =>
  error instanceof ConnectionError || (error instanceof ApiCallError && (error.statusCode >= 500 || error.statusCode === 429));

export const makeRemoteAuthenticator = ({ auth, clock, log, metrics }: RemoteAuthenticatorOptions): RemoteAuthenticator => {
  const seconds = metrics.histogram('auth_call_seconds', 'How long auth took to say who signed requests', [], SECONDS);
  const failures = metrics.counter('auth_call_failures_total', 'Calls to auth that brought no answer', []);
  let anonymous: { readonly scopes: readonly string[]; readonly untilMs: number } | undefined;
  let changes = 0;

  const askOnce = async (requests: readonly HawkRequest[]): Promise<AuthResult[]> => {
    const before = changes;
    const startedMs = clock.monotonicMs();
    const { results, freshForMs } = await auth.authenticateHawkBatch({ requests: [...requests] });
    seconds.observe((clock.monotonicMs() - startedMs) / 1000);
    if (results.length !== requests.length) {
      throw new Error(`Auth gave ${results.length} answers to ${requests.length} requests`);
    }
    const found = results.map(toResult);
    const noAuth = found.find(result => result.status === 'no-auth');
    if (noAuth && before === changes) {
      anonymous = { scopes: noAuth.scopes, untilMs: startedMs + freshForMs };
    }
    return found;
  };

  const ask = async (requests: readonly HawkRequest[]): Promise<(AuthResult | Error)[]> => {
    const untilMs = clock.monotonicMs() + PATIENCE_MS;
    for (;;) {
      try {
        return await askOnce(requests);
      } catch (error) {
        failures.inc();
        if (!isPassing(error) || clock.monotonicMs() >= untilMs) {
          log.error({ err: error, requests: requests.length }, 'auth cannot be asked who calls');
          return requests.map(
            () =>
              new ApiError(
                'ServiceUnavailable',
                'Who signed this request cannot be checked, because the auth service does not answer. Try again later.',
              ),
          );
        }
        await clock.sleep(PAUSE_MS);
      }
    }
  };

  const lines: Batcher<HawkRequest, AuthResult>[] = Array.from({ length: CALLS }, () => makeBatcher({ max: MAX_BATCH, flush: ask }));

  return {
    authenticate: request => {
      if (request.authorization === undefined && !request.resource.includes('bewit=')) {
        if (anonymous && clock.monotonicMs() < anonymous.untilMs) {
          const expires = new Date(clock.nowMs() + NO_AUTH_LIFETIME_MS);
          return { status: 'no-auth', scheme: 'none', scopes: anonymous.scopes, expires };
        }
      }
      const shortest = lines.reduce((best, line) => (line.size < best.size ? line : best));
      return shortest.add(request);
    },
    forget: () => {
      changes++;
      anonymous = undefined;
    },
  };
};
