/** What the database tests of auth share. */
import { authApi } from '@tscluster/api/auth/api.ts';
import type { Client } from '@tscluster/client/client.ts';
import { withServer } from '../../testing/server.ts';
import type { TestServer, WithServerOptions } from '../../testing/server.ts';
import { auth } from './service.ts';

export { refusal } from '../../testing/refusal.ts';

export type AuthClient = Client<typeof authApi>;

export interface AuthServer extends TestServer {
  /** The client that may do everything. */
  readonly root: AuthClient;
  /** Creates a client with these scopes and answers with the API as seen by it. */
  as(clientId: string, scopes: readonly string[]): Promise<AuthClient>;
  /** The API without credentials. */
  readonly stranger: AuthClient;
}

export const ROOT = { clientId: 'static/taskcluster/root', accessToken: 'token-of-root-0123456789abcdef' };

export const FUTURE = '2100-01-01T00:00:00.000Z';

/** Starts auth alone on a database of its own. */
export const withAuth = async (options: WithServerOptions = {}): Promise<AuthServer> => {
  const server = await withServer([auth], options);
  const root = server.client(authApi, { credentials: ROOT });
  return {
    ...server,
    root,
    stranger: server.client(authApi, { scopes: null }),
    as: async (clientId, scopes) => {
      const { accessToken } = await root.createClient({ clientId }, { expires: FUTURE, description: 'for a test', scopes: [...scopes] });
      return server.client(authApi, { credentials: { clientId, accessToken } });
    },
  };
};
