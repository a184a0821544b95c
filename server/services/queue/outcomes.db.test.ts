/** What is counted of how runs end, and what is said of scopes that are missing. */
import { queueApi } from '@tscluster/api/queue/api.ts';
import { beforeAll, describe, expect, test } from 'vitest';
import { claimExpiry, deadlines } from './loops.ts';
import { type QueueServer, aTask, withQueue } from './testing.ts';

let server: QueueServer;
beforeAll(async () => {
  server = await withQueue();
});

test('every end of a run is counted once, by reason: reports, cancellations, claims that ran out, deadlines', async () => {
  const { queue, clock } = server;
  const run = async (fields: object = {}): Promise<string> => {
    const taskId = await server.create({ retries: 0, ...fields });
    await server.claim();
    return taskId;
  };
  const done = await run();
  await queue.reportCompleted({ taskId: done, runId: '0' });
  await queue.reportCompleted({ taskId: done, runId: '0' });
  await queue.reportFailed({ taskId: await run(), runId: '0' });
  await queue.reportException({ taskId: await run({ retries: 1 }), runId: '0' }, { reason: 'worker-shutdown' });
  await server.claim(); // the retry
  const cancelled = await run();
  await queue.cancelTask({ taskId: cancelled });
  await queue.cancelTask({ taskId: cancelled });
  const taskGroupId = await run();
  await queue.sealTaskGroup({ taskGroupId });
  await queue.cancelTaskGroup({ taskGroupId });
  const late = await run({ deadline: new Date(clock.nowMs() + 60_000).toISOString() });
  clock.advance({ minutes: 2 });
  await server.runLoop(deadlines);
  expect((await queue.status({ taskId: late })).status.state).toBe('exception');
  clock.advance({ minutes: 20 });
  await server.runLoop(claimExpiry);
  const text = await server.platform.metrics.registry.metrics();
  const of = 'provisionerId="prov",workerType="wt"';
  expect(
    text
      .split('\n')
      .filter(line => /^queue_(completed|failed|exception)_tasks\{/.test(line))
      .toSorted(),
  ).toEqual([
    `queue_completed_tasks{${of}} 1`,
    `queue_exception_tasks{${of},reasonResolved="canceled"} 2`,
    `queue_exception_tasks{${of},reasonResolved="claim-expired"} 1`,
    `queue_exception_tasks{${of},reasonResolved="deadline-exceeded"} 1`,
    `queue_exception_tasks{${of},reasonResolved="worker-shutdown"} 1`,
    `queue_failed_tasks{${of},reasonResolved="failed"} 1`,
  ]);
});

describe('who may not create a task is told of the least that would do', () => {
  const refusal = async (scopes: string[], fields: object) => {
    const caller = server.client(queueApi, { scopes, clientId: 'someone' });
    return caller.createTask({ taskId: server.newId() }, aTask(server.clock, fields)).then(
      () => expect.unreachable(),
      (error: { body: { message: string; details: { missingScopes: string[]; alternatives: string[][] } } }) => error.body,
    );
  };

  test('its own scopes, routes, and the priority itself rather than a higher one', async () => {
    const { message, details } = await refusal(['queue:scheduler-id:-', 'x:*'], { priority: 'high', scopes: ['x:1', 'y'], routes: ['r'] });
    expect(details.missingScopes).toEqual(['queue:create-task:high:prov/wt', 'queue:create-task:project:none', 'queue:route:r', 'y']);
    expect(details.alternatives.map(way => way.find(scope => scope.endsWith(':prov/wt')))).toEqual([
      'queue:create-task:very-high:prov/wt',
      'queue:create-task:highest:prov/wt',
    ]);
    expect(message).toContain(
      'The least that would do is `queue:create-task:high:prov/wt`, `queue:create-task:project:none`, `queue:route:r`, `y`.',
    );
  });

  test('nothing of priorities where a higher one is held', async () => {
    const { details } = await refusal(['queue:create-task:medium:prov/*', 'queue:create-task:project:none'], { priority: 'low' });
    expect(details).toEqual({ missingScopes: ['queue:scheduler-id:-'], grantTo: { clientId: 'someone', roleIds: [] } });
  });
});
