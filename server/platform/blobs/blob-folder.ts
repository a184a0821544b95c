/**
 * The local folder: `objects/ab/abcdef…` is the file of the bytes with that SHA-256, `tmp` holds what is still arriving. Names that users choose never
 * touch the file system.
 *
 * Order of a write, so that a crash at any point loses nothing that was acknowledged and leaves nothing that is not cleaned up: bytes to `tmp`, fsync;
 * the digest onto the list of possible garbage (committed); then, in one transaction that holds the digest's lock: rename into place, fsync of the
 * folder, the row that names it. The collector looks at the list after an hour, takes the same lock, and removes files that no row names.
 */
import crypto from 'node:crypto';
import fs from 'node:fs/promises';
import path from 'node:path';
import type { Readable } from 'node:stream';
import type { Db } from '../../db/sql.ts';
import type { Clock, Random } from '../clock.ts';
import { arriving, type ArrivalLimits, BlobError, STALL_TIMEOUT_MS, uploadFinished } from './arriving.ts';
import { addGarbage, collectGarbage, listGarbage, lockDigest, upsertBlob } from './blobs.db.ts';

/** How long a file without a name is kept: longer than any write takes from the list of garbage to its row. */
const GARBAGE_AGE_MS = 3_600_000;
/** What stands in `tmp` untouched for so long belongs to nobody: arriving bytes touch their file, and give up when nothing moves. */
const LEFTOVER_AGE_MS = 3_600_000;

export interface Incoming {
  readonly store: string;
  readonly key: string;
  readonly contentType: string;
  readonly contentEncoding: string | undefined;
  /** Any other number of bytes is refused. */
  readonly contentLength?: number | undefined;
}

export interface BlobFolder {
  /** The most that `write` takes. */
  readonly maxBytes: number;
  /** Stores bytes in place of what the key has; when this returns they are on the disk. Throws `BlobError`. */
  write(incoming: Incoming, body: Readable): Promise<{ sizeBytes: number; digest: string }>;
  /** Opens bytes for reading; undefined when the file is not there. The caller closes it. */
  open(digest: string): Promise<fs.FileHandle | undefined>;
  /** Removes up to `limit` files that nobody needs; returns how many it looked at. */
  collect(limit: number): Promise<number>;
  /** Removes up to `limit` files of writes that never ended; returns how many. */
  removeLeftovers(limit: number): Promise<number>;
}

export interface BlobFolderOptions {
  readonly folder: string;
  readonly db: Db;
  readonly clock: Clock;
  readonly random: Random;
  /** More bytes are refused. */
  readonly maxBytes: number;
  /** A body of which nothing arrives for so long is given up. Default 120 000. */
  readonly stallTimeoutMs?: number;
}

const DIGEST = /^[0-9a-f]{64}$/;
const isMissing = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENOENT';

/** Opens the folder, making it where it is missing. */
export const openBlobFolder = async (options: BlobFolderOptions): Promise<BlobFolder> => {
  const { db, clock, random, maxBytes, stallTimeoutMs = STALL_TIMEOUT_MS } = options;
  const temporary = path.join(options.folder, 'tmp');
  const objects = path.join(options.folder, 'objects');
  for (const folder of [temporary, objects]) {
    await fs.mkdir(folder, { recursive: true, mode: 0o700 });
  }

  const fileOf = (digest: string): string => {
    if (!DIGEST.test(digest)) {
      throw new Error('A digest must be 64 hexadecimal digits');
    }
    return path.join(objects, digest.slice(0, 2), digest);
  };

  /** Moves a finished temporary file to its place, for good. */
  const place = async (from: string, digest: string, sizeBytes: number): Promise<void> => {
    const target = fileOf(digest);
    const folder = path.dirname(target);
    const there = await fs.stat(target).catch(() => undefined);
    if (there?.size === sizeBytes) {
      await fs.rm(from, { force: true });
      await syncFolder(folder); // whoever put it there may have died before this
      return;
    }
    if ((await fs.mkdir(folder, { recursive: true, mode: 0o700 })) !== undefined) {
      await syncFolder(objects);
    }
    await fs.rename(from, target);
    await syncFolder(folder);
  };

  const write = async (incoming: Incoming, body: Readable): Promise<{ sizeBytes: number; digest: string }> => {
    body.on('error', () => undefined); // reading it reports the error, if it gets that far
    const file = path.join(temporary, Buffer.from(random.bytes(16)).toString('hex'));
    try {
      const received = await receive(file, body, { contentLength: incoming.contentLength, maxBytes, stallTimeoutMs, clock });
      const { sizeBytes, digest } = received;
      await addGarbage(db, [digest], clock.now());
      const { store, key, contentType, contentEncoding } = incoming;
      await db.tx(async tx => {
        await lockDigest(tx, digest);
        await place(file, digest, sizeBytes);
        const row = { digest, sizeBytes, contentType, contentEncoding };
        if (!(await upsertBlob(tx, store, key, row, clock.now()))) {
          throw uploadFinished();
        }
      });
      return received;
    } finally {
      await fs.rm(file, { force: true });
    }
  };

  const collect = async (limit: number): Promise<number> => {
    const before = new Date(clock.nowMs() - GARBAGE_AGE_MS);
    const digests = await listGarbage(db, before, limit);
    for (const digest of digests) {
      await collectGarbage(db, digest, before, () => fs.rm(fileOf(digest), { force: true }));
    }
    return digests.length;
  };

  const removeLeftovers = async (limit: number): Promise<number> => {
    const before = clock.nowMs() - LEFTOVER_AGE_MS;
    let removed = 0;
    for await (const entry of await fs.opendir(temporary)) {
      const file = path.join(temporary, entry.name);
      const stat = await fs.stat(file).catch(() => undefined);
      if (stat && stat.mtimeMs < before) {
        await fs.rm(file, { force: true });
        removed += 1;
        if (removed >= limit) {
          break;
        }
      }
    }
    return removed;
  };

  return {
    maxBytes,
    write,
    open: async digest =>
      fs.open(fileOf(digest), 'r').catch((error: unknown) => {
        if (isMissing(error)) {
          return undefined;
        }
        throw error;
      }),
    collect,
    removeLeftovers,
  };
};

const syncFolder = async (folder: string): Promise<void> => {
  const handle = await fs.open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
};

/** Writes a body to a new file, chunk by chunk: the sender is read no faster than the disk takes it. */
const receive = async (file: string, body: Readable, limits: ArrivalLimits): Promise<{ sizeBytes: number; digest: string }> => {
  const hash = crypto.createHash('sha256');
  const handle = await fs.open(file, 'wx', 0o600);
  let sizeBytes = 0;
  try {
    for await (const chunk of arriving(body, limits)) {
      sizeBytes += chunk.length;
      hash.update(chunk);
      await writeAll(handle, chunk);
    }
    await handle.sync();
  } catch (error) {
    if (['ENOSPC', 'EDQUOT'].includes((error as NodeJS.ErrnoException).code ?? '')) {
      throw new BlobError(507, 'DiskFull', 'The disk for objects is full. Make space, or wait until old objects expire, and try again.');
    }
    throw error;
  } finally {
    await handle.close();
  }
  return { sizeBytes, digest: hash.digest('hex') };
};

const writeAll = async (handle: fs.FileHandle, chunk: Buffer): Promise<void> => {
  for (let at = 0; at < chunk.length;) {
    at += (await handle.write(chunk, at, chunk.length - at)).bytesWritten;
  }
};
