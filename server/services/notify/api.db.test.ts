/** Every method of the API: what it sends, what it refuses, and that a refused call has sent nothing. */
import { notifyApi } from '@tscluster/api/notify/api.ts';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { refusal } from '../../testing/refusal.ts';
import { openMailServer } from '../../testing/mail.ts';
import { openReceiver } from '../../testing/receiver.ts';
import { type NotifyServer, withNotify } from './testing.ts';

const mail = await openMailServer();
const slack = await openReceiver();
const matrix = await openReceiver();
const environment = {
  SMTP_URL: mail.url,
  EMAIL_SOURCE_ADDRESS: 'tc@example.com',
  EMAIL_BLACKLIST: '["blocked@example.com"]',
  SLACK_ACCESS_TOKEN: 'xoxb-secret-token',
  SLACK_API_URL: `${slack.url}/api`,
  MATRIX_BASE_URL: `${matrix.url}/`,
  MATRIX_ACCESS_TOKEN: 'syt-secret-token',
};
let server: NotifyServer;
let notify: NotifyServer['notify'];
beforeAll(async () => {
  server = await withNotify({ environment });
  ({ notify } = server);
});
beforeEach(() => {
  slack.answer({ json: { ok: true } });
  matrix.answer({ json: { event_id: '$1' } });
});

let addresses = 0;
const newAddress = (): string => `dev.${++addresses}@example.com`;
const anEmail = (more: object = {}) => ({ address: newAddress(), subject: 'Hello', content: 'It *works*.', ...more });

/** Status and body of a raw call by somebody who may do everything. */
const call = async (method: string, path: string, body?: unknown): Promise<{ status: number; text: string; type: string | null }> => {
  server.setAnonymousScopes(['*']);
  const response = await server.fetch(`${server.rootUrl}/api/notify/v1${path}`, {
    method,
    ...(body === undefined
      ? {}
      : { headers: { 'content-type': 'application/json' }, body: typeof body === 'string' ? body : JSON.stringify(body) }),
  });
  server.setAnonymousScopes([]);
  return { status: response.status, text: await response.text(), type: response.headers.get('content-type') };
};
const recordOf = async (type: string, address: string): Promise<unknown[]> =>
  (await notify.listAddressDeliveries({ notificationType: type, notificationAddress: address })).deliveries;

describe('email', () => {
  test('is 200 with a bare text when it was sent, and 204 when it was sent before', async () => {
    const message = anEmail();
    expect(await call('POST', '/email', message)).toEqual({ status: 200, text: 'OK', type: 'text/plain; charset=utf-8' });
    expect(await call('POST', '/email', message)).toMatchObject({ status: 204, text: '' });
    expect(await mail.taken()).toHaveLength(1);
    expect(await recordOf('email', message.address)).toMatchObject([
      { state: 'skipped', reason: 'The same message was sent to the address shortly before.', attempts: 0 },
      { state: 'sent', subject: 'Hello', attempts: 1, clientId: 'auth-failed:no-auth' },
    ]);
  });

  test('is the same message by address, subject, content, link and replyTo, and not by the template', async () => {
    const message = anEmail({ link: { text: 'a', href: 'https://example.com' }, replyTo: 'r@example.com' });
    const send = async (more: object): Promise<number> => (await call('POST', '/email', { ...message, ...more })).status;
    expect(await send({})).toBe(200);
    expect(await send({ template: 'fullscreen' })).toBe(204);
    expect(await send({ subject: 'Other' })).toBe(200);
    expect(await send({ content: 'Other' })).toBe(200);
    expect(await send({ link: { href: 'https://example.com', text: 'a' } })).toBe(204);
    expect(await send({ link: { text: 'b', href: 'https://example.com' } })).toBe(200);
    expect(await send({ replyTo: 's@example.com' })).toBe(200);
    expect(await send({ address: newAddress() })).toBe(200);
    await mail.taken();
  });

  test('may be sent again after an hour', async () => {
    const own = await withNotify({ environment });
    const message = anEmail();
    await own.notify.email(message);
    own.clock.advance({ minutes: 59 });
    await own.notify.email(message);
    expect(await mail.taken()).toHaveLength(1);
    own.clock.advance({ minutes: 1 });
    await own.notify.email(message);
    expect(await mail.taken()).toHaveLength(1);
  });

  test('is 204 from the 51st within ten minutes to one address on, whoever calls at once', async () => {
    const own = await withNotify({ environment });
    const address = newAddress();
    const others = newAddress();
    await Promise.all(Array.from({ length: 55 }, (_, i) => own.notify.email(anEmail({ address, subject: `number ${i}` }))));
    await own.notify.email(anEmail({ address: others }));
    const sent = await mail.taken();
    expect(sent.filter(({ envelope }) => envelope.to[0] === address)).toHaveLength(50);
    expect(sent.filter(({ envelope }) => envelope.to[0] === others)).toHaveLength(1);
    own.clock.advance({ minutes: 10 });
    await own.notify.email(anEmail({ address }));
    expect(await mail.taken()).toHaveLength(1);
  });

  test('to a denied or blocked address is refused', async () => {
    const address = newAddress();
    await notify.addDenylistAddress({ notificationType: 'email', notificationAddress: address });
    for (const each of [address, 'blocked@example.com']) {
      expect(await refusal(notify.email(anEmail({ address: each })))).toMatchObject({ status: 400, code: 'DenylistedAddress' });
    }
    await notify.deleteDenylistAddress({ notificationType: 'email', notificationAddress: address });
    await notify.email(anEmail({ address }));
    expect((await mail.taken()).map(({ envelope }) => envelope.to[0])).toEqual([address]);
  });

  test.each([
    ['no address', { address: undefined }],
    ['an address that is none', { address: 'nobody' }],
    ['an address with a header in it', { address: 'a@example.com\r\nBcc: b@example.com' }],
    ['two addresses', { address: 'a@example.com,b@example.com' }],
    ['an empty subject', { subject: '' }],
    ['a long subject', { subject: 'x'.repeat(256) }],
    ['no content', { content: '' }],
    ['enormous content', { content: 'x'.repeat(102_401) }],
    ['a link without a text', { link: { href: 'https://example.com' } }],
    ['a link that is no URL', { link: { text: 'a', href: 'not one' } }],
    ['a link with a long text', { link: { text: 'x'.repeat(41), href: 'https://example.com' } }],
    ['a wrong replyTo', { replyTo: 'me' }],
    ['an unknown template', { template: 'huge' }],
    ['an unknown key', { attachments: [] }],
  ])('with %s is refused', async (_what, change) => {
    expect(await refusal(notify.email(anEmail(change) as never))).toMatchObject({ status: 400, code: 'InputValidationError' });
    expect(await mail.taken()).toEqual([]);
  });

  test('of the greatest size is sent', async () => {
    await notify.email(anEmail({ subject: 'ü'.repeat(255), content: `${'word '.repeat(20_479)}end!` }));
    const [message] = await mail.taken();
    expect(message?.subject).toBe('ü'.repeat(255));
    expect(message?.text?.length).toBeGreaterThan(102_000);
  });

  test('that cannot be sent now is taken, and sent later', async () => {
    const message = anEmail();
    mail.refuse(message.address, '421 too busy');
    expect((await call('POST', '/email', message)).status).toBe(200);
    expect((await call('POST', '/email', message)).status).toBe(204);
    expect(await mail.taken()).toEqual([]);
    mail.refuse(message.address, undefined);
    server.clock.advance({ seconds: 15 });
    await server.deliver();
    expect(await mail.taken()).toMatchObject([{ subject: 'Hello', envelope: { to: [message.address] } }]);
  });

  test('that the mail server refuses is the caller’s mistake, and may be tried again', async () => {
    const message = anEmail();
    mail.refuse(message.address, '550 unknown user');
    expect(await refusal(notify.email(message))).toMatchObject({
      status: 400,
      code: 'InputError',
      message: expect.stringContaining('unknown user'),
    });
    mail.refuse(message.address, undefined);
    expect((await call('POST', '/email', message)).status).toBe(200);
    expect(await mail.taken()).toHaveLength(1);
  });

  test('without a mail server is only noted in the log', async () => {
    const own = await withNotify();
    const message = anEmail();
    await own.notify.email(message);
    const { deliveries } = await own.notify.listAddressDeliveries({ notificationType: 'email', notificationAddress: message.address });
    expect(deliveries).toMatchObject([{ state: 'sent', reason: expect.stringContaining('SMTP_URL') }]);
  });
});

describe('pulse', () => {
  test('is published under both keys, and not twice', async () => {
    const routingKey = 'a.b.c';
    const before = server.events.length;
    expect((await call('POST', '/pulse', { routingKey, message: { x: 1, y: 2 } })).status).toBe(200);
    expect((await call('POST', '/pulse', { routingKey, message: { y: 2, x: 1 } })).status).toBe(204);
    expect((await call('POST', '/pulse', { routingKey, message: { x: 2 } })).status).toBe(200);
    await server.drain();
    expect(server.events.slice(before)).toMatchObject([
      {
        exchange: 'exchange/taskcluster-notify/v1/notification',
        routingKey: 'primary.a.b.c',
        cc: ['route.a.b.c'],
        payload: { version: 1, message: { x: 1, y: 2 } },
      },
      { payload: { message: { x: 2 } } },
    ]);
  });

  test('is refused for keys that cannot be, or are denied', async () => {
    await notify.addDenylistAddress({ notificationType: 'pulse', notificationAddress: 'denied.key' });
    expect(await refusal(notify.pulse({ routingKey: 'denied.key', message: {} }))).toMatchObject({
      status: 400,
      code: 'DenylistedAddress',
    });
    expect(await refusal(notify.pulse({ routingKey: '', message: {} }))).toMatchObject({ status: 400, code: 'InputError' });
    expect(await refusal(notify.pulse({ routingKey: 'x'.repeat(250), message: {} }))).toMatchObject({ status: 400, code: 'InputError' });
    expect(await refusal(notify.pulse({ routingKey: 'x'.repeat(256), message: {} }))).toMatchObject({ code: 'InputValidationError' });
    expect(await refusal(notify.pulse({ routingKey: 'x', message: [] } as never))).toMatchObject({ code: 'InputValidationError' });
  });
});

describe('slack', () => {
  const message = (more: object = {}) => ({ channelId: `C${++addresses}`, text: 'It works', ...more });

  test('is posted as it is', async () => {
    const blocks = [{ type: 'section', text: { type: 'mrkdwn', text: '*hi*' } }];
    const given = message({ blocks, attachments: [{ a: 1 }], unfurlLinks: true });
    expect((await call('POST', '/slack', given)).status).toBe(200);
    expect((await call('POST', '/slack', { ...given, unfurlLinks: false })).status).toBe(204);
    const [request, ...others] = slack.taken();
    expect(others).toEqual([]);
    expect(request).toMatchObject({ method: 'POST', url: '/api/chat.postMessage', headers: { authorization: 'Bearer xoxb-secret-token' } });
    expect(JSON.parse(request?.body ?? '')).toEqual({
      channel: given.channelId,
      text: 'It works',
      blocks,
      attachments: [{ a: 1 }],
      unfurl_links: true,
      unfurl_media: false,
    });
  });

  test('is refused for a denied channel, and for one that Slack does not know', async () => {
    const denied = message();
    await notify.addDenylistAddress({ notificationType: 'slack-channel', notificationAddress: denied.channelId });
    expect(await refusal(notify.slack(denied))).toMatchObject({ status: 400, code: 'DenylistedAddress' });
    expect(slack.taken()).toEqual([]);
    slack.answer({ json: { ok: false, error: 'channel_not_found' } });
    const unknown = message();
    expect(await refusal(notify.slack(unknown))).toMatchObject({
      status: 400,
      code: 'InputError',
      message: expect.stringContaining('channel_not_found'),
    });
    slack.answer({ json: { ok: true } });
    expect((await call('POST', '/slack', unknown)).status).toBe(200);
    slack.taken();
  });

  test.each([
    ['says that it is too much', { status: 429, json: { ok: false, error: 'ratelimited' }, headers: { 'retry-after': '30' } }],
    ['is broken', { status: 503 }],
    ['does not take our token any more', { json: { ok: false, error: 'token_revoked' } }],
    ['answers with what is no JSON object', { json: 'what?' }],
    ['sends us elsewhere', { status: 302, headers: { location: 'http://169.254.169.254/' } }],
  ])('is tried again when Slack %s', async (_how, answer) => {
    slack.answer(answer);
    const given = message();
    expect((await call('POST', '/slack', given)).status).toBe(200);
    expect(await recordOf('slack-channel', given.channelId)).toMatchObject([{ state: 'waiting', attempts: 1 }]);
    slack.answer({ json: { ok: true } });
    server.clock.advance({ seconds: 13 });
    await server.deliver();
    expect(await recordOf('slack-channel', given.channelId)).toMatchObject([{ state: 'sent', attempts: 2 }]);
    expect(slack.taken()).toHaveLength(2);
  });

  test('is 204 where it is not configured', async () => {
    const own = await withNotify();
    own.setAnonymousScopes(['*']);
    for (const [path, body] of [
      ['slack', message()],
      ['matrix', { roomId: '!a:b', body: 'x' }],
      ['irc', { channel: '#x', message: 'x' }],
    ] as const) {
      const headers = { 'content-type': 'application/json' };
      const response = await own.fetch(`${own.rootUrl}/api/notify/v1/${path}`, { method: 'POST', headers, body: JSON.stringify(body) });
      expect(response.status).toBe(204);
    }
  });

  test('about a task shows its state, and its own words where it has some', async () => {
    const plain = await server.create(['notify.slack-channel.C1.on-any']);
    await server.run(plain, 'failed');
    const notifyExtra = {
      slackText: 'custom ${status.state}',
      slackBlocks: [{ type: 'section', text: { type: 'plain_text', text: '${taskId}' } }],
      slackAttachments: { $eval: '[1]' },
      slackUnfurlLinks: true,
      slackUnfurlMedia: 'true',
    };
    const metadata = { name: 'a <b|c> & d', description: 'd', owner: 'o@example.com', source: 'https://src.example' };
    const custom = await server.create(['notify.slack-channel.C2.on-any'], { extra: { notify: notifyExtra }, metadata });
    await server.run(custom, 'completed');
    const escaped = await server.create(['notify.slack-channel.C3.on-running'], {
      metadata,
      extra: { notify: { slackBlocks: { $eval: 'x' } } },
    });
    await server.run(escaped, 'completed');
    await server.deliver();
    const sent = slack.taken().map(({ body }) => JSON.parse(body) as { channel: string; text: string; blocks: unknown[] });
    const of = (channel: string) => sent.find(each => each.channel === channel);
    const line = `:x: *<http://taskcluster.test/tasks/${plain}|build *it*>* transitioned to _failed_`;
    expect(of('C1')).toEqual({
      channel: 'C1',
      text: line,
      blocks: [
        { type: 'section', text: { type: 'mrkdwn', text: line } },
        {
          type: 'context',
          elements: [{ type: 'mrkdwn', text: `Part of <http://taskcluster.test/tasks/groups/${plain}/tasks|task group>` }],
        },
      ],
      unfurl_links: false,
      unfurl_media: false,
    });
    expect(of('C2')).toEqual({
      channel: 'C2',
      text: 'custom completed',
      blocks: [{ type: 'section', text: { type: 'plain_text', text: custom } }],
      attachments: [1],
      unfurl_links: true,
      unfurl_media: false,
    });
    expect(of('C3')?.text).toBe(
      `:hammer_and_wrench: *<http://taskcluster.test/tasks/${escaped}|a &lt;b¦c&gt; &amp; d>* transitioned to _running_`,
    );
    expect(of('C3')?.blocks).toHaveLength(2);
  });
});

describe('matrix', () => {
  const message = (more: object = {}) => ({ roomId: `!r${++addresses}:example.org`, body: 'It works', ...more });

  test('is sent as an event', async () => {
    const given = message({ format: 'org.matrix.custom.html', formattedBody: '<b>It works</b>', msgtype: 'm.text' });
    expect((await call('POST', '/matrix', given)).status).toBe(200);
    expect((await call('POST', '/matrix', given)).status).toBe(204);
    expect((await call('POST', '/matrix', message({ roomId: given.roomId }))).status).toBe(200);
    const [request, second] = matrix.taken();
    expect(request).toMatchObject({ method: 'PUT', headers: { authorization: 'Bearer syt-secret-token' } });
    expect(request?.url).toMatch(
      new RegExp(`^/_matrix/client/v3/rooms/${encodeURIComponent(given.roomId).replace('!', '!')}/send/m.room.message/[\\w-]{22}$`),
    );
    expect(JSON.parse(request?.body ?? '')).toEqual({
      body: 'It works',
      msgtype: 'm.text',
      format: 'org.matrix.custom.html',
      formatted_body: '<b>It works</b>',
    });
    expect(JSON.parse(second?.body ?? '')).toEqual({ body: 'It works', msgtype: 'm.notice' });
    expect(second?.url).not.toBe(request?.url);
  });

  test('is refused where the bot was not invited, or the room is denied', async () => {
    matrix.answer({ status: 403, json: { errcode: 'M_FORBIDDEN', error: 'User not in room' } });
    expect(await refusal(notify.matrix(message()))).toMatchObject({
      status: 400,
      code: 'InputError',
      message: expect.stringContaining('invited'),
    });
    matrix.taken();
    for (const roomId of ['', '.', '..']) {
      expect(await refusal(notify.matrix({ ...message(), roomId }))).toMatchObject({ status: 400, code: 'InputError' });
    }
    const denied = message();
    await notify.addDenylistAddress({ notificationType: 'matrix-room', notificationAddress: denied.roomId });
    expect(await refusal(notify.matrix(denied))).toMatchObject({ status: 400, code: 'DenylistedAddress' });
    expect(matrix.taken()).toEqual([]);
  });

  test('is tried again, as the same event, when the server is too busy', async () => {
    matrix.answer({ status: 429, json: { errcode: 'M_LIMIT_EXCEEDED', retry_after_ms: 2000 } });
    expect((await call('POST', '/matrix', message())).status).toBe(200);
    matrix.answer({ json: { event_id: '$1' } });
    server.clock.advance({ seconds: 13 });
    await server.deliver();
    const [first, second] = matrix.taken();
    expect(second?.url).toBe(first?.url);
  });

  test('about a task says how it ended, and its own words where it has some', async () => {
    const plain = await server.create(['notify.matrix-room.!p:x.org.on-any']);
    await server.run(plain, 'failed');
    const extra = {
      notify: {
        matrixBody: 'custom ${status.state}',
        matrixFormattedBody: '<b>${taskId}</b>',
        matrixFormat: '${raw}',
        matrixMsgtype: 'm.emote',
      },
    };
    const custom = await server.create(['notify.matrix-room.!c:x.org.on-any'], { extra });
    await server.run(custom, 'completed');
    const wrong = await server.create(['notify.matrix-room.!w:x.org.on-any'], {
      extra: { notify: { matrixBody: '${', matrixMsgtype: 'm.image' } },
    });
    await server.run(wrong, 'completed');
    await server.deliver();
    const sent = new Map(matrix.taken().map(({ url, body }) => [decodeURIComponent(url.split('/')[5] ?? ''), JSON.parse(body) as object]));
    expect(sent.get('!p:x.org')).toEqual({
      body: `'build *it*' resolved as 'failed': http://taskcluster.test/tasks/${plain}`,
      msgtype: 'm.notice',
    });
    expect(sent.get('!c:x.org')).toEqual({
      body: 'custom completed',
      formatted_body: `<b>${custom}</b>`,
      format: '${raw}',
      msgtype: 'm.emote',
    });
    expect(sent.get('!w:x.org')).toMatchObject({ body: expect.stringMatching(/^Error parsing custom message: /), msgtype: 'm.notice' });
  });
});

describe('the denylist', () => {
  test('takes an address more than once, and lets go of one more than once', async () => {
    const own = await withNotify();
    const one = { notificationType: 'email', notificationAddress: 'a@example.com' } as const;
    own.setAnonymousScopes(['*']);
    const raw = async (method: string, path: string, body: object): Promise<[number, string]> => {
      const headers = { 'content-type': 'application/json' };
      const response = await own.fetch(`${own.rootUrl}/api/notify/v1${path}`, { method, headers, body: JSON.stringify(body) });
      return [response.status, await response.text()];
    };
    expect(await raw('POST', '/denylist/add', one)).toEqual([200, 'OK']);
    expect(await raw('POST', '/denylist/add', one)).toEqual([200, 'OK']);
    expect(await own.notify.listDenylist()).toEqual({ addresses: [one] });
    expect(await raw('DELETE', '/denylist/delete', one)).toEqual([200, 'OK']);
    expect(await raw('DELETE', '/denylist/delete', one)).toEqual([200, 'OK']);
    expect(await own.notify.listDenylist()).toEqual({ addresses: [] });
    expect((await raw('POST', '/denylist/add', { ...one, notificationType: 'pigeon' }))[0]).toBe(400);
    expect((await raw('POST', '/denylist/add', { ...one, notificationAddress: 'x'.repeat(2_001) }))[0]).toBe(400);
    expect((await raw('DELETE', '/denylist/delete', { notificationType: 'email' }))[0]).toBe(400);
  });

  test('is listed by type and address, page by page', async () => {
    const own = await withNotify();
    const all = [
      ['email', 'a-b@example.com'],
      ['email', 'a@example.com'],
      ['email', 'A@example.com'],
      ['email', 'B@example.com'],
      ['matrix-room', '!x:y'],
      ['pulse', 'a.b'],
      ['slack-channel', 'C1'],
    ] as const;
    for (const [notificationType, notificationAddress] of all.toReversed()) {
      await own.notify.addDenylistAddress({ notificationType, notificationAddress });
    }
    const seen: string[][] = [];
    let continuationToken: string | undefined;
    do {
      const page = await own.notify.listDenylist({ limit: '2', ...(continuationToken === undefined ? {} : { continuationToken }) });
      seen.push(...page.addresses.map(({ notificationType, notificationAddress }) => [notificationType, notificationAddress]));
      ({ continuationToken } = page);
    } while (continuationToken !== undefined);
    expect(seen).toEqual(all);
    expect(await own.notify.listDenylist({ limit: '0' })).toEqual({ addresses: [] });
    expect(await refusal(own.notify.listDenylist({ continuationToken: '&' }))).toMatchObject({ status: 400, code: 'InputError' });
  });
});

describe('deliveries', () => {
  test('to an address are listed page by page, the newest first', async () => {
    const address = newAddress();
    for (let i = 0; i < 5; i++) {
      await notify.email(anEmail({ address, subject: `number ${i}` }));
    }
    await mail.taken();
    const params = { notificationType: 'email', notificationAddress: address };
    const seen: (string | undefined)[] = [];
    let continuationToken: string | undefined;
    do {
      const page = await notify.listAddressDeliveries(params, {
        limit: '2',
        ...(continuationToken === undefined ? {} : { continuationToken }),
      });
      seen.push(...page.deliveries.map(({ subject }) => subject));
      ({ continuationToken } = page);
    } while (continuationToken !== undefined);
    expect(seen).toEqual([4, 3, 2, 1, 0].map(i => `number ${i}`));
    expect(await refusal(notify.listAddressDeliveries(params, { continuationToken: 'abc' }))).toMatchObject({
      status: 400,
      code: 'InputError',
    });
    expect(await refusal(notify.listAddressDeliveries({ ...params, notificationType: 'pigeon' }))).toMatchObject({
      code: 'InvalidRequestArguments',
    });
    expect(await refusal(notify.listTaskDeliveries({ taskId: 'x' }))).toMatchObject({ status: 400, code: 'InvalidRequestArguments' });
  });

  test('are forgotten after a month, those that wait are not', async () => {
    const own = await withNotify({ environment });
    const [sent, waiting] = [anEmail(), anEmail()];
    mail.refuse(waiting.address, '451 later');
    await own.notify.email(sent);
    await own.notify.email(waiting);
    const { purgeDeliveries } = await import('./loops.ts');
    const purge = (): Promise<number> => purgeDeliveries.run({ ...own, retentionMs: 30 * 24 * 3_600_000 }, 10);
    own.clock.advance({ days: 30 });
    expect(await purge()).toBe(0);
    own.clock.advance({ ms: 1 });
    expect(await purge()).toBe(1);
    expect(
      (await own.notify.listAddressDeliveries({ notificationType: 'email', notificationAddress: waiting.address })).deliveries,
    ).toHaveLength(1);
    await mail.taken();
  });
});

describe('scopes', () => {
  const taskId = 'fN1SbArXTPSVFNUvaOlinQ';
  const attempts: readonly (readonly [string, (api: NotifyServer['notify']) => Promise<unknown>, string])[] = [
    ['email', api => api.email(anEmail({ address: 'a@example.com' })), 'notify:email:a@example.com'],
    ['pulse', api => api.pulse({ routingKey: 'a.b', message: {} }), 'notify:pulse:a.b'],
    ['matrix', api => api.matrix({ roomId: '!a:b', body: 'x' }), 'notify:matrix-room:!a:b'],
    ['slack', api => api.slack({ channelId: 'C9', text: 'x' }), 'notify:slack-channel:C9'],
    ['irc to a channel', api => api.irc({ channel: '#a', message: 'x' }), 'notify:irc-channel:#a'],
    ['irc to a person', api => api.irc({ user: 'a', message: 'x' }), 'notify:irc-user:a'],
    ['webhook', api => api.webhook({ name: 'w', payload: {} }), 'notify:webhook:w'],
    [
      'addDenylistAddress',
      api => api.addDenylistAddress({ notificationType: 'pulse', notificationAddress: 'zz' }),
      'notify:manage-denylist',
    ],
    [
      'deleteDenylistAddress',
      api => api.deleteDenylistAddress({ notificationType: 'pulse', notificationAddress: 'zz' }),
      'notify:manage-denylist',
    ],
    ['listDenylist', api => api.listDenylist(), 'notify:manage-denylist'],
    ['listTaskDeliveries', api => api.listTaskDeliveries({ taskId }), `notify:list-deliveries:task:${taskId}`],
    ['listTaskGroupDeliveries', api => api.listTaskGroupDeliveries({ taskGroupId: taskId }), `notify:list-deliveries:task-group:${taskId}`],
    [
      'listAddressDeliveries',
      api => api.listAddressDeliveries({ notificationType: 'irc-channel', notificationAddress: '#a/b' }),
      'notify:list-deliveries:address:irc-channel:#a/b',
    ],
  ];
  test.each(attempts)('of %s', async (_name, attempt, scope) => {
    const without = server.client(notifyApi, { scopes: ['notify:email:b@example.com', 'notify:list-deliveries:task'] });
    expect(await refusal(attempt(without))).toMatchObject({
      status: 403,
      code: 'InsufficientScopes',
      message: expect.stringContaining(scope),
    });
    expect(await refusal(attempt(server.client(notifyApi, { scopes: null })))).toMatchObject({ status: 403, code: 'InsufficientScopes' });
    expect([...(await mail.taken()), ...slack.taken(), ...matrix.taken()]).toEqual([]);
    const allowed = await refusal(attempt(server.client(notifyApi, { scopes: [scope] }))).catch((error: Error) => error.message);
    expect(allowed === 'The call was not refused' || (allowed as { code: string }).code === 'InputError').toBe(true);
    await mail.taken();
    slack.taken();
    matrix.taken();
  });
});

test('no secret of a channel is in any record', async () => {
  slack.answer({ status: 500, json: { ok: false, error: 'bearer xoxb' } });
  await notify.slack({ channelId: 'Cleak', text: 'x' });
  const records = JSON.stringify(await server.db`select * from notify.deliveries`);
  expect(records).not.toContain('secret-token');
  expect(await server.platform.metrics.registry.metrics()).not.toContain('secret-token');
});
