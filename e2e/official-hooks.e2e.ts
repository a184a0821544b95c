/**
 * Hooks on a running installation with its local worker. Every method that the published JavaScript client knows is called through it, with success and
 * refused for a documented reason; schedules and messages fire by themselves, also around a kill.
 */
import { beforeAll, describe, expect, test } from 'vitest';
import { type Installation, startInstallation } from './support/installation.ts';
import { expectRefusal, type ServiceClient, type ServiceMethod, taskcluster } from './support/official.ts';
import { waitFor } from './support/processes.ts';
import { aScript, aTask, newId } from './support/tasks.ts';

let installation: Installation;
const clients = (credentials: { clientId: string; accessToken: string } | Record<string, never>) => {
  const options = { rootUrl: installation.rootUrl, credentials, retries: 0 };
  return { hooks: new taskcluster.Hooks(options), auth: new taskcluster.Auth(options), queue: new taskcluster.Queue(options) };
};
let root: ReturnType<typeof clients>;
let nobody: ReturnType<typeof clients>;
const called = new Set<string>();
const call = (client: ServiceClient, name: string, ...args: unknown[]): Promise<any> => {
  called.add(name);
  return (client[name] as ServiceMethod)(...args);
};

beforeAll(async () => {
  installation = await startInstallation();
  root = clients(installation.credentials);
  nobody = clients({});
  await call(root.auth, 'createRole', 'hook-id:e2e/*', {
    description: 'hooks of this test',
    scopes: ['queue:create-task:project:none', 'queue:create-task:lowest:local/process', 'queue:scheduler-id:-', 'queue:route:e2e.*'],
  });
});

const { created: _created, deadline: _deadline, expires: _expires, ...template } = aTask();
const aHook = (fields: object = {}) => ({
  metadata: { name: 'e2e', description: 'for a test', owner: 'owner@example.com', emailOnError: false },
  task: { ...template, payload: aScript('true') },
  triggerSchema: { type: 'object' },
  ...fields,
});
const lastFires = async (hookId: string): Promise<any[]> => {
  try {
    return (await call(root.hooks, 'listLastFires', 'e2e', hookId)).lastFires;
  } catch (error) {
    if ((error as { statusCode?: number }).statusCode === 404) {
      return [];
    }
    throw error;
  }
};

test('operational methods answer', async () => {
  expect(await call(root.hooks, 'ping')).toMatchObject({ alive: true });
  expect(await call(root.hooks, 'lbheartbeat')).toEqual({});
  expect(await call(root.hooks, 'heartbeat')).toEqual({});
  expect(await call(root.hooks, 'version')).toHaveProperty('version');
});

test('every method', async () => {
  const { hooks } = root;
  const name = ['e2e', 'methods/all'] as const;
  const created = await call(hooks, 'createHook', ...name, aHook());
  expect(created).toMatchObject({ hookGroupId: 'e2e', hookId: 'methods/all', schedule: [], bindings: [] });
  await expectRefusal(call(nobody.hooks, 'createHook', ...name, aHook()), 403, 'InsufficientScopes', 'hooks:modify-hook:e2e/methods/all');
  await expectRefusal(call(hooks, 'createHook', ...name, aHook({ task: {} })), 409, 'RequestConflict', 'methods/all');
  expect(await call(nobody.hooks, 'hook', ...name)).toEqual(created);
  await expectRefusal(call(nobody.hooks, 'hook', 'e2e', 'none'), 404, 'ResourceNotFound', 'none');
  expect((await call(nobody.hooks, 'listHookGroups')).groups).toContain('e2e');
  expect((await call(nobody.hooks, 'listHooks', 'e2e')).hooks).toContainEqual(created);
  await expectRefusal(call(nobody.hooks, 'listHooks', 'nobody'), 404, 'ResourceNotFound', 'nobody');
  expect(await call(nobody.hooks, 'getHookStatus', ...name)).toEqual({ lastFire: { result: 'no-fire' } });
  await expectRefusal(call(nobody.hooks, 'getHookStatus', 'e2e', 'none'), 404, 'ResourceNotFound');
  const updated = await call(hooks, 'updateHook', ...name, aHook({ schedule: ['@yearly'] }));
  expect(updated).toMatchObject({ schedule: ['@yearly'] });
  await expectRefusal(call(hooks, 'updateHook', ...name, aHook({ schedule: ['often'] })), 400, 'InputError', 'often');
  const { taskId, status } = await call(hooks, 'triggerHook', ...name, { a: 1 });
  expect(status).toEqual({ taskId });
  await expectRefusal(call(hooks, 'triggerHook', ...name, { taskId: 'x' }), 400, 'InputError', 'slugid');
  const { token } = await call(hooks, 'getTriggerToken', ...name);
  await expectRefusal(call(nobody.hooks, 'getTriggerToken', ...name), 403, 'InsufficientScopes', 'hooks:get-trigger-token');
  expect(await call(nobody.hooks, 'triggerHookWithToken', ...name, token, {})).toHaveProperty('taskId');
  expect((await call(hooks, 'resetTriggerToken', ...name)).token).not.toBe(token);
  await expectRefusal(call(nobody.hooks, 'resetTriggerToken', ...name), 403, 'InsufficientScopes', 'hooks:reset-trigger-token');
  await expectRefusal(call(nobody.hooks, 'triggerHookWithToken', ...name, token, {}), 401, 'AuthenticationFailed', 'invalid hook token');
  expect((await call(nobody.hooks, 'listLastFires', ...name, { limit: '1' })).lastFires).toHaveLength(1);
  await expectRefusal(call(nobody.hooks, 'listLastFires', 'e2e', 'none'), 404, 'ResourceNotFound');
  await expectRefusal(call(nobody.hooks, 'removeHook', ...name), 403, 'InsufficientScopes', 'hooks:modify-hook');
  expect(await call(hooks, 'removeHook', ...name)).toEqual({});
  await expectRefusal(call(hooks, 'hook', ...name), 404, 'ResourceNotFound');
});

describe('by themselves', () => {
  test('messages fire a hook, whose tasks the local worker runs', async () => {
    const completed = 'exchange/taskcluster-queue/v1/task-completed';
    const task = { ...template, payload: aScript('echo after ${payload.status.taskId}') };
    await call(root.hooks, 'createHook', 'e2e', 'follower', {
      ...aHook({ task }),
      bindings: [{ exchange: completed, routingKeyPattern: 'route.e2e.first' }],
    });
    const first = newId();
    await call(root.queue, 'createTask', first, { ...aTask({ routes: ['e2e.first'] }), payload: aScript('true') });
    const [fired] = await waitFor('the hook to have fired', 120_000, async () => {
      const fires = await lastFires('follower');
      return fires.length > 0 && fires[0].taskState === 'completed' ? fires : undefined;
    });
    expect(fired).toMatchObject({ firedBy: 'pulseMessage', result: 'success' });
    const log = await fetch(`${installation.rootUrl}/api/queue/v1/task/${fired.taskId}/artifacts/public%2Flogs%2Flive.log`);
    expect(await log.text()).toContain(`after ${first}`);
    expect(await lastFires('follower')).toHaveLength(1);
    await call(root.hooks, 'removeHook', 'e2e', 'follower');
  });

  test('each second is fired once at most, also around a kill', async () => {
    // nobody works on these
    const task = { ...template, taskQueueId: 'local/nobody', payload: { time: '${scheduledTime}' } };
    await call(root.auth, 'createRole', 'hook-id:e2e/ticking', {
      description: '',
      scopes: ['queue:create-task:lowest:local/nobody', 'assume:hook-id:e2e/other'],
    });
    await call(root.hooks, 'createHook', 'e2e', 'ticking', aHook({ task, schedule: ['* * * * * *'] }));
    const atLeast = (count: number): Promise<unknown> =>
      waitFor(`${count} tasks`, 120_000, async () => ((await lastFires('ticking')).length >= count ? true : undefined));
    await atLeast(3);
    await installation.kill('server');
    await installation.restart();
    root = clients(installation.credentials);
    await atLeast(6);
    await call(root.hooks, 'updateHook', 'e2e', 'ticking', aHook({ task }));
    const fires = await lastFires('ticking');
    expect(fires.filter(({ result }) => result === 'error')).toEqual([]);
    const times = await Promise.all(fires.map(async ({ taskId }) => (await call(root.queue, 'task', taskId)).payload.time as string));
    expect(new Set(times).size).toBe(times.length);
    expect(times.toSorted()).toEqual(times.toReversed());
  });
});

test('no method of the client was forgotten', () => {
  const methods = Object.keys(Object.getPrototypeOf(root.hooks) as object).filter(
    name => (root.hooks[name] as ServiceMethod | undefined)?.entryReference?.type === 'function',
  );
  expect(methods.length).toBeGreaterThan(12);
  expect(methods.filter(name => !called.has(name))).toEqual([]);
});
