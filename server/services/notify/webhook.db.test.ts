/** Signed webhooks: what a receiver gets, how it knows that it is ours, and what becomes of its answers. */
import crypto from 'node:crypto';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type ReceivedRequest, openReceiver } from '../../testing/receiver.ts';
import { refusal } from '../../testing/refusal.ts';
import { withServer } from '../../testing/server.ts';
import { notifyService } from './service.ts';
import { type NotifyServer, withNotify } from './testing.ts';

const receiver = await openReceiver();
const SECRET = 'a-secret-of-the-receiver';
const OLD_SECRET = 'the-secret-that-is-replaced';
const webhooks = (targets: object): Record<string, string> => ({ NOTIFY_WEBHOOKS: JSON.stringify(targets) });
let server: NotifyServer;
beforeAll(async () => {
  server = await withNotify({
    environment: webhooks({
      deploy: { url: `${receiver.url}/hook?x=1`, secret: SECRET, allowPrivate: true },
      rotating: { url: receiver.url, secret: [SECRET, OLD_SECRET], allowPrivate: true },
      inside: { url: receiver.url, secret: SECRET },
    }),
  });
});
beforeEach(() => {
  receiver.answer({ status: 200 });
});

/** As the documentation tells receivers to do it. */
const isGenuine = ({ headers, body }: ReceivedRequest, secret: string, nowMs: number): boolean => {
  const parts = String(headers['x-taskcluster-signature']).split(',');
  const seconds = Number(parts[0]?.slice('t='.length));
  const expected = crypto.createHmac('sha256', secret).update(`${seconds}.${body}`).digest('hex');
  return Math.abs(nowMs / 1000 - seconds) < 300 && parts.slice(1).includes(`v1=${expected}`);
};

describe('a webhook', () => {
  test('about a task carries its status, signed', async () => {
    const taskId = await server.create(['notify.webhook.deploy.on-failed'], { tags: { kind: 'build' } });
    await server.run(taskId, 'failed');
    await server.deliver();
    const [request] = receiver.taken();
    const { status } = await server.queue.status({ taskId });
    const [record] = await server.deliveriesOf(taskId);
    expect(record).toMatchObject({ state: 'sent', notificationType: 'webhook', notificationAddress: 'deploy' });
    expect(request).toMatchObject({
      method: 'POST',
      url: '/hook?x=1',
      headers: {
        'content-type': 'application/json; charset=utf-8',
        'x-taskcluster-delivery': record?.deliveryId,
        'x-taskcluster-event': 'task',
      },
    });
    expect(JSON.parse(request?.body ?? '')).toEqual({
      deliveryId: record?.deliveryId,
      event: 'task',
      rootUrl: 'http://taskcluster.test',
      payload: {
        status,
        task: {
          metadata: { name: 'build *it*', description: 'd', owner: 'o@example.com', source: 'https://src.example' },
          tags: { kind: 'build' },
        },
        url: `http://taskcluster.test/tasks/${taskId}`,
      },
    });
    const nowMs = server.clock.nowMs();
    expect(request && isGenuine(request, SECRET, nowMs)).toBe(true);
    expect(request && isGenuine(request, OLD_SECRET, nowMs)).toBe(false);
    expect(request && isGenuine({ ...request, body: request.body.replace('failed', 'passed') }, SECRET, nowMs)).toBe(false);
    expect(request && isGenuine(request, SECRET, nowMs + 600_000)).toBe(false);
  });

  test('about a group carries its summary', async () => {
    const taskId = await server.create(['notify.group.webhook.deploy.on-any']);
    await server.run(taskId, 'completed');
    await server.announce();
    server.clock.advance({ seconds: 5 });
    await server.announce();
    const [request, ...others] = receiver.taken();
    expect(others).toEqual([]);
    expect(JSON.parse(request?.body ?? '')).toMatchObject({
      event: 'task-group',
      payload: {
        taskGroupId: taskId,
        result: 'completed',
        total: 1,
        failures: [],
        url: `http://taskcluster.test/tasks/groups/${taskId}/tasks`,
      },
    });
  });

  test('by a call carries what was given, under each secret', async () => {
    await server.notify.webhook({ name: 'rotating', payload: { b: 1, a: ['ü'] } });
    const [request] = receiver.taken();
    expect(JSON.parse(request?.body ?? '')).toMatchObject({ event: 'message', payload: { b: 1, a: ['ü'] } });
    const nowMs = server.clock.nowMs();
    expect([SECRET, OLD_SECRET].map(secret => request && isGenuine(request, secret, nowMs))).toEqual([true, true]);
  });

  test('that nobody has configured, or whose name is none, is refused', async () => {
    expect(await refusal(server.notify.webhook({ name: 'none', payload: {} }))).toMatchObject({
      status: 400,
      code: 'InputError',
      message: expect.stringContaining('has not configured a webhook of the name none'),
    });
    expect(await refusal(server.notify.webhook({ name: '../x', payload: {} }))).toMatchObject({ code: 'InputValidationError' });
    const taskId = await server.create(['notify.webhook.none.on-any', 'notify.webhook.https://example.com/.on-any']);
    await server.run(taskId, 'completed');
    await server.deliver();
    expect((await server.deliveriesOf(taskId)).map(({ state, reason }) => [state, reason])).toEqual([
      ['failed', 'The operator has not configured a webhook of the name none.'],
      ['failed', '"https://example.com/" is not the name of a webhook'],
    ]);
  });

  test.each([
    ['404', { status: 404 }, 'failed'],
    ['a redirect', { status: 307, headers: { location: 'http://169.254.169.254/' } }, 'failed'],
    ['500', { status: 500 }, 'waiting'],
    ['429', { status: 429 }, 'waiting'],
  ] as const)('that is answered with %s', async (_what, answer, state) => {
    receiver.answer(answer);
    const taskId = await server.create(['notify.webhook.deploy.on-any']);
    await server.run(taskId, 'completed');
    await server.deliver();
    expect(await server.deliveriesOf(taskId)).toMatchObject([
      { state, attempts: 1, reason: `The webhook deploy answers ${answer.status}.` },
    ]);
    const [first] = receiver.taken();
    if (state === 'waiting') {
      receiver.answer({ status: 202 });
      server.clock.advance({ seconds: 13 });
      await server.deliver();
      expect(await server.deliveriesOf(taskId)).toMatchObject([{ state: 'sent', attempts: 2 }]);
      const [second] = receiver.taken();
      expect(second?.headers['x-taskcluster-delivery']).toBe(first?.headers['x-taskcluster-delivery']);
    }
  });

  test('does not go into the installation’s own network unless the operator wants it', async () => {
    const taskId = await server.create(['notify.webhook.inside.on-any']);
    await server.run(taskId, 'completed');
    await server.deliver();
    expect(receiver.taken()).toEqual([]);
    expect(await server.deliveriesOf(taskId)).toMatchObject([{ state: 'failed', reason: expect.stringContaining('private network') }]);
  });
});

describe('the configuration', () => {
  test.each([
    ['no JSON', '{', 'must be JSON'],
    ['a list', '[]', 'must be a JSON object'],
    ['a bad name', '{"a b": {"url": "https://example.com", "secret": "0123456789abcdef"}}', 'names a webhook "a b"'],
    ['no url', '{"a": {"secret": "0123456789abcdef"}}', 'must give webhook a a url'],
    ['another protocol', '{"a": {"url": "file:///etc/passwd", "secret": "0123456789abcdef"}}', 'must give webhook a a url'],
    ['no secret', '{"a": {"url": "https://example.com"}}', 'a secret of at least 16'],
    ['a short secret', '{"a": {"url": "https://example.com", "secret": "hunter2"}}', 'a secret of at least 16'],
    ['an unknown key', '{"a": {"url": "https://example.com", "secret": "0123456789abcdef", "header": 1}}', 'nothing but url'],
  ])('with %s is refused, and no secret shown', async (_what, value, problem) => {
    const started = withServer([notifyService], { environment: { NOTIFY_WEBHOOKS: value } });
    await expect(started).rejects.toThrow(problem);
    await expect(started).rejects.not.toThrow(/hunter2|0123456789abcdef/);
  });
});
