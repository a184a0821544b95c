/** The clients that an installation is configured with: those of the services, and the local worker's. */
import { BUILT_IN_CLIENTS, type StaticClient } from '../services/auth/static-clients.ts';

export const LOCAL_WORKER_CLIENT = 'static/local/worker';

/** The services' own, whether or not a service runs here: auth knows what each may do. */
export const SERVICE_CLIENTS: readonly string[] = Object.keys(BUILT_IN_CLIENTS).map(name => `static/taskcluster/${name}`);

/** What auth reads from `STATIC_CLIENTS`: those besides the services' own. */
export const staticClients = (tokenOf: (clientId: string) => string): StaticClient[] => [
  {
    clientId: LOCAL_WORKER_CLIENT,
    accessToken: tokenOf(LOCAL_WORKER_CLIENT),
    description: 'The local worker: may only claim from its own task queue, as itself, and ask which caches to purge.',
    scopes: ['purge-cache:purge-requests::local/process', 'queue:claim-work:local/process', 'queue:worker-id:local/local-1'],
  },
];
