/** `features.backingLog` and `logs`: the complete task log as an artifact, for malformed tasks, too (protocol: worker, "Task log"). */
import { createReadStream, createWriteStream } from 'node:fs';
import { readFile, rm, stat } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { createGzip, gzip } from 'node:zlib';
import type { TaskContext } from '../context.ts';
import type { TaskPayload } from '../payload.ts';
import { storesEncodings, uploadFile, type FileUpload } from '../uploads.ts';
import { definePlugin } from './plugin.ts';

export const LOG_CONTENT_TYPE = 'text/plain; charset=utf-8';
const name = (fallback: string): Record<string, unknown> => ({ type: 'string', default: fallback });
const LIVE = 'public/logs/live.log';
const BACKING = 'public/logs/live_backing.log';

/** Names of the log artifacts; a payload that is not valid need not have the right types. */
export const logNames = (payload: TaskPayload): { live: string; backing: string } => {
  const given = payload.logs as { live?: unknown; backing?: unknown } | undefined;
  return {
    live: typeof given?.live === 'string' && given.live !== '' ? given.live : LIVE,
    backing: typeof given?.backing === 'string' && given.backing !== '' ? given.backing : BACKING,
  };
};

/** Whether the backing log is wanted: unless the payload says no. */
export const hasBackingLog = (payload: TaskPayload): boolean => payload.features?.['backingLog'] !== false;

export const taskExpires = (task: TaskContext): Date => new Date(task.definition.expires ?? task.definition.deadline);

export const backingLog = definePlugin({
  name: 'backing-log',
  evenIfMalformed: true,
  payload: {
    properties: {
      logs: { type: 'object', properties: { live: name(LIVE), backing: name(BACKING) }, required: [], additionalProperties: false },
    },
    features: { backingLog: { type: 'boolean', default: true } },
  },
  open: worker => ({
    newTask: (task, payload) =>
      hasBackingLog(payload)
        ? {
            finished: async () => {
              await task.log.close();
              const isCompressed = storesEncodings(worker);
              await withContent(task.log.path, isCompressed, content =>
                uploadFile(worker, task, {
                  name: logNames(payload).backing,
                  content,
                  contentType: LOG_CONTENT_TYPE,
                  contentEncoding: isCompressed ? 'gzip' : undefined,
                  expires: taskExpires(task),
                  signal: task.lostSignal,
                }),
              );
            },
          }
        : undefined,
  }),
});

// a log of this size is compressed in memory: most are, and files cost milliseconds
const SMALL_BYTES = 1_000_000;
const compress = promisify(gzip);

/** Gives the content of a log to `use`, compressed if so wanted. */
const withContent = async (path: string, isCompressed: boolean, use: (content: FileUpload['content']) => Promise<void>): Promise<void> => {
  if ((await stat(path)).size <= SMALL_BYTES) {
    const bytes = await readFile(path);
    await use(isCompressed ? await compress(bytes, { level: 1 }) : bytes);
    return;
  }
  if (!isCompressed) {
    await use({ path });
    return;
  }
  const compressed = `${path}.gz`;
  try {
    await pipeline(createReadStream(path), createGzip({ level: 1 }), createWriteStream(compressed, { mode: 0o600 }));
    await use({ path: compressed });
  } finally {
    await rm(compressed, { force: true });
  }
};
