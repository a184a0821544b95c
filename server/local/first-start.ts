/** What an installation is given once, so that it is useful as it stands; from then on it is its administrators'. */
import type { authApi } from '@tscluster/api/auth/api.ts';
import { ApiCallError, type Client } from '@tscluster/client/client.ts';

/** What anybody may read: the protocol's list for a public deployment. */
export const ANONYMOUS_SCOPES: readonly string[] = [
  'auth:current-scopes',
  'auth:expand-scopes',
  'auth:get-client:*',
  'auth:get-role:*',
  'auth:list-clients',
  'auth:list-roles',
  'github:get-badge:*',
  'github:get-repository:*',
  'github:latest-status:*',
  'github:list-builds',
  'hooks:get:*',
  'hooks:list-hooks:*',
  'hooks:list-last-fires:*',
  'hooks:status:*',
  'index:find-task:*',
  'index:list-namespaces:*',
  'index:list-tasks:*',
  'purge-cache:all-purge-requests',
  'purge-cache:purge-requests:*',
  'queue:get-artifact:public/*',
  'queue:get-provisioner:*',
  'queue:get-task:*',
  'queue:get-worker-type:*',
  'queue:get-worker:*',
  'queue:list-artifacts:*',
  'queue:list-dependent-tasks:*',
  'queue:list-task-group:*',
  'queue:list-worker-types:*',
  'queue:list-workers:*',
  'queue:pending-count:*',
  'queue:status:*',
  'queue:list-provisioners',
  'secrets:list-secrets',
  'web:read-pulse',
  'worker-manager:get-worker-pool:*',
  'worker-manager:get-worker:*',
  'worker-manager:list-worker-pool-errors:*',
  'worker-manager:list-workers:*',
  'worker-manager:should-worker-terminate:*',
  'worker-manager:list-providers',
  'worker-manager:list-worker-pools',
];

/** Creates the role `anonymous`, unless there is one. */
export const createAnonymousRole = async (auth: Pick<Client<typeof authApi>, 'createRole'>): Promise<void> => {
  try {
    await auth.createRole(
      { roleId: 'anonymous' },
      {
        scopes: [...ANONYMOUS_SCOPES],
        description: 'What callers without credentials may do. Made at the first start; remove scopes to make the installation private.',
      },
    );
  } catch (error) {
    if (!(error instanceof ApiCallError && error.statusCode === 409)) {
      throw error;
    }
  }
};
