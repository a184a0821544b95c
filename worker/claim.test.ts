/** The claim loop on its own: what it asks for, and what it makes of the answers. */
import { systemClock, systemRandom } from '@tscluster/client/clock.ts';
import { expect, test } from 'vitest';
import { ClaimLoop } from './claim.ts';
import type { ClaimedTask } from './queue.ts';

test('a run that is given twice is begun once', async () => {
  const claim = (taskId: string, runId: number) => ({ status: { taskId }, runId }) as ClaimedTask;
  const answers = [[claim('one', 0)], [claim('one', 0), claim('two', 0)], [claim('two', 0), claim('one', 1)]];
  const begun: string[] = [];
  const over = Promise.withResolvers<void>();
  const silent = { info: () => {}, warn: () => {}, error: () => {} };
  const loop = new ClaimLoop({
    queue: {
      claimWork: () => {
        const tasks = answers.shift();
        if (!tasks) {
          loop.stop();
          over.resolve();
        }
        return Promise.resolve({ tasks: tasks ?? [] });
      },
    },
    taskQueueId: 'prov/type',
    workerGroup: 'group',
    workerId: 'worker',
    capacity: 10,
    clock: systemClock,
    random: systemRandom,
    monitor: silent,
    makeRoom: () => Promise.resolve(true),
    run: ({ status, runId }) => {
      begun.push(`${status.taskId}/${runId}`);
      return Promise.resolve();
    },
  });
  loop.start();
  await over.promise;
  await loop.ended();
  expect(begun).toEqual(['one/0', 'two/0', 'one/1']);
});
