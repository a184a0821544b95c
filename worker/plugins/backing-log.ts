/** `features.backingLog` and `logs`: the complete task log as an artifact, for malformed tasks, too (protocol: worker, "Task log"). */
import { createReadStream, createWriteStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import type { TaskContext } from '../context.ts';
import type { TaskPayload } from '../payload.ts';
import { storesEncodings, uploadFile } from '../uploads.ts';
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
              const { path } = task.log;
              const compressed = `${path}.gz`;
              const isCompressed = storesEncodings(worker);
              if (isCompressed) {
                await pipeline(createReadStream(path), createGzip({ level: 1 }), createWriteStream(compressed, { mode: 0o600 }));
              }
              try {
                await uploadFile(worker, task, {
                  name: logNames(payload).backing,
                  path: isCompressed ? compressed : path,
                  contentType: LOG_CONTENT_TYPE,
                  contentEncoding: isCompressed ? 'gzip' : undefined,
                  expires: taskExpires(task),
                  signal: task.lostSignal,
                });
              } finally {
                await rm(compressed, { force: true });
              }
            },
          }
        : undefined,
  }),
});
