/**
 * Two workers that run nothing: a task on `built-in/succeed` is completed, one on `built-in/fail` failed, as soon as it is claimed. They show that an
 * installation works, and join the ends of task graphs.
 */
import { queueApi } from '@tscluster/api/queue/api.ts';
import { defineService } from '../../platform/service.ts';
import { type BuiltInWorker, startBuiltInWorker } from './worker.ts';

export const builtInWorkers = defineService({
  name: 'built-in-workers',
  settings: {},
  start: platform => {
    const workers: BuiltInWorker[] = [];
    const { clock, log } = platform;
    const queue = platform.client(queueApi, 'built-in-workers', { retries: 0 }); // the worker itself tries again, until it is stopped
    return {
      ready: () => {
        for (const workerType of ['succeed', 'fail'] as const) {
          workers.push(
            startBuiltInWorker({
              workerType,
              clock,
              log,
              claim: () =>
                queue.claimWork({ taskQueueId: `built-in/${workerType}` }, { tasks: 32, workerGroup: 'built-in', workerId: workerType }),
              queueOf: credentials => platform.client(queueApi, 'built-in-workers', { credentials }),
            }),
          );
        }
        return Promise.resolve();
      },
      close: async () => {
        await Promise.all(workers.map(worker => worker.stop()));
      },
    };
  },
});
