/**
 * With `TASKCLUSTER_TEST_SPLIT=1` the servers of tests are two: auth in one, everything else in the other, which asks auth over HTTP who calls. What the
 * tests see must be the same.
 */
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { defineApi, methods } from '@tscluster/api/define.ts';
import { authenticationMethods } from '@tscluster/api/auth/scopes.ts';
import { pingMethods, heartbeatMethods } from '@tscluster/api/operational.ts';
import { type RunningServer, type ServerOptions, startServer } from '../main.ts';
import type { Authenticator } from '../platform/caller.ts';
import { type Service, serve } from '../platform/service.ts';

export const isSplit = (): boolean => process.env['TASKCLUSTER_TEST_SPLIT'] === '1';

const { authenticateHawkBatch } = authenticationMethods;
const standInApi = defineApi({
  service: 'auth',
  version: 'v1',
  title: 'Auth',
  description: '',
  methods: methods({ ...pingMethods, authenticateHawkBatch, ...heartbeatMethods }),
});

/** An auth service that knows nothing but who calls. */
export const makeAuthStandIn = (authenticator: Authenticator): Service => ({
  name: 'test-auth',
  settings: {},
  start: () => ({
    authenticator,
    apis: [
      serve(
        standInApi,
        {
          authenticateHawkBatch: async ({ body }) => ({
            results: (await Promise.all(body.requests.map(async request => authenticator.authenticate(request)))).map(result =>
              result.status === 'auth-failed' ? result : { ...result, scopes: [...result.scopes], expires: result.expires.toISOString() },
            ),
            freshForMs: 0,
          }),
        },
        undefined,
      ),
    ],
  }),
});

export interface SplitServer extends RunningServer {
  readonly auth: RunningServer;
}

/** Starts auth (the service that checks credentials, the first one) and the others apart. */
export const startSplitServer = async (
  options: ServerOptions,
  [auth, ...others]: readonly [Service, ...Service[]],
): Promise<SplitServer> => {
  const internalUrls: Record<string, string> = {};
  // auth tells the others of its changes
  const alone = (options.alone ?? false) && auth.name !== 'auth';
  const addresses: http.Server[] = [];
  const start = async (services: readonly Service[], more: Partial<ServerOptions> = {}): Promise<RunningServer> => {
    const server = await startServer({ ...options, ...more, services, internalUrls, alone });
    // the tests may let the server itself listen
    const address = http.createServer((request, response) => void server.app.server.emit('request', request, response));
    addresses.push(address);
    await new Promise<void>(resolve => address.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(address.address() as AddressInfo).port}`;
    for (const running of server.services.values()) {
      running.apis?.forEach(({ api }) => (internalUrls[api.service] = url));
    }
    return server;
  };
  const first = await start([auth], { relay: false });
  const rest = await start(others);
  return {
    ...rest,
    auth: first,
    services: new Map([...first.services, ...rest.services]),
    ready: async () => {
      await first.ready();
      await rest.ready();
    },
    close: async () => {
      await rest.close();
      await first.close();
      for (const address of addresses) {
        address.closeAllConnections();
        await new Promise(resolve => address.close(resolve));
      }
    },
  };
};
