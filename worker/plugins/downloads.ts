/**
 * Content that was downloaded once, for all tasks of this machine. Who may have it is asked each time with the task's own credentials; concurrent requests
 * for the same content share one download; the least recently used content goes when there is too much (protocol: worker, "Download cache").
 */
import { createWriteStream } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { downloadArtifact, type ArtifactContent } from '@tscluster/client/artifacts.ts';
import { uuid } from '@tscluster/client/clock.ts';
import { getBytes, type OpenSink } from '@tscluster/client/transfer.ts';
import type { TaskContext, WorkerEnvironment } from '../context.ts';
import { objectClientFor } from '../uploads.ts';

interface Entry {
  /** What it is: `artifact:<taskId>:<name>` or `urlcontent:<url>`. */
  readonly key: string;
  /** Which state of it; an artifact of another run is another one. */
  readonly version: string;
  readonly file: string;
  readonly sha256: string;
  readonly sizeBytes: number;
  lastUsedMs: number;
}

/** A file that stays where it is until it is released. */
export interface Lease {
  readonly path: string;
  readonly sha256: string;
  release(): Promise<void>;
}

const openSink =
  (path: string): OpenSink =>
  () =>
    Writable.toWeb(createWriteStream(path, { mode: 0o600 })) as WritableStream<Uint8Array>;

export class DownloadCache {
  readonly #worker: WorkerEnvironment;
  readonly #folder: string;
  readonly #entries = new Map<string, Entry>();
  readonly #underWay = new Map<string, Promise<Entry>>();
  readonly #uses = new Map<string, number>();

  private constructor(worker: WorkerEnvironment) {
    this.#worker = worker;
    this.#folder = worker.config.downloadsDir;
  }

  static async open(worker: WorkerEnvironment): Promise<DownloadCache> {
    const cache = new DownloadCache(worker);
    await mkdir(cache.#folder, { recursive: true, mode: 0o700 });
    await cache.#load();
    return cache;
  }

  /**
   * The latest state of an artifact. The queue decides each time whether the task may read it.
   * @throws when it may not, when the content cannot be had, or when it has another hash
   */
  async getArtifact(task: TaskContext, taskId: string, name: string, sha256: string | undefined): Promise<Lease> {
    const content = (await task.queue.latestArtifact({ taskId, name })) as ArtifactContent;
    const place =
      content.storageType === 'object' ? content.name : content.storageType === 'error' ? '' : content.url.replace(/[?#].*$/, '');
    return this.#get({ key: `artifact:${taskId}:${name}`, version: `${content.storageType}:${place}`, sha256 }, path =>
      downloadArtifact({
        ...this.#transfer(task),
        queue: { artifact: async () => content, latestArtifact: async () => content },
        objectClient: objectClientFor(this.#worker),
        taskId,
        name,
        openSink: openSink(path),
      }),
    );
  }

  /** What a URL gave when it was first asked for. @throws as `getArtifact` */
  async getUrl(task: TaskContext, url: string, sha256: string | undefined): Promise<Lease> {
    const key = `urlcontent:${url}`;
    if (sha256 === undefined && this.#entries.has(key)) {
      task.log.warn(
        `[mounts] ${url.replace(/[?#].*$/, '')} was downloaded earlier and is not checked again; name its sha256 to be sure of its content.`,
      );
    }
    return this.#get({ key, version: '', sha256 }, path => getBytes(async () => url, openSink(path), this.#transfer(task)));
  }

  /** Removes content that nobody uses, the least recently used first, until there is enough space. */
  async freeSpace(isEnough: () => Promise<boolean>): Promise<void> {
    for (const entry of this.#idle()) {
      if (await isEnough()) {
        break;
      }
      await this.#evict(entry);
    }
  }

  #transfer(task: TaskContext) {
    const { fetch, clock, random } = this.#worker;
    return { fetch, clock, random, signal: task.signal };
  }

  async #get(
    wanted: { readonly key: string; readonly version: string; readonly sha256: string | undefined },
    download: (path: string) => Promise<{ readonly sha256: string; readonly sizeBytes: number }>,
  ): Promise<Lease> {
    for (let attempt = 0; ; attempt++) {
      let entry = this.#entries.get(wanted.key);
      if (entry?.version !== wanted.version) {
        entry = await this.#fetch(wanted.key, wanted.version, download);
      }
      if (wanted.sha256 === undefined || wanted.sha256 === entry.sha256) {
        return this.#lease(entry);
      }
      await this.#evict(entry);
      if (attempt > 0) {
        throw new Error(`its SHA-256 is ${entry.sha256}, not ${wanted.sha256}`);
      }
    }
  }

  #lease(entry: Entry): Lease {
    const { file } = entry;
    entry.lastUsedMs = this.#worker.clock.nowMs();
    this.#uses.set(file, (this.#uses.get(file) ?? 0) + 1);
    let isReleased = false;
    return {
      path: join(this.#folder, file),
      sha256: entry.sha256,
      release: async () => {
        if (isReleased) {
          return;
        }
        isReleased = true;
        const uses = (this.#uses.get(file) ?? 1) - 1;
        if (uses > 0) {
          this.#uses.set(file, uses);
          return;
        }
        this.#uses.delete(file);
        if (this.#entries.get(entry.key) !== entry) {
          await rm(join(this.#folder, file), { force: true });
        }
      },
    };
  }

  #fetch(key: string, version: string, download: (path: string) => Promise<{ sha256: string; sizeBytes: number }>): Promise<Entry> {
    const id = `${version} ${key}`;
    const underWay = this.#underWay.get(id) ?? this.#download(key, version, download).finally(() => this.#underWay.delete(id));
    this.#underWay.set(id, underWay);
    return underWay;
  }

  async #download(
    key: string,
    version: string,
    download: (path: string) => Promise<{ sha256: string; sizeBytes: number }>,
  ): Promise<Entry> {
    const file = uuid(this.#worker.random);
    const path = join(this.#folder, file);
    try {
      const { sha256, sizeBytes } = await download(path);
      const previous = this.#entries.get(key);
      if (previous) {
        await this.#evict(previous);
      }
      const entry: Entry = { key, version, file, sha256, sizeBytes, lastUsedMs: this.#worker.clock.nowMs() };
      this.#entries.set(key, entry);
      await this.#limitSize(entry);
      await this.#save();
      return entry;
    } catch (error) {
      await rm(path, { force: true });
      throw error;
    }
  }

  /** Not in use now; the least recently used first. */
  #idle(): Entry[] {
    return [...this.#entries.values()].filter(entry => !this.#uses.has(entry.file)).sort((a, b) => a.lastUsedMs - b.lastUsedMs);
  }

  async #limitSize(newest: Entry): Promise<void> {
    let sizeBytes = [...this.#entries.values()].reduce((sum, entry) => sum + entry.sizeBytes, 0);
    for (const entry of this.#idle()) {
      if (sizeBytes <= this.#worker.config.maxDownloadsBytes) {
        break;
      }
      if (entry !== newest) {
        sizeBytes -= entry.sizeBytes;
        await this.#evict(entry);
      }
    }
  }

  /** Forgets content; its file goes when nobody uses it. */
  async #evict(entry: Entry): Promise<void> {
    if (this.#entries.get(entry.key) === entry) {
      this.#entries.delete(entry.key);
      await this.#save();
    }
    if (!this.#uses.has(entry.file)) {
      await rm(join(this.#folder, entry.file), { force: true });
    }
  }

  async #load(): Promise<void> {
    let entries: Entry[] = [];
    try {
      entries = JSON.parse(await readFile(this.#statePath, 'utf8')) as Entry[];
    } catch {
      // none yet, or it was being written when the machine went down: everything is downloaded again
    }
    entries.forEach(entry => this.#entries.set(entry.key, entry));
    const known = new Set(entries.map(entry => entry.file));
    const present = new Set(await readdir(this.#folder));
    for (const name of present) {
      if (!known.has(name) && name !== 'downloads.json') {
        await rm(join(this.#folder, name), { force: true, recursive: true });
      }
    }
    entries.filter(entry => !present.has(entry.file)).forEach(entry => this.#entries.delete(entry.key));
  }

  get #statePath(): string {
    return join(this.#folder, 'downloads.json');
  }

  async #save(): Promise<void> {
    const temporary = join(this.#folder, `${uuid(this.#worker.random)}.new`);
    await writeFile(temporary, JSON.stringify([...this.#entries.values()]), { mode: 0o600 });
    await rename(temporary, this.#statePath);
  }
}
