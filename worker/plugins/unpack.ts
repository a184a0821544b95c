/** Unpacks what was downloaded. An archive is somebody else's: nothing of it is written outside the folder it is unpacked into. */
import { createReadStream, createWriteStream, type Stats } from 'node:fs';
import { mkdir, realpath, rm, symlink } from 'node:fs/promises';
import { dirname, relative, resolve, sep } from 'node:path';
import { Readable, type Duplex, type Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { ReadableStream as NodeReadableStream } from 'node:stream/web';
import { createBrotliDecompress, createGunzip, createInflate, createZstdDecompress } from 'node:zlib';
import { extract, type ReadEntry } from 'tar';
import bunzip2 from 'unbzip2-stream';
import xz from 'xz-decompress'; // CommonJS: Node sees no names in it
import yauzl, { type Entry, type ZipFile } from 'yauzl';

/** Stages between a compressed file and its plain bytes. */
const decompressors: Readonly<Record<string, (source: Readable) => [Readable, ...Duplex[]]>> = {
  br: source => [source, createBrotliDecompress()],
  bz2: source => [source, bunzip2()],
  gz: source => [source, createGunzip()],
  xz: source => [Readable.fromWeb(new xz.XzReadableStream(Readable.toWeb(source) as ReadableStream<Uint8Array>) as NodeReadableStream)],
  zst: source => [source, createZstdDecompress()],
  zz: source => [source, createInflate()],
};

/** Whether a `format` of a payload can be unpacked here. */
export const isSupportedFormat = (format: string): boolean => {
  if (format === 'tar' || format === 'zip') {
    return true;
  }
  return (format.startsWith('tar.') ? format.slice('tar.'.length) : format) in decompressors;
};

export const supportedFormats = (): string[] => {
  const names = Object.keys(decompressors);
  return ['zip', 'tar', ...names.map(name => `tar.${name}`), ...names];
};

const plainBytesOf = (path: string, format: string | undefined): [Readable, ...Duplex[]] => {
  const source = createReadStream(path);
  const decompress = format === undefined ? undefined : decompressors[format];
  if (format !== undefined && !decompress) {
    throw new Error(`The format ${format} is not supported.`);
  }
  return decompress?.(source) ?? [source];
};

const copy = ([source, ...stages]: [Readable, ...Duplex[]], target: Writable, signal: AbortSignal): Promise<void> =>
  pipeline([source, ...stages, target], { signal });

/** Decompresses a file into another one. @throws when it is damaged, or the format is not supported */
export const decompressFile = async (from: string, format: string, to: string, signal: AbortSignal): Promise<void> => {
  await copy(plainBytesOf(from, format), createWriteStream(to, { mode: 0o600 }), signal);
};

/** Unpacks an archive into a folder that exists. @throws when it is damaged, or the format is not supported */
export const unpackArchive = async (path: string, format: string, folder: string, signal: AbortSignal): Promise<void> => {
  if (format === 'zip') {
    await unzip(path, folder, signal);
    return;
  }
  const compression = format === 'tar' ? undefined : format.slice('tar.'.length);
  const links: Link[] = [];
  // The library removes `..` and leading slashes from names. It would refuse links whose target lies behind another link, as `npm install` makes
  // them for workspaces; so links are left to us.
  const filter = (_: string, entry: ReadEntry | Stats): boolean => {
    if (!('type' in entry) || entry.type !== 'SymbolicLink') {
      return true;
    }
    links.push({ path: insideOf(folder, entry.path), target: entry.linkpath ?? '' });
    return false;
  };
  const target = extract({ cwd: folder, preserveOwner: false, strict: true, filter }) as unknown as Writable;
  await copy(plainBytesOf(path, compression), target, signal);
  await createLinks(folder, links);
};

interface Link {
  readonly path: string;
  readonly target: string;
}

/** The path of an archive's entry. @throws when it lies outside the folder */
const insideOf = (folder: string, name: string): string => {
  const path = resolve(folder, name);
  if (path !== folder && !path.startsWith(folder + sep)) {
    throw new Error(`The archive has an entry outside itself: ${name}`);
  }
  return path;
};

/** Creates an archive's links after everything else, so that no entry is written through them, and none of them through another. */
const createLinks = async (folder: string, links: readonly Link[]): Promise<void> => {
  for (const { path } of links) {
    await mkdir(dirname(path), { recursive: true });
  }
  const root = await realpath(folder);
  for (const { path, target } of links) {
    const parent = dirname(path);
    if ((await realpath(parent)) !== resolve(root, relative(folder, parent))) {
      throw new Error(`The archive has an entry behind one of its links: ${relative(folder, path)}`);
    }
    await rm(path, { force: true });
    await symlink(target, path);
  }
};

const MODE_SHIFT = 16;
const TYPE_MASK = 0o170000;
const LINK_TYPE = 0o120000;
const MAX_LINK_BYTES = 4096;

const unzip = async (path: string, folder: string, signal: AbortSignal): Promise<void> => {
  const zip = await new Promise<ZipFile>((done, fail) => {
    yauzl.open(path, { lazyEntries: true, autoClose: false }, (error, file) => (error ? fail(error) : done(file)));
  });
  const links: Link[] = [];
  try {
    for await (const entry of entriesOf(zip)) {
      signal.throwIfAborted();
      const target = insideOf(folder, entry.fileName);
      const mode = entry.externalFileAttributes >>> MODE_SHIFT;
      if (entry.fileName.endsWith('/')) {
        await mkdir(target, { recursive: true });
        continue;
      }
      await mkdir(dirname(target), { recursive: true });
      if ((mode & TYPE_MASK) === LINK_TYPE) {
        links.push({ target: await readLink(zip, entry), path: target });
      } else {
        const permissions = mode & 0o777 ? (mode & 0o777) | 0o600 : 0o644;
        await pipeline(await openEntry(zip, entry), createWriteStream(target, { mode: permissions }), { signal });
      }
    }
    await createLinks(folder, links);
  } finally {
    zip.close();
  }
};

async function* entriesOf(zip: ZipFile): AsyncGenerator<Entry> {
  for (;;) {
    const entry = await new Promise<Entry | undefined>((done, fail) => {
      zip.removeAllListeners('entry').removeAllListeners('end').removeAllListeners('error');
      zip
        .once('entry', done)
        .once('end', () => done(undefined))
        .once('error', fail);
      zip.readEntry();
    });
    if (!entry) {
      return;
    }
    yield entry;
  }
}

const openEntry = (zip: ZipFile, entry: Entry): Promise<Readable> =>
  new Promise((done, fail) => {
    zip.openReadStream(entry, (error, stream) => (error ? fail(error) : done(stream)));
  });

const readLink = async (zip: ZipFile, entry: Entry): Promise<string> => {
  if (entry.uncompressedSize > MAX_LINK_BYTES) {
    throw new Error(`The archive has a link with a target that is too long: ${entry.fileName}`);
  }
  const chunks: Buffer[] = [];
  for await (const chunk of await openEntry(zip, entry)) {
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString();
};
