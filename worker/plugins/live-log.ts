/**
 * `features.liveLog`: the log while the task runs. One HTTP server per worker serves all logs, each under a random token; the artifact is a reference to
 * it first, and a link to the backing log in the end. Best effort throughout: nothing here ever changes a task's resolution (protocol: worker, "Live log").
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { plainSlugid } from '@tscluster/client/clock.ts';
import type { WorkerEnvironment } from '../context.ts';
import { messageOf } from '../errors.ts';
import type { TaskLog } from '../log.ts';
import { createArtifact } from '../uploads.ts';
import { hasBackingLog, LOG_CONTENT_TYPE, logNames, taskExpires } from './backing-log.ts';
import { definePlugin } from './plugin.ts';

const MAX_READERS = 200;
const EXPIRES_AFTER_MS = 900_000;

interface Shared {
  readonly log: TaskLog;
  readonly tokenDigest: Buffer;
  /** Ends readers without the end of the body, so that they can tell. */
  readonly broken: AbortController;
}

const digest = (token: string): Buffer => createHash('sha256').update(token).digest();

/** Serves the logs of tasks in progress. */
export class LiveLogServer {
  readonly #worker: WorkerEnvironment;
  readonly #shared = new Set<Shared>();
  readonly #server = createServer((request, response) => void this.#serve(request, response));
  #readers = 0;
  #url = '';

  constructor(worker: WorkerEnvironment) {
    this.#worker = worker;
  }

  async listen(): Promise<void> {
    const { liveLogHost, liveLogPort, liveLogPublicUrl } = this.#worker.config;
    this.#server.listen(liveLogPort, liveLogHost);
    await once(this.#server, 'listening');
    // the worker ends when its tasks have, whoever still reads
    this.#server.unref();
    const { port } = this.#server.address() as AddressInfo;
    this.#url = liveLogPublicUrl === '' ? `http://${liveLogHost}:${port}` : liveLogPublicUrl.replace(/\/+$/, '');
  }

  /** Makes a log readable. `stop` ends that for new readers; with `isBroken` the present ones are cut off. */
  share(log: TaskLog): { readonly url: string; readonly stop: (isBroken: boolean) => void } {
    const token = plainSlugid(this.#worker.random) + plainSlugid(this.#worker.random);
    const shared: Shared = { log, tokenDigest: digest(token), broken: new AbortController() };
    this.#shared.add(shared);
    return {
      url: `${this.#url}/log/${token}`,
      stop: isBroken => {
        this.#shared.delete(shared);
        if (isBroken) {
          shared.broken.abort();
        }
      },
    };
  }

  async close(): Promise<void> {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const refuse = (status: number, text: string): void =>
      void response.writeHead(status, { 'content-type': 'text/plain' }).end(`${text}\n`);
    const token = /^\/log\/([^/?#]+)(?:\?.*)?$/.exec(request.url ?? '')?.[1];
    if (token === undefined) {
      return refuse(404, 'There is nothing here. Live logs are at /log/<token>.');
    }
    if (request.method !== 'GET') {
      return refuse(405, 'A live log can only be read.');
    }
    const given = digest(token);
    const shared = [...this.#shared].filter(({ tokenDigest }) => timingSafeEqual(tokenDigest, given))[0];
    if (!shared) {
      return refuse(401, 'There is no live log with this token: the task is over, or the link is wrong.');
    }
    if (this.#readers >= MAX_READERS) {
      return refuse(503, `${MAX_READERS} readers follow the logs of this worker already.`);
    }
    this.#readers++;
    const closed = new AbortController();
    const signal = AbortSignal.any([closed.signal, shared.broken.signal]);
    response.on('close', () => closed.abort());
    try {
      response.writeHead(200, {
        'content-type': LOG_CONTENT_TYPE,
        'access-control-allow-origin': '*',
        'access-control-expose-headers': 'Transfer-Encoding',
        'x-content-type-options': 'nosniff',
        'cache-control': 'no-store',
      });
      response.flushHeaders();
      for await (const bytes of shared.log.follow(signal)) {
        if (!response.write(bytes)) {
          await Promise.race([once(response, 'drain'), once(response, 'close')]);
        }
      }
      if (signal.aborted) {
        response.destroy();
      } else {
        response.end();
      }
    } catch {
      response.destroy();
    } finally {
      this.#readers--;
    }
  }
}

export const liveLog = definePlugin({
  name: 'live-log',
  payload: { features: { liveLog: { type: 'boolean', default: true } } },
  open: async worker => {
    const server = new LiveLogServer(worker);
    await server.listen();
    return {
      newTask: (task, payload) => {
        if (payload.features?.['liveLog'] === false) {
          return undefined;
        }
        const { live, backing } = logNames(payload);
        const { url, stop } = server.share(task.log);
        const tell = (error: unknown): void => task.log.warn(`The live log is not available: ${messageOf(error)}`);
        let published: Promise<boolean> = Promise.resolve(false);
        return {
          prepare: async () => {
            // an artifact's expiry may grow, but not shrink: the link that follows expires with the task
            const wantedMs = worker.clock.nowMs() + payload.maxRunTime * 1000 + EXPIRES_AFTER_MS;
            const expires = new Date(Math.min(wantedMs, taskExpires(task).getTime())).toISOString();
            // the task does not wait for this
            published = createArtifact(task, live, { storageType: 'reference', url, expires, contentType: LOG_CONTENT_TYPE }).then(
              () => true,
              error => {
                tell(error);
                return false;
              },
            );
          },
          finished: async () => {
            if ((await published) && hasBackingLog(payload)) {
              await createArtifact(task, live, {
                storageType: 'link',
                artifact: backing,
                expires: taskExpires(task).toISOString(),
                contentType: LOG_CONTENT_TYPE,
              });
            }
            stop(false);
          },
          // who reads already will read to the end, unless the task is not ours any more
          dispose: async () => stop(task.lostSignal.aborted),
        };
      },
      dispose: () => server.close(),
    };
  },
});
