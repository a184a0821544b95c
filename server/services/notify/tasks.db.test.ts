/** What routes of tasks send, in each state, and what becomes of it. */
import type { Subscription } from '../../platform/bus/bus.ts';
import type { BusEvent } from '../../platform/events.ts';
import { openMailServer } from '../../testing/mail.ts';
import { beforeAll, describe, expect, test } from 'vitest';
import { type NotifyServer, withNotify } from './testing.ts';

const mail = await openMailServer();
const environment = { SMTP_URL: mail.url, EMAIL_SOURCE_ADDRESS: 'tc@example.com' };
let server: NotifyServer;
beforeAll(async () => {
  server = await withNotify({ environment });
});

let addresses = 0;
const newAddress = (): string => `dev.${++addresses}@mail.example.com`;
const subjects = async (): Promise<string[]> => (await mail.taken()).map(({ subject = '' }) => subject.replace(/ - .*/, ''));
const states = async (): Promise<string[]> => (await subjects()).map(subject => subject.replace(/^Task (\w+): .*/, '$1'));

describe('filters', () => {
  const lives = {
    completed: ['unscheduled', 'pending', 'running', 'completed'],
    failed: ['unscheduled', 'pending', 'running', 'failed'],
    'malformed-payload': ['unscheduled', 'pending', 'running', 'exception'],
  } as const;
  const RESOLVED = ['completed', 'failed', 'exception'];
  test.each([
    ['on-defined', ['unscheduled']],
    ['on-pending', ['pending']],
    ['on-running', ['running']],
    ['on-completed', ['completed']],
    ['on-success', ['completed']],
    ['on-failed', ['failed']],
    ['on-exception', ['exception']],
    ['on-resolved', RESOLVED],
    ['on-any', RESOLVED],
    ['on-transition', ['unscheduled', 'pending', 'running', ...RESOLVED]],
  ])('%s', async (filter, wanted) => {
    for (const outcome of Object.keys(lives) as (keyof typeof lives)[]) {
      const taskId = await server.create([`notify.email.${newAddress()}.${filter}`]);
      await server.deliver();
      await server.run(taskId, outcome);
      await server.deliver();
      expect(await states()).toEqual(lives[outcome].filter(state => wanted.includes(state)));
    }
  });

  test('of several routes each sends in its own states', async () => {
    const [a, b, c] = [newAddress(), newAddress(), newAddress()];
    const taskId = await server.create([
      `notify.email.${a}.on-pending`,
      `notify.email.${b}.on-failed`,
      `notify.email.${b}.on-any`,
      `notify.email.${c}.on-completed`,
      `notify.pigeon.${c}.on-failed`,
      `index.email.${c}.on-failed`,
      `notify.email.${c}.xx-failed`,
      'notify.email',
    ]);
    await server.run(taskId, 'failed');
    await server.deliver();
    const sent = (await mail.taken()).map(({ envelope }) => envelope.to[0]);
    expect(new Set(sent)).toEqual(new Set([a, b]));
    expect(sent).toHaveLength(2); // the second to b is word for word the first
    expect(
      (await server.deliveriesOf(taskId)).map(({ notificationAddress, route, state, reason }) => [
        notificationAddress,
        route,
        state,
        reason,
      ]),
    ).toEqual([
      [a, `notify.email.${a}.on-pending`, 'sent', undefined],
      [b, `notify.email.${b}.on-failed`, 'sent', undefined],
      [b, `notify.email.${b}.on-any`, 'skipped', 'The same message was sent to the address shortly before.'],
    ]);
  });
});

describe('a run', () => {
  test('that is tried again is reported as pending, once', async () => {
    const [a, b] = [newAddress(), newAddress()];
    const taskId = await server.create([
      `notify.email.${a}.on-exception`,
      `notify.email.${b}.on-transition`,
      `notify.email.${a}.on-pending`,
    ]);
    await server.deliver();
    expect((await states()).toSorted()).toEqual(['pending', 'pending', 'unscheduled']);
    await server.run(taskId, 'worker-shutdown');
    await server.deliver();
    const sent = (await mail.taken()).map(({ envelope, subject }) => `${envelope.to[0]} ${subject?.split(':')[0]}`);
    expect(sent.toSorted()).toEqual([`${a} Task pending`, `${b} Task pending`, `${b} Task running`].toSorted());
    await server.run(taskId, 'malformed-payload', 1);
    await server.deliver();
    const last = (await mail.taken()).map(({ envelope, subject }) => `${envelope.to[0]} ${subject?.split(':')[0]}`);
    expect(last.toSorted()).toEqual([`${a} Task exception`, `${b} Task exception`, `${b} Task running`].toSorted());
  });

  test('after a rerun is reported again', async () => {
    const taskId = await server.create([`notify.email.${newAddress()}.on-failed`]);
    await server.run(taskId, 'failed');
    await server.deliver();
    await server.queue.rerunTask({ taskId });
    await server.run(taskId, 'failed', 1);
    await server.deliver();
    expect((await mail.taken()).map(({ text }) => /\*\*Status:\*\* .*/.exec(text ?? '')?.[0])).toEqual([
      '**Status:** failed (in 1 run)',
      '**Status:** failed (in 2 runs)',
    ]);
  });

  test('that was cancelled or too late is nobody’s concern, unless the operator wants it', async () => {
    const routes = (): string[] => ['on-exception', 'on-transition', 'on-any'].map(filter => `notify.email.${newAddress()}.${filter}`);
    const quiet = await server.create(routes());
    await server.deliver();
    await mail.taken();
    await server.queue.cancelTask({ taskId: quiet });
    await server.deliver();
    expect(await states()).toEqual([]);

    const loud = await withNotify({ environment: { ...environment, NOTIFY_IGNORED_REASONS: '[]' } });
    const taskId = await loud.create(routes());
    await loud.deliver();
    await mail.taken();
    await loud.queue.cancelTask({ taskId });
    await loud.deliver();
    expect(await states()).toEqual(['exception', 'exception', 'exception']);
  });
});

describe('an email about a task', () => {
  test('says what happened', async () => {
    const taskId = await server.create([`notify.email.${newAddress()}.on-completed`]);
    await server.run(taskId, 'completed');
    await server.deliver();
    const [message] = await mail.taken();
    const group = `http://taskcluster.test/tasks/groups/${taskId}/tasks`;
    expect(message?.subject).toBe(`Task completed: build *it* - ${taskId}`);
    expect(message?.text).toContain(
      [
        `Task [\`${taskId}\`](http://taskcluster.test/tasks/${taskId}) in task group [\`${taskId}\`](${group}) is completed.`,
        '',
        '**Status:** completed (in 1 run)',
        '**Name:** build *it*',
        '**Description:** d',
        '**Owner:** o@example.com',
        '**Source:** https://src.example',
        '',
        `Inspect Task: http://taskcluster.test/tasks/${taskId}`,
      ].join('\n'),
    );
    expect(message?.html).toContain('<strong>Status:</strong> completed (in 1 run)<br');
    expect(message?.html).toContain('"@type":"ViewAction","name":"Inspect Task"');
  });

  test('has the words that the task brings', async () => {
    const email = {
      subject: 'It is ${status.state}: ${task.metadata.name}',
      content: { $if: 'status.state == "failed"', then: 'Look at ${rootUrl}/tasks/${taskId}', else: '' },
      link: { text: 'Go ${status.state}', href: 'https://example.com/${status.state}' },
      template: { $eval: '"full" + "screen"' },
    };
    const taskId = await server.create([`notify.email.${newAddress()}.on-any`], { extra: { notify: { email } } });
    await server.run(taskId, 'failed');
    await server.deliver();
    const [message] = await mail.taken();
    expect(message?.subject).toBe('It is failed: build *it*');
    expect(message?.text).toContain(`Look at http://taskcluster.test/tasks/${taskId}\n\nGo failed: https://example.com/failed\n`);
    expect(message?.html).toContain('max-width: 100%');
  });

  test.each([
    ['subject', { subject: '${nothing}' }, 'subject', /^Error parsing custom message: .*nothing/],
    ['content', { content: { $eval: '1 +' } }, 'text', /^Error parsing custom message: /],
    ['content with an unknown operator', { content: { $unheard: 1 } }, 'text', /^Error parsing custom message: .*reserved/],
    ['link', { link: { text: { $eval: 'x' } } }, 'text', /Inspect Task: http/],
    ['link of another kind', { link: 'https://example.com' }, 'text', /Inspect Task: http/],
    ['link without a URL', { link: { text: 'a', href: 'not one' } }, 'text', /Inspect Task: http/],
    ['template', { template: { $eval: 'x' } }, 'html', /max-width: 580px/],
    ['template that is none', { template: 'huge' }, 'html', /max-width: 580px/],
    ['things that are nothing', { subject: '', content: null, link: false, template: 0 }, 'subject', /^Task completed: /],
    [
      'content that never ends',
      { content: { $map: { $eval: 'range(0, 100000000)' }, 'each(x)': '${x}' } },
      'text',
      /^Error parsing custom message: It took /,
    ],
    ['content that is huge', { content: { $map: { $eval: 'range(0, 30000)' }, 'each(x)': '${x}' } }, 'text', /^\["0","1",.*…\n/],
    ['content that is no text', { content: { $eval: '[1, 2]' } }, 'text', /^\[1,2\]/],
  ] as const)('is sent whatever is wrong with its %s', async (_what, email, part, expected) => {
    const taskId = await server.create([`notify.email.${newAddress()}.on-any`], { extra: { notify: { email } } });
    await server.run(taskId, 'completed');
    await server.deliver();
    const [message] = await mail.taken();
    expect(message?.[part]).toMatch(expected);
  });

  test.each([
    ['notify as a text', 'x'],
    ['a list', []],
    ['email as a list', { email: [1] }],
    ['null', null],
  ])('is sent with %s in extra', async (_what, notify) => {
    const taskId = await server.create([`notify.email.${newAddress()}.on-any`], { extra: { notify } });
    await server.run(taskId, 'completed');
    await server.deliver();
    expect(await states()).toEqual(['completed']);
  });

  test('cannot be given headers', async () => {
    const metadata = {
      name: 'a\r\nBcc: victim@example.com\r\n\r\nx',
      description: 'd',
      owner: 'o@example.com',
      source: 'https://src.example',
    };
    const taskId = await server.create([`notify.email.${newAddress()}.on-any`], { metadata });
    await server.run(taskId, 'completed');
    await server.deliver();
    const [message] = await mail.taken();
    expect(message?.subject).toBe(`Task completed: a Bcc: victim@example.com x - ${taskId}`);
    expect(message?.envelope.to).toHaveLength(1);
    expect(message?.raw.split('\r\n\r\n')[0]).not.toMatch(/^Bcc:/im);
  });

  test.each([
    'bob@example.org\r\nBcc: x@example.com',
    'bob@example.org, x@example.com',
    'Bob <bob@example.org>',
    'nobody',
    ' ',
    `${'a'.repeat(200)}@${'b'.repeat(20)}`,
  ])('is not sent to %j, and the record says why', async address => {
    const taskId = await server.create([`notify.email.${address}.on-any`]);
    await server.run(taskId, 'completed');
    await server.deliver();
    expect(await mail.taken()).toEqual([]);
    expect(await server.deliveriesOf(taskId)).toMatchObject([
      { state: 'failed', notificationAddress: address, reason: expect.stringContaining('is not an email address'), attempts: 0 },
    ]);
  });
});

describe('delivery', () => {
  test('is not repeated when the event comes again, also at the same time', async () => {
    const taskId = await server.create([`notify.email.${newAddress()}.on-failed`, 'notify.pulse.again.on-failed']);
    await server.run(taskId, 'failed');
    const events = await server.drain();
    const event = events.find(
      ({ exchange, payload }) => exchange.endsWith('task-failed') && JSON.stringify(payload).includes(taskId),
    ) as BusEvent;
    const subscription = server.server.services.get('notify')?.subscriptions?.find(({ name }) => name === 'notify/tasks') as Subscription;
    const again = (): Promise<void> => server.db.tx(tx => subscription.handle(event, tx));
    await Promise.all([again(), again(), again()]);
    await server.deliver();
    await again();
    await server.deliver();
    expect(await states()).toEqual(['failed']);
    expect((await server.deliveriesOf(taskId)).map(({ notificationType, state }) => [notificationType, state])).toEqual([
      ['email', 'sent'],
      ['pulse', 'sent'],
    ]);
  });

  test('by several processes at once sends each message once', async () => {
    const addressed = Array.from({ length: 12 }, newAddress);
    const taskId = await server.create(addressed.map(address => `notify.email.${address}.on-failed`));
    await server.run(taskId, 'failed');
    await server.drain();
    const [email] = server.ctx.channels;
    const { deliverLoop } = await import('./deliver.ts');
    await Promise.all(Array.from({ length: 6 }, async () => email && deliverLoop(email.channel).run(server.ctx, 3)));
    const sent = (await mail.taken()).map(({ envelope }) => envelope.to[0]);
    expect(sent).toHaveLength(addressed.length);
    expect(new Set(sent)).toEqual(new Set(addressed));
  });

  test('is tried again, later and later, when the mail server is not there, and the record says so', async () => {
    const address = newAddress();
    mail.refuse(address, '451 try again later');
    const taskId = await server.create([`notify.email.${address}.on-failed`]);
    await server.run(taskId, 'failed');
    const next = async (): Promise<number> => {
      await server.deliver();
      const [record] = await server.deliveriesOf(taskId);
      expect(record).toMatchObject({ state: 'waiting', reason: expect.stringContaining('try again later') });
      return Date.parse(record?.nextAttempt ?? '') - server.clock.nowMs();
    };
    for (const base of [10_000, 20_000, 40_000]) {
      const waitMs = await next();
      expect(waitMs).toBeGreaterThanOrEqual(base * 0.75);
      expect(waitMs).toBeLessThanOrEqual(base * 1.25);
      await server.deliver(); // nothing is due
      expect(await server.deliveriesOf(taskId)).toMatchObject([{ attempts: [10_000, 20_000, 40_000].indexOf(base) + 1 }]);
      server.clock.advance({ ms: waitMs });
    }
    mail.refuse(address, undefined);
    await server.deliver();
    expect(await states()).toEqual(['failed']);
    const [record] = await server.deliveriesOf(taskId);
    expect(record).toMatchObject({ state: 'sent', attempts: 4, subject: expect.stringMatching(/^Task failed: /) });
    expect(record).not.toHaveProperty('reason');
    expect(record).not.toHaveProperty('nextAttempt');
    expect(await server.db`select content, cause from notify.deliveries where task_id = ${taskId}`).toEqual([
      { content: null, cause: null },
    ]);
  });

  test('is given up after a day', async () => {
    const address = newAddress();
    mail.refuse(address, '451 try again later');
    const taskId = await server.create([`notify.email.${address}.on-failed`]);
    await server.run(taskId, 'failed');
    await server.deliver();
    server.clock.advance({ hours: 23 });
    await server.deliver();
    expect(await server.deliveriesOf(taskId)).toMatchObject([{ state: 'waiting', attempts: 2 }]);
    server.clock.advance({ hours: 1 });
    await server.deliver();
    expect(await server.deliveriesOf(taskId)).toMatchObject([
      { state: 'failed', attempts: 3, reason: expect.stringMatching(/^Given up after 3 attempts: .*try again later/) },
    ]);
    expect(await mail.taken()).toEqual([]);
  });

  test('is given up at once when the mail server refuses the address, and others get theirs', async () => {
    const [bad, good] = [newAddress(), newAddress()];
    mail.refuse(bad, '550 no such user here');
    const taskId = await server.create([`notify.email.${bad}.on-failed`, `notify.email.${good}.on-failed`]);
    await server.run(taskId, 'failed');
    await server.deliver();
    expect((await mail.taken()).map(({ envelope }) => envelope.to)).toEqual([[good]]);
    expect(await server.deliveriesOf(taskId)).toMatchObject([
      { notificationAddress: bad, state: 'failed', attempts: 1, reason: expect.stringContaining('no such user here') },
      { notificationAddress: good, state: 'sent' },
    ]);
  });

  test('to a server that is not there is tried again, and the record does not tell where that is', async () => {
    const own = await withNotify({ environment: { ...environment, SMTP_URL: 'smtp://127.0.0.1:1' } });
    const taskId = await own.create([`notify.email.${newAddress()}.on-failed`]);
    await own.run(taskId, 'failed');
    await own.deliver();
    expect(await own.deliveriesOf(taskId)).toMatchObject([{ state: 'waiting', attempts: 1, reason: 'It cannot be reached: ESOCKET' }]);
  });

  test('survives a process that dies with messages in hand', async () => {
    const taskId = await server.create([`notify.email.${newAddress()}.on-failed`]);
    await server.run(taskId, 'failed');
    await server.drain();
    const { takeDue } = await import('./deliveries.db.ts');
    const until = new Date(server.clock.nowMs() + 180_000);
    expect(await takeDue(server.db, ['email'], server.clock.now(), until, 10)).toHaveLength(1);
    await server.deliver();
    expect(await mail.taken()).toEqual([]);
    server.clock.advance({ minutes: 3 });
    await server.deliver();
    expect(await states()).toEqual(['failed']);
  });

  test('of a task that is gone is given up', async () => {
    const taskId = await server.create([`notify.email.${newAddress()}.on-failed`]);
    await server.run(taskId, 'failed');
    await server.drain();
    await server.db`delete from queue.tasks where task_id = ${taskId}`;
    await server.deliver();
    expect(await server.deliveriesOf(taskId)).toMatchObject([{ state: 'failed', reason: 'The task does not exist any more.' }]);
  });

  test('to an address on the denylist is skipped', async () => {
    const address = newAddress();
    await server.notify.addDenylistAddress({ notificationType: 'email', notificationAddress: address });
    const taskId = await server.create([`notify.email.${address}.on-failed`, `notify.email.${newAddress()}.on-failed`]);
    await server.run(taskId, 'failed');
    await server.deliver();
    expect(await states()).toEqual(['failed']);
    expect(await server.deliveriesOf(taskId)).toMatchObject([
      { state: 'skipped', reason: 'The address is on the denylist.' },
      { state: 'sent' },
    ]);
  });

  test('by a channel that is not configured is skipped, and the record says so', async () => {
    const taskId = await server.create([
      'notify.slack-channel.C1.on-any',
      'notify.matrix-room.!a:b.on-any',
      'notify.irc-channel.#x.on-any',
    ]);
    await server.run(taskId, 'completed');
    await server.deliver();
    expect((await server.deliveriesOf(taskId)).map(({ state, reason }) => [state, reason])).toEqual(
      Array.from({ length: 3 }, () => ['skipped', 'The operator has not configured this channel.']),
    );
  });

  test('of more emails than an address may get stops, for a while', async () => {
    const own = await withNotify({ environment: { ...environment, NOTIFY_EMAIL_LIMIT: '2' } });
    const address = newAddress();
    const finish = async (): Promise<string> => {
      const taskId = await own.create([`notify.email.${address}.on-any`]);
      await own.run(taskId, 'completed');
      await own.deliver();
      return (await own.deliveriesOf(taskId))[0]?.state ?? '';
    };
    expect([await finish(), await finish(), await finish()]).toEqual(['sent', 'sent', 'skipped']);
    const footers = (await mail.taken()).map(({ text }) => /(One|No|Up).*may be sent/.exec(text ?? '')?.[0]);
    expect(footers).toEqual(['One more message may be sent', 'No more messages may be sent']);
    own.clock.advance({ seconds: 600 });
    expect(await finish()).toBe('sent');
    await mail.taken();
  });
});

test('a message on the bus carries the status', async () => {
  const taskId = await server.create(['notify.pulse.ci.nightly.on-completed']);
  await server.run(taskId, 'completed');
  const before = server.events.length;
  await server.deliver();
  const [event, ...others] = server.events
    .slice(before)
    .filter(({ exchange }) => exchange === 'exchange/taskcluster-notify/v1/notification');
  expect(others).toEqual([]);
  const { status } = await server.queue.status({ taskId });
  expect(event).toMatchObject({ routingKey: 'primary.ci.nightly', cc: ['route.ci.nightly'], payload: { version: 1, message: status } });
});
