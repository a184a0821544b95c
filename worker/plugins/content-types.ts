/** What an artifact is, told by its name (protocol: worker, "Artifacts"). */
import { extname } from 'node:path';
import mime from 'mime-types';

/** These are compressed already. */
const COMPRESSED = new Set(
  '7z aab apk br bz2 deb dmg flv gif gz jar jpeg jpg lz lz4 mz npz pkg png swf sz tbz tgz wasm webp whl woff woff2 xpi xz zip zst zz'.split(
    ' ',
  ),
);
const OWN_TYPES: Readonly<Record<string, string>> = { log: 'text/plain', jsonl: 'application/jsonl' };

const extensionOf = (path: string): string => extname(path).slice(1).toLowerCase();

export const contentTypeOf = (path: string): string => {
  const extension = extensionOf(path);
  return OWN_TYPES[extension] ?? (mime.lookup(extension) || 'application/octet-stream');
};

/** Whether a file is worth compressing for its readers. */
export const isCompressible = (path: string): boolean => !COMPRESSED.has(extensionOf(path));
