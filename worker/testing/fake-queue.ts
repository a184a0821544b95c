/**
 * Stands in for an installation in the worker's tests: the part of the queue's HTTP protocol that workers use, with artifact storage, in memory. It keeps
 * what it was told, lets tests wait for things to happen, and can be told to refuse.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { gunzipSync } from 'node:zlib';
import { slugid, systemRandom } from '@tscluster/client/clock.ts';

export interface FakeArtifact {
  readonly storageType: string;
  readonly contentType?: string;
  readonly expires: string;
  readonly url?: string;
  readonly artifact?: string;
  readonly reason?: string;
  readonly message?: string;
  /** As uploaded. */
  content?: Buffer;
  contentEncoding?: string;
}

export interface FakeTask {
  readonly taskId: string;
  readonly definition: Record<string, unknown>;
  state: 'pending' | 'running' | 'completed' | 'failed' | 'exception' | 'canceled';
  reason?: string;
  claims: number;
  reclaims: number;
  readonly artifacts: Map<string, FakeArtifact>;
}

type Handler = (request: {
  method: string;
  path: string;
  body: unknown;
  headers: IncomingMessage['headers'];
}) => { status: number; body?: unknown; headers?: Record<string, string> } | undefined;

const readBody = async (request: IncomingMessage): Promise<Buffer> => {
  const chunks: Buffer[] = [];
  for await (const chunk of request) {
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks);
};

export class FakeQueue {
  readonly tasks = new Map<string, FakeTask>();
  readonly requests: { method: string; path: string }[] = [];
  claimSeconds = 1200;
  /** Answers before the queue does: to refuse, or to add other services. */
  intercept: Handler = () => undefined;
  readonly #server = createServer((request, response) => void this.#serve(request, response));
  readonly #pending: string[] = [];
  #wake: (() => void)[] = [];
  #watchers: (() => void)[] = [];
  rootUrl = '';
  /** Requests for work that wait. */
  waitingClaims = 0;

  static async start(): Promise<FakeQueue> {
    const queue = new FakeQueue();
    queue.#server.listen(0, '127.0.0.1');
    await once(queue.#server, 'listening');
    queue.rootUrl = `http://127.0.0.1:${(queue.#server.address() as AddressInfo).port}`;
    return queue;
  }

  async close(): Promise<void> {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  /** Creates a pending task. */
  addTask(payload: Record<string, unknown>, definition: Record<string, unknown> = {}): FakeTask {
    const taskId = slugid(systemRandom);
    const at = (ms: number): string => new Date(Date.now() + ms).toISOString();
    const task: FakeTask = {
      taskId,
      definition: {
        provisionerId: 'local',
        workerType: 'process',
        taskQueueId: 'local/process',
        schedulerId: '-',
        projectId: 'none',
        taskGroupId: taskId,
        dependencies: [],
        requires: 'all-completed',
        routes: [],
        priority: 'lowest',
        retries: 5,
        created: at(0),
        deadline: at(3_600_000),
        expires: at(7_200_000),
        scopes: [],
        metadata: { name: 'test', description: 'test', owner: 'test@example.com', source: 'https://example.com' },
        tags: {},
        extra: {},
        ...definition,
        payload,
      },
      state: 'pending',
      claims: 0,
      reclaims: 0,
      artifacts: new Map(),
    };
    this.tasks.set(taskId, task);
    this.#pending.push(taskId);
    this.#wake.splice(0).forEach(wake => wake());
    return task;
  }

  /** Resolves a running task from the outside, as cancelling does. */
  cancel(task: FakeTask): void {
    task.state = 'canceled';
    this.#changed();
  }

  /** Resolves when a condition holds; looked at after each request. */
  async until<T>(condition: () => T | undefined | false): Promise<T> {
    for (;;) {
      const value = condition();
      if (value) {
        return value;
      }
      await new Promise<void>(resolve => this.#watchers.push(resolve));
    }
  }

  async resolved(task: FakeTask): Promise<FakeTask> {
    return this.until(() => task.state !== 'pending' && task.state !== 'running' && task);
  }

  /** The content of an artifact, decoded; links are followed. */
  text(task: FakeTask, name: string): string {
    const artifact = task.artifacts.get(name);
    if (artifact?.storageType === 'link') {
      return this.text(task, artifact.artifact ?? '');
    }
    if (!artifact?.content) {
      throw new Error(`no content: ${name}; there are: ${[...task.artifacts.keys()].join(', ')}`);
    }
    return (artifact.contentEncoding === 'gzip' ? gunzipSync(artifact.content) : artifact.content).toString();
  }

  log(task: FakeTask): string {
    return this.text(task, 'public/logs/live_backing.log');
  }

  #changed(): void {
    this.#watchers.splice(0).forEach(watch => watch());
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', url = '' } = request;
    const path = url.replace(/\?.*$/, '');
    this.requests.push({ method, path });
    const bytes = await readBody(request);
    const isJson = path.startsWith('/api/') && (request.headers['content-type'] ?? '').startsWith('application/json');
    const body: unknown = isJson && bytes.length > 0 ? JSON.parse(bytes.toString()) : undefined;
    const answer: { status: number; body?: unknown; headers?: Record<string, string> } = this.intercept({
      method,
      path,
      body,
      headers: request.headers,
    }) ??
      this.#storage(method, url, bytes, request.headers) ??
      (await this.#api(method, path, body, response)) ?? { status: 404, body: { code: 'ResourceNotFound', message: 'no such route' } };
    const isRaw = Buffer.isBuffer(answer.body);
    response.writeHead(answer.status, { ...(isRaw ? {} : { 'content-type': 'application/json' }), ...answer.headers });
    response.end(isRaw ? answer.body : answer.body === undefined ? '' : JSON.stringify(answer.body));
    this.#changed();
  }

  #storage(
    method: string,
    url: string,
    bytes: Buffer,
    headers: IncomingMessage['headers'],
  ): { status: number; body?: unknown; headers?: Record<string, string> } | undefined {
    const [, taskId, name] = /^\/storage\/([^/]+)\/([^?]+)/.exec(url) ?? [];
    const artifact = this.tasks.get(taskId ?? '')?.artifacts.get(decodeURIComponent(name ?? ''));
    if (!artifact) {
      return undefined;
    }
    if (method === 'PUT') {
      artifact.content = bytes;
      if (headers['content-encoding']) {
        artifact.contentEncoding = headers['content-encoding'];
      }
      return { status: 200 };
    }
    return artifact.content
      ? { status: 200, body: artifact.content, headers: artifact.contentEncoding ? { 'content-encoding': artifact.contentEncoding } : {} }
      : { status: 404 };
  }

  async #api(
    method: string,
    path: string,
    body: unknown,
    response: ServerResponse,
  ): Promise<{ status: number; body?: unknown } | undefined> {
    const parts = path
      .replace(/^\/api\/queue\/v1\//, '')
      .split('/')
      .map(decodeURIComponent);
    if (method === 'POST' && parts[0] === 'claim-work') {
      return {
        status: 200,
        body: { tasks: await this.#claim(body as { tasks: number; workerGroup: string; workerId: string }, response) },
      };
    }
    const task = this.tasks.get(parts[1] ?? '');
    if (parts[0] !== 'task' || !task) {
      return undefined;
    }
    if (method === 'GET' && parts[2] === 'artifact-content') {
      const artifact = task.artifacts.get(parts.slice(3).join('/'));
      return artifact
        ? { status: 200, body: { storageType: 's3', url: this.#storageUrl(task, parts.slice(3).join('/')) } }
        : { status: 404, body: { code: 'ResourceNotFound', message: 'Artifact not found' } };
    }
    const action = parts[4];
    if (action === 'artifacts') {
      const name = parts.slice(5).join('/');
      const artifact = body as FakeArtifact;
      task.artifacts.set(name, { ...artifact });
      return artifact.storageType === 's3'
        ? {
            status: 200,
            body: { storageType: 's3', contentType: artifact.contentType, expires: artifact.expires, putUrl: this.#storageUrl(task, name) },
          }
        : { status: 200, body: { storageType: artifact.storageType } };
    }
    if (task.state !== 'running') {
      return { status: 409, body: { code: 'RequestConflict', message: `the run is ${task.state}` } };
    }
    if (action === 'reclaim') {
      task.reclaims++;
      const { credentials, takenUntil } = this.#grant();
      return { status: 200, body: { status: this.#status(task), runId: 0, workerGroup: 'g', workerId: 'w', takenUntil, credentials } };
    }
    const state = ({ completed: 'completed', failed: 'failed', exception: 'exception' } as const)[action ?? ''];
    if (!state) {
      return undefined;
    }
    task.state = state;
    const reason = (body as { reason?: string } | undefined)?.reason;
    if (reason) {
      task.reason = reason;
    }
    return { status: 200, body: { status: this.#status(task) } };
  }

  async #claim(body: { tasks: number; workerGroup: string; workerId: string }, response: ServerResponse): Promise<unknown[]> {
    response.once('close', () => {
      this.#wake.splice(0).forEach(wake => wake());
    });
    while (this.#pending.length === 0 && !response.destroyed) {
      this.waitingClaims++;
      await new Promise<void>(resolve => this.#wake.push(resolve));
      this.waitingClaims--;
    }
    return response.destroyed
      ? []
      : this.#pending.splice(0, body.tasks).map(taskId => {
          const task = this.tasks.get(taskId) as FakeTask;
          task.state = 'running';
          task.claims++;
          const { credentials, takenUntil } = this.#grant();
          const { workerGroup, workerId } = body;
          return { status: this.#status(task), runId: 0, workerGroup, workerId, takenUntil, task: task.definition, credentials };
        });
  }

  #grant(): { credentials: Record<string, string>; takenUntil: string } {
    const takenUntil = new Date(Date.now() + this.claimSeconds * 1000).toISOString();
    const certificate = JSON.stringify({ version: 1, scopes: [], start: 0, expiry: 0, seed: 'x', signature: takenUntil });
    return { credentials: { clientId: `task-client/${takenUntil}`, accessToken: 'secret-token', certificate }, takenUntil };
  }

  #status(task: FakeTask): Record<string, unknown> {
    return { taskId: task.taskId, state: task.state, runs: [{ runId: 0, state: task.state }] };
  }

  #storageUrl(task: FakeTask, name: string): string {
    return `${this.rootUrl}/storage/${task.taskId}/${encodeURIComponent(name)}`;
  }
}
