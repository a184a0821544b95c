/** Hooks that messages fire: which ones, once each, and not without end. */
import { describe, expect, test } from 'vitest';
import { makeFakeClock } from '../../testing/clock.ts';
import { openLog } from '../../testing/log.ts';
import type { BusEvent, OutboxEvent } from '../../platform/events.ts';
import { publishAll } from '../../platform/events.ts';
import { makeSubscription } from './bindings.ts';
import { fire } from './fire-loop.ts';
import { deleteHook } from './hooks.db.ts';
import { type HooksServer, aHook, aTemplate, echo, refusal, withHooks } from './testing.ts';
import { forgetEvents } from './upkeep.ts';

const COMPLETED = 'exchange/taskcluster-queue/v1/task-completed';
const key = (hookId: string) => ({ hookGroupId: 'g', hookId });
const on = (routingKeyPattern = '#', exchange = COMPLETED) => ({ exchange, routingKeyPattern });
const anEvent = (fields: Partial<OutboxEvent> = {}): OutboxEvent => ({
  exchange: COMPLETED,
  routingKey: 'primary.a.b',
  cc: [],
  payload: { n: 1 },
  ...fields,
});

const withClock = (options: Parameters<typeof withHooks>[0] = {}): Promise<HooksServer> =>
  withHooks({ clock: makeFakeClock(Date.parse('2031-05-06T12:00:00.000Z')), ...options });

const publish = async (server: HooksServer, ...events: OutboxEvent[]): Promise<void> => {
  await server.db.tx(tx => publishAll(tx, events));
  await server.drain();
};
const counts = async (server: HooksServer, ...hookIds: string[]): Promise<number[]> =>
  Promise.all(hookIds.map(async hookId => (await server.lastFires(hookId)).length));
const payloadOf = async (server: HooksServer, hookId: string): Promise<unknown> =>
  (await server.definition((await server.lastFires(hookId))[0]?.taskId ?? ''))['payload'];

describe('a message', () => {
  test('fires the hook that wants it, and is its payload', async () => {
    const server = await withClock();
    const task = echo('firedBy', 'taskId', 'now', 'payload', 'exchange', 'routingKey');
    Object.assign(task['payload'] as object, { defined: { clientId: { $eval: 'defined("clientId")' } } });
    await server.create('bound', { bindings: [on()], task });
    const now = server.clock.now().toISOString();
    await publish(server, anEvent({ payload: { taskId: 'fN1SbArXTPSVFNUvaOlinQ', text: '"}' } }));
    server.clock.advance({ seconds: 3 });
    await server.work();
    const [last] = await server.lastFires('bound');
    expect(last).toMatchObject({ firedBy: 'pulseMessage', result: 'success', taskState: 'pending' });
    expect(last?.taskId).not.toBe('fN1SbArXTPSVFNUvaOlinQ');
    expect(await payloadOf(server, 'bound')).toEqual({
      firedBy: 'pulseMessage',
      taskId: last?.taskId,
      now,
      payload: { taskId: 'fN1SbArXTPSVFNUvaOlinQ', text: '"}' },
      exchange: COMPLETED,
      routingKey: 'primary.a.b',
      defined: { clientId: false },
    });
  });

  test('is matched by exchange and pattern, by any of its routing keys, and counts once for each hook', async () => {
    const server = await withClock();
    await server.create('all', { bindings: [on()] });
    await server.create('word', { bindings: [on('primary.*.b')] });
    await server.create('other-word', { bindings: [on('primary.*.c')] });
    await server.create('route', { bindings: [on('route.index.#')] });
    await server.create('twice', { bindings: [on('primary.#'), on('route.#')] });
    await server.create('elsewhere', { bindings: [on('#', 'exchange/taskcluster-queue/v1/task-failed')] });
    await server.create('unbound');
    await publish(server, anEvent({ cc: ['route.index.a', 'route.index.b'] }));
    await server.work();
    expect(await counts(server, 'all', 'word', 'other-word', 'route', 'twice', 'elsewhere', 'unbound')).toEqual([1, 1, 0, 1, 1, 0, 0]);
  });

  test('that comes again fires nothing, not while it waits, not at once, not after it was fired', async () => {
    const server = await withClock();
    await server.create('once', { bindings: [on()] });
    await server.create('more', { bindings: [on()] });
    const { handle } = makeSubscription(server.ctx);
    const event: BusEvent = { id: '77-0', ...anEvent() };
    const deliver = (): Promise<void> => server.db.tx(tx => handle(event, tx));
    await Promise.all(Array.from({ length: 5 }, deliver));
    await deliver();
    await server.work();
    await deliver();
    await server.work();
    expect(await counts(server, 'once', 'more')).toEqual([1, 1]);
    await server.db.tx(tx => handle({ ...event, id: '77-1' }, tx));
    await server.work();
    expect(await counts(server, 'once', 'more')).toEqual([2, 2]);
  });

  test('among several that come at once fires the hooks that want it, as often as they come', async () => {
    const server = await withClock({ environment: { HOOKS_EVENTS_PER_MINUTE: '3' } });
    await server.create('all', { bindings: [on()] });
    await server.create('some', { bindings: [on('some.#')] });
    const events = Array.from({ length: 6 }, (_, n): BusEvent => ({
      id: `79-${n}`,
      ...anEvent({ routingKey: n === 2 ? 'some.x' : 'other', exchange: n === 5 ? 'exchange/other' : COMPLETED }),
    }));
    const { handleMany } = makeSubscription(server.ctx);
    await server.db.tx(async tx => handleMany?.(events, tx));
    await server.work();
    expect(await counts(server, 'all', 'some')).toEqual([3, 1]);
    server.clock.advance({ minutes: 1 });
    await server.work();
    expect(await counts(server, 'all', 'some')).toEqual([5, 1]);
  });

  test('whose transaction fails has fired nothing, and fires when it comes again', async () => {
    const server = await withClock();
    await server.create('safe', { bindings: [on()] });
    const { handle } = makeSubscription(server.ctx);
    const event: BusEvent = { id: '78-0', ...anEvent() };
    const failing = server.db.tx(async tx => {
      await handle(event, tx);
      throw new Error('lost');
    });
    await expect(failing).rejects.toThrow('lost');
    await server.work();
    expect(await counts(server, 'safe')).toEqual([0]);
    await server.db.tx(tx => handle(event, tx));
    await server.work();
    expect(await counts(server, 'safe')).toEqual([1]);
  });

  test('that comes while one of its hooks is being removed fires the others', async () => {
    const server = await withClock();
    await server.create('gone', { bindings: [on()] });
    await server.create('stays', { bindings: [on()] });
    const { handle } = makeSubscription(server.ctx);
    const waiting = async (): Promise<number> =>
      (await server.db`select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`).length;
    const handled = await server.db.tx(async tx => {
      await deleteHook(tx, key('gone'));
      const handling = server.db.tx(other => handle({ id: '80-0', ...anEvent() }, other));
      await expect.poll(waiting, { timeout: 30_000 }).toBe(1);
      return { handling };
    });
    await handled.handling;
    await server.work();
    expect(await counts(server, 'gone', 'stays')).toEqual([0, 1]);
  });

  test('is known again for a day', async () => {
    const server = await withClock();
    await server.create('daily', { bindings: [on()] });
    await publish(server, anEvent());
    await server.work();
    const kept = async (): Promise<number | undefined> =>
      (await server.db<{ count: number }>`select count(*) from hooks.fires where payload is null and task is null`)[0]?.count;
    server.clock.advance({ hours: 23 });
    await server.runLoop(forgetEvents);
    expect(await kept()).toBe(1);
    server.clock.advance({ hours: 2 });
    await server.runLoop(forgetEvents);
    expect(await kept()).toBe(0);
    expect(await counts(server, 'daily')).toEqual([1]);
  });

  test('that waited for longer than the queue takes it is rendered for the present', async () => {
    const server = await withClock();
    await server.create('late', { bindings: [on()], task: echo('now') });
    await publish(server, anEvent());
    server.clock.advance({ minutes: 40 });
    await server.work();
    expect(await payloadOf(server, 'late')).toEqual({ now: '2031-05-06T12:40:00.000Z' });
  });
});

describe('the schema', () => {
  test('is what messages must match; others are dropped without a trace but in log and metrics', async () => {
    const server = await withClock();
    await server.create('picky', {
      bindings: [on()],
      triggerSchema: { type: 'object', required: ['n'], properties: { n: { type: 'integer', minimum: 5 } } },
    });
    await server.hooks.createHook(key('default'), { ...aHook(), triggerSchema: undefined, bindings: [on()] });
    await publish(server, ...Array.from({ length: 8 }, (_, n) => anEvent({ payload: { n } })));
    await server.work();
    expect(await counts(server, 'picky', 'default')).toEqual([3, 0]);
    expect(await server.hooks.getHookStatus(key('default'))).toEqual({ lastFire: { result: 'no-fire' } });
    const { values } = await server.ctx.discards.get();
    expect(values).toMatchObject([{ value: 13 }]);
    const [left] = await server.db<{ count: number }>`select count(*) from hooks.fires where not done`;
    expect(left?.count).toBe(0);
  });

  test('leaves the first and every hundredth message that does not match it in the log', async () => {
    const { log, lines } = openLog();
    const server = await withClock({ log });
    await server.create('picky', { bindings: [on()], triggerSchema: { type: 'object', required: ['m'] } });
    await publish(server, ...Array.from({ length: 201 }, () => anEvent()));
    await server.work();
    expect(lines('hook-pulse-message-discarded')).toMatchObject(
      [1, 100, 200].map(discardedCount => ({
        hookGroupId: 'g',
        hookId: 'picky',
        exchange: COMPLETED,
        routingKey: 'primary.a.b',
        reason: 'triggerSchema',
        validationError: "data must have required property 'm'",
        discardedCount,
      })),
    );
  });

  test('and the template are those of the moment in which it is fired', async () => {
    const server = await withClock();
    await server.create('changing', { bindings: [on()], triggerSchema: { type: 'object', required: ['x'] } });
    await publish(server, anEvent());
    await server.hooks.updateHook(key('changing'), aHook({ task: aTemplate({ payload: { version: 2 } }) }));
    await server.work();
    expect(await payloadOf(server, 'changing')).toEqual({ version: 2 });
  });

  test('that takes for ever holds up only its own group', async () => {
    const server = await withClock({ environment: { HOOKS_TEMPLATE_SECONDS: '1' } });
    const triggerSchema = { type: 'object', properties: { text: { type: 'string', pattern: '^(a+)+$' } } };
    await server.hooks.createHook({ hookGroupId: 'slow', hookId: 'h' }, aHook({ bindings: [on()], triggerSchema }));
    await server.create('quick', { bindings: [on()] });
    await publish(server, ...Array.from({ length: 5 }, (_, n) => anEvent({ payload: { n, text: `${'a'.repeat(60)}!` } })));
    expect(await fire.run(server.ctx, 50)).toBe(10);
    expect(await counts(server, 'quick')).toEqual([5]);
    const [waiting] = await server.db<{ count: number }>`select count(*) from hooks.fires where not done and hook_group_id = 'slow'`;
    expect(waiting?.count).toBe(4); // one was tried
  });
});

describe('failures', () => {
  test('are tried again five times, ever later, and then noted', async () => {
    const server = await withClock();
    await server.create('flaky', { bindings: [on()] });
    await publish(server, anEvent());
    await server.db`alter table queue.tasks rename to away`;
    let attempts = 0;
    const { values: before } = await server.ctx.fires.get();
    expect(before).toEqual([]);
    for (const seconds of [0, 1, 2, 4, 8, 16, 32]) {
      server.clock.advance({ seconds });
      attempts += await fire.run(server.ctx, 50);
      await server.work();
    }
    await server.db`alter table queue.away rename to tasks`;
    expect(attempts).toBe(6);
    await server.work();
    expect(await server.lastFires('flaky')).toMatchObject([{ result: 'error', firedBy: 'pulseMessage', taskState: 'unknown' }]);
  });

  test('that pass leave one task', async () => {
    const server = await withClock();
    await server.create('passing', { bindings: [on()], task: echo('now') });
    await publish(server, anEvent());
    await server.db`alter table queue.tasks rename to away`;
    await server.work();
    await server.db`alter table queue.away rename to tasks`;
    server.clock.advance({ seconds: 1 });
    await server.work();
    expect(await server.lastFires('passing')).toMatchObject([{ result: 'success' }]);
    expect(await payloadOf(server, 'passing')).toEqual({ now: '2031-05-06T12:00:00.000Z' });
  });

  test('of template and scopes are noted at once', async () => {
    const server = await withClock();
    await server.create('template', { bindings: [on()], task: { $eval: 'nobody' } });
    await server.create('scopes', { bindings: [on()], task: aTemplate({ scopes: ['a'] }) });
    await publish(server, anEvent());
    await server.work();
    expect(await server.lastFires('template')).toMatchObject([{ result: 'error', error: expect.stringContaining('nobody') }]);
    expect(await server.lastFires('scopes')).toMatchObject([{ result: 'error', error: expect.stringContaining('InsufficientScopes') }]);
    expect(await server.db`select 1 as one from hooks.mails`).toEqual([]);
  });
});

test('a message with a NUL in it, which Postgres does not keep, does not stop the others', async () => {
  const server = await withClock();
  await server.create('evaluates', { bindings: [on()], task: aTemplate({ payload: { value: { $eval: 'payload.text' } } }) });
  await server.create('fails', { bindings: [on()], task: aTemplate({ payload: { $eval: 'payload[payload.text]' } }) });
  await server.create('good', { bindings: [on()] });
  await publish(server, anEvent({ payload: { text: 'a\0b' } }));
  await server.work();
  expect(await server.lastFires('evaluates')).toMatchObject([{ result: 'error', error: expect.stringContaining('NUL character') }]);
  expect(await server.lastFires('fails')).toMatchObject([{ result: 'error', error: expect.stringContaining('a') }]);
  expect(await server.lastFires('good')).toMatchObject([{ result: 'success' }]);
});

test('a fire whose task id cannot be read any more does not stop the others', async () => {
  const server = await withClock();
  await server.create('first', { bindings: [on()] });
  await publish(server, anEvent());
  await server.db`update hooks.fires set task_id = 'v1:gone:AAAA'`;
  await server.create('second', { bindings: [on()] });
  await publish(server, anEvent());
  await server.work();
  expect(await counts(server, 'first', 'second')).toEqual([1, 1]);
});

describe('bindings', () => {
  test('follow each change of the hook', async () => {
    const server = await withClock();
    await server.create('changing', { bindings: [on('primary.#')] });
    await server.hooks.updateHook(key('changing'), aHook({ bindings: [on('route.#')] }));
    await publish(server, anEvent());
    await server.work();
    expect(await counts(server, 'changing')).toEqual([0]);
    await server.hooks.updateHook(key('changing'), aHook());
    await publish(server, anEvent({ routingKey: 'route.x' }));
    await server.work();
    expect(await counts(server, 'changing')).toEqual([1]);
    await server.hooks.removeHook(key('changing'));
    await server.create('changing');
    await publish(server, anEvent({ routingKey: 'route.x' }));
    await server.work();
    expect(await counts(server, 'changing')).toEqual([0]);
  });

  test('of hooks that are changed at the same time are all there', async () => {
    const server = await withClock();
    const ids = Array.from({ length: 12 }, (_, i) => `h${i}`);
    await Promise.all(ids.map(id => server.create(id, { bindings: [on(`key.${id}`)] })));
    await Promise.all(ids.slice(0, 6).map(id => server.hooks.updateHook(key(id), aHook({ bindings: [on(`other.${id}`)] }))));
    await publish(server, ...ids.flatMap(id => [anEvent({ routingKey: `key.${id}` }), anEvent({ routingKey: `other.${id}` })]));
    await server.work();
    expect(await counts(server, ...ids)).toEqual(Array(12).fill(1));
    const expected = ids.map((id, i) => ({ exchange: COMPLETED, pattern: `${i < 6 ? 'other' : 'key'}.${id}` }));
    const bound = await server.db<{ pattern: string }>`select distinct exchange, pattern from hooks.bindings`;
    expect(new Set(bound.map(({ pattern }) => pattern))).toEqual(new Set(expected.map(({ pattern }) => pattern)));
  });

  test('are bound again after a restart', async () => {
    const server = await withClock();
    await server.create('kept', { bindings: [on()] });
    await server.close();
    const next = await withClock({ db: server.db, clock: server.clock, relay: true, withoutRole: true });
    await publish(next, anEvent());
    await next.work();
    expect(await counts(next, 'kept')).toEqual([1]);
  });

  test('say which of them the message broker refuses', async () => {
    const server = await withClock();
    await server.create('foreign', { bindings: [on(), on('x.#', 'exchange/elsewhere')] });
    const refused = [{ exchange: 'exchange/elsewhere', pattern: 'x.#', reason: 'NOT_FOUND' }];
    await server.db`
      insert into platform.subscriptions (name, bindings, seen, refused) values ('hooks/fire', '[]', ${server.clock.now()}, ${JSON.stringify(refused)})`;
    expect(await server.hooks.getHookBindings(key('foreign'))).toEqual({
      bindings: [on(), { ...on('x.#', 'exchange/elsewhere'), problem: 'NOT_FOUND' }],
    });
    await server.create('none');
    expect(await server.hooks.getHookBindings(key('none'))).toEqual({ bindings: [] });
    await refusal(server.hooks.getHookBindings(key('missing')), 404, 'ResourceNotFound');
  });

  test('that were refused changed nothing', async () => {
    const server = await withClock({ environment: { HOOKS_BINDING_DENYLIST: '["exchange/mine/.*"]' } });
    await refusal(server.hooks.createHook(key('bad'), aHook({ bindings: [on(), on('#', 'exchange/mine/x')] })), 400, 'InputError');
    expect(await server.db`select 1 as one from hooks.bindings`).toEqual([]);
    await server.create('now-good', { bindings: [on('#', 'not/exchange/mine/x'), on('#', 'exchange/taskcluster-hooks/v1/hook-created')] });
  });
});

describe('too many messages', () => {
  test('wait, so that a hook fires so often in a minute and not more', async () => {
    const server = await withClock({ environment: { HOOKS_EVENTS_PER_MINUTE: '3' } });
    await server.create('busy', { bindings: [on()] });
    await server.create('calm', { bindings: [on('calm')] });
    await publish(server, ...Array.from({ length: 7 }, (_, n) => anEvent({ payload: { n } })), anEvent({ routingKey: 'calm' }));
    const after = async (seconds: number): Promise<number[]> => {
      server.clock.advance({ seconds });
      await server.work();
      return counts(server, 'busy', 'calm');
    };
    expect(await after(0)).toEqual([3, 1]);
    expect(await after(59)).toEqual([3, 1]);
    expect(await after(1)).toEqual([6, 1]);
    expect(await after(60)).toEqual([8, 1]); // the calm one counts for both
    await publish(server, anEvent());
    expect(await after(0)).toEqual([9, 1]);
  });

  test('push out the oldest that wait', async () => {
    const server = await withClock({ environment: { HOOKS_MAX_WAITING_EVENTS: '2' } });
    await server.create('flooded', { bindings: [on()], task: echo('payload') });
    await publish(server, ...Array.from({ length: 5 }, (_, n) => anEvent({ payload: { n } })));
    await server.work();
    const fires = await server.lastFires('flooded');
    const told = await Promise.all(fires.map(async ({ taskId }) => (await server.definition(taskId))['payload']));
    expect(told).toEqual(expect.arrayContaining([{ payload: { n: 3 } }, { payload: { n: 4 } }]));
    expect(fires).toHaveLength(2);
    expect((await server.ctx.dropped.get()).values).toMatchObject([{ value: 3 }]);
  });
});
