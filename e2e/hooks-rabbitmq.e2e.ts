/** Hooks that messages on RabbitMQ fire: those of the installation, and those of strangers, also while the broker is away. */
import amqplib from 'amqplib';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { authApi } from '@tscluster/api/auth/api.ts';
import { hooksApi } from '@tscluster/api/hooks/api.ts';
import { queueApi } from '@tscluster/api/queue/api.ts';
import { createClient } from '@tscluster/client/client.ts';
import { describeWith } from '../server/testing/programs.ts';
import { type TestRabbitmq, startRabbitmq } from '../server/testing/rabbitmq.ts';
import { startInstallation } from './support/installation.ts';
import { waitFor } from './support/processes.ts';
import { aTask, newId } from './support/tasks.ts';

const COMPLETED = 'exchange/taskcluster-queue/v1/task-completed';
const FOREIGN = 'exchange/pushes/v1';
const WAIT_MS = 120_000;

describeWith('rabbitmq-server', 'rabbitmq-server', 'hooks on RabbitMQ', () => {
  let rabbit: TestRabbitmq;
  beforeAll(async () => {
    rabbit = await startRabbitmq();
  }, 180_000);
  afterAll(() => rabbit?.close());

  test('are fired once by each message', async () => {
    const { url } = await rabbit.makeVhost();
    const { rootUrl, credentials } = await startInstallation({ env: { PULSE_URL: url } });
    const options = { rootUrl, credentials };
    const [auth, hooks, queue] = [createClient(authApi, options), createClient(hooksApi, options), createClient(queueApi, options)];
    const scopes = ['queue:create-task:project:none', 'queue:create-task:lowest:built-in/succeed', 'queue:scheduler-id:-'];
    await auth.createRole({ roleId: 'hook-id:e2e/*' }, { description: '', scopes });
    const { created: _created, deadline: _deadline, expires: _expires, ...template } = aTask({ taskQueueId: 'built-in/succeed' });
    const create = (hookId: string, exchange: string, routingKeyPattern: string): Promise<unknown> =>
      hooks.createHook(
        { hookGroupId: 'e2e', hookId },
        {
          metadata: { name: hookId, description: '', owner: 'owner@example.com' },
          triggerSchema: { type: 'object' },
          bindings: [{ exchange, routingKeyPattern }],
          task: template,
        },
      );
    const counts = async (): Promise<Record<string, string | undefined>> => {
      const { statuses } = await hooks.listHookStatuses({ hookGroupId: 'e2e' });
      const fires = await Promise.all(
        statuses.map(async ({ hookId, lastFire }) => {
          const key = { hookGroupId: 'e2e', hookId };
          const all = lastFire.result === 'no-fire' ? [] : (await hooks.listLastFires(key)).lastFires;
          return [hookId, all.map(({ result }) => result).join(' ')] as const;
        }),
      );
      return Object.fromEntries(fires);
    };
    const run = (): Promise<unknown> =>
      queue.createTask({ taskId: newId() }, aTask({ taskQueueId: 'built-in/succeed', routes: ['e2e.first'] }));
    const problem = async (): Promise<string | undefined> =>
      (await hooks.getHookBindings({ hookGroupId: 'e2e', hookId: 'foreign' })).bindings[0]?.problem;

    await create('own', COMPLETED, 'route.e2e.first');
    await create('foreign', FOREIGN, 'push.#');
    // the exchange is not there yet, and the other binding works all the same
    await waitFor('the broker to refuse', WAIT_MS, async () => (await problem())?.includes('NOT_FOUND') || undefined);
    await run();
    await waitFor('the first hook', WAIT_MS, async () => (await counts())['own'] === 'success' || undefined);

    const connection = await amqplib.connect(url);
    connection.on('error', () => undefined);
    const channel = await connection.createConfirmChannel();
    await channel.assertExchange(FOREIGN, 'topic', { durable: true });
    await hooks.updateHook(
      { hookGroupId: 'e2e', hookId: 'foreign' },
      {
        metadata: { name: 'foreign', description: '', owner: 'owner@example.com' },
        triggerSchema: { type: 'object' },
        bindings: [{ exchange: FOREIGN, routingKeyPattern: 'push.*' }],
        task: template,
      },
    );
    await waitFor('the binding', WAIT_MS, async () => ((await problem()) === undefined ? true : undefined));
    const publish = async (key: string): Promise<void> => {
      channel.publish(FOREIGN, key, Buffer.from(JSON.stringify({ key })), { contentType: 'application/json', persistent: true });
      await channel.waitForConfirms();
    };
    // bindings are made a moment after they are wanted: until then messages of strangers pass by
    await waitFor('the second hook', WAIT_MS, async () => {
      if ((await counts())['foreign'] === '') {
        await publish('push.a');
      }
      return (await counts())['foreign']?.includes('success') || undefined;
    });
    await publish('other');
    await connection.close();

    const before = (await counts())['own']?.split(' ').length ?? 0;
    await rabbit.kill();
    await run();
    await rabbit.start();
    await waitFor('what happened meanwhile', WAIT_MS, async () =>
      (await counts())['own']?.split(' ').length === before + 1 ? true : undefined,
    );
    expect((await counts())['own']).toBe('success success');
    expect((await counts())['foreign']).not.toContain('error');
  });
});
