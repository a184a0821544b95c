/** What a worker gets with a claim: credentials for its run, as long as the claim. */
import { plainSlugid } from '../../platform/clock.ts';
import { type TemporaryCredentials, createTemporaryCredentials } from '../../platform/temporary-credentials.ts';
import type { Ctx } from './ctx.ts';

export interface ClaimedRun {
  readonly taskId: string;
  readonly runId: number;
  readonly workerGroup: string;
  readonly workerId: string;
  readonly takenUntilMs: number;
  /** The task's scopes as JSON text. */
  readonly scopes: string;
}

/** Credentials with the scopes of the run, then those of the task as given. */
export const makeTaskCredentials = (ctx: Ctx, run: ClaimedRun): TemporaryCredentials => {
  const { clock, random } = ctx.platform;
  const { taskId, runId, workerGroup, workerId, takenUntilMs } = run;
  return createTemporaryCredentials({
    credentials: ctx.platform.serviceCredentials('queue'),
    clientId: `task-client/${taskId}/${runId}/on/${workerGroup}/${workerId}/until/${takenUntilMs / 1000}`,
    scopes: [
      `queue:reclaim-task:${taskId}/${runId}`,
      `queue:resolve-task:${taskId}/${runId}`,
      `queue:create-artifact:${taskId}/${runId}`,
      ...(run.scopes === '[]' ? [] : (JSON.parse(run.scopes) as string[])),
    ],
    start: clock.now(),
    expiry: new Date(takenUntilMs),
    seed: plainSlugid(random) + plainSlugid(random),
  });
};
