/**
 * The working folder of one task on this machine. Everything is put into it before the task's first process starts and taken out after the last one has
 * ended; nothing is read or written through a link that leads outside, because a link's target was the task's choice and the reader is the worker.
 */
import { constants, type Stats } from 'node:fs';
import { chmod, copyFile, cp, lstat, mkdir, open, readdir, readlink, realpath, rename, rm } from 'node:fs/promises';
import { basename, dirname, join, relative, resolve, sep } from 'node:path';
import { codeOf, NotFound, NotReadable, taskFailed, WrongKind } from '../errors.ts';
import type { AttachedFolder, ExtractedFile, FolderEntry } from './engine.ts';

const isBelow = (root: string, path: string): boolean => path === root || path.startsWith(root + sep);

export class TaskFolder {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /** Makes the folder, empty. `parent` must be a real path. */
  static async create(parent: string, name: string): Promise<TaskFolder> {
    const path = join(parent, name);
    try {
      await mkdir(path, { mode: 0o700 });
    } catch (error) {
      if (codeOf(error) !== 'EEXIST') {
        throw error;
      }
      await removeTree(path);
      await mkdir(path, { mode: 0o700 });
    }
    return new TaskFolder(path);
  }

  /** Copies a file to a path of the task. */
  async putFile(at: string, source: string): Promise<void> {
    const target = await this.#target(at);
    if ((await getStats(target))?.isDirectory()) {
      throw taskFailed(`Cannot put a file at ${at}: a folder is there.`);
    }
    await rm(target, { force: true });
    await copyFile(source, target, constants.COPYFILE_FICLONE);
    await chmod(target, 0o600);
  }

  /** Makes a folder at a path of the task, with the content that `fill` puts there. */
  async fillFolder(at: string, fill: (folder: string) => Promise<void>): Promise<void> {
    const target = await this.#target(at);
    await mkdir(target, { recursive: true, mode: 0o700 });
    await fill(target);
  }

  /** Moves a folder to a path of the task. */
  async attachFolder(at: string, folder: string): Promise<AttachedFolder> {
    const target = await this.#target(at);
    const existing = await getStats(target);
    if (existing && (!existing.isDirectory() || (await readdir(target)).length > 0)) {
      throw taskFailed(`Cannot put a folder at ${at}: something is there already.`);
    }
    await rm(target, { recursive: true, force: true });
    await move(folder, target);
    return {
      release: async () => {
        // the task may have put a link in the place of the folder, or of one above it
        const actual = await realpath(target);
        if (actual !== target || !(await lstat(target)).isDirectory()) {
          throw new Error(`the folder ${at} was replaced by something else`);
        }
        await move(target, folder);
      },
    };
  }

  async openFile(path: string): Promise<ExtractedFile> {
    const actual = await this.#actual(path);
    let handle;
    try {
      // no device or pipe that the task made may keep the worker waiting
      handle = await open(actual, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    } catch (error) {
      throw translate(error, path);
    }
    try {
      const stats = await handle.stat();
      if (!stats.isFile()) {
        throw new WrongKind(`${path} is not a file`);
      }
      // a path that changed between looking and opening shows in where the open file is
      const where = await readlink(`/proc/self/fd/${handle.fd}`).catch(() => actual);
      if (!isBelow(this.path, where)) {
        throw new WrongKind(`${path} leads outside the task's folder`);
      }
      return { handle, sizeBytes: stats.size };
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  async listFolder(path: string): Promise<readonly FolderEntry[]> {
    const actual = await this.#actual(path);
    if (!(await lstat(actual)).isDirectory()) {
      throw new WrongKind(`${path} is not a folder`);
    }
    const found: FolderEntry[] = [];
    const visit = async (folder: string): Promise<void> => {
      let entries;
      try {
        entries = await readdir(folder, { withFileTypes: true });
      } catch (error) {
        const name = relative(actual, folder);
        if (name === '') {
          throw translate(error, path);
        }
        found.push({ path: name, open: () => Promise.reject(translate(error, join(path, name))) });
        return;
      }
      for (const entry of entries) {
        const full = join(folder, entry.name);
        if (entry.isDirectory()) {
          await visit(full);
          // a link to a folder is not followed: it may lead in circles
        } else if (!entry.isSymbolicLink() || !(await leadsToFolder(full))) {
          found.push({ path: relative(actual, full), open: () => this.openFile(relative(this.path, full)) });
        }
      }
    };
    await visit(actual);
    return found.sort((a, b) => (a.path < b.path ? -1 : 1));
  }

  async remove(): Promise<void> {
    await removeTree(this.path);
  }

  /** Where a path of the task leads to, if that is inside the folder. */
  async #actual(path: string): Promise<string> {
    let actual;
    try {
      actual = await realpath(resolve(this.path, path));
    } catch (error) {
      throw translate(error, path);
    }
    if (!isBelow(this.path, actual)) {
      throw new WrongKind(`${path} leads outside the task's folder`);
    }
    return actual;
  }

  /** Where something new may be put; the folders above it are made. */
  async #target(at: string): Promise<string> {
    const target = resolve(this.path, at);
    if (!isBelow(this.path, target) || target === this.path) {
      throw taskFailed(`Cannot mount at ${at}: the path must lie inside the task's folder.`);
    }
    const missing: string[] = [];
    let parent = dirname(target);
    while (!(await getStats(parent))) {
      missing.push(basename(parent));
      parent = dirname(parent);
    }
    // content that was mounted before may bring links
    const actual = await realpath(parent);
    if (!isBelow(this.path, actual) || !(await lstat(actual)).isDirectory()) {
      throw taskFailed(`Cannot mount at ${at}: ${relative(this.path, parent)} is not a folder inside the task's folder.`);
    }
    const folder = join(actual, ...missing.reverse());
    await mkdir(folder, { recursive: true, mode: 0o700 });
    return join(folder, basename(target));
  }
}

const getStats = async (path: string): Promise<Stats | undefined> => {
  try {
    return await lstat(path);
  } catch (error) {
    if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR') {
      return undefined;
    }
    throw error;
  }
};

const leadsToFolder = async (path: string): Promise<boolean> => {
  try {
    return (await lstat(await realpath(path))).isDirectory();
  } catch {
    return false;
  }
};

const translate = (error: unknown, path: string): Error => {
  switch (codeOf(error)) {
    case 'ENOENT':
    case 'ENOTDIR':
      return new NotFound(`${path} does not exist`);
    case 'EACCES':
    case 'EPERM':
      return new NotReadable(`${path} cannot be read`);
    case 'ELOOP':
    case 'ENXIO':
      return new WrongKind(`${path} is not a file`);
    default:
      return error as Error;
  }
};

/** Moves a folder, to another file system by copying. */
const move = async (from: string, to: string): Promise<void> => {
  try {
    await rename(from, to);
  } catch (error) {
    if (codeOf(error) !== 'EXDEV') {
      throw error;
    }
    await cp(from, to, { recursive: true, verbatimSymlinks: true, preserveTimestamps: true });
    await removeTree(from);
  }
};

/** Removes a folder with everything in it, folders without permissions included. Links are removed, not followed. */
export const removeTree = async (path: string): Promise<void> => {
  try {
    await rm(path, { recursive: true, force: true });
  } catch (error) {
    if (codeOf(error) !== 'EACCES' && codeOf(error) !== 'EPERM' && codeOf(error) !== 'ENOTEMPTY') {
      throw error;
    }
    await unlock(path);
    await rm(path, { recursive: true, force: true, maxRetries: 3 });
  }
};

const unlock = async (folder: string): Promise<void> => {
  await chmod(folder, 0o700);
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) {
      await unlock(join(folder, entry.name));
    }
  }
};
