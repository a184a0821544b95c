/** One message when a whole group has ended. */
import { beforeAll, describe, expect, test } from 'vitest';
import { openMailServer } from '../../testing/mail.ts';
import { resolvedGroups } from './groups.ts';
import { type NotifyServer, withNotify } from './testing.ts';

const mail = await openMailServer();
const environment = { SMTP_URL: mail.url, EMAIL_SOURCE_ADDRESS: 'tc@example.com' };
let server: NotifyServer;
beforeAll(async () => {
  server = await withNotify({ environment });
});

const route = (filter: string, address = 'dev@example.com'): string => `notify.group.email.${address}.${filter}`;
const results = async (): Promise<string[]> =>
  (await mail.taken()).map(
    ({ subject = '', envelope }) => `${envelope.to[0]?.split('@')[0]}: ${subject.replace(/^Task group (\w+): .*/, '$1')}`,
  );

/** Looks until the group has been quiet for long enough. */
const settle = async (on = server): Promise<string[]> => {
  await on.announce();
  on.clock.advance({ seconds: 5 });
  await on.announce();
  return results();
};

/** A group whose first task has the routes and others do not. */
const aGroup = async (routes: readonly string[], others: number): Promise<string[]> => {
  const first = await server.create(routes);
  const ids = [first];
  for (let i = 0; i < others; i++) {
    ids.push(await server.create([], { taskGroupId: first }));
  }
  return ids;
};

describe('a group', () => {
  test('is announced once, when the last of its tasks is resolved, which need not have the route', async () => {
    const [first = '', second = '', third = ''] = await aGroup([route('on-resolved')], 2);
    await server.run(first, 'completed');
    expect(await settle()).toEqual([]);
    await server.run(second, 'failed');
    expect(await settle()).toEqual([]);
    await server.run(third, 'completed');
    expect(await settle()).toEqual(['dev: failed']);
    for (let i = 0; i < 3; i++) {
      server.clock.advance({ minutes: 10 });
      expect(await settle()).toEqual([]);
    }
    expect((await server.notify.listTaskGroupDeliveries({ taskGroupId: first })).deliveries).toMatchObject([
      { state: 'sent', route: route('on-resolved'), taskGroupId: first, notificationAddress: 'dev@example.com' },
    ]);
  });

  test('is told with counts, failures and links', async () => {
    const metadata = { name: 'unit <b>tests</b> [x](y)', description: 'd', owner: 'o@example.com', source: 'https://src.example' };
    const first = await server.create([route('on-any')]);
    const second = await server.create([], { taskGroupId: first, metadata });
    await server.run(first, 'completed');
    await server.run(second, 'malformed-payload');
    await server.announce();
    server.clock.advance({ seconds: 5 });
    await server.announce();
    const [message] = await mail.taken();
    expect(message?.subject).toBe(`Task group failed: build *it* - ${first}`);
    const href = `http://taskcluster.test/tasks/groups/${first}/tasks`;
    expect(message?.text).toContain(`Task group [\`${first}\`](${href}) has ended: failed.`);
    expect(message?.text).toContain('**Tasks:** 2 (1 completed, 1 exception)');
    expect(message?.text).toContain(`Inspect Task Group: ${href}`);
    expect(message?.html).toContain(`<a href="http://taskcluster.test/tasks/${second}"`);
    expect(message?.html).toContain('>unit &lt;b&gt;tests&lt;/b&gt; [x](y)</a>: exception (malformed-payload)');
  });

  test('is told to those whose filter it meets', async () => {
    const filters = ['on-resolved', 'on-any', 'on-completed', 'on-success', 'on-failed', 'on-exception', 'on-transition'];
    const told = async (outcome: 'completed' | 'failed' | 'malformed-payload'): Promise<string[]> => {
      const [first = ''] = await aGroup(
        filters.map(filter => route(filter, `${filter}.${outcome}@example.com`)),
        0,
      );
      await server.run(first, outcome);
      return (await settle()).map(result => result.replace(/\..*/, '')).toSorted();
    };
    expect(await told('completed')).toEqual(['on-any', 'on-completed', 'on-resolved', 'on-success', 'on-transition']);
    expect(await told('failed')).toEqual(['on-any', 'on-failed', 'on-resolved', 'on-transition']);
    expect(await told('malformed-payload')).toEqual(['on-any', 'on-exception', 'on-failed', 'on-resolved', 'on-transition']);
  });

  test('that has the same route on each task is announced once', async () => {
    const first = await server.create([route('on-any')]);
    const others = await Promise.all(Array.from({ length: 5 }, () => server.create([route('on-any')], { taskGroupId: first })));
    for (const taskId of [first, ...others]) {
      await server.run(taskId, 'completed');
      await server.announce();
    }
    expect(await settle()).toEqual(['dev: completed']);
  });

  test('is announced again only when it ended otherwise', async () => {
    const [first = ''] = await aGroup([route('on-resolved')], 0);
    await server.run(first, 'failed');
    expect(await settle()).toEqual(['dev: failed']);
    await server.queue.rerunTask({ taskId: first });
    expect(await settle()).toEqual([]);
    await server.run(first, 'failed', 1);
    expect(await settle()).toEqual([]);
    await server.queue.rerunTask({ taskId: first });
    await server.run(first, 'completed', 2);
    expect(await settle()).toEqual(['dev: completed']);
    const another = await server.create([route('on-resolved')], { taskGroupId: first });
    await server.run(another, 'completed');
    expect(await settle()).toEqual([]);
  });

  test('is not announced between two tasks that follow each other', async () => {
    const first = await server.create([route('on-any')]);
    await server.run(first, 'completed');
    await server.announce();
    server.clock.advance({ seconds: 3 });
    const second = await server.create([route('on-any')], { taskGroupId: first });
    server.clock.advance({ seconds: 3 });
    await server.announce();
    await server.run(second, 'failed');
    expect(await settle()).toEqual(['dev: failed']);
  });

  test('that is sealed is announced at once', async () => {
    const first = await server.create([route('on-any')]);
    await server.queue.sealTaskGroup({ taskGroupId: first });
    await server.run(first, 'completed');
    await server.announce();
    expect(await results()).toEqual(['dev: completed']);
  });

  test('is announced when what is left waits for a task that failed, and not again at their deadline', async () => {
    const first = await server.create([route('on-failed')]);
    await server.create([], { taskGroupId: first, dependencies: [first] });
    await server.run(first, 'failed');
    expect(await settle()).toEqual(['dev: failed']);
    await server.queue.rerunTask({ taskId: first });
    await server.announce();
    await server.run(first, 'completed', 1);
    expect(await settle()).toEqual([]);
  });

  test('is not announced while a task of it waits for another group', async () => {
    const elsewhere = await server.create([]);
    const first = await server.create([route('on-any')]);
    const second = await server.create([], { taskGroupId: first, dependencies: [elsewhere] });
    await server.run(first, 'failed');
    expect(await settle()).toEqual([]);
    await server.run(elsewhere, 'completed');
    await server.run(second, 'completed');
    server.clock.advance({ minutes: 2 });
    expect(await settle()).toEqual(['dev: failed']);
  });

  test('goes to every channel', async () => {
    const [first = ''] = await aGroup(['notify.group.pulse.groups.done.on-any'], 0);
    await server.run(first, 'completed');
    const before = server.events.length;
    await settle();
    expect(server.events.slice(before).filter(({ exchange }) => exchange.includes('notify'))).toMatchObject([
      {
        routingKey: 'primary.groups.done',
        payload: { version: 1, message: { taskGroupId: first, result: 'completed', total: 1, failures: [] } },
      },
    ]);
  });

  test('with a wrong address has a record of that', async () => {
    const [first = ''] = await aGroup(['notify.group.email.nobody.on-any'], 0);
    await server.run(first, 'completed');
    expect(await settle()).toEqual([]);
    expect((await server.notify.listTaskGroupDeliveries({ taskGroupId: first })).deliveries).toMatchObject([
      { state: 'failed', reason: '"nobody" is not an email address' },
    ]);
  });
});

describe('several processes', () => {
  test('that look at once announce a group once', async () => {
    const [first = ''] = await aGroup([route('on-any')], 0);
    await server.run(first, 'completed');
    await server.announce();
    server.clock.advance({ seconds: 5 });
    await Promise.all(Array.from({ length: 6 }, () => resolvedGroups.run(server.ctx, 5)));
    await server.deliver();
    expect(await results()).toEqual(['dev: completed']);
  });

  test('take over from one that died with a group in hand', async () => {
    const [first = ''] = await aGroup([route('on-any')], 0);
    await server.run(first, 'completed');
    await server.announce();
    server.clock.advance({ seconds: 5 });
    const dead = { ...server.ctx, queue: { ...server.ctx.queue, listTaskGroup: () => Promise.reject(new Error('gone')) } };
    await resolvedGroups.run(dead as typeof server.ctx, 5);
    expect(await settle()).toEqual([]);
    server.clock.advance({ minutes: 2 });
    expect(await settle()).toEqual(['dev: completed']);
  });

  test('announce a group that ended while none of them ran', async () => {
    const [first = ''] = await aGroup([route('on-any')], 0);
    await server.run(first, 'completed');
    await server.drain();
    const restarted = await withNotify({ environment, db: server.db, clock: server.clock });
    await restarted.announce();
    restarted.clock.advance({ seconds: 5 });
    await restarted.announce();
    expect(await results()).toEqual(['dev: completed']);
    expect(await settle()).toEqual([]);
  });
});

test('groups are forgotten with their tasks, and those of which the queue knows nothing do no harm', async () => {
  const [first = ''] = await aGroup([route('on-any')], 0);
  await server.run(first, 'completed');
  await server.drain();
  await server.db`delete from queue.tasks where task_group_id = ${first}`;
  expect(await settle()).toEqual([]);
  const [other = ''] = await aGroup([route('on-any')], 0);
  await server.run(other, 'completed');
  expect(await settle()).toEqual(['dev: completed']);
  const { purgeGroups } = await import('./groups.ts');
  server.clock.advance({ days: 400 });
  while ((await purgeGroups.run(server, 3)) === 3) {
    // until none is left
  }
  expect(await server.db`select count(*) from notify.groups`).toEqual([{ count: 0 }]);
  expect(await server.db`select count(*) from notify.group_routes`).toEqual([{ count: 0 }]);
});
