/** For tests of artifacts: a queue and an object service on a local folder, reached through a socket. */
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { queueApi } from '@tscluster/api/queue/api.ts';
import { slugid } from '@tscluster/client/clock.ts';
import { afterAll, expect } from 'vitest';
import type { BusEvent } from '../../../platform/events.ts';
import { seededRandom, withServer } from '../../../testing/server.ts';
import { objectService } from '../../object/service.ts';
import { queueService } from '../service.ts';

/** What a call was refused with, for `toEqual`. */
export const refused = (code: string, statusCode: number) => expect.objectContaining({ code, statusCode }) as unknown;

/** Call it at the top of a file. No backend takes objects of the project `homeless`. */
export const withArtifacts = async (seed: number) => {
  const dir = await fs.mkdtemp(path.join(os.tmpdir(), 'taskcluster-artifacts-'));
  afterAll(() => fs.rm(dir, { recursive: true, force: true }));
  const BACKEND_MAP = JSON.stringify([{ backendId: 'local', when: { projectId: { regexp: '^(?!homeless$)' } } }]);
  const server = await withServer([objectService, queueService], { environment: { OBJECTS_FOLDER: dir, BACKEND_MAP } });
  const queue = server.client(queueApi);
  const origin = await server.server.app.listen({ host: '127.0.0.1', port: 0 });
  const random = seededRandom(seed);
  let queues = 0;

  const overSocket: typeof fetch = (url, init) => fetch((url as string).replace(server.rootUrl, origin), init);
  const inMinutes = (minutes: number): string => new Date(server.clock.nowMs() + minutes * 60_000).toISOString();
  const inDay = (): string => inMinutes(24 * 60);

  /** A task; claimed unless told otherwise. */
  const aTask = async (change: Record<string, unknown> = {}, claim = true): Promise<string> => {
    const taskId = slugid(random);
    const taskQueueId = `prov/q${queues++}`;
    await queue.createTask(
      { taskId },
      {
        taskQueueId,
        created: inMinutes(0),
        deadline: inMinutes(60),
        expires: inMinutes(3 * 24 * 60),
        payload: {},
        metadata: { name: 'n', description: 'd', owner: 'o', source: 'https://src.example' },
        ...change,
      },
    );
    if (claim) {
      await queue.claimWork({ taskQueueId }, { workerGroup: 'wg', workerId: 'w', tasks: 1 });
    }
    return taskId;
  };

  const aReference = (change: object = {}) => ({
    storageType: 'reference' as const,
    expires: inDay(),
    contentType: 'text/plain',
    url: 'https://x.example/1',
    ...change,
  });
  const anError = (change: object = {}) => ({
    storageType: 'error' as const,
    expires: inDay(),
    reason: 'file-missing-on-worker' as const,
    message: 'gone',
    ...change,
  });
  const create = (taskId: string, name: string, body: object, runId = '0'): Promise<Record<string, unknown>> =>
    queue.createArtifact({ taskId, runId, name }, body as never);
  const artifactEvents = async (): Promise<BusEvent[]> =>
    (await server.drain()).filter(event => event.exchange.endsWith('/artifact-created'));

  /** An artifact as `curl` gets it. */
  const get = async (taskId: string, name: string, headers: Record<string, string> = {}): Promise<Response> =>
    server.fetch(`${server.rootUrl}/api/queue/v1/task/${taskId}/runs/0/artifacts/${name}`, { headers });

  return { server, queue, dir, random, overSocket, inMinutes, inDay, aTask, aReference, anError, create, artifactEvents, get };
};
