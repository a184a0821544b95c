/** An installation whose events go over RabbitMQ, for a stranger with plain `amqplib`; tasks do not wait for the broker. */
import amqplib, { type ConsumeMessage } from 'amqplib';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { exchangeName } from '@tscluster/api/define.ts';
import { queueApi } from '@tscluster/api/queue/api.ts';
import { queueEvents } from '@tscluster/api/queue/events.ts';
import { type Client, createClient } from '@tscluster/client/client.ts';
import { slugid, systemRandom } from '@tscluster/client/clock.ts';
import { describeWith } from '../server/testing/programs.ts';
import { type TestRabbitmq, startRabbitmq } from '../server/testing/rabbitmq.ts';
import { startInstallation } from './support/installation.ts';
import { until } from './support/processes.ts';

/** After this RabbitMQ does not forget a new queue any more: one second was enough. */
const SETTLED_MS = 3_000;
const NAMES = ['task-defined', 'task-pending', 'task-running', 'task-completed'];

describeWith('rabbitmq-server', 'rabbitmq-server', 'an installation on RabbitMQ', () => {
  let rabbit: TestRabbitmq;
  beforeAll(async () => {
    rabbit = await startRabbitmq();
  }, 180_000);
  afterAll(() => rabbit?.close());

  const runTask = async (queue: Client<typeof queueApi>): Promise<string> => {
    const taskId = slugid(systemRandom);
    const now = Date.now();
    await queue.createTask(
      { taskId },
      {
        taskQueueId: 'built-in/succeed',
        schedulerId: 'e2e',
        created: new Date(now).toISOString(),
        deadline: new Date(now + 3_600_000).toISOString(),
        payload: {},
        routes: ['test.rabbitmq'],
        metadata: { name: 'e2e', description: '', owner: 'nobody@example.com', source: 'https://example.com' },
      },
    );
    await until(async () => (await queue.status({ taskId })).status.state === 'completed');
    return taskId;
  };

  test('tells a stranger of every task, also of those that ran while the broker was away', async () => {
    const { url } = await rabbit.makeVhost();
    const { rootUrl, credentials } = await startInstallation({ env: { PULSE_URL: url } });
    const queue = createClient(queueApi, { rootUrl, credentials });

    let connection = await amqplib.connect(url);
    connection.on('error', () => undefined);
    let channel = await connection.createChannel();
    await channel.assertQueue('stranger', { durable: true });
    for (const name of NAMES) {
      await channel.bindQueue('stranger', exchangeName(queueEvents, name), 'route.test.rabbitmq');
    }
    const seen: ConsumeMessage[] = [];
    const ids = new Set<unknown>();
    const take = (message: ConsumeMessage | null): void => {
      // what the broker had when it was killed may come again
      if (message && !ids.has(message.properties.messageId)) {
        ids.add(message.properties.messageId);
        seen.push(message);
      }
    };
    await channel.consume('stranger', take, { noAck: true });
    const exchangesOf = (taskId: string): string[] =>
      seen
        .filter(({ fields }) => fields.routingKey.split('.')[1] === taskId)
        .map(({ fields }) => fields.exchange.slice(fields.exchange.lastIndexOf('/') + 1));

    const first = await runTask(queue);
    await until(() => exchangesOf(first).length >= NAMES.length);
    expect(exchangesOf(first)).toEqual(NAMES);

    // a quorum queue that was declared a moment before a kill has no leader afterwards
    await new Promise(resolve => setTimeout(resolve, SETTLED_MS));
    await rabbit.kill();
    const meanwhile = [await runTask(queue), await runTask(queue)];
    await rabbit.start();
    connection = await amqplib.connect(url);
    channel = await connection.createChannel();
    await channel.consume('stranger', take, { noAck: true });
    for (const taskId of meanwhile) {
      await until(() => exchangesOf(taskId).length >= NAMES.length);
      expect(exchangesOf(taskId)).toEqual(NAMES);
    }
    const last = await runTask(queue);
    await until(() => exchangesOf(last).length >= NAMES.length);
    expect(exchangesOf(last)).toEqual(NAMES);
    await connection.close();
  });
});
