/** Asks which caches have to go, before a task uses any (protocol: worker, "Purging"). An installation without that service keeps its caches. */
import type { Timer } from '@tscluster/client/clock.ts';
import { plainSlugid } from '@tscluster/client/clock.ts';
import { signRequest } from '@tscluster/client/hawk.ts';
import { credentialsOf, taskQueueIdOf } from '../config.ts';
import type { WorkerEnvironment } from '../context.ts';
import { messageOf } from '../errors.ts';
import type { CachePool } from './cache-pool.ts';

/** Clocks differ, and the service's answers may be some seconds old. */
const SLACK_MS = 300_000;
const TIMEOUT_MS = 10_000;
/** Without a cache to use, asking is for the disk space only. */
const IDLE_MS = 6 * 3_600_000;

export class PurgeRequests {
  readonly #worker: WorkerEnvironment;
  readonly #caches: CachePool;
  /** When it was last asked, and when the last question was that got an answer. */
  #askedMs: number | undefined;
  #sinceMs: number | undefined;
  #isUnavailable = false;

  constructor(worker: WorkerEnvironment, caches: CachePool) {
    this.#worker = worker;
    this.#caches = caches;
  }

  /**
   * Purges what was asked for since the last time; for a task that uses no caches only if that is long ago. Never throws: the caches are used as they are
   * when nobody can be asked.
   */
  async apply({ usesCaches }: { readonly usesCaches: boolean }): Promise<void> {
    const { clock, monitor } = this.#worker;
    const askedMs = clock.nowMs();
    if (!usesCaches && this.#askedMs !== undefined && askedMs - this.#askedMs < IDLE_MS) {
      return;
    }
    this.#askedMs = askedMs;
    try {
      for (const { cacheName, before } of await this.#ask()) {
        await this.#caches.purge(cacheName, new Date(before).getTime() + SLACK_MS);
      }
      this.#sinceMs = askedMs;
      this.#isUnavailable = false;
    } catch (error) {
      if (!this.#isUnavailable) {
        monitor.warn({ error: messageOf(error) }, 'nobody could be asked which caches to purge: they are used as they are');
      }
      this.#isUnavailable = true;
    }
  }

  async #ask(): Promise<{ cacheName: string; before: string }[]> {
    const { config, clock, random, fetch } = this.#worker;
    const url = new URL(`${config.rootUrl}/api/purge-cache/v1/purge-cache/${encodeURIComponent(taskQueueIdOf(config))}`);
    if (this.#sinceMs !== undefined) {
      url.searchParams.set('since', new Date(this.#sinceMs - SLACK_MS).toISOString());
    }
    const authorization = await signRequest({
      credentials: credentialsOf(config),
      nowMs: clock.nowMs(),
      nonce: plainSlugid(random).slice(0, 8),
      method: 'GET',
      url,
    });
    const timeout = new AbortController();
    const timer: Timer = clock.setTimer(TIMEOUT_MS, () => timeout.abort(new Error('no answer in time')));
    try {
      const response = await fetch(url, { headers: { authorization }, signal: timeout.signal });
      if (!response.ok) {
        await response.body?.cancel();
        throw new Error(`the purge-cache service answered ${response.status}`);
      }
      return ((await response.json()) as { requests: { cacheName: string; before: string }[] }).requests;
    } finally {
      timer.cancel();
    }
  }
}
