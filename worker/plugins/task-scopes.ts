/** Whether a task has the scopes that a feature needs. */
import { authApi } from '@tscluster/api/auth/api.ts';
import { patternMatch } from '@tscluster/api/scopes.ts';
import { createClient } from '@tscluster/client/client.ts';
import { credentialsOf } from '../config.ts';
import type { TaskContext, WorkerEnvironment } from '../context.ts';
import { malformedPayload, messageOf, resourceUnavailable } from '../errors.ts';

const missingFrom = (held: readonly string[], needed: readonly string[]): string[] =>
  needed.filter(scope => !held.some(pattern => patternMatch(pattern, scope)));

/**
 * Returns when the task has all of the scopes, those of the roles it assumes included.
 * @throws {TaskError} malformed-payload that names what is missing; resource-unavailable when nobody can be asked about roles
 */
export const requireTaskScopes = async (worker: WorkerEnvironment, task: TaskContext, needed: readonly string[]): Promise<void> => {
  const own = task.definition.scopes;
  if (missingFrom(own, needed).length === 0) {
    return;
  }
  let held: readonly string[] = own;
  if (own.some(scope => scope.startsWith('assume:') || patternMatch(scope, 'assume:'))) {
    const auth = createClient(authApi, { rootUrl: worker.config.rootUrl, credentials: credentialsOf(worker.config), fetch: worker.fetch });
    try {
      held = (await auth.expandScopes({ scopes: [...own] })).scopes;
    } catch (error) {
      throw resourceUnavailable(`The scopes of the task could not be expanded: ${messageOf(error)}`, { cause: error });
    }
  }
  const missing = missingFrom(held, needed);
  if (missing.length > 0) {
    throw malformedPayload(
      `The task needs the scopes ${needed.join(', ')} and lacks ${missing.join(', ')}. It has: ${own.length === 0 ? 'none' : own.join(', ')}.`,
    );
  }
};
