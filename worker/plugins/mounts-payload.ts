/** The `mounts` part of a payload (protocol: worker, "Mounts, caches, disk"). */
import type { PayloadPart } from '../payload.ts';

export type MountContent =
  | { readonly taskId: string; readonly artifact: string; readonly sha256?: string }
  | { readonly namespace: string; readonly artifact: string }
  | { readonly url: string; readonly sha256?: string }
  | { readonly raw: string }
  | { readonly base64: string };

const SLUGID = '^[A-Za-z0-9_-]{8}[Q-T][A-Za-z0-9_-][CGKOSWaeimquy26-][A-Za-z0-9_-]{10}[AQgw]$';
const FILE_FORMATS = ['br', 'bz2', 'gz', 'lz', 'lz4', 'mz', 'sz', 'xz', 'zst', 'zz'];
const ARCHIVE_FORMATS = ['7z', 'rar', 'tar', ...FILE_FORMATS.map(format => `tar.${format}`), 'zip'];

const string = { type: 'string' };
const sha256 = { type: 'string', pattern: '^[a-f0-9]{64}$' };
const artifact = { type: 'string', maxLength: 1024 };
const inline = { type: 'string', maxLength: 65_536 };
const closed = (properties: Record<string, object>, required: readonly string[]): Record<string, unknown> => ({
  type: 'object',
  properties,
  required,
  additionalProperties: false,
});
const content = { $ref: '#/definitions/content' };
const archiveFormat = { type: 'string', enum: ARCHIVE_FORMATS };

export const mountsPayload: PayloadPart = {
  properties: { mounts: { type: 'array', items: { $ref: '#/definitions/mount' }, uniqueItems: false } },
  definitions: {
    mount: {
      oneOf: ['fileMount', 'writableDirectoryCache', 'readOnlyDirectory'].map(kind => ({ $ref: `#/definitions/${kind}` })),
    },
    fileMount: closed({ file: string, content, format: { type: 'string', enum: FILE_FORMATS } }, ['file', 'content']),
    writableDirectoryCache: {
      ...closed({ directory: string, cacheName: string, content, format: archiveFormat }, ['directory', 'cacheName']),
      dependencies: { content: ['format'], format: ['content'] },
    },
    readOnlyDirectory: closed({ directory: string, content, format: archiveFormat }, ['directory', 'content', 'format']),
    content: {
      oneOf: [
        closed({ taskId: { type: 'string', pattern: SLUGID }, artifact, sha256 }, ['taskId', 'artifact']),
        closed({ namespace: { type: 'string', maxLength: 255 }, artifact }, ['namespace', 'artifact']),
        closed({ url: { type: 'string', format: 'uri' }, sha256 }, ['url']),
        closed({ raw: inline }, ['raw']),
        closed({ base64: { ...inline, pattern: '^[A-Za-z0-9/+]+[=]{0,2}$' } }, ['base64']),
      ],
    },
  },
};
