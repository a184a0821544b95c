/** The clients that an installation is configured with: those of the services, whose scopes auth knows, and the local worker's. */

export const LOCAL_WORKER_CLIENT = 'static/local/worker';

/** One per service of the protocol, whether or not it runs here: auth wants them all. */
export const SERVICE_CLIENTS: readonly string[] = [
  'root',
  'queue',
  'built-in-workers',
  'github',
  'hooks',
  'index',
  'notify',
  'object',
  'purge-cache',
  'secrets',
  'web-server',
  'worker-manager',
].map(name => `static/taskcluster/${name}`);

export interface StaticClient {
  readonly clientId: string;
  readonly accessToken: string;
  readonly description?: string;
  readonly scopes?: readonly string[];
}

/** What auth reads from `STATIC_CLIENTS`. */
export const staticClients = (tokenOf: (clientId: string) => string): StaticClient[] => [
  ...SERVICE_CLIENTS.map(clientId => ({ clientId, accessToken: tokenOf(clientId) })),
  {
    clientId: LOCAL_WORKER_CLIENT,
    accessToken: tokenOf(LOCAL_WORKER_CLIENT),
    description: 'The local worker: may only claim from its own task queue, as itself.',
    scopes: ['queue:claim-work:local/process', 'queue:worker-id:local/local-1'],
  },
];
