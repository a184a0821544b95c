import { queueApi } from '@tscluster/api/queue/api.ts';
import { slugid } from '@tscluster/client/clock.ts';
import { queueService } from '@tscluster/server/services/queue/service.ts';
import { seededRandom, withServer } from '@tscluster/server/testing/server.ts';
import { expect, test } from 'vitest';
import { type GraphTask, inOrder } from '../graph.ts';
import { openCli } from './testing.ts';

const random = seededRandom(4);
const newId = (): string => slugid(random);

test('an installation without the scheduler gets the tasks one by one, in the group', async () => {
  const server = await withServer([queueService]);
  server.setAnonymousScopes(['*']);
  const fetchThere: typeof fetch = async (url, init) =>
    (url as string).includes('/api/scheduler/')
      ? new Response('{"error":"Not found"}', { status: 404 })
      : server.fetch(url as string, init);
  const cli = await openCli({ ...server, fetch: fetchThere });
  const [group, first, second] = [newId(), newId(), newId()];
  const at = (hours: number): string => new Date(server.clock.nowMs() + hours * 3_600_000).toISOString();
  const aTask = (dependencies: string[]) => ({
    taskQueueId: 'prov/wt',
    created: at(0),
    deadline: at(1),
    dependencies,
    payload: {},
    metadata: { name: 'n', description: 'd', owner: 'o@example.com', source: 'https://src.example' },
  });
  const tasks = [
    { taskId: second, task: aTask([first]) },
    { taskId: first, task: aTask([]) },
  ];
  const { out, err, status } = await cli.run(['graph', 'submit', '--group', group, '--json'], JSON.stringify({ tasks }));
  expect(err).toBe('');
  expect([JSON.parse(out), status]).toEqual([{ taskGroupId: group, created: 2 }, 0]);
  const listed = await server.client(queueApi).listTaskGroup({ taskGroupId: group });
  expect(new Map(listed.tasks.map(({ status: { taskId, state } }) => [taskId, state]))).toEqual(
    new Map([
      [first, 'pending'],
      [second, 'unscheduled'],
    ]),
  );
});

test('the order holds for long chains, and for what goes in a circle there is one, too', () => {
  const task = (taskId: string, dependencies: string[]) => ({ taskId, task: { dependencies } }) as unknown as GraphTask;
  const chain = Array.from({ length: 10_000 }, (_, i) => task(`${i}`, i === 9_999 ? [] : [`${i + 1}`]));
  expect(inOrder(chain)).toEqual(chain.toReversed());
  const [a, b, c, d, e] = [task('a', ['b', 'c']), task('b', ['d', 'elsewhere']), task('c', ['d', 'c']), task('d', []), task('e', ['f'])];
  const f = task('f', ['e']);
  expect(inOrder([a, b, c, d, e, f] as GraphTask[])).toEqual([d, b, c, a, f, e]);
});
