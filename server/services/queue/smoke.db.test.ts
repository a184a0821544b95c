import { queueApi } from '@tscluster/api/queue/api.ts';
import { slugid } from '@tscluster/client/clock.ts';
import { expect, test } from 'vitest';
import { seededRandom, withServer } from '../../testing/server.ts';
import { queueService } from './service.ts';

const random = seededRandom(5);
test('a task from creation to its outcome', async () => {
  const { client, clock, drain } = await withServer([queueService]);
  const queue = client(queueApi);
  const taskId = slugid(random);
  const now = clock.nowMs();
  const created = await queue.createTask(
    { taskId },
    {
      taskQueueId: 'prov/wt',
      created: new Date(now).toISOString(),
      deadline: new Date(now + 3600_000).toISOString(),
      payload: {},
      metadata: { name: 'n', description: 'd', owner: 'o', source: 'https://src.example' },
    },
  );
  expect(created.status.state).toBe('pending');
  const { tasks } = await queue.claimWork({ taskQueueId: 'prov/wt' }, { workerGroup: 'wg', workerId: 'w', tasks: 1 });
  expect(tasks.map(t => t.status.state)).toEqual(['running']);
  const done = await queue.reportCompleted({ taskId, runId: '0' });
  expect(done.status.state).toBe('completed');
  expect((await queue.status({ taskId })).status).toEqual(done.status);
  expect((await drain()).map(e => e.exchange.split('/').at(-1))).toEqual([
    'task-defined',
    'task-pending',
    'task-running',
    'task-completed',
    'task-group-resolved',
  ]);
});
