/** Artifacts of type object: the bytes are an object of the object service, which the queue reserves and whoever made the artifact uploads. */
import type { ApiCallError } from '@tscluster/client/client.ts';
import { conflict, inputError } from '../../platform/errors.ts';
import { type Artifact, type ClaimedRun, objectNameOf } from './artifacts.ts';
import { deleteUnfinishedObject } from './artifacts.db.ts';
import { type ArtifactCtx, isRefusal } from './artifacts-storage.ts';
import type { TaskRow } from './tasks.db.ts';

const DAY_MS = 24 * 3_600_000;

/** What an error says, without what is known of the call. */
const textOf = ({ message }: ApiCallError): string => message.split('\n\n---\n', 1)[0] as string;

/**
 * Reserves the upload in the object service, under the queue's name, and lets the caller go on with it. A new artifact whose object is refused is
 * taken back.
 */
export const startObject = async (ctx: ArtifactCtx, task: TaskRow, run: ClaimedRun, artifact: Artifact, isNew: boolean) => {
  const { clock } = ctx.platform;
  const { uploadId } = artifact.details as { uploadId: string };
  const name = objectNameOf(task.taskId, run.runId, artifact.name);
  const { projectId } = task;
  const scope = `object:upload:${projectId}:${name}`;
  try {
    await ctx.artifacts
      .objects([scope])
      .createUpload({ name }, { projectId, uploadId, expires: artifact.expires.toISOString(), proposedUploadMethods: {} });
  } catch (error) {
    if (isNew && isRefusal(error, 400, 409)) {
      await ctx.platform.db.tx(tx => deleteUnfinishedObject(tx, task.taskId, run.runId, artifact.name, uploadId));
    }
    if (isRefusal(error, 409)) {
      conflict('The object service has an object {{name}} already.', { name });
    }
    if (isRefusal(error, 400)) {
      inputError('The object service takes no object {{name}}: {{reason}}', { name, reason: textOf(error as ApiCallError) });
    }
    throw error;
  }
  const until = Math.min(artifact.expires.getTime(), clock.nowMs() + DAY_MS);
  const clientId = `artifact-upload/${task.taskId}/${run.runId}/on/${run.workerGroup}/${run.workerId}`;
  return {
    storageType: 'object' as const,
    name,
    projectId,
    uploadId,
    expires: artifact.expires.toISOString(),
    credentials: ctx.artifacts.objectCredentials(clientId, scope, new Date(until)),
  };
};
