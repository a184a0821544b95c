/** Hooks that are fired on request, by credentials or by token. */
import { setTimeout } from 'node:timers/promises';
import { hooksApi } from '@tscluster/api/hooks/api.ts';
import { SLUGID_PATTERN } from '@tscluster/api/types.ts';
import { slugid } from '@tscluster/client/clock.ts';
import { beforeAll, describe, expect, test } from 'vitest';
import { seededRandom } from '../../testing/server.ts';
import { type HooksServer, ROLE_SCOPES, aTemplate, echo, refusal, withHooks } from './testing.ts';

let server: HooksServer;
beforeAll(async () => {
  server = await withHooks({ environment: { HOOKS_TEMPLATE_SECONDS: '2' } });
});

const random = seededRandom(7);
const key = (hookId: string) => ({ hookGroupId: 'g', hookId });
const OPEN = { type: 'object' };

/** Fires a hook that must make a task; answers with the definition. */
const fire = async (hookId: string, payload: Record<string, unknown> = {}): Promise<Record<string, unknown>> => {
  const { taskId } = (await server.hooks.triggerHook(key(hookId), payload)) as { taskId: string };
  return server.definition(taskId);
};

describe('the context', () => {
  test('of triggerHook', async () => {
    await server.create('by-call', { task: echo('firedBy', 'taskId', 'now', 'payload', 'clientId') });
    const now = server.clock.now().toISOString();
    const answer = await server.hooks.triggerHook(key('by-call'), { a: [1, { b: null }], text: '"}${x}' });
    expect(answer).toEqual({ taskId: expect.stringMatching(SLUGID_PATTERN), status: { taskId: answer.taskId } });
    expect((await server.definition(answer.taskId ?? ''))['payload']).toEqual({
      firedBy: 'triggerHook',
      taskId: answer.taskId,
      now,
      payload: { a: [1, { b: null }], text: '"}${x}' },
      clientId: 'static/taskcluster/root',
    });
  });

  test('of triggerHookWithToken has no client', async () => {
    const present = ['clientId', 'scheduledTime', 'exchange', 'routingKey'].map(name => [name, { $eval: `defined("${name}")` }]);
    await server.create('by-token', {
      task: aTemplate({ payload: { firedBy: '${firedBy}', payload: { $eval: 'payload' }, has: Object.fromEntries(present) } }),
    });
    const { token } = await server.hooks.getTriggerToken(key('by-token'));
    const { taskId } = await server.client(hooksApi, { scopes: null }).triggerHookWithToken({ ...key('by-token'), token }, { a: 1 });
    expect((await server.definition(taskId ?? ''))['payload']).toEqual({
      firedBy: 'triggerHookWithToken',
      payload: { a: 1 },
      has: { clientId: false, scheduledTime: false, exchange: false, routingKey: false },
    });
    expect(await server.lastFires('by-token')).toMatchObject([{ taskId, firedBy: 'triggerHookWithToken', result: 'success' }]);
  });

  test('has the time as text, and one for all of a rendering', async () => {
    await server.create('times', {
      task: aTemplate({
        payload: { now: '${now}', same: { $fromNow: '' }, later: { $fromNow: '2h30m' }, earlier: { $fromNow: '- 10 min' } },
        deadline: { $fromNow: '1 day 2 hours' },
      }),
    });
    const nowMs = server.clock.nowMs();
    const at = (ms: number): string => new Date(nowMs + ms).toISOString();
    expect(await fire('times')).toMatchObject({
      payload: { now: at(0), same: at(0), later: at(9_000_000), earlier: at(-600_000) },
      deadline: at(26 * 3_600_000),
    });
  });

  test('is that of the caller: nobody can put words into it', async () => {
    await server.create('shadow', { task: echo('firedBy', 'clientId') });
    expect(await fire('shadow', { firedBy: 'schedule', clientId: 'me', now: 'never' })).toMatchObject({
      payload: { firedBy: 'triggerHook', clientId: 'static/taskcluster/root' },
    });
  });
});

describe('what a template leaves out', () => {
  test('is filled in', async () => {
    await server.create('defaults');
    const nowMs = server.clock.nowMs();
    const { taskId } = await server.hooks.triggerHook(key('defaults'), {});
    const { created, deadline, expires, taskGroupId, schedulerId } = await server.definition(taskId ?? '');
    expect({ created, deadline, expires, taskGroupId, schedulerId }).toEqual({
      created: new Date(nowMs).toISOString(),
      deadline: new Date(nowMs + 86_400_000).toISOString(),
      expires: new Date(nowMs + 30 * 86_400_000).toISOString(),
      taskGroupId: taskId,
      schedulerId: '-',
    });
  });

  test('is filled in where it is empty, and else kept', async () => {
    const taskGroupId = slugid(random);
    await server.create('some', { task: aTemplate({ created: '', expires: null, deadline: { $fromNow: '1 hour' }, taskGroupId }) });
    expect(await fire('some')).toMatchObject({
      created: server.clock.now().toISOString(),
      deadline: new Date(server.clock.nowMs() + 3_600_000).toISOString(),
      taskGroupId,
    });
  });
});

describe('the id of the task', () => {
  test('is the one in the payload', async () => {
    const taskId = slugid(random);
    await server.create('own-id', { task: echo('payload', 'taskId') });
    expect(await server.hooks.triggerHook(key('own-id'), { taskId })).toEqual({ taskId, status: { taskId } });
    expect(await server.definition(taskId)).toMatchObject({ payload: { payload: { taskId }, taskId } });
  });

  test.each(['', 'abc', 5, null, 'aaaaaaaaaaaaaaaaaaaaaa', { a: 1 }])('must be a slugid, not %j', async taskId => {
    await server.create(`bad-id-${Math.abs(JSON.stringify(taskId).length)}-${typeof taskId}`);
    const hookId = `bad-id-${Math.abs(JSON.stringify(taskId).length)}-${typeof taskId}`;
    expect(await refusal(server.hooks.triggerHook(key(hookId), { taskId }), 400, 'InputError')).toContain('must be a slugid');
    expect(await server.lastFires(hookId)).toEqual([]);
  });

  test('may not be that of another task', async () => {
    await server.create('taken', { task: echo('payload') });
    const taskId = slugid(random);
    await server.hooks.triggerHook(key('taken'), { taskId, n: 1 });
    expect(await server.hooks.triggerHook(key('taken'), { taskId, n: 1 })).toEqual({ taskId, status: { taskId } });
    const message = await refusal(server.hooks.triggerHook(key('taken'), { taskId, n: 2 }), 400, 'InputError');
    expect(message).toMatch(/^While calling createTask: RequestConflict\n\n/);
    expect((await server.lastFires('taken')).map(({ result }) => result)).toEqual(['error', 'success', 'success']);
  });
});

describe('payloads', () => {
  test('must match the schema of the hook, and all problems are told', async () => {
    await server.create('strict', {
      triggerSchema: {
        type: 'object',
        required: ['x'],
        properties: { x: {}, y: { type: 'string', default: 'z' } },
        additionalProperties: false,
      },
      task: echo('payload'),
    });
    const message = await refusal(server.hooks.triggerHook(key('strict'), { y: 1 }), 400, 'InputError');
    expect(message).toBe("data must have required property 'x'; data/y must be string");
    const { token } = await server.hooks.getTriggerToken(key('strict'));
    await refusal(server.hooks.triggerHookWithToken({ ...key('strict'), token }, { y: 1 }), 400, 'InputError');
    expect(await server.lastFires('strict')).toEqual([]);
    expect(await fire('strict', { x: 1 })).toMatchObject({ payload: { payload: { x: 1 } } });
  });

  test('are empty unless the hook says otherwise', async () => {
    const { hooks } = server;
    await hooks.createHook(key('closed'), { metadata: { name: '', description: '', owner: 'a@example.com' }, task: aTemplate() });
    await refusal(hooks.triggerHook(key('closed'), { taskId: slugid(random) }), 400, 'InputError');
    await fire('closed');
  });

  test('are objects', async () => {
    await server.create('objects');
    await refusal(server.hooks.triggerHook(key('objects'), [] as never), 400, 'InputValidationError');
    await refusal(server.hooks.triggerHook(key('objects'), 'x' as never), 400, 'MalformedPayload');
    await refusal(server.hooks.triggerHook(key('objects'), { a: '\0' }), 400, 'InputError');
  });

  test('cannot hold the service up with a pattern that takes for ever', async () => {
    await server.create('slow', { triggerSchema: { type: 'object', properties: { a: { type: 'string', pattern: '^(a+)+$' } } } });
    const hostile = refusal(server.hooks.triggerHook(key('slow'), { a: `${'a'.repeat(60)}!` }), 400, 'InputError');
    expect(await server.hooks.hook(key('slow'))).toMatchObject({ hookId: 'slow' });
    expect(await hostile).toBe('It took longer than 2 s.');
  });

  test('may be large', async () => {
    await server.create('large', { task: aTemplate({ payload: { length: { $eval: 'len(payload.text)' } } }) });
    expect(await fire('large', { text: 'x'.repeat(5_000_000) })).toMatchObject({ payload: { length: 5_000_000 } });
  });
});

describe('a template', () => {
  test('may decline', async () => {
    for (const [hookId, task] of [
      ['declines', { $if: 'payload.go', then: aTemplate() }],
      ['declines-with-null', { $eval: 'null' }],
      ['declines-with-nothing', { $eval: '""' }],
    ] as const) {
      await server.create(hookId, { task });
      expect(await server.hooks.triggerHook(key(hookId), { go: false })).toEqual({});
      expect(await server.lastFires(hookId)).toEqual([]);
    }
  });

  test.each([
    ['names what is not there', { $eval: 'nobody' }, 'unknown context value nobody'],
    ['divides by an object', { $eval: '1 / {}' }, 'infix: /'],
    ['does not parse', { $eval: '1 2' }, 'SyntaxError'],
    ['makes text', { $eval: '"a task"' }, 'The template must make an object, and made a string'],
    ['makes an array', { $eval: '[1]' }, 'The template must make an object, and made an array'],
    ['takes all memory', { $eval: 'range(0, 1000000000)' }, 'It took '],
  ])('that %s', async (name, task, problem) => {
    const hookId = name.replaceAll(' ', '-');
    await server.create(hookId, { task });
    const message = await refusal(server.hooks.triggerHook(key(hookId), {}), 400, 'InputError');
    expect(message).toMatch(/^While firing hook:\n\n/);
    expect(message).toContain(problem);
    const [last] = await server.lastFires(hookId);
    expect(last).toMatchObject({ result: 'error', firedBy: 'triggerHook', taskState: 'unknown', error: expect.stringContaining(problem) });
    const { lastFire } = await server.hooks.getHookStatus(key(hookId));
    expect(lastFire).toEqual({ result: 'error', error: { message: last?.error }, time: last?.taskCreateTime });
  });
});

describe('the queue', () => {
  test('refuses what the role may not do, however much the caller may', async () => {
    await server.hooks.createHook({ hookGroupId: 'powerless', hookId: 'h' }, { ...(await definitionFor()), hookGroupId: 'powerless' });
    const call = server.hooks.triggerHook({ hookGroupId: 'powerless', hookId: 'h' }, {});
    const message = await refusal(call, 403, 'InsufficientScopes');
    expect(message).toContain('The role `hook-id:powerless/h` does not have sufficient scopes');
    expect(message).toContain('queue:create-task:lowest:prov/wt');
    const { lastFires } = await server.hooks.listLastFires({ hookGroupId: 'powerless', hookId: 'h' });
    expect(JSON.parse(lastFires[0]?.error ?? '')).toMatchObject({
      name: 'ApiCallError',
      code: 'InsufficientScopes',
      statusCode: 403,
      url: expect.stringMatching(new RegExp(`^${server.rootUrl}/api/queue/v1/task/`)),
      body: { code: 'InsufficientScopes', requestInfo: { method: 'createTask' } },
    });
    expect(lastFires[0]?.error).toContain('\n  "code": "InsufficientScopes"');
    const { lastFire } = await server.hooks.getHookStatus({ hookGroupId: 'powerless', hookId: 'h' });
    expect(lastFire).toMatchObject({ result: 'error', error: { code: 'InsufficientScopes' } });
    // and once the role may, it works
    await server.auth.createRole({ roleId: 'hook-id:powerless/h' }, { description: '', scopes: [...ROLE_SCOPES] });
    await server.hooks.triggerHook({ hookGroupId: 'powerless', hookId: 'h' }, {});
  });

  const definitionFor = async () => {
    const { hookGroupId: _group, hookId: _id, ...definition } = await server.hooks.hook(key('defaults'));
    return definition;
  };

  test('gives tasks no scopes but those of the role', async () => {
    await server.create('greedy', { task: aTemplate({ scopes: ['secrets:get:*'] }) });
    const caller = server.as(hooksApi, ['hooks:trigger-hook:g/greedy', 'secrets:get:*']);
    expect(await refusal(caller.triggerHook(key('greedy'), {}), 403, 'InsufficientScopes')).toContain('secrets:get:*');
  });

  test('refuses tasks that are none', async () => {
    await server.create('no-task', { task: { payload: {} } });
    const message = await refusal(server.hooks.triggerHook(key('no-task'), {}), 400, 'InputError');
    expect(message).toMatch(/^While calling createTask: InputValidationError\n\n/);
    expect(message).toContain("must have required property 'metadata'");
  });

  test('is asked again when it has no answer, and then given up', async () => {
    await server.create('flaky');
    await server.db`alter table queue.tasks rename to away`;
    try {
      const call = refusal(server.hooks.triggerHook(key('flaky'), {}), 400, 'InputError');
      let over = false;
      void call.finally(() => (over = true));
      while (!over) {
        // a call gives up after 30 seconds of this clock: they have to last longer than the database needs
        await server.clock.tick({ ms: 500 });
        await setTimeout(100);
      }
      expect(await call).toMatch(/^While calling createTask: InternalServerError\n\n/);
    } finally {
      await server.db`alter table queue.away rename to tasks`;
    }
    expect(await server.lastFires('flaky')).toMatchObject([{ result: 'error', taskState: 'unknown' }]);
    await fire('flaky');
  });
});

describe('tokens', () => {
  test('open one hook, until they are reset', async () => {
    const nobody = server.client(hooksApi, { scopes: null });
    await server.create('door');
    await server.create('next-door');
    const { token } = await server.hooks.getTriggerToken(key('door'));
    expect(token).toMatch(new RegExp(SLUGID_PATTERN));
    await nobody.triggerHookWithToken({ ...key('door'), token }, {});
    expect(await refusal(nobody.triggerHookWithToken({ ...key('next-door'), token }, {}), 401, 'AuthenticationFailed')).toBe(
      'invalid hook token',
    );
    const { token: fresh } = await server.hooks.resetTriggerToken(key('door'));
    expect(fresh).not.toBe(token);
    expect(await server.hooks.getTriggerToken(key('door'))).toEqual({ token: fresh });
    await refusal(nobody.triggerHookWithToken({ ...key('door'), token }, {}), 401, 'AuthenticationFailed');
    await nobody.triggerHookWithToken({ ...key('door'), token: fresh }, {});
    expect(await server.lastFires('door')).toHaveLength(2);
    expect(await server.lastFires('next-door')).toEqual([]);
  });

  test('are not in the database as they are', async () => {
    await server.create('sealed');
    const { token } = await server.hooks.getTriggerToken(key('sealed'));
    const rows = await server.db<{ line: string }>`select h::text as line from hooks.hooks h`;
    expect(rows.filter(({ line }) => line.includes(token))).toEqual([]);
  });

  test.each(['triggerHook', 'getTriggerToken', 'resetTriggerToken', 'getHookStatus', 'listLastFires'] as const)(
    '%s of a hook that is not there',
    async name => {
      const { hooks } = server;
      const missing = key('missing');
      const call = name === 'triggerHook' ? hooks.triggerHook(missing, {}) : hooks[name](missing);
      expect(await refusal(call, 404, 'ResourceNotFound')).toContain('missing');
      await refusal(hooks.triggerHookWithToken({ ...missing, token: 'x' }, {}), 404, 'ResourceNotFound');
    },
  );
});

describe('last fires', () => {
  test('are listed page by page, the latest first, with the state of the task', async () => {
    await server.create('often', { task: echo('payload') });
    const ids: string[] = [];
    for (let n = 0; n < 5; n++) {
      const { taskId } = await server.hooks.triggerHook(key('often'), { n });
      ids.unshift(taskId ?? '');
      if (n % 2 === 0) {
        server.clock.advance({ ms: 10 }); // some are of the same millisecond
      }
    }
    await server.queue.cancelTask({ taskId: ids[4] ?? '' });
    const first = await server.hooks.listLastFires(key('often'), { limit: '2' });
    const second = await server.hooks.listLastFires(key('often'), { limit: '2', continuationToken: first.continuationToken });
    await server.hooks.triggerHook(key('often'), { n: 5 }); // does not show up in the walk, and moves nothing
    const third = await server.hooks.listLastFires(key('often'), { limit: '2', continuationToken: second.continuationToken });
    expect(third.continuationToken).toBeUndefined();
    const all = [first, second, third].flatMap(page => page.lastFires);
    expect(all.map(({ taskId }) => taskId)).toEqual(ids);
    expect(all[0]).toEqual({
      hookGroupId: 'g',
      hookId: 'often',
      firedBy: 'triggerHook',
      taskId: ids[0],
      taskCreateTime: expect.any(String),
      result: 'success',
      error: '',
      taskState: 'pending',
    });
    expect(all[4]).toMatchObject({ taskState: 'exception' });
    expect(await server.hooks.listLastFires(key('often'), { limit: '0' })).toEqual({ lastFires: [] });
    await refusal(server.hooks.listLastFires(key('often'), { continuationToken: 'a-b' }), 400, 'InputError');
    await refusal(server.hooks.listLastFires(key('often'), { limit: 'x' }), 400, 'InvalidRequestArguments');
  });

  test('tell of a task that waits for others', async () => {
    const first = slugid(random);
    await server.create('first');
    await server.hooks.triggerHook(key('first'), { taskId: first });
    await server.create('second', { task: aTemplate({ dependencies: [first] }) });
    const { taskId } = await server.hooks.triggerHook(key('second'), {});
    expect(await server.lastFires('second')).toMatchObject([{ taskId, taskState: 'unscheduled' }]);
    expect(await server.hooks.getHookStatus(key('second'))).toEqual({
      lastFire: { result: 'success', taskId, time: expect.any(String) },
    });
  });

  test('of a hook that never fired are none', async () => {
    await server.create('idle');
    await refusal(server.hooks.listLastFires(key('idle')), 404, 'ResourceNotFound');
    expect(await server.hooks.getHookStatus(key('idle'))).toEqual({ lastFire: { result: 'no-fire' } });
  });
});

test('a caller whose client was removed is refused', async () => {
  const { auth, hooks } = server;
  await server.create('guarded', { triggerSchema: OPEN });
  const { accessToken } = await auth.createClient(
    { clientId: 'somebody' },
    { expires: '2100-01-01T00:00:00.000Z', description: '', scopes: ['hooks:trigger-hook:g/guarded'] },
  );
  const somebody = server.client(hooksApi, { credentials: { clientId: 'somebody', accessToken } });
  await somebody.triggerHook(key('guarded'), {});
  await auth.deleteClient({ clientId: 'somebody' });
  await refusal(somebody.triggerHook(key('guarded'), {}), 401, 'AuthenticationFailed');
  expect((await hooks.listLastFires(key('guarded'))).lastFires).toHaveLength(1);
});
