/**
 * `mounts`: files, folders and caches that are there when the commands start (protocol: worker, "Mounts, caches, disk"). Everything is fetched at once
 * while the task is prepared, and put in place in the payload's order.
 */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { plainSlugid, uuid } from '@tscluster/client/clock.ts';
import { signRequest } from '@tscluster/client/hawk.ts';
import type { TaskContext, WorkerEnvironment } from '../context.ts';
import type { AttachedFolder, SandboxBuilder, SandboxResult } from '../engines/engine.ts';
import { malformedPayload, messageOf, TaskError, taskFailed } from '../errors.ts';
import type { PayloadMount, TaskPayload } from '../payload.ts';
import { CachePool, type CacheInUse } from './cache-pool.ts';
import { DownloadCache, type Lease } from './downloads.ts';
import { mountsPayload, type MountContent } from './mounts-payload.ts';
import { definePlugin, type TaskPlugin } from './plugin.ts';
import { PurgeRequests } from './purge-requests.ts';
import { requireTaskScopes } from './task-scopes.ts';
import { decompressFile, isSupportedFormat, supportedFormats, unpackArchive } from './unpack.ts';

interface Shared {
  readonly worker: WorkerEnvironment;
  readonly downloads: DownloadCache;
  readonly caches: CachePool;
  readonly purges: PurgeRequests;
  /** For content that is given in the payload, and for what is unpacked on the way. */
  readonly scratch: string;
}

export const mounts = definePlugin({
  name: 'mounts',
  payload: mountsPayload,
  open: async worker => {
    const scratch = join(worker.config.dataDir, 'scratch');
    await rm(scratch, { recursive: true, force: true });
    await mkdir(scratch, { recursive: true, mode: 0o700 });
    const caches = await CachePool.open(worker);
    const downloads = await DownloadCache.open(worker);
    const shared: Shared = { worker, downloads, caches, purges: new PurgeRequests(worker, caches), scratch };
    return {
      newTask: (task, payload) => (payload.mounts?.length ? new TaskMounts(shared, task, payload, payload.mounts) : undefined),
      freeDiskSpace: async isEnough => {
        await downloads.freeSpace(isEnough);
        await caches.freeSpace(isEnough);
      },
    };
  },
});

const pathOf = (mount: PayloadMount): string => ('file' in mount ? mount.file : mount.directory);

const describe = (content: MountContent): string => {
  if ('taskId' in content) {
    return `the artifact ${content.artifact} of task ${content.taskId}`;
  }
  if ('namespace' in content) {
    return `the artifact ${content.artifact} of the task indexed as ${content.namespace}`;
  }
  // what follows the path may be a signature, and whoever may read the log may not have it
  return 'url' in content ? content.url.replace(/[?#].*$/, '') : 'the content in the payload';
};

class TaskMounts implements TaskPlugin {
  readonly #shared: Shared;
  readonly #task: TaskContext;
  readonly #payload: TaskPayload;
  readonly #mounts: readonly PayloadMount[];
  readonly #contents = new Map<PayloadMount, Lease>();
  readonly #caches = new Map<PayloadMount, CacheInUse>();
  readonly #attached = new Map<PayloadMount, AttachedFolder>();

  constructor(shared: Shared, task: TaskContext, payload: TaskPayload, list: readonly PayloadMount[]) {
    this.#shared = shared;
    this.#task = task;
    this.#payload = payload;
    this.#mounts = list;
  }

  async prepare(): Promise<void> {
    this.#mounts.forEach(mount => this.#check(mount));
    const names = this.#mounts.flatMap(mount => ('cacheName' in mount ? [mount.cacheName] : []));
    if (names.length > 0) {
      await requireTaskScopes(
        this.#shared.worker,
        this.#task,
        [...new Set(names)].map(name => `generic-worker:cache:${name}`),
      );
    }
    await this.#shared.purges.apply({ usesCaches: names.length > 0 });
    for (const mount of this.#mounts) {
      if ('cacheName' in mount) {
        this.#caches.set(mount, await this.#shared.caches.acquire(mount.cacheName));
      }
    }
    const outcomes = await Promise.allSettled(
      this.#mounts.map(async mount => {
        // a cache that is there already needs no first content
        if (mount.content && (this.#caches.get(mount)?.isNew ?? true)) {
          this.#contents.set(mount, await this.#fetch(mount, mount.content));
        }
      }),
    );
    const failure = outcomes.find(outcome => outcome.status === 'rejected');
    if (failure) {
      throw failure.reason;
    }
  }

  async build(builder: SandboxBuilder): Promise<void> {
    for (const mount of this.#mounts) {
      try {
        await this.#mount(builder, mount);
      } catch (error) {
        throw error instanceof TaskError
          ? error
          : taskFailed(`[mounts] ${pathOf(mount)} could not be mounted: ${messageOf(error)}`, { cause: error });
      }
    }
    await this.#releaseContents();
  }

  async stopped(result: SandboxResult | undefined): Promise<void> {
    const exitCode = result?.exitCode;
    const isSpoiled = result !== undefined && (exitCode === undefined || this.#payload.onExitStatus?.purgeCaches?.includes(exitCode));
    let failure: TaskError | undefined;
    for (const mount of this.#mounts.toReversed()) {
      const cache = this.#caches.get(mount);
      if (!cache) {
        continue;
      }
      this.#caches.delete(mount);
      if (isSpoiled) {
        this.#task.log.info(`[mounts] The cache at ${pathOf(mount)} is not kept.`);
        await cache.drop();
        continue;
      }
      try {
        // one that was made for this task, and that nothing was put into, is no use to the next
        await this.#attached.get(mount)?.release();
        await (this.#attached.has(mount) || !cache.isNew ? cache.keep() : cache.drop());
      } catch (error) {
        await cache.drop();
        failure ??= taskFailed(`[mounts] The cache at ${pathOf(mount)} could not be kept: ${messageOf(error)}`, { cause: error });
      }
    }
    if (failure) {
      throw failure;
    }
  }

  async dispose(): Promise<void> {
    await this.#releaseContents();
    // the task was aborted: nobody knows in which state its caches are
    for (const cache of this.#caches.values()) {
      await cache.drop();
    }
    this.#caches.clear();
  }

  #check(mount: PayloadMount): void {
    const { content, format } = mount;
    if (content && 'taskId' in content && !this.#task.definition.dependencies.includes(content.taskId)) {
      throw malformedPayload(
        `payload.mounts: ${pathOf(mount)} needs an artifact of task ${content.taskId}, which is not among the task's dependencies. Add it there.`,
      );
    }
    if (format !== undefined && !isSupportedFormat(format)) {
      throw malformedPayload(
        `payload.mounts: the format "${format}" of ${pathOf(mount)} is not supported by this worker. It supports: ${supportedFormats().join(', ')}.`,
      );
    }
  }

  async #fetch(mount: PayloadMount, content: MountContent): Promise<Lease> {
    try {
      const lease = await this.#lease(content);
      if (!('raw' in content || 'base64' in content)) {
        this.#task.log.info(`[mounts] ${describe(content)} has SHA-256 ${lease.sha256}`);
      }
      return lease;
    } catch (error) {
      this.#task.signal.throwIfAborted();
      throw error instanceof TaskError
        ? error
        : taskFailed(`[mounts] ${describe(content)} for ${pathOf(mount)} could not be fetched: ${messageOf(error)}`, { cause: error });
    }
  }

  async #lease(content: MountContent): Promise<Lease> {
    const { downloads } = this.#shared;
    if ('taskId' in content) {
      return downloads.getArtifact(this.#task, content.taskId, content.artifact, content.sha256);
    }
    if ('namespace' in content) {
      return downloads.getArtifact(this.#task, await this.#findIndexedTask(content.namespace), content.artifact, undefined);
    }
    if ('url' in content) {
      return downloads.getUrl(this.#task, content.url, content.sha256);
    }
    const path = this.#scratchPath();
    await writeFile(path, 'raw' in content ? content.raw : Buffer.from(content.base64, 'base64'), { mode: 0o600 });
    return { path, sha256: '', release: () => rm(path, { force: true }) };
  }

  async #findIndexedTask(namespace: string): Promise<string> {
    const { config, clock, random, fetch } = this.#shared.worker;
    const url = new URL(`${config.rootUrl}/api/index/v1/task/${encodeURIComponent(namespace)}`);
    const authorization = await signRequest({
      credentials: this.#task.credentials(),
      nowMs: clock.nowMs(),
      nonce: plainSlugid(random).slice(0, 8),
      method: 'GET',
      url,
    });
    const response = await fetch(url, { headers: { authorization }, signal: this.#task.signal });
    if (!response.ok) {
      await response.body?.cancel();
      throw new Error(response.status === 404 ? 'no task is indexed there' : `the index answered ${response.status}`);
    }
    return ((await response.json()) as { taskId: string }).taskId;
  }

  async #mount(builder: SandboxBuilder, mount: PayloadMount): Promise<void> {
    const content = this.#contents.get(mount);
    const { signal } = this.#task;
    if ('file' in mount) {
      const source = content?.path ?? '';
      const plain = mount.format === undefined ? source : this.#scratchPath();
      try {
        if (mount.format !== undefined) {
          await decompressFile(source, mount.format, plain, signal);
        }
        await builder.putFile(mount.file, plain);
      } finally {
        if (plain !== source) {
          await rm(plain, { force: true });
        }
      }
      this.#task.log.info(`[mounts] Mounted ${describe(mount.content)} as file ${mount.file}`);
      return;
    }
    const fill = async (folder: string): Promise<void> => {
      if (content) {
        await unpackArchive(content.path, mount.format ?? 'tar', folder, signal);
      }
    };
    if (!('cacheName' in mount)) {
      await builder.fillFolder(mount.directory, fill);
      this.#task.log.info(`[mounts] Unpacked ${describe(mount.content)} into ${mount.directory}`);
      return;
    }
    const cache = this.#caches.get(mount);
    if (cache) {
      await fill(cache.path);
      this.#attached.set(mount, await builder.attachFolder(mount.directory, cache.path));
      this.#task.log.info(`[mounts] ${cache.isNew ? 'Made a new' : 'Mounted the'} cache ${mount.cacheName} at ${mount.directory}`);
    }
  }

  #scratchPath(): string {
    return join(this.#shared.scratch, uuid(this.#shared.worker.random));
  }

  async #releaseContents(): Promise<void> {
    const leases = [...this.#contents.values()];
    this.#contents.clear();
    await Promise.all(leases.map(lease => lease.release()));
  }
}
