/** Hooks as they are created, read, changed and removed. */
import { hooksApi } from '@tscluster/api/hooks/api.ts';
import { beforeAll, describe, expect, test } from 'vitest';
import { openLog } from '../../testing/log.ts';
import { type HooksServer, aHook, aTemplate, refusal, withHooks } from './testing.ts';

let server: HooksServer;
const { log, lines } = openLog();
beforeAll(async () => {
  server = await withHooks({ log });
});

const key = (hookId: string) => ({ hookGroupId: 'g', hookId });
const DEFAULT_SCHEMA = { type: 'object', additionalProperties: false };

describe('a hook', () => {
  test('is created with its defaults, and read as it was answered', async () => {
    const { metadata, task } = aHook();
    const created = await server.hooks.createHook(key('new'), { metadata, task });
    expect(created).toEqual({
      hookGroupId: 'g',
      hookId: 'new',
      metadata: { ...metadata, emailOnError: true },
      task,
      schedule: [],
      bindings: [],
      triggerSchema: DEFAULT_SCHEMA,
    });
    expect(await server.hooks.hook(key('new'))).toEqual(created);
    const events = (await server.drain()).filter(({ exchange }) => exchange.includes('hooks'));
    expect(events).toMatchObject([
      { exchange: 'exchange/taskcluster-hooks/v1/hook-created', routingKey: '_', cc: [], payload: { hookGroupId: 'g', hookId: 'new' } },
    ]);
  });

  test('is created again with the same definition, in whatever order, and announced again', async () => {
    const hook = aHook({ schedule: ['@daily'], triggerSchema: { type: 'object', properties: { a: { type: 'string' } } } });
    const { metadata, task, ...others } = hook;
    await server.hooks.createHook(key('again'), hook);
    const { token } = await server.hooks.getTriggerToken(key('again'));
    await server.drain();
    const repeated = await server.hooks.createHook(key('again'), {
      ...others,
      task,
      metadata: { owner: metadata.owner, description: metadata.description, name: metadata.name, emailOnError: true },
      bindings: [],
      hookId: 'again',
    });
    expect(repeated).toEqual(await server.hooks.hook(key('again')));
    expect(await server.hooks.getTriggerToken(key('again'))).toEqual({ token });
    expect((await server.drain()).map(({ exchange }) => exchange)).toEqual(['exchange/taskcluster-hooks/v1/hook-created']);
  });

  test('is not replaced by another one', async () => {
    await server.create('other');
    const message = await refusal(
      server.hooks.createHook(key('other'), aHook({ task: aTemplate({ priority: 'low' }) })),
      409,
      'RequestConflict',
    );
    expect(message).toContain('exists already');
    expect((await server.hooks.hook(key('other'))).task).toEqual(aTemplate());
  });

  test('has an id with slashes, and is found under it', async () => {
    await server.create('in-tree/action-1/0123456789');
    expect(await server.hooks.hook(key('in-tree/action-1/0123456789'))).toMatchObject({ hookId: 'in-tree/action-1/0123456789' });
  });

  test('keeps its bindings when an update leaves them out, and loses the rest', async () => {
    const bindings = [{ exchange: 'exchange/taskcluster-queue/v1/task-completed', routingKeyPattern: '#' }];
    await server.create('full', { schedule: ['@daily'], bindings, triggerSchema: { type: 'object', required: ['a'] } });
    const { token } = await server.hooks.getTriggerToken(key('full'));
    const { metadata, task } = aHook();
    await server.drain();
    const updated = await server.hooks.updateHook(key('full'), { metadata: { ...metadata, emailOnError: false }, task });
    expect(updated).toMatchObject({
      bindings,
      schedule: [],
      triggerSchema: DEFAULT_SCHEMA,
      metadata: { emailOnError: false },
    });
    expect(await server.hooks.hook(key('full'))).toEqual(updated);
    expect(await server.hooks.getTriggerToken(key('full'))).toEqual({ token });
    expect((await server.drain()).map(({ exchange }) => exchange)).toEqual(['exchange/taskcluster-hooks/v1/hook-updated']);
    expect(await server.hooks.updateHook(key('full'), aHook({ bindings: [] }))).toMatchObject({ bindings: [] });
  });

  test('is removed, and may be removed again', async () => {
    await server.create('gone');
    await server.hooks.triggerHook(key('gone'), {});
    expect(await server.lastFires('gone')).toHaveLength(1);
    await server.drain();
    expect(await server.hooks.removeHook(key('gone'))).toEqual({});
    expect(await server.hooks.removeHook(key('gone'))).toEqual({});
    await refusal(server.hooks.hook(key('gone')), 404, 'ResourceNotFound');
    expect(await server.lastFires('gone')).toEqual([]);
    expect((await server.drain()).map(({ exchange }) => exchange)).toEqual(Array(2).fill('exchange/taskcluster-hooks/v1/hook-deleted'));
  });

  test('has a history, which is in the log, too', async () => {
    await server.create('history');
    await server.hooks.updateHook(key('history'), aHook());
    await server.hooks.resetTriggerToken(key('history'));
    await server.hooks.removeHook(key('history'));
    const { auditHistory } = await server.auth.getEntityHistory({ entityType: 'hook', entityId: 'g/history' });
    expect(auditHistory.map(entry => [entry.clientId, entry.actionType])).toEqual(
      ['created', 'updated', 'access token reset', 'deleted'].map(action => ['static/taskcluster/root', action]),
    );
    expect(lines('audit-event').filter(line => line['entityId'] === 'g/history')).toMatchObject(
      auditHistory.map(({ clientId, actionType }) => ({ service: 'hooks', entity: 'hook', clientId, action: actionType })),
    );
  });
});

describe('lists', () => {
  test('have groups and hooks in order', async () => {
    for (const [hookGroupId, hookId] of [
      ['z', '1'],
      ['a', 'B'],
      ['a', 'a'],
      ['B', '1'],
    ] as const) {
      await server.hooks.createHook({ hookGroupId, hookId }, aHook());
    }
    expect((await server.hooks.listHookGroups()).groups.filter(group => group !== 'g')).toEqual(['a', 'B', 'z']);
    const { hooks } = await server.hooks.listHooks({ hookGroupId: 'a' });
    expect(hooks.map(hook => hook.hookId)).toEqual(['a', 'B']);
    expect(hooks[0]).toEqual(await server.hooks.hook({ hookGroupId: 'a', hookId: 'a' }));
  });

  test('of a group without hooks are not found', async () => {
    expect(await refusal(server.hooks.listHooks({ hookGroupId: 'nobody' }), 404, 'ResourceNotFound')).toContain('nobody');
  });
});

test('statuses of a group are listed page by page', async () => {
  const { hooks } = server;
  const ids = ['a', 'B', 'c', 'd', 'e'];
  for (const hookId of ids) {
    await hooks.createHook({ hookGroupId: 'many', hookId }, aHook({ schedule: hookId === 'B' ? ['@yearly'] : [] }));
  }
  await refusal(hooks.triggerHook({ hookGroupId: 'many', hookId: 'c' }, {}), 403, 'InsufficientScopes');
  const first = await hooks.listHookStatuses({ hookGroupId: 'many' }, { limit: '2' });
  await hooks.removeHook({ hookGroupId: 'many', hookId: 'B' });
  const second = await hooks.listHookStatuses({ hookGroupId: 'many' }, { continuationToken: first.continuationToken });
  expect(second.continuationToken).toBeUndefined();
  expect([...first.statuses, ...second.statuses].map(({ hookId }) => hookId)).toEqual(ids);
  expect(first.statuses).toEqual([
    { hookGroupId: 'many', hookId: 'a', lastFire: { result: 'no-fire' } },
    {
      hookGroupId: 'many',
      hookId: 'B',
      lastFire: { result: 'no-fire' },
      nextScheduledDate: expect.stringMatching(/-01-01T00:00:00.000Z$/),
    },
  ]);
  const { lastFire } = await hooks.getHookStatus({ hookGroupId: 'many', hookId: 'c' });
  expect(second.statuses[0]).toEqual({ hookGroupId: 'many', hookId: 'c', lastFire });
  expect(lastFire).toMatchObject({ result: 'error', error: { code: 'InsufficientScopes' } });
  expect(await hooks.listHookStatuses({ hookGroupId: 'nobody' })).toEqual({ statuses: [] });
});

describe('what is refused', () => {
  const put = (fields: object) => server.hooks.createHook(key('bad'), { ...aHook(), ...fields } as never);

  test.each([
    ['no task', { task: undefined }, "data must have required property 'task'"],
    ['a task that is no object', { task: 'x' }, 'data/task must be object'],
    ['an owner that is no address', { metadata: { name: 'n', description: 'd', owner: 'me' } }, 'data/metadata/owner must match format'],
    ['a property that is unknown', { hooked: 1 }, 'additional properties: "hooked"'],
    ['a binding without a pattern', { bindings: [{ exchange: 'e' }] }, "must have required property 'routingKeyPattern'"],
    [
      'a binding twice',
      { bindings: Array(2).fill({ exchange: 'e', routingKeyPattern: '#' }) },
      'data/bindings must NOT have duplicate items',
    ],
    ['a pattern twice', { schedule: ['@daily', '@daily'] }, 'data/schedule must NOT have duplicate items'],
  ])('%s', async (_, fields, problem) => {
    expect(await refusal(put(fields), 400, 'InputValidationError')).toContain(problem);
  });

  test.each([
    ['ids of another hook', { hookGroupId: 'other' }, 'do not match'],
    ['a wrong schedule', { schedule: ['@daily', '0 0 0 0 0 0'] }, 'got value 0 expected range 1-12 in 0 0 0 0 0 0'],
    ['a zone that does not exist', { schedule: ['CRON_TZ=X/Y 0 0 * * *'] }, 'Unknown time zone X/Y'],
    [
      'a wrong schema',
      { triggerSchema: { type: 'objekt' } },
      'triggerSchema is not a valid JSON schema:\n * Property /type must be equal to one of the allowed values',
    ],
    ['a schema that refers to another site', { triggerSchema: { $ref: 'http://127.0.0.1:1/x.json' } }, "can't resolve reference"],
    ['a schema whose answer is a promise', { triggerSchema: { $async: true } }, '$async is not supported'],
    ['a schema that refers to nothing', { triggerSchema: { $ref: '#/definitions/x' } }, "can't resolve reference"],
    [
      'an exchange that would fire it for ever',
      { bindings: [{ exchange: 'exchange/taskcluster-queue/v1/task-pending', routingKeyPattern: '#' }] },
      'task-pending',
    ],
    [
      'changes of hooks',
      { bindings: [{ exchange: 'exchange/taskcluster-hooks/v1/hook-created', routingKeyPattern: '#' }] },
      'hook-created',
    ],
    [
      'more patterns than anybody needs',
      { schedule: Array.from({ length: 1_001 }, (_, i) => `0 ${' '.repeat(i)}0 * * *`) },
      'at most 1000 patterns',
    ],
    [
      'more bindings than anybody needs',
      { bindings: Array.from({ length: 1_001 }, (_, i) => ({ exchange: `e${i}`, routingKeyPattern: '#' })) },
      'at most 1000 bindings',
    ],
    [
      'exchanges that are the same once they are stored',
      { bindings: ['\ud800', '\udc00'].map(exchange => ({ exchange, routingKeyPattern: '#' })) },
      'must be well-formed Unicode',
    ],
    ['a pattern that is no text', { bindings: [{ exchange: 'e', routingKeyPattern: 'a.\udc00' }] }, 'must be well-formed Unicode'],
    ['a long exchange', { bindings: [{ exchange: 'x'.repeat(256), routingKeyPattern: '#' }] }, 'at most 255 bytes'],
  ])('%s', async (_, fields, problem) => {
    expect(await refusal(put(fields), 400, 'InputError')).toContain(problem);
    await refusal(server.hooks.hook(key('bad')), 404, 'ResourceNotFound');
  });

  test('ids with other characters', async () => {
    const bad = { hookGroupId: 'g', hookId: 'a.b' };
    await refusal(server.hooks.createHook(bad, aHook()), 400, 'InvalidRequestArguments');
    await refusal(server.hooks.listHooks({ hookGroupId: 'a/b' }), 400, 'InvalidRequestArguments');
    await refusal(server.hooks.hook({ hookGroupId: 'g', hookId: 'x'.repeat(1001) }), 400, 'InvalidRequestArguments');
  });

  test('an update of what is not there, and a wrong one', async () => {
    await refusal(server.hooks.updateHook(key('missing'), aHook()), 404, 'ResourceNotFound');
    await server.create('same');
    const before = await server.hooks.hook(key('same'));
    await server.drain();
    await refusal(server.hooks.updateHook(key('same'), aHook({ hookId: 'other' })), 400, 'InputError');
    await refusal(server.hooks.updateHook(key('same'), aHook({ schedule: ['x'] })), 400, 'InputError');
    await refusal(server.hooks.updateHook(key('same'), aHook({ triggerSchema: { type: 1 } })), 400, 'InputError');
    await refusal(
      server.hooks.updateHook(key('same'), aHook({ bindings: [{ exchange: 'exchange/taskcluster-hooks/x', routingKeyPattern: '#' }] })),
      400,
      'InputError',
    );
    expect(await server.hooks.hook(key('same'))).toEqual(before);
    expect(await server.drain()).toEqual([]);
  });
});

describe('scopes', () => {
  const MODIFY = ['hooks:modify-hook:g/scoped', 'assume:hook-id:g/scoped'];
  const calls: readonly [name: string, scopes: string[], call: (as: ReturnType<typeof server.as<typeof hooksApi>>) => Promise<unknown>][] =
    [
      ['createHook', MODIFY, as => as.createHook(key('scoped'), aHook())],
      ['updateHook', MODIFY, as => as.updateHook(key('scoped'), aHook())],
      ['triggerHook', ['hooks:trigger-hook:g/scoped'], as => as.triggerHook(key('scoped'), {})],
      ['hook', ['hooks:get:g:scoped'], as => as.hook(key('scoped'))],
      ['listHooks', ['hooks:list-hooks:g'], as => as.listHooks({ hookGroupId: 'g' })],
      ['listHookGroups', ['hooks:list-hooks:'], as => as.listHookGroups()],
      ['getHookStatus', ['hooks:status:g/scoped'], as => as.getHookStatus(key('scoped'))],
      ['getHookBindings', ['hooks:status:g/scoped'], as => as.getHookBindings(key('scoped'))],
      ['listHookStatuses', ['hooks:list-hooks:g', 'hooks:status:g/*'], as => as.listHookStatuses({ hookGroupId: 'g' })],
      ['listLastFires', ['hooks:list-last-fires:g/scoped'], as => as.listLastFires(key('scoped'))],
      ['getTriggerToken', ['hooks:get-trigger-token:g/scoped'], as => as.getTriggerToken(key('scoped'))],
      ['resetTriggerToken', ['hooks:reset-trigger-token:g/scoped'], as => as.resetTriggerToken(key('scoped'))],
      ['removeHook', ['hooks:modify-hook:g/scoped'], as => as.removeHook(key('scoped'))],
    ];

  test.each(calls)('%s needs what it says, and nothing else', async (name, scopes, call) => {
    for (const missing of scopes) {
      const others = [...scopes.filter(scope => scope !== missing), 'hooks:get:g/scoped', 'assume:hook-id:h/*'];
      expect(await refusal(call(server.as(hooksApi, others)), 403, 'InsufficientScopes')).toContain(missing);
    }
    await refusal(call(server.client(hooksApi, { scopes: null })), 403, 'InsufficientScopes');
    expect(await call(server.as(hooksApi, scopes)), name).toBeDefined();
  });
});
