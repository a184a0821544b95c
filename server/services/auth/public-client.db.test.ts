/** The public client library, unmodified, over a real socket. */
import type { AddressInfo } from 'node:net';
import taskcluster from 'taskcluster-client';
import type { PublicClient } from 'taskcluster-client';
import { beforeAll, describe, expect, test } from 'vitest';
import type { authApi } from '@tscluster/api/auth/api.ts';
import type { AuthServer } from './testing.ts';
import { presentClock } from '../../testing/clock.ts';
import { FUTURE, ROOT, withAuth } from './testing.ts';

let server: AuthServer;
let rootUrl: string;
beforeAll(async () => {
  server = await withAuth({ clock: presentClock() });
  await server.server.app.listen({ port: 0, host: '127.0.0.1' });
  rootUrl = `http://127.0.0.1:${(server.server.app.server.address() as AddressInfo).port}`;
});

interface Credentials {
  clientId: string;
  accessToken: string;
  certificate?: string;
}
type Method = keyof (typeof authApi)['methods'];
const auth = (credentials: Credentials, options: object = {}): PublicClient<Method> =>
  new taskcluster.Auth({ rootUrl, credentials, retries: 0, ...options });
const refused = async (call: Promise<unknown>): Promise<unknown> =>
  call.catch((error: { statusCode: number; code: string }) => `${error.statusCode} ${error.code}`);

const makeClient = async (clientId: string, scopes: string[]): Promise<Credentials> => {
  const { accessToken } = (await auth(ROOT).createClient(clientId, { expires: FUTURE, description: '', scopes })) as {
    accessToken: string;
  };
  return { clientId, accessToken };
};

describe('the public client library', () => {
  test('signs calls, with ids that need escaping', async () => {
    const credentials = await makeClient('p/a|b@c+d', ['auth:*']);
    expect(await auth(credentials).client('p/a|b@c+d')).toMatchObject({ clientId: 'p/a|b@c+d', scopes: ['auth:*'] });
    expect(await refused(auth({ ...credentials, accessToken: 'wrong' }).currentScopes())).toBe('401 AuthenticationFailed');
    expect(
      await refused(
        auth(credentials)
          .deleteRole('a')
          .then(() => auth(credentials).createRole('a', { scopes: ['x'], description: '' })),
      ),
    ).toBe('403 InsufficientScopes');
  });

  test('narrows to some scopes', async () => {
    const credentials = await makeClient('p/narrow', ['auth:current-scopes', 'x:*']);
    const narrow = auth(credentials, { authorizedScopes: ['auth:current-scopes', 'x:1'] });
    expect(await narrow.currentScopes()).toEqual({ scopes: ['assume:anonymous', 'auth:current-scopes', 'x:1'] });
    expect(await refused(auth(credentials, { authorizedScopes: ['y'] }).currentScopes())).toBe('401 AuthenticationFailed');
  });

  test('makes temporary credentials, named and not, that are accepted while they hold', async () => {
    const credentials = await makeClient('p/issuer', ['auth:current-scopes', 'auth:create-client:p/named/*', 'x']);
    const make = (options: Partial<Parameters<typeof taskcluster.createTemporaryCredentials>[0]>): Credentials =>
      taskcluster.createTemporaryCredentials({
        start: new Date(server.clock.nowMs() - 1000),
        expiry: new Date(server.clock.nowMs() + 60_000),
        credentials,
        scopes: ['auth:current-scopes'],
        ...options,
      }) as Credentials;
    expect(await auth(make({})).currentScopes()).toEqual({ scopes: ['assume:anonymous', 'auth:current-scopes'] });
    expect(await auth(make({ clientId: 'p/named/1' })).currentScopes()).toEqual({ scopes: ['assume:anonymous', 'auth:current-scopes'] });
    expect(await refused(auth(make({ clientId: 'q' })).currentScopes())).toBe('401 AuthenticationFailed');
    expect(await refused(auth(make({ scopes: ['y'] })).currentScopes())).toBe('401 AuthenticationFailed');
    expect(await refused(auth(make({ scopes: [] })).currentScopes())).toBe('403 InsufficientScopes');
    const past = { start: new Date(server.clock.nowMs() - 3_600_000), expiry: new Date(server.clock.nowMs() - 301_000) };
    expect(await refused(auth(make(past)).currentScopes())).toBe('401 AuthenticationFailed');
  });

  test('signs URLs', async () => {
    const credentials = await makeClient('p/urls', ['auth:current-scopes']);
    const own = auth(credentials);
    const signed = own.buildSignedUrl(own.currentScopes, { expiration: 60 });
    const reply = await fetch(signed);
    expect(reply.status).toBe(200);
    expect((await fetch(signed, { method: 'HEAD' })).status).toBe(200);
    expect((await fetch(signed.replace('/scopes/current', '/clients/'))).status).toBe(401);
    const late = own.buildSignedUrl(own.currentScopes, { expiration: -3600 });
    expect(await (await fetch(late)).json()).toMatchObject({ code: 'AuthenticationFailed' });
  });

  test('tries its signatures on the test endpoints', async () => {
    const tester = { clientId: 'tester', accessToken: 'no-secret' };
    expect(await auth(tester).testAuthenticate({ clientScopes: ['a:*'], requiredScopes: ['a:b'] })).toEqual({
      clientId: 'tester',
      scopes: ['a:*', 'assume:anonymous'],
    });
    const narrow = auth(tester, { authorizedScopes: ['test:authenticate-get'] });
    expect(await narrow.testAuthenticateGet()).toEqual({ clientId: 'tester', scopes: ['assume:anonymous', 'test:authenticate-get'] });
  });
});
