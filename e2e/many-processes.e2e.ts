/** The services of one installation in many processes, with any number of each: what clients and workers see is the same. */
import { queueApi } from '@tscluster/api/queue/api.ts';
import { createClient } from '@tscluster/client/client.ts';
import { beforeAll, describe, expect, test } from 'vitest';
import { type Cluster, type ServerProcess, pathsOf, startCluster } from './support/cluster.ts';
import { expectRefusal, officialClients } from './support/official.ts';
import { waitFor } from './support/processes.ts';
import { aTask, newId } from './support/tasks.ts';

let cluster: Cluster;
let parts: Record<'auth' | 'queue1' | 'queue2' | 'object' | 'loops' | 'relay', ServerProcess>;

const noBackground = ['--loops', 'none', '--no-relay'];

beforeAll(async () => {
  cluster = await startCluster();
  const auth = await cluster.start('auth', { args: ['--services', 'auth', ...noBackground], paths: pathsOf('auth') });
  const [queue1, queue2, object, loops, relay] = await Promise.all([
    cluster.start('queue 1', { args: ['--services', 'queue', ...noBackground], paths: pathsOf('queue') }),
    cluster.start('queue 2', { args: ['--services', 'queue', ...noBackground], paths: pathsOf('queue') }),
    cluster.start('object', { args: ['--services', 'object', ...noBackground], paths: pathsOf('object') }),
    cluster.start('loops', { args: ['--services', 'auth,queue,object,built-in-workers', '--no-relay'] }),
    cluster.start('relay', { args: ['--services', 'auth', '--loops', 'none', '--relay'] }),
  ]);
  parts = { auth, queue1, queue2, object, loops, relay };
}, 240_000);

describe('unmodified clients', () => {
  test('create, claim and resolve, with the credentials of the claim', async () => {
    const { queue } = officialClients(cluster, cluster.credentials);
    const taskId = newId();
    await queue['createTask']!(taskId, aTask({ taskQueueId: 'e2e/many' }));
    const { tasks } = await queue['claimWork']!('e2e/many', { tasks: 1, workerGroup: 'g', workerId: 'w' });
    expect(tasks.length).toBe(1);
    await officialClients(cluster, tasks[0].credentials).queue['reportCompleted']!(taskId, 0);
    expect(await queue['status']!(taskId)).toMatchObject({ status: { state: 'completed' } });
    await expectRefusal(officialClients(cluster).queue['createTask']!(newId(), aTask()), 403, 'InsufficientScopes');
  });

  test('a built-in task is resolved by the process of the built-in workers', async () => {
    const queue = createClient(queueApi, cluster);
    const taskId = newId();
    await queue.createTask({ taskId }, aTask({ taskQueueId: 'built-in/succeed' }));
    await waitFor('the built-in worker', 30_000, async () => (await queue.status({ taskId })).status.state === 'completed');
  });
});

test('every process stops in order', async () => {
  await Promise.all(Object.values(parts).map(each => each.stop()));
}, 120_000);
