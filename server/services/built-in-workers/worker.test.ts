import { expect, test } from 'vitest';
import { systemClock } from '@tscluster/client/clock.ts';
import { silentLog } from '../../platform/log.ts';
import { type BuiltInWorkerOptions, decideOutcome, startBuiltInWorker } from './worker.ts';

test.each([
  ['succeed', {}, 'completed'],
  ['fail', {}, 'failed'],
  ['succeed', { sleep: 1 }, 'malformed-payload'],
  ['fail', { sleep: 1 }, 'malformed-payload'],
  ['succeed', [], 'malformed-payload'],
  ['succeed', null, 'malformed-payload'],
] as const)('on built-in/%s the payload %j ends as %s', (workerType, payload, outcome) => {
  expect(decideOutcome(workerType, payload)).toBe(outcome);
});

test('what is claimed is resolved with its own credentials, also after an error and while stopping', async () => {
  const said: string[] = [];
  const task = (taskId: string): unknown => ({
    status: { taskId },
    runId: 0,
    task: { payload: {} },
    credentials: { clientId: `task/${taskId}`, accessToken: 'x' },
  });
  const all = Promise.withResolvers<void>();
  const answers: (() => Promise<unknown>)[] = [
    () => Promise.reject(new Error('no database')),
    () => Promise.resolve({ tasks: [task('one'), task('two')] }),
    () => Promise.resolve({ tasks: [task('gone'), task('three')] }),
  ];
  const claim = async (): Promise<unknown> => {
    const answer = answers.shift();
    if (!answer) {
      all.resolve();
      await stopped.promise;
      return { tasks: [task('last')] };
    }
    return answer();
  };
  const stopped = Promise.withResolvers<void>();
  const worker = startBuiltInWorker({
    workerType: 'succeed',
    clock: { ...systemClock, sleep: () => Promise.resolve() },
    log: silentLog,
    claim: claim as BuiltInWorkerOptions['claim'],
    queueOf: credentials =>
      ({
        reportCompleted: ({ taskId, runId }: { taskId: string; runId: string }) => {
          said.push(`${taskId}/${runId} as ${credentials.clientId}`);
          return taskId === 'gone' ? Promise.reject(new Error('cancelled')) : Promise.resolve();
        },
      }) as unknown as ReturnType<BuiltInWorkerOptions['queueOf']>,
  });
  await all.promise;
  const stop = worker.stop();
  stopped.resolve();
  await stop;
  expect(said).toEqual(['one', 'two', 'gone', 'three', 'last'].map(id => `${id}/0 as task/${id}`));
});
