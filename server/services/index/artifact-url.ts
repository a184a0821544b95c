/**
 * Where an artifact of an indexed task is to be found (protocol: "findArtifactFromTask"). What everybody may read is led to directly, where that is
 * possible; anything else to a URL of the queue that is signed by the index: whoever asked was found to have the scope for it.
 */
import type { authApi } from '@tscluster/api/auth/api.ts';
import type { queueApi } from '@tscluster/api/queue/api.ts';
import { satisfies } from '@tscluster/api/scopes.ts';
import type { Client } from '@tscluster/client/client.ts';

export interface ArtifactUrlCtx {
  readonly auth: Pick<Client<typeof authApi>, 'authenticateHawk'>;
  readonly queue: Pick<Client<typeof queueApi>, 'latestArtifact' | 'buildUrl' | 'buildSignedUrl' | 'tasks'>;
}

/** Whether callers without credentials may read it; no, where auth does not answer. */
const isPublic = async ({ auth }: ArtifactUrlCtx, name: string): Promise<boolean> => {
  try {
    // what auth says of a request that nobody has signed
    const nobody = await auth.authenticateHawk({ method: 'get', resource: '/', host: 'localhost', port: 80 });
    return nobody.status === 'no-auth' && satisfies(nobody.scopes, `queue:get-artifact:${name}`);
  } catch {
    return false;
  }
};

/** The URL of an artifact of the latest run of a task. The artifact need not exist. */
export const findArtifactUrl = async (ctx: ArtifactUrlCtx, taskId: string, name: string): Promise<string> => {
  const params = { taskId, name };
  if (!(await isPublic(ctx, name))) {
    return ctx.queue.buildSignedUrl('getLatestArtifact', params);
  }
  try {
    const artifact = await ctx.queue.latestArtifact(params);
    if ('url' in artifact) {
      return artifact.url;
    }
  } catch {
    // the queue says why to whoever follows the redirect
  }
  return ctx.queue.buildUrl('getLatestArtifact', params);
};
