/**
 * `artifacts`: what the task wants to keep. Each file is copied to the worker's own folder before it is uploaded, compressed on the way where that helps:
 * what is published is then one state of the file, and never the target of a link that leads outside the task's folder (protocol: worker, "Artifacts").
 */
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { uuid } from '@tscluster/client/clock.ts';
import type { TaskContext, WorkerEnvironment } from '../context.ts';
import type { ExtractedFile, SandboxResult } from '../engines/engine.ts';
import { malformedPayload, messageOf, NotFound, NotReadable, taskFailed, WrongKind } from '../errors.ts';
import type { PayloadArtifact, TaskPayload } from '../payload.ts';
import { createArtifact, storesEncodings, uploadFile } from '../uploads.ts';
import { hasBackingLog, logNames, taskExpires } from './backing-log.ts';
import { contentTypeOf, isCompressible } from './content-types.ts';
import { definePlugin } from './plugin.ts';

const MAX_CONCURRENT = 10;
const EXPIRES_TOLERANCE_MS = 1000;

/** One artifact to be. */
interface Item {
  readonly name: string;
  readonly isOptional: boolean;
  readonly expires: Date;
  readonly contentType: string;
  readonly isCompressed: boolean;
  open(): Promise<ExtractedFile>;
}

export const artifacts = definePlugin({
  name: 'artifacts',
  payload: {
    properties: {
      artifacts: {
        type: 'array',
        uniqueItems: true,
        items: {
          type: 'object',
          additionalProperties: false,
          required: ['type', 'path'],
          properties: {
            type: { type: 'string', enum: ['file', 'directory'] },
            path: { type: 'string' },
            name: { type: 'string' },
            expires: { type: 'string', format: 'date-time' },
            contentType: { type: 'string' },
            contentEncoding: { type: 'string', enum: ['identity', 'gzip'] },
            optional: { type: 'boolean', default: false },
          },
        },
      },
    },
  },
  open: async worker => {
    const folder = join(worker.config.dataDir, 'uploads');
    await rm(folder, { recursive: true, force: true });
    await mkdir(folder, { recursive: true, mode: 0o700 });
    return {
      newTask: (task, payload) => {
        const wanted = payload.artifacts ?? [];
        if (wanted.length === 0) {
          return undefined;
        }
        return {
          prepare: async () => wanted.forEach(artifact => checkExpires(task, artifact)),
          stopped: async result => {
            if (result) {
              await publish(worker, task, payload, result, folder);
            }
          },
        };
      },
    };
  },
});

const checkExpires = (task: TaskContext, { path, expires }: PayloadArtifact): void => {
  if (expires === undefined) {
    return;
  }
  const ms = new Date(expires).getTime();
  const { deadline } = task.definition;
  const last = taskExpires(task);
  if (ms < new Date(deadline).getTime() - EXPIRES_TOLERANCE_MS || ms > last.getTime() + EXPIRES_TOLERANCE_MS) {
    throw malformedPayload(
      `payload.artifacts: ${path} expires ${expires}, which is not between the task's deadline (${deadline}) and the task's expiry (${last.toISOString()}).`,
    );
  }
};

const nameOf = ({ name, path }: PayloadArtifact): string => (name === undefined || name === '' ? posix.normalize(path) : name);

/** Why there is no content, as the queue knows it. */
const reasonOf = (error: unknown): 'file-missing-on-worker' | 'file-not-readable-on-worker' | 'invalid-resource-on-worker' | undefined => {
  if (error instanceof NotFound) {
    return 'file-missing-on-worker';
  }
  if (error instanceof NotReadable) {
    return 'file-not-readable-on-worker';
  }
  return error instanceof WrongKind ? 'invalid-resource-on-worker' : undefined;
};

const publish = async (
  worker: WorkerEnvironment,
  task: TaskContext,
  payload: TaskPayload,
  result: SandboxResult,
  folder: string,
): Promise<void> => {
  const { live, backing } = logNames(payload);
  const reserved = new Set([...(payload.features?.['liveLog'] === false ? [] : [live]), ...(hasBackingLog(payload) ? [backing] : [])]);
  const items = (await Promise.all((payload.artifacts ?? []).map(artifact => listItems(worker, task, result, artifact)))).flat();
  if (items.length > worker.config.maxArtifactFiles) {
    throw taskFailed(`The artifacts have ${items.length} files; this worker publishes at most ${worker.config.maxArtifactFiles} per task.`);
  }
  const queue = items
    .filter(({ name }) => {
      if (reserved.has(name)) {
        task.log.warn(`The artifact ${name} is not published: the task log has this name.`);
      }
      return !reserved.has(name);
    })
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  let firstError: unknown;
  let hasFailed = false;
  const work = async (): Promise<void> => {
    for (let item = queue.shift(); item && !task.signal.aborted; item = queue.shift()) {
      try {
        await publishOne(worker, task, item, join(folder, uuid(worker.random)));
      } catch (error) {
        // the others are published all the same
        firstError = hasFailed ? firstError : error;
        hasFailed = true;
        task.log.fail(messageOf(error));
      }
    }
  };
  await Promise.all(Array.from({ length: MAX_CONCURRENT }, work));
  if (hasFailed) {
    throw firstError;
  }
};

const listItems = async (
  worker: WorkerEnvironment,
  task: TaskContext,
  result: SandboxResult,
  artifact: PayloadArtifact,
): Promise<Item[]> => {
  const item = (name: string, path: string, open: Item['open']): Item => ({
    name,
    isOptional: artifact.optional ?? false,
    expires:
      artifact.expires === undefined ? taskExpires(task) : new Date(Math.min(Date.parse(artifact.expires), taskExpires(task).getTime())),
    contentType: artifact.contentType ?? contentTypeOf(path),
    isCompressed: storesEncodings(worker) && (artifact.contentEncoding ?? (isCompressible(path) ? 'gzip' : 'identity')) === 'gzip',
    open,
  });
  const name = nameOf(artifact);
  if (artifact.type === 'file') {
    return [item(name, artifact.path, () => result.openFile(artifact.path))];
  }
  try {
    const entries = await result.listFolder(artifact.path);
    return entries.map(entry => item(name === '.' ? entry.path : posix.join(name, entry.path), entry.path, () => entry.open()));
  } catch (error) {
    return [item(name, artifact.path, () => Promise.reject(error))];
  }
};

const publishOne = async (worker: WorkerEnvironment, task: TaskContext, item: Item, copy: string): Promise<void> => {
  let file: ExtractedFile;
  try {
    file = await item.open();
  } catch (error) {
    await publishAbsence(task, item, error);
    return;
  }
  task.log.info(`Uploading artifact ${item.name} from a file of ${file.sizeBytes} bytes with content type ${item.contentType}`);
  try {
    // the handle is closed with the stream; what is appended meanwhile is left out
    const source = file.sizeBytes === 0 ? Readable.from([]) : createReadStream('', { fd: file.handle, start: 0, end: file.sizeBytes - 1 });
    const target = createWriteStream(copy, { mode: 0o600 });
    const { signal } = task;
    await (item.isCompressed ? pipeline(source, createGzip(), target, { signal }) : pipeline(source, target, { signal }));
    await uploadFile(worker, task, {
      name: item.name,
      content: { path: copy },
      contentType: item.contentType,
      contentEncoding: item.isCompressed ? 'gzip' : undefined,
      expires: item.expires,
      signal: task.signal,
    });
  } finally {
    await file.handle.close().catch(() => {});
    await rm(copy, { force: true });
  }
};

const publishAbsence = async (task: TaskContext, item: Item, error: unknown): Promise<void> => {
  const reason = reasonOf(error);
  if (!reason) {
    throw error;
  }
  const message = `The artifact ${item.name} has no content: ${messageOf(error)}.`;
  if (item.isOptional) {
    task.log.info(message);
    return;
  }
  await createArtifact(task, item.name, {
    storageType: 'error',
    reason,
    message: message.slice(0, 4096),
    expires: item.expires.toISOString(),
  });
  throw taskFailed(message);
};
