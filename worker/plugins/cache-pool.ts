/**
 * Writable caches: folders with a name that outlive tasks. Of each name there may be several; a task gets the most recently used one that is free, and no
 * two tasks ever share one (protocol: worker, "Cache pool").
 */
import { mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { uuid } from '@tscluster/client/clock.ts';
import { taskQueueIdOf } from '../config.ts';
import type { WorkerEnvironment } from '../context.ts';
import { removeTree } from '../engines/task-folder.ts';

interface Entry {
  readonly name: string;
  readonly taskQueueId: string;
  readonly folder: string;
  readonly createdMs: number;
  lastUsedMs: number;
}

/** A cache in the hands of one task. Exactly one of its methods ends that. */
export interface CacheInUse {
  readonly path: string;
  /** Empty as yet. */
  readonly isNew: boolean;
  /** Keeps it for later tasks. It must be at its path again. */
  keep(): Promise<void>;
  /** Forgets it, with what is at its path. */
  drop(): Promise<void>;
}

const STATE_FILE = 'caches.json';

export class CachePool {
  readonly #worker: WorkerEnvironment;
  readonly #folder: string;
  #idle: Entry[] = [];
  readonly #inUse = new Set<Entry>();
  /** Those to be dropped when they are given back. */
  readonly #purged = new Set<Entry>();

  private constructor(worker: WorkerEnvironment) {
    this.#worker = worker;
    this.#folder = worker.config.cachesDir;
  }

  /** Opens the pool; what was in a task's hands when an earlier life ended is gone. */
  static async open(worker: WorkerEnvironment): Promise<CachePool> {
    const pool = new CachePool(worker);
    await mkdir(pool.#folder, { recursive: true, mode: 0o700 });
    await pool.#load();
    return pool;
  }

  async acquire(name: string): Promise<CacheInUse> {
    const taskQueueId = taskQueueIdOf(this.#worker.config);
    const [found] = this.#idle
      .filter(entry => entry.name === name && entry.taskQueueId === taskQueueId)
      .sort((a, b) => b.lastUsedMs - a.lastUsedMs);
    const nowMs = this.#worker.clock.nowMs();
    const entry: Entry = found ?? { name, taskQueueId, folder: uuid(this.#worker.random), createdMs: nowMs, lastUsedMs: nowMs };
    this.#idle = this.#idle.filter(other => other !== entry);
    this.#inUse.add(entry);
    const path = join(this.#folder, entry.folder);
    if (!found) {
      await mkdir(path, { mode: 0o700 });
    }
    await this.#save();
    const drop = async (): Promise<void> => {
      this.#inUse.delete(entry);
      this.#purged.delete(entry);
      await removeTree(path);
    };
    return {
      path,
      isNew: !found,
      keep: async () => {
        if (this.#purged.has(entry)) {
          await drop();
          return;
        }
        this.#inUse.delete(entry);
        entry.lastUsedMs = this.#worker.clock.nowMs();
        this.#idle.push(entry);
        await this.#limit(name);
        await this.#save();
      },
      drop,
    };
  }

  /** Drops the caches of a name that were made before a time; those in use when they are given back. */
  async purge(name: string, beforeMs: number): Promise<void> {
    const isOld = (entry: Entry): boolean => entry.name === name && entry.createdMs < beforeMs;
    [...this.#inUse].filter(isOld).forEach(entry => this.#purged.add(entry));
    await this.#remove(this.#idle.filter(isOld));
  }

  /** Drops idle caches, the least recently used first, until there is enough space. */
  async freeSpace(isEnough: () => Promise<boolean>): Promise<void> {
    for (const entry of [...this.#idle].sort((a, b) => a.lastUsedMs - b.lastUsedMs)) {
      if (await isEnough()) {
        break;
      }
      await this.#remove([entry]);
    }
  }

  /** At most as many idle ones of a name as tasks can run at once. */
  async #limit(name: string): Promise<void> {
    const ofName = this.#idle.filter(entry => entry.name === name).sort((a, b) => b.lastUsedMs - a.lastUsedMs);
    await this.#remove(ofName.slice(this.#worker.config.capacity));
  }

  async #remove(entries: readonly Entry[]): Promise<void> {
    if (entries.length === 0) {
      return;
    }
    this.#idle = this.#idle.filter(entry => !entries.includes(entry));
    await this.#save();
    for (const entry of entries) {
      await removeTree(join(this.#folder, entry.folder));
    }
  }

  async #load(): Promise<void> {
    let entries: Entry[] = [];
    try {
      entries = JSON.parse(await readFile(join(this.#folder, STATE_FILE), 'utf8')) as Entry[];
    } catch {
      // none yet, or damaged: caches are made anew
    }
    const present = new Set(await readdir(this.#folder));
    this.#idle = entries.filter(entry => present.has(entry.folder));
    const known = new Set(this.#idle.map(entry => entry.folder));
    for (const name of present) {
      if (!known.has(name) && name !== STATE_FILE) {
        await removeTree(join(this.#folder, name));
      }
    }
  }

  async #save(): Promise<void> {
    const temporary = join(this.#folder, `${uuid(this.#worker.random)}.new`);
    // one that is in use is not listed: if the worker is killed now, nobody knows what the task did to it
    await writeFile(temporary, JSON.stringify(this.#idle), { mode: 0o600 });
    await rename(temporary, join(this.#folder, STATE_FILE));
  }
}
