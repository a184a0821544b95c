/** Hooks on a running installation with its local worker: schedules and messages fire by themselves, also around a kill. */
import { beforeAll, describe, expect, test } from 'vitest';
import { aHook, aTemplate } from './support/hooks.ts';
import { type Installation, startInstallation } from './support/installation.ts';
import { type ServiceClient, type ServiceMethod, taskcluster } from './support/official.ts';
import { waitFor } from './support/processes.ts';
import { aScript, aTask, newId } from './support/tasks.ts';

let installation: Installation;
const clients = (credentials: { clientId: string; accessToken: string } | Record<string, never>) => {
  const options = { rootUrl: installation.rootUrl, credentials, retries: 0 };
  return { hooks: new taskcluster.Hooks(options), auth: new taskcluster.Auth(options), queue: new taskcluster.Queue(options) };
};
let root: ReturnType<typeof clients>;
const call = (client: ServiceClient, name: string, ...args: unknown[]): Promise<any> => (client[name] as ServiceMethod)(...args);

beforeAll(async () => {
  installation = await startInstallation();
  root = clients(installation.credentials);
  await call(root.auth, 'createRole', 'hook-id:e2e/*', {
    description: 'hooks of this test',
    scopes: ['queue:create-task:project:none', 'queue:create-task:lowest:local/process', 'queue:scheduler-id:-', 'queue:route:e2e.*'],
  });
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

describe('by themselves', () => {
  test('messages fire a hook, whose tasks the local worker runs', async () => {
    const completed = 'exchange/taskcluster-queue/v1/task-completed';
    const task = { ...aTemplate, payload: aScript('echo after ${payload.status.taskId}') };
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
    const task = { ...aTemplate, taskQueueId: 'local/nobody', payload: { time: '${scheduledTime}' } };
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
