/** Where credentials come from: the environment variables that every Taskcluster client knows. */
import type { Credentials } from './client.ts';

export interface Connection {
  readonly rootUrl: string | undefined;
  readonly credentials: Credentials | undefined;
}

/**
 * Root URL and credentials from `TASKCLUSTER_ROOT_URL`, `TASKCLUSTER_CLIENT_ID`, `TASKCLUSTER_ACCESS_TOKEN`, `TASKCLUSTER_CERTIFICATE`.
 * Inside a task `TASKCLUSTER_PROXY_URL` takes the root URL's place, and the proxy signs.
 * @throws when only one of client id and access token is set
 */
export const connectionFromEnvironment = (env: Readonly<Record<string, string | undefined>>): Connection => {
  const proxyUrl = env['TASKCLUSTER_PROXY_URL'];
  if (proxyUrl) {
    return { rootUrl: proxyUrl, credentials: undefined };
  }
  const clientId = env['TASKCLUSTER_CLIENT_ID'];
  const accessToken = env['TASKCLUSTER_ACCESS_TOKEN'];
  const certificate = env['TASKCLUSTER_CERTIFICATE'];
  if (!clientId !== !accessToken) {
    const [set, missing] = clientId ? ['CLIENT_ID', 'ACCESS_TOKEN'] : ['ACCESS_TOKEN', 'CLIENT_ID'];
    throw new Error(`TASKCLUSTER_${set} is set, but TASKCLUSTER_${missing} is not. Set both, or neither.`);
  }
  return {
    rootUrl: env['TASKCLUSTER_ROOT_URL'] || undefined,
    credentials: clientId && accessToken ? { clientId, accessToken, ...(certificate ? { certificate } : {}) } : undefined,
  };
};
