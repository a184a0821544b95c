/** Scheduled hooks: each due time once, whoever looks, whatever crashes; and what becomes of those that fail. */
import { notifyApi } from '@tscluster/api/notify/api.ts';
import { describe, expect, test } from 'vitest';
import { countByKey, reencryption } from '../../platform/encrypted-columns.ts';
import type { Key } from '../../platform/keyring.ts';
import { makeFakeClock } from '../../testing/clock.ts';
import { openMailServer } from '../../testing/mail.ts';
import { seededRandom } from '../../testing/server.ts';
import { notifyService } from '../notify/service.ts';
import { decryptTaskId } from './ctx.ts';
import { fire } from './fire-loop.ts';
import { sendMails } from './mail.ts';
import { schedule } from './schedule-loop.ts';
import { type HookRequest, type HooksServer, aHook, aTemplate, echo, withHooks } from './testing.ts';
import { hooksService } from './service.ts';
import { expireLastFires } from './upkeep.ts';

const NOON = Date.parse('2031-05-06T12:00:00.000Z');
const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const key = (hookId: string) => ({ hookGroupId: 'g', hookId });
const at = (ms: number): string => new Date(NOON + ms).toISOString();

const withClock = async (options: Parameters<typeof withHooks>[0] = {}): Promise<HooksServer> =>
  withHooks({ clock: makeFakeClock(NOON), ...options });

const payloads = async (server: HooksServer, hookId: string): Promise<unknown[]> => {
  const fires = (await server.lastFires(hookId)).filter(({ result }) => result === 'success').toReversed();
  return Promise.all(fires.map(async ({ taskId }) => (await server.definition(taskId))['payload']));
};

/** The queue answers 500 meanwhile. */
const withoutQueue = async (server: HooksServer, during: () => Promise<void>): Promise<void> => {
  await server.db`alter table queue.tasks rename to away`;
  try {
    await during();
  } finally {
    await server.db`alter table queue.away rename to tasks`;
  }
};

/** Tasks are created, and then it ends without having written that down. */
const crashAfterCalls = async (server: HooksServer): Promise<void> => {
  await server.db`alter table hooks.last_fires rename to away`;
  try {
    await expect(fire.run(server.ctx, fire.batch)).rejects.toThrow('last_fires');
  } finally {
    await server.db`alter table hooks.away rename to last_fires`;
  }
};

describe('a scheduled hook', () => {
  test('fires at its time, and is told so', async () => {
    const server = await withClock();
    const defined = ['payload', 'clientId', 'exchange'].map(name => [name, { $eval: `defined("${name}")` }]);
    const task = { ...echo('firedBy', 'taskId', 'now', 'scheduledTime') };
    Object.assign(task['payload'] as object, { defined: Object.fromEntries(defined) });
    await server.create('hourly', { schedule: ['0 * * * *'], task });
    expect(await server.hooks.getHookStatus(key('hourly'))).toEqual({ lastFire: { result: 'no-fire' }, nextScheduledDate: at(HOUR_MS) });
    server.clock.advance({ minutes: 59, seconds: 59 });
    await server.work();
    expect(await server.lastFires('hourly')).toEqual([]);
    server.clock.advance({ seconds: 7 });
    await server.work();
    const [last] = await server.lastFires('hourly');
    expect(last).toMatchObject({
      firedBy: 'schedule',
      result: 'success',
      error: '',
      taskState: 'pending',
      taskCreateTime: at(HOUR_MS + 6_000),
    });
    expect(await server.definition(last?.taskId ?? '')).toMatchObject({
      created: at(HOUR_MS),
      deadline: at(25 * HOUR_MS),
      payload: {
        firedBy: 'schedule',
        taskId: last?.taskId,
        now: at(HOUR_MS),
        scheduledTime: at(HOUR_MS),
        defined: { payload: false, clientId: false, exchange: false },
      },
    });
    expect(await server.hooks.getHookStatus(key('hourly'))).toEqual({
      lastFire: { result: 'success', taskId: last?.taskId, time: last?.taskCreateTime },
      nextScheduledDate: at(2 * HOUR_MS),
    });
    await server.work();
    expect(await server.lastFires('hourly')).toHaveLength(1);
  });

  test('of several patterns fires once where they meet', async () => {
    const server = await withClock();
    await server.create('several', { schedule: ['0 * * * *', '0,30 13 * * *'] });
    for (let i = 0; i < 4; i++) {
      server.clock.advance({ minutes: 30 });
      await server.work();
    }
    expect(await server.lastFires('several')).toHaveLength(3); // 13:00, 13:30, 14:00
  });

  test('that declines, does so without a trace, until the next time', async () => {
    const server = await withClock();
    await server.create('declines', { schedule: ['0 * * * *'], task: { $if: 'false', then: aTemplate() } });
    server.clock.advance({ hours: 1 });
    await server.work();
    expect(await server.lastFires('declines')).toEqual([]);
    expect(await server.hooks.getHookStatus(key('declines'))).toMatchObject({ nextScheduledDate: at(2 * HOUR_MS) });
  });

  test('follows an update at once, and what was overdue is skipped', async () => {
    const server = await withClock();
    await server.create('moved', { schedule: ['0 * * * *'] });
    server.clock.advance({ minutes: 90 });
    await schedule.run(server.ctx, 500); // due, but not fired yet
    await server.hooks.updateHook(key('moved'), aHook({ schedule: ['45 * * * *'] }));
    await server.work();
    expect(await server.lastFires('moved')).toEqual([]);
    expect(await server.hooks.getHookStatus(key('moved'))).toMatchObject({ nextScheduledDate: at(105 * MINUTE_MS) });
    await server.hooks.updateHook(key('moved'), aHook());
    expect(await server.hooks.getHookStatus(key('moved'))).toEqual({ lastFire: { result: 'no-fire' } });
    server.clock.advance({ hours: 3 });
    await server.work();
    expect(await server.lastFires('moved')).toEqual([]);
  });

  test('that is removed while it is due does not fire', async () => {
    const server = await withClock();
    await server.create('removed', { schedule: ['0 * * * *'] });
    server.clock.advance({ minutes: 90 });
    await schedule.run(server.ctx, 500);
    await server.hooks.removeHook(key('removed'));
    await server.create('removed');
    await server.work();
    expect(await server.lastFires('removed')).toEqual([]);
  });

  test('keeps the id of its next task to itself', async () => {
    const server = await withClock();
    await server.create('secret', { schedule: ['0 * * * *'] });
    server.clock.advance({ hours: 1 });
    await schedule.run(server.ctx, 500);
    const [row] = await server.db<{ taskId: string; line: string }>`select task_id, f::text as line from hooks.fires f`;
    const taskId = decryptTaskId(server.ctx, key('secret'), row?.taskId ?? '');
    expect(row?.line).not.toContain(taskId);
    expect(JSON.stringify(await server.hooks.hook(key('secret')))).not.toContain(taskId);
    await server.work();
    expect(await server.lastFires('secret')).toMatchObject([{ taskId }]);
  });
});

describe('after an outage', () => {
  test('each hook fires once, and is told when it should have', async () => {
    const server = await withClock();
    await server.create('hourly', { schedule: ['0 * * * *'], task: echo('now', 'scheduledTime') });
    await server.create('daily', { schedule: ['30 12 * * *'], task: echo('now', 'scheduledTime') });
    server.clock.advance({ hours: 5, minutes: 5 });
    await server.work();
    // the queue takes no task that was created hours ago
    const now = at(5 * HOUR_MS + 5 * MINUTE_MS);
    expect(await payloads(server, 'hourly')).toEqual([{ now, scheduledTime: at(HOUR_MS) }]);
    expect(await payloads(server, 'daily')).toEqual([{ now, scheduledTime: at(30 * MINUTE_MS) }]);
    server.clock.advance({ minutes: 56 });
    await server.work();
    expect(await payloads(server, 'hourly')).toEqual([
      { now, scheduledTime: at(HOUR_MS) },
      { now: at(6 * HOUR_MS), scheduledTime: at(6 * HOUR_MS) },
    ]);
  });

  test('of the queue, however long, the task is created once, with the id it was given', async () => {
    const server = await withClock();
    await server.create('patient', { schedule: ['0 * * * *'], task: echo('now', 'scheduledTime') });
    await withoutQueue(server, async () => {
      server.clock.advance({ hours: 1 });
      await server.work();
      for (let minute = 0; minute < 130; minute += 13) {
        server.clock.advance({ minutes: 13 });
        await server.work();
      }
    });
    const failures = await server.lastFires('patient');
    expect(failures).toHaveLength(11);
    expect(failures[0]).toMatchObject({ result: 'error', firedBy: 'schedule', error: expect.stringContaining('"statusCode": 500') });
    expect(new Set(failures.map(({ taskId }) => taskId)).size).toBe(1);
    server.clock.advance({ minutes: 1 });
    await server.work();
    const [last] = await server.lastFires('patient');
    expect(last).toMatchObject({ result: 'success', taskId: failures[0]?.taskId });
    expect(await payloads(server, 'patient')).toEqual([{ now: at(190 * MINUTE_MS), scheduledTime: at(HOUR_MS) }]);
    expect(await server.hooks.getHookStatus(key('patient'))).toMatchObject({ nextScheduledDate: at(4 * HOUR_MS) });
  });

  test('a failed attempt is repeated after a minute, not before, with the same definition', async () => {
    const server = await withClock();
    await server.create('again', { schedule: ['0 * * * *'], task: echo('now') });
    server.clock.advance({ hours: 1 });
    await withoutQueue(server, () => server.work());
    server.clock.advance({ seconds: 59 });
    await server.work();
    expect(await server.lastFires('again')).toHaveLength(1);
    server.clock.advance({ seconds: 1 });
    await server.work();
    expect(await payloads(server, 'again')).toEqual([{ now: at(HOUR_MS) }]);
  });

  test('an update meanwhile ends the attempts', async () => {
    const server = await withClock();
    await server.create('stopped', { schedule: ['0 * * * *'] });
    server.clock.advance({ hours: 1 });
    await withoutQueue(server, () => server.work());
    await server.hooks.updateHook(key('stopped'), aHook({ schedule: ['30 * * * *'] }));
    server.clock.advance({ minutes: 5 });
    await server.work();
    expect(await server.lastFires('stopped')).toMatchObject([{ result: 'error' }]);
  });
});

describe('two schedulers', () => {
  const pair = async (): Promise<[HooksServer, HooksServer]> => {
    const first = await withClock();
    return [first, await withClock({ db: first.db, clock: first.clock, withoutRole: true })];
  };

  test('that look at once fire each hook once', async () => {
    const [first, second] = await pair();
    for (let i = 0; i < 20; i++) {
      await first.create(`h${i}`, { schedule: ['0 * * * *'] });
    }
    first.clock.advance({ hours: 1 });
    await Promise.all([first, second, first, second].map(server => schedule.run(server.ctx, 7)));
    await Promise.all([first.work(), second.work(), first.work(), second.work()]);
    const counts = await Promise.all(Array.from({ length: 20 }, async (_, i) => (await first.lastFires(`h${i}`)).length));
    expect(counts).toEqual(Array(20).fill(1));
    expect((await first.drain()).filter(({ exchange }) => exchange.endsWith('/task-defined'))).toHaveLength(20);
  });

  test('of which one dies between the call and the note: the other finds the task', async () => {
    const [first, second] = await pair();
    await first.create('h', { schedule: ['0 * * * *'], task: echo('taskId', 'now') });
    first.clock.advance({ hours: 1 });
    await schedule.run(first.ctx, 500);
    await crashAfterCalls(first);
    await second.work();
    expect(await first.lastFires('h')).toEqual([]); // the lease of the first one
    await first.hooks.updateHook(key('h'), aHook({ task: aTemplate({ priority: 'low' }) }));
    first.clock.advance({ seconds: 30 });
    await second.work();
    const fires = await first.lastFires('h');
    expect(fires).toMatchObject([{ result: 'success', firedBy: 'schedule' }]);
    expect(await first.definition(fires[0]?.taskId ?? '')).toMatchObject({ priority: 'lowest', payload: { now: at(HOUR_MS) } });
    await Promise.all([first.work(), second.work()]);
    expect((await first.drain()).filter(({ exchange }) => exchange.endsWith('/task-defined'))).toHaveLength(1);
  });

  test('of which one dies before the call: the other makes it', async () => {
    const [first, second] = await pair();
    await first.create('h', { schedule: ['0 * * * *'] });
    first.clock.advance({ hours: 1 });
    await schedule.run(first.ctx, 500);
    await first.db`update hooks.fires set leased_until = ${new Date(NOON + HOUR_MS + 1)}, not_before = ${new Date(NOON + HOUR_MS + 1)}`;
    await second.work();
    expect(await first.lastFires('h')).toEqual([]);
    first.clock.advance({ seconds: 1 });
    await second.work();
    expect(await first.lastFires('h')).toHaveLength(1);
  });

  test('of which one takes long: the other leaves it alone', async () => {
    const [first, second] = await pair();
    await first.create('slow', { schedule: ['0 * * * *'], task: { $eval: 'range(0, 1000000000)' } });
    first.clock.advance({ hours: 1 });
    await schedule.run(first.ctx, 500);
    const running = fire.run(first.ctx, 50);
    const leasedMs = async (): Promise<number> => {
      await first.clock.tick({ seconds: 10 }); // few steps: the template is given up after five real seconds
      const [row] = await first.db<{ until: Date | null }>`select leased_until as until from hooks.fires`;
      return row?.until?.getTime() ?? 0;
    };
    await expect.poll(leasedMs).toBeGreaterThan(NOON + HOUR_MS + 60_000);
    expect(await fire.run(second.ctx, 50)).toBe(0);
    expect(await running).toBe(1);
    expect(await first.lastFires('slow')).toMatchObject([{ result: 'error' }]);
  });

  test('and updates at the same time lose nothing', async () => {
    const [first, second] = await pair();
    await first.create('h', { schedule: ['* * * * *'] });
    for (let minute = 1; minute <= 20; minute++) {
      first.clock.advance({ minutes: 1 });
      await Promise.all([
        first.work(),
        second.work(),
        first.hooks.updateHook(key('h'), aHook({ schedule: ['* * * * *'], task: aTemplate({ payload: { minute } }) })),
      ]);
    }
    first.clock.advance({ minutes: 3 });
    await first.work();
    const fires = await first.lastFires('h');
    expect(fires.filter(({ result }) => result === 'error')).toEqual([]);
    expect(new Set(fires.map(({ taskId }) => taskId)).size).toBe(fires.length);
    expect(fires.length).toBeGreaterThan(0);
    const [left] = await first.db<{ count: number }>`select count(*) from hooks.fires`;
    expect(left?.count).toBe(0);
  });
});

describe('a failure', () => {
  const withMail = async () => {
    const mail = await openMailServer();
    const server = await withClock({
      more: [notifyService],
      environment: { SMTP_URL: mail.url, EMAIL_SOURCE_ADDRESS: 'tc@example.com' },
    });
    const mails = async () => {
      await server.runLoop(sendMails);
      return mail.taken();
    };
    return { server, mails };
  };

  const failing: readonly [string, Partial<HookRequest>, string][] = [
    ['of the template', { task: { $eval: 'nobody' } }, 'unknown context value nobody'],
    ['of a template that makes no object', { task: { $eval: '"text"' } }, 'must make an object'],
    ['of the role', { task: aTemplate({ scopes: ['secrets:get:*'] }) }, 'InsufficientScopes'],
    ['of the definition', { task: aTemplate({ taskQueueId: 'x' }) }, 'InputValidationError'],
  ];
  test.each(failing)('%s is noted, and the owner is told', async (_, fields, problem) => {
    const { server, mails } = await withMail();
    await server.create('fails', { schedule: ['0 * * * *'], ...fields });
    server.clock.advance({ hours: 1 });
    await server.work();
    const [last, ...others] = await server.lastFires('fails');
    expect(others).toEqual([]);
    expect(last).toMatchObject({ result: 'error', firedBy: 'schedule', taskState: 'unknown', error: expect.stringContaining(problem) });
    expect(await server.hooks.getHookStatus(key('fails'))).toMatchObject({
      lastFire: { result: 'error' },
      nextScheduledDate: at(2 * HOUR_MS),
    });
    const [message, ...more] = await mails();
    expect(more).toEqual([]);
    expect(message?.envelope.to).toEqual(['owner@example.com']);
    expect(message?.subject).toBe('[Taskcluster Hooks] Scheduled Hook failure: g/fails');
    expect(message?.text).toContain('could not create a task for the hook `g/fails`');
    expect(message?.text).toContain(problem);
    expect(message?.text).toContain('It will try again');
    expect(await mails()).toEqual([]);
    // it is over: the next time is the next attempt
    server.clock.advance({ minutes: 30 });
    await server.work();
    expect(await server.lastFires('fails')).toHaveLength(1);
  });

  test('of which there is much to tell is cut off, and the owner is told', async () => {
    const { server, mails } = await withMail();
    const unknown = Object.fromEntries(Array.from({ length: 3_000 }, (_, i) => [`unknown property ${i}`, 1]));
    await server.create('wordy', { schedule: ['0 * * * *'], task: aTemplate(unknown) });
    server.clock.advance({ hours: 1 });
    await server.work();
    const [message] = await mails();
    expect(message?.text).toContain('must NOT have additional properties: "unknown property 0"');
    expect(message?.text).toContain('It will try again');
    expect(message?.text?.length).toBeGreaterThan(90_000);
  });

  test('is not mailed to those who do not want it, nor while the queue is away, nor when a call fails', async () => {
    const { server, mails } = await withMail();
    const metadata = { ...aHook().metadata, emailOnError: false };
    await server.create('quiet', { schedule: ['0 * * * *'], task: { $eval: 'nobody' }, metadata });
    await server.create('called', { task: { $eval: 'nobody' } });
    await server.create('waits', { schedule: ['0 * * * *'] });
    await server.hooks.triggerHook(key('called'), {}).catch(() => undefined);
    server.clock.advance({ hours: 1 });
    await withoutQueue(server, () => server.work());
    expect(await server.lastFires('quiet')).toMatchObject([{ result: 'error' }]);
    expect(await server.lastFires('waits')).toMatchObject([{ result: 'error' }]);
    expect(await mails()).toEqual([]);
  });

  test('is mailed although notify is away for a while, and not for ever to who wants none', async () => {
    const { server, mails } = await withMail();
    await server.create('fails', { schedule: ['0 13 * * *'], task: { $eval: 'nobody' } });
    server.clock.advance({ hours: 1 });
    await server.work();
    await server.db`alter schema notify rename to away`;
    expect(await mails()).toEqual([]);
    await server.db`alter schema away rename to notify`;
    expect(await mails()).toEqual([]); // not yet
    server.clock.advance({ minutes: 2 });
    expect(await mails()).toMatchObject([{ subject: '[Taskcluster Hooks] Scheduled Hook failure: g/fails' }]);

    const notify = server.as(notifyApi, ['notify:manage-denylist']);
    await notify.addDenylistAddress({ notificationType: 'email', notificationAddress: 'owner@example.com' });
    server.clock.advance({ days: 1 });
    await server.work();
    expect(await server.lastFires('fails')).toHaveLength(2);
    expect(await mails()).toEqual([]);
    const [left] = await server.db<{ count: number }>`select count(*) from hooks.mails`;
    expect(left?.count).toBe(0);
  });

  test('of one hook does not keep others from firing', async () => {
    const server = await withClock();
    await server.create('broken', { schedule: ['0 * * * *'] });
    await server.create('endless', { schedule: ['0 * * * *'], task: { $eval: 'range(0, 1000000000)' } });
    await server.create('good', { schedule: ['0 * * * *'] });
    // as an older release may have stored it
    await server.db`update hooks.hooks set schedule = '["nonsense"]' where hook_id = 'broken'`;
    server.clock.advance({ hours: 1 });
    await server.work();
    server.clock.advance({ seconds: 1 });
    await server.work();
    expect(await server.lastFires('good')).toMatchObject([{ result: 'success' }]);
    expect(await server.lastFires('endless')).toMatchObject([{ result: 'error', error: expect.stringContaining('It took ') }]);
    expect(await server.lastFires('broken')).toMatchObject([{ result: 'success' }]); // this time was known
    expect(await server.hooks.hook(key('broken'))).toMatchObject({ schedule: ['nonsense'] });
  });
});

describe('upkeep', () => {
  test('forgets last fires after a year', async () => {
    const server = await withClock();
    await server.create('old');
    await server.hooks.triggerHook(key('old'), {});
    server.clock.advance({ days: 364 });
    await server.hooks.triggerHook(key('old'), {});
    await server.runLoop(expireLastFires);
    expect(await server.lastFires('old')).toHaveLength(2);
    server.clock.advance({ days: 2 });
    await server.runLoop(expireLastFires);
    expect(await server.lastFires('old')).toHaveLength(1);
  });

  test('keeps tokens and ids of tasks when the key is replaced', async () => {
    const server = await withClock();
    await server.create('turned', { schedule: ['0 0 * * * *'] });
    const { token } = await server.hooks.getTriggerToken(key('turned'));
    const { keyring } = server.platform;
    const next: Key = { id: 'next', key: Buffer.alloc(32, 2) };
    keyring.replaceKeys([{ id: 'test', key: Buffer.alloc(32, 1) }, next]);
    for (const column of hooksService.encrypted ?? []) {
      const running = reencryption('hooks', column, server.platform).start(server.platform);
      while ((await countByKey(server.db, column)).has('test')) {
        // it is at work
      }
      await running.stop();
    }
    expect((await server.hooks.getTriggerToken(key('turned'))).token).toBe(token);
    server.clock.advance({ hours: 1, minutes: 1 });
    await server.runLoop(schedule);
    await server.runLoop(fire);
    expect(await server.lastFires('turned')).toMatchObject([{ result: 'success' }]);
  });
});

test('a week of a thousand hooks: restarts, crashes, two schedulers, clocks put forward and back; each due time once', async () => {
  // Europe puts its clocks forward on 28 March 2027, Australia puts them back on 4 April
  const start = Date.parse('2027-03-27T12:00:00Z');
  const end = start + 8 * 24 * HOUR_MS;
  const clock = makeFakeClock(start);
  const random = seededRandom(20270327);
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random.float() * items.length)] as T;
  const hour = (): number => Math.floor(random.float() * 24);
  const minute = (): string => pick(['0', '30']);
  const zone = (): string => pick(['', '', 'CRON_TZ=Europe/Berlin ', 'CRON_TZ=Australia/Sydney ', 'CRON_TZ=America/New_York ']);
  const patternOf = (n: number): string =>
    n < 10
      ? `${minute()} * * * *`
      : n < 50
        ? `${minute()} */6 * * *`
        : n < 300
          ? `${minute()} ${pick([1, 2, 3, hour()])} * * *`
          : `${minute()} ${hour()} * * ${pick([0, 1, 3, 6])}`;

  const first = await withHooks({ clock });
  const schedules = await first.ctx.schedules();
  const expected: string[] = [];
  const patterns = Array.from({ length: 1_000 }, (_, n) => `${zone()}${patternOf(n)}`);
  for (let from = 0; from < patterns.length; from += 50) {
    await Promise.all(
      patterns.slice(from, from + 50).map((pattern, i) => {
        const task = aTemplate({ payload: { hook: from + i, time: '${scheduledTime}' } });
        return first.create(`h${from + i}`, { schedule: [pattern], task });
      }),
    );
  }
  patterns.forEach((pattern, n) => {
    for (let due = schedules.next([pattern], clock.now()); due && due.getTime() <= end; due = schedules.next([pattern], due)) {
      expected.push(`${n} ${due.toISOString()}`);
    }
  });

  const another = (): Promise<HooksServer> => withHooks({ clock, db: first.db, withoutRole: true });
  let pair = [first, await another()] as const;
  const work = async (): Promise<void> => void (await Promise.all(pair.map(server => server.work())));
  for (let step = 1; clock.nowMs() < end; step++) {
    clock.advance({ minutes: 30 });
    if (step % 40 === 7) {
      // a scheduler dies in the middle; the other one comes back to what it left
      await schedule.run(pair[0].ctx, 500);
      const [open] = await first.db<{ count: number }>`select count(*) from hooks.fires`;
      if (open && open.count > 0) {
        await crashAfterCalls(pair[0]);
      }
      await work();
      clock.advance({ minutes: 1 });
      await work();
      clock.advance({ minutes: -1 });
    }
    if (step % 96 === 50) {
      await pair[1].close();
      pair = [pair[0], await another()];
    }
    await work();
  }

  const ids = (await first.db<{ taskId: string }>`select task_id from queue.tasks`).map(({ taskId }) => taskId);
  const fired: string[] = [];
  for (let from = 0; from < ids.length; from += 1_000) {
    const { tasks } = await first.queue.tasks({ taskIds: ids.slice(from, from + 1_000) });
    fired.push(...tasks.map(({ task }) => [task.payload['hook'], task.payload['time']].join(' ')));
  }
  expect(expected.length).toBeGreaterThan(5_000);
  expect(fired.toSorted()).toEqual(expected.toSorted());
  const [noted] = await first.db<{ good: number; bad: number }>`
    select count(*) filter (where result = 'success') as good, count(*) filter (where result <> 'success') as bad from hooks.last_fires`;
  expect(noted).toEqual({ good: expected.length, bad: 0 });
}, 300_000);
