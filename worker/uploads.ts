/** Publishes what a task leaves behind, with the task's own credentials, and says what a refusal means for the task. */
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { objectApi } from '@tscluster/api/object/api.ts';
import { uploadArtifact } from '@tscluster/client/artifacts.ts';
import { ApiCallError, ConnectionError, createClient, type Credentials } from '@tscluster/client/client.ts';
import { TransferError } from '@tscluster/client/transfer.ts';
import type { TaskContext, WorkerEnvironment } from './context.ts';
import { malformedPayload, messageOf, resourceUnavailable, TaskError } from './errors.ts';

export interface FileUpload {
  readonly name: string;
  /** The bytes, or where they are. */
  readonly content: Uint8Array | { readonly path: string };
  readonly contentType: string;
  /** How the bytes are encoded already. */
  readonly contentEncoding?: 'gzip' | undefined;
  readonly expires: Date;
  /** Gives up. */
  readonly signal: AbortSignal;
}

const openSource = (content: FileUpload['content']): ReadableStream<Uint8Array> =>
  content instanceof Uint8Array
    ? new ReadableStream({
        start: controller => {
          if (content.byteLength > 0) {
            controller.enqueue(content);
          }
          controller.close();
        },
      })
    : (Readable.toWeb(createReadStream(content.path)) as ReadableStream<Uint8Array>);

/** A client of the object service for the credentials that the queue hands out per artifact. */
export const objectClientFor = (worker: WorkerEnvironment) => (credentials: Credentials) =>
  createClient(objectApi, { rootUrl: worker.config.rootUrl, credentials, fetch: worker.fetch });

/** Whether artifacts are stored with their encoding; the object service stores bytes as they are. */
export const storesEncodings = (worker: WorkerEnvironment): boolean => !worker.config.createObjectArtifacts;

/**
 * Uploads a file as an artifact of the run.
 * @throws {TaskError} malformed-payload when another run of the same payload would be refused, too; resource-unavailable when the storage is
 */
export const uploadFile = async (worker: WorkerEnvironment, task: TaskContext, file: FileUpload): Promise<void> => {
  const { content } = file;
  const contentLength = content instanceof Uint8Array ? content.byteLength : (await stat(content.path)).size;
  await translate(file.signal, file.name, () =>
    uploadArtifact({
      queue: task.queue,
      objectClient: objectClientFor(worker),
      taskId: task.taskId,
      runId: String(task.runId),
      name: file.name,
      storageType: worker.config.createObjectArtifacts ? 'object' : 's3',
      expires: file.expires,
      contentType: file.contentType,
      contentLength,
      ...(file.contentEncoding === undefined ? {} : { contentEncoding: file.contentEncoding }),
      openSource: () => openSource(content),
      fetch: worker.fetch,
      signal: file.signal,
      clock: worker.clock,
      random: worker.random,
    }),
  );
};

type WithoutBytes = Extract<Parameters<TaskContext['queue']['createArtifact']>[1], { storageType: 'reference' | 'link' | 'error' }>;

/** Creates an artifact that has no bytes of its own: a reference, a link, an error. @throws as `uploadFile` */
export const createArtifact = async (task: TaskContext, name: string, artifact: WithoutBytes): Promise<void> => {
  await translate(task.lostSignal, name, () =>
    task.queue.createArtifact({ taskId: task.taskId, runId: String(task.runId), name }, artifact),
  );
};

const translate = async (signal: AbortSignal, name: string, call: () => Promise<unknown>): Promise<void> => {
  try {
    await call();
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof TaskError) {
      throw error;
    }
    const message = `The artifact ${name} could not be published: ${messageOf(error)}`;
    if (error instanceof ApiCallError && error.statusCode < 500) {
      throw error.statusCode === 409 ? malformedPayload(message, { cause: error }) : new Error(message, { cause: error });
    }
    if (error instanceof ApiCallError || error instanceof ConnectionError || error instanceof TransferError) {
      throw resourceUnavailable(message, { cause: error });
    }
    throw new Error(message, { cause: error });
  }
};
