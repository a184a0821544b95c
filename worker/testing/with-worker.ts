/** A worker and a stand-in for its installation, in folders of their own, for one test. */
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { readConfig, type WorkerConfig } from '../config.ts';
import { removeTree } from '../engines/task-folder.ts';
import { silentMonitor, type Monitor } from '../monitor.ts';
import { startWorker, type Worker, type WorkerOptions } from '../worker.ts';
import { FakeQueue } from './fake-queue.ts';

export interface WorkerUnderTest {
  readonly queue: FakeQueue;
  readonly worker: Worker;
  readonly config: WorkerConfig;
  readonly folder: string;
  [Symbol.asyncDispose](): Promise<void>;
}

export const aConfig = (folder: string, rootUrl: string, config: Record<string, unknown> = {}): WorkerConfig =>
  readConfig(
    {
      rootUrl,
      clientId: 'test/worker',
      accessToken: 'worker-token-that-is-long-enough',
      dataDir: join(folder, 'worker'),
      capacity: 2,
      requiredDiskSpaceMegabytes: 1,
      ...config,
    },
    {},
  );

export const withWorker = async (
  config: Record<string, unknown> = {},
  options: Partial<Omit<WorkerOptions, 'config'>> & { monitor?: Monitor } = {},
): Promise<WorkerUnderTest> => {
  const folder = await mkdtemp(join(tmpdir(), 'tscluster-worker-'));
  const queue = await FakeQueue.start();
  const complete = aConfig(folder, queue.rootUrl, config);
  const cleanUp = async (): Promise<void> => {
    await queue.close();
    await removeTree(folder);
  };
  let worker: Worker;
  try {
    worker = await startWorker({ config: complete, monitor: silentMonitor, ...options });
  } catch (error) {
    await cleanUp();
    throw error;
  }
  return {
    queue,
    worker,
    config: complete,
    folder,
    [Symbol.asyncDispose]: async () => {
      await worker.stop({ finishTasks: false });
      await cleanUp();
    },
  };
};

/** For what a test cannot be told of, such as a file: an assertion that will hold soon. */
export const eventually = <T>(value: () => T) => expect.poll(value, { interval: 10 });
