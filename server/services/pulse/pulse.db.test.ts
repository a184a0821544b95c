/** Namespaces on a real RabbitMQ; who claims one is plain `amqplib`. */
import amqplib, { type Channel, type ChannelModel } from 'amqplib';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { pulseApi } from '@tscluster/api/pulse/api.ts';
import type { Client } from '@tscluster/client/client.ts';
import { systemClock } from '../../platform/clock.ts';
import type { RunningService } from '../../platform/service.ts';
import { openMailServer } from '../../testing/mail.ts';
import { describeWith } from '../../testing/programs.ts';
import { BUS_USER, type TestRabbitmq, type Vhost, startRabbitmq } from '../../testing/rabbitmq.ts';
import { type TestServer, withServer } from '../../testing/server.ts';
import { notifyService } from '../notify/service.ts';
import { TAG } from './accounts.ts';
import { contextOf, expiry, monitor, pulseService, rotation } from './service.ts';
import { brokerAddress } from './settings.ts';

const MINUTE_MS = 60_000;

describe('settings', () => {
  test('tell where users reach the broker', () => {
    const managementUrl = 'http://a:b@mgmt:15672';
    expect(brokerAddress({ managementUrl: undefined, publicUrl: undefined, pulseUrl: 'amqp://u:p@host/v' })).toBeUndefined();
    const own = brokerAddress({ managementUrl, publicUrl: undefined, pulseUrl: 'amqp://u%40x:p@host:5673/a%2Fb?heartbeat=5' });
    expect([own?.publicUrl.href, own?.vhost, own?.ownUser]).toEqual(['amqp://host:5673/a%2Fb', 'a/b', 'u@x']);
    const other = brokerAddress({ managementUrl, publicUrl: 'amqps://pulse.example.com', pulseUrl: 'amqp://u:p@host/v' });
    expect([other?.publicUrl.href, other?.vhost]).toEqual(['amqps://pulse.example.com', '/']);
    expect(() => brokerAddress({ managementUrl, publicUrl: undefined, pulseUrl: undefined })).toThrow(
      'neither PULSE_PUBLIC_URL nor PULSE_URL',
    );
  });

  test.each([
    ['PULSE_MANAGEMENT_URL', 'amqp://a:b@host'],
    ['PULSE_MANAGEMENT_URL', 'http://host:15672'],
    ['PULSE_PUBLIC_URL', 'https://host'],
    ['PULSE_NAMESPACE_PREFIX', 'a/b'],
    ['PULSE_NAMESPACE_PREFIX', 'taskcluster-ci-'],
    ['PULSE_ROTATION_MINUTES', '0'],
  ])('%s=%s is refused', async (name, value) => {
    await expect(withServer([pulseService], { environment: { [name]: value } })).rejects.toThrow(name);
  });
});

test('without a broker every method says what is missing', async () => {
  const { client } = await withServer([pulseService], { loops: true });
  const pulse = client(pulseApi);
  const refused = { statusCode: 404, code: 'ResourceNotFound', message: expect.stringContaining('PULSE_MANAGEMENT_URL') };
  await expect(pulse.overview()).rejects.toMatchObject(refused);
  await expect(pulse.exchanges()).rejects.toMatchObject(refused);
  await expect(pulse.listNamespaces()).rejects.toMatchObject(refused);
  await expect(pulse.namespace({ namespace: 'a' })).rejects.toMatchObject(refused);
  await expect(pulse.claimNamespace({ namespace: 'a' }, { expires: '2100-01-01T00:00:00Z' })).rejects.toMatchObject(refused);
});

describeWith('rabbitmq-server', 'rabbitmq-server', 'namespaces', () => {
  let rabbit: TestRabbitmq;
  let vhost: Vhost;
  let server: TestServer;
  let running: RunningService;
  let pulse: Client<typeof pulseApi>;
  let mail: Awaited<ReturnType<typeof openMailServer>>;
  let environment: Record<string, string>;
  beforeAll(async () => {
    rabbit = await startRabbitmq();
    vhost = await rabbit.makeVhost();
    mail = await openMailServer();
    environment = {
      PULSE_URL: vhost.url,
      PULSE_MANAGEMENT_URL: rabbit.managementUrl,
      PULSE_QUEUE_ALERT_MESSAGES: '10',
      PULSE_QUEUE_DELETE_MESSAGES: '20',
      PULSE_CONNECTION_MAX_MINUTES: '120',
      SMTP_URL: mail.url,
    };
    server = await withServer([pulseService, notifyService], { environment });
    running = server.server.services.get('pulse') as RunningService;
    pulse = server.client(pulseApi);
  }, 180_000);
  afterAll(() => rabbit?.close());

  const run = (loop: typeof rotation): Promise<number> => loop.run(contextOf(running), 100);
  /** As if that time had passed since connections were opened: the broker's clock does not follow the test's. */
  const runMonitor = (passedMs = 0): Promise<number> => {
    const ctx = contextOf(running);
    const aheadMs = server.clock.nowMs() - systemClock.nowMs();
    return monitor.run({ ...ctx, connectionMs: ctx.connectionMs + aheadMs - passedMs }, 100);
  };
  const inMinutes = (minutes: number): string => new Date(server.clock.nowMs() + minutes * MINUTE_MS).toISOString();
  const day = (): string => inMinutes(24 * 60);

  const connect = async (connectionString: string): Promise<ChannelModel> => {
    const connection = await amqplib.connect(connectionString);
    connection.on('error', () => undefined);
    onTestFinished(() => connection.close().catch(() => undefined));
    return connection;
  };
  const openChannel = async (connection: ChannelModel): Promise<Channel> => {
    const channel = await connection.createChannel();
    channel.on('error', () => undefined);
    return channel;
  };
  const refused = { code: 403, message: expect.stringContaining('ACCESS_REFUSED') };
  const works = async (connectionString: string): Promise<boolean> => {
    try {
      await (await amqplib.connect(connectionString)).close();
      return true;
    } catch (error) {
      expect((error as Error).message).toContain('ACCESS_REFUSED');
      return false;
    }
  };
  const userOf = (connectionString: string): string => new URL(connectionString).username;
  const inVhost = (kind: string, name = ''): string =>
    `/${kind}/${encodeURIComponent(vhost.name)}/${encodeURIComponent(name)}`.replace(/\/$/, '');
  const namesOf = async (kind: 'queues' | 'exchanges', prefix: string): Promise<string[]> =>
    (await rabbit.api<{ name: string }[]>('GET', inVhost(kind))).map(({ name }) => name).filter(name => name.startsWith(prefix));
  const userExists = (name: string): Promise<boolean> =>
    rabbit.api('GET', `/users/${name}`).then(
      () => true,
      () => false,
    );

  describe('claimNamespace', () => {
    test('gives an account that may use its own queues and exchanges, and listen to all', async () => {
      const expires = day();
      const claimed = await pulse.claimNamespace({ namespace: 'my-tool' }, { expires, contact: 'me@example.com' });
      expect(claimed).toEqual({
        namespace: 'my-tool',
        contact: 'me@example.com',
        created: new Date(server.clock.nowMs()).toISOString(),
        expires,
        connectionString: expect.stringMatching(/^amqp:\/\/my-tool-1:[A-Za-z0-9_-]{44}@127\.0\.0\.1:\d+\/test%2F[0-9a-f]+$/),
        reclaimAt: inMinutes(60 + 30),
      });
      const connection = await connect(claimed.connectionString);
      const channel = await openChannel(connection);
      await channel.assertExchange('exchange/my-tool/events', 'topic', { durable: true });
      await channel.assertQueue('queue/my-tool/inbox', { durable: true });
      await channel.bindQueue('queue/my-tool/inbox', 'exchange/my-tool/events', '#');
      const owner = await openChannel(await connect(vhost.url));
      await owner.assertExchange('exchange/taskcluster-queue/v1/task-completed', 'topic', { durable: true });
      await owner.assertQueue('queue/other/inbox');
      await channel.bindQueue('queue/my-tool/inbox', 'exchange/taskcluster-queue/v1/task-completed', 'primary.#');
      owner.publish('exchange/taskcluster-queue/v1/task-completed', 'primary.x', Buffer.from('{}'));
      channel.publish('exchange/my-tool/events', 'x', Buffer.from('{}'));
      await expect.poll(async () => (await channel.checkQueue('queue/my-tool/inbox')).messageCount).toBe(2);

      await expect((await openChannel(connection)).assertQueue('inbox')).rejects.toMatchObject(refused);
      await expect((await openChannel(connection)).assertQueue('queue/my-tool-2/inbox')).rejects.toMatchObject(refused);
      await expect((await openChannel(connection)).assertQueue('xqueue/my-tool/inbox')).rejects.toMatchObject(refused);
      await expect((await openChannel(connection)).assertExchange('exchange/taskcluster-queue/v1/new', 'topic')).rejects.toMatchObject(
        refused,
      );
      await expect((await openChannel(connection)).consume('queue/other/inbox', () => undefined)).rejects.toMatchObject(refused);
      const forger = await connection.createConfirmChannel();
      const ended = new Promise<unknown>(resolve => void forger.once('error', resolve));
      forger.publish('exchange/taskcluster-queue/v1/task-completed', 'primary.x', Buffer.from('{}'));
      expect(await ended).toMatchObject(refused);
    });

    test('again extends the namespace and gives the same account', async () => {
      const first = await pulse.claimNamespace({ namespace: 'again' }, { expires: inMinutes(60), contact: 'a@example.com' });
      server.clock.advance({ minutes: 10 });
      const expires = day();
      const second = await pulse.claimNamespace({ namespace: 'again' }, { expires });
      expect(second).toEqual({ ...first, expires });
      expect(await pulse.claimNamespace({ namespace: 'again' }, { expires, contact: 'b@example.com' })).toEqual({
        ...second,
        contact: 'b@example.com',
      });
      expect(await pulse.namespace({ namespace: 'again' })).toEqual({
        namespace: 'again',
        contact: 'b@example.com',
        created: first.created,
        expires,
      });
    });

    test('by many at once gives all the same account, which works', async () => {
      for (let round = 0; round < 20; round++) {
        const namespace = `crowd-${round}`;
        const claims = await Promise.all(Array.from({ length: 8 }, () => pulse.claimNamespace({ namespace }, { expires: day() })));
        expect(new Set(claims.map(({ connectionString }) => connectionString)).size).toBe(1);
        expect(await works(claims[0]?.connectionString ?? '')).toBe(true);
      }
    });

    test.each([
      ['x'.repeat(65), 'has 1 to 64 letters'],
      ['a.b', 'has 1 to 64 letters'],
      ['a b', 'has 1 to 64 letters'],
      ['ä', 'has 1 to 64 letters'],
      ['a/b', 'has 1 to 64 letters'],
      ['taskcluster-queue', 'Taskcluster itself'],
      ['taskcluster-worker-manager', 'Taskcluster itself'],
      [BUS_USER, 'Taskcluster itself'],
    ])('refuses the name %j', async (namespace, message) => {
      await expect(pulse.claimNamespace({ namespace }, { expires: day() })).rejects.toMatchObject({
        statusCode: 400,
        code: 'InvalidNamespace',
        message: expect.stringContaining(message),
      });
    });

    test('takes the longest name', async () => {
      const { connectionString } = await pulse.claimNamespace({ namespace: 'x'.repeat(64) }, { expires: day() });
      expect(await works(connectionString)).toBe(true);
    });

    test('refuses what is over already, and what is no claim, and then has done nothing', async () => {
      const body = { expires: day() };
      await expect(pulse.claimNamespace({ namespace: 'none' }, { expires: inMinutes(-1) })).rejects.toMatchObject({ code: 'InputError' });
      for (const bad of [{}, { expires: 'soon' }, { ...body, contact: 'nobody' }, { ...body, contact: 7 }, { ...body, more: 1 }]) {
        await expect(pulse.claimNamespace({ namespace: 'none' }, bad as never)).rejects.toMatchObject({ code: 'InputValidationError' });
      }
      const some = server.client(pulseApi, { scopes: ['pulse:namespace:some', 'pulse:namespace:others-*'] });
      await expect(some.claimNamespace({ namespace: 'none' }, body)).rejects.toMatchObject({ code: 'InsufficientScopes' });
      await expect(pulse.namespace({ namespace: 'none' })).rejects.toMatchObject({ code: 'ResourceNotFound' });
      expect(await userExists('none-1')).toBe(false);
      await some.claimNamespace({ namespace: 'others-1' }, body);
    });

    test('leaves a user alone that somebody else has made', async () => {
      await rabbit.api('PUT', '/users/ops-2', { password: 'precious', tags: 'administrator' });
      await expect(pulse.claimNamespace({ namespace: 'ops' }, { expires: day() })).rejects.toMatchObject({
        code: 'RequestConflict',
        message: expect.stringContaining('`ops-2`'),
      });
      expect(await rabbit.api('GET', '/users/ops-2')).toMatchObject({ tags: ['administrator'] });
      expect(await userExists('ops-1')).toBe(false);
      await expect(pulse.namespace({ namespace: 'ops' })).rejects.toMatchObject({ code: 'ResourceNotFound' });
      // also later, and then the namespace is as it was
      await pulse.claimNamespace({ namespace: 'taken' }, { expires: day(), contact: 'me@example.com' });
      const before = await pulse.namespace({ namespace: 'taken' });
      await rabbit.api('DELETE', '/users/taken-2');
      await rabbit.api('PUT', '/users/taken-2', { password: 'precious', tags: '' });
      await expect(
        pulse.claimNamespace({ namespace: 'taken' }, { expires: inMinutes(1), contact: 'you@example.com' }),
      ).rejects.toMatchObject({ code: 'RequestConflict', message: expect.stringContaining('`taken-2`') });
      expect(await pulse.namespace({ namespace: 'taken' })).toEqual(before);
    });

    test('makes the account anew on a broker that has lost it', async () => {
      const { connectionString } = await pulse.claimNamespace({ namespace: 'lost' }, { expires: day() });
      await rabbit.api('DELETE', '/users/lost-1');
      expect(await works(connectionString)).toBe(false);
      const again = await pulse.claimNamespace({ namespace: 'lost' }, { expires: day() });
      expect(again.connectionString).toBe(connectionString);
      expect(await works(connectionString)).toBe(true);
    });

    test('says when the broker cannot be managed, and can be repeated', async () => {
      const other = await withServer([pulseService], { environment: { ...environment, PULSE_MANAGEMENT_URL: 'http://a:b@127.0.0.1:1' } });
      await expect(other.client(pulseApi).claimNamespace({ namespace: 'later' }, { expires: day() })).rejects.toMatchObject({
        statusCode: 503,
        code: 'ServiceUnavailable',
        message: expect.stringContaining('cannot be reached'),
      });
      const wrong = await withServer([pulseService], {
        environment: { ...environment, PULSE_MANAGEMENT_URL: rabbit.managementUrl.replace('guest:guest', 'guest:wrong') },
      });
      await expect(wrong.client(pulseApi).overview()).rejects.toMatchObject({ statusCode: 503, message: expect.stringContaining('401') });
      const lost = await withServer([pulseService], { environment: { ...environment, PULSE_URL: `${vhost.url}-lost` } });
      await expect(lost.client(pulseApi).claimNamespace({ namespace: 'nowhere' }, { expires: day() })).rejects.toMatchObject({
        statusCode: 503,
        message: expect.stringContaining('to PUT /permissions/'),
      });
      const repaired = await withServer([pulseService], { environment, db: other.db, clock: other.clock });
      const claimed = await repaired.client(pulseApi).claimNamespace({ namespace: 'later' }, { expires: day() });
      expect(await works(claimed.connectionString)).toBe(true);
    });

    test('keeps passwords encrypted, and out of every answer but that of a claim', async () => {
      const { connectionString } = await pulse.claimNamespace({ namespace: 'hidden' }, { expires: day() });
      const { password } = new URL(connectionString);
      expect(JSON.stringify(await server.db`select * from pulse.namespaces`)).not.toContain(password);
      expect(JSON.stringify([await pulse.namespace({ namespace: 'hidden' }), await pulse.listNamespaces()])).not.toContain(password);
    });
  });

  test('the prefix that is configured is required', async () => {
    const { client, clock } = await withServer([pulseService], { environment: { ...environment, PULSE_NAMESPACE_PREFIX: 'ci-' } });
    const expires = new Date(clock.nowMs() + MINUTE_MS).toISOString();
    await expect(client(pulseApi).claimNamespace({ namespace: 'tool' }, { expires })).rejects.toMatchObject({ code: 'InvalidNamespace' });
    expect(await client(pulseApi).claimNamespace({ namespace: 'ci-tool' }, { expires })).toMatchObject({ namespace: 'ci-tool' });
  });

  test('the overview says what the broker is; exchanges are listed page by page', async () => {
    expect(await pulse.overview()).toEqual({
      rabbitVersion: expect.stringMatching(/^\d+\.\d+\.\d+/),
      clusterName: expect.any(String),
      managementVersion: expect.stringMatching(/^\d+\./),
    });
    const channel = await openChannel(await connect(vhost.url));
    for (const name of ['b', 'a', 'c']) {
      await channel.assertExchange(`exchange/listed/${name}`, 'topic', { durable: true });
    }
    const seen: string[] = [];
    let continuationToken: string | undefined;
    do {
      const page = await pulse.exchanges({ limit: '1', ...(continuationToken !== undefined && { continuationToken }) });
      seen.push(...page.exchanges.map(({ name }) => name));
      continuationToken = page.continuationToken;
    } while (continuationToken !== undefined);
    expect(seen.filter(name => name.startsWith('exchange/listed/'))).toEqual(['a', 'b', 'c'].map(name => `exchange/listed/${name}`));
    expect(new Set(seen).size).toBe(seen.length);
    const { exchanges } = await pulse.exchanges();
    expect(exchanges.find(({ name }) => name === 'exchange/listed/a')).toEqual({
      name: 'exchange/listed/a',
      vhost: vhost.name,
      type: 'topic',
      durable: true,
      autoDelete: false,
      internal: false,
      arguments: {},
    });
    expect(exchanges.some(({ name }) => name.startsWith('amq.') || name === '')).toBe(false);
  });

  test('namespaces are listed by name, page by page, without those that have ended', async () => {
    for (const namespace of ['list-c', 'list-a', 'list-b']) {
      await pulse.claimNamespace({ namespace }, { expires: day() });
    }
    await pulse.claimNamespace({ namespace: 'list-over' }, { expires: inMinutes(1) });
    server.clock.advance({ minutes: 2 });
    const seen: string[] = [];
    let continuationToken: string | undefined;
    do {
      const page = await pulse.listNamespaces({ limit: '2', ...(continuationToken !== undefined && { continuationToken }) });
      expect(page.namespaces.length).toBeLessThanOrEqual(2);
      seen.push(...page.namespaces.map(({ namespace }) => namespace));
      continuationToken = page.continuationToken;
    } while (continuationToken !== undefined);
    expect(seen.filter(name => name.startsWith('list-'))).toEqual(['list-a', 'list-b', 'list-c']);
    expect(new Set(seen).size).toBe(seen.length);
    await expect(pulse.namespace({ namespace: 'list-over' })).rejects.toMatchObject({ code: 'ResourceNotFound' });
    await expect(pulse.listNamespaces({ continuationToken: '!' })).rejects.toMatchObject({ code: 'InputError' });
  });

  test('passwords rotate: an account works for at least an interval after it was given out', async () => {
    const expires = inMinutes(7 * 24 * 60);
    const claim = () => pulse.claimNamespace({ namespace: 'turning' }, { expires });
    const first = await claim();
    await run(rotation);
    expect(await claim()).toEqual(first);

    server.clock.advance({ minutes: 61 });
    await run(rotation);
    const second = await claim();
    expect([userOf(first.connectionString), userOf(second.connectionString)]).toEqual(['turning-1', 'turning-2']);
    expect(second.reclaimAt).toBe(inMinutes(60 + 30));
    expect([await works(first.connectionString), await works(second.connectionString)]).toEqual([true, true]);
    // who was given the first may wait until reclaimAt, 90 minutes after
    server.clock.advance({ minutes: 29 });
    await run(rotation);
    expect(await works(first.connectionString)).toBe(true);

    server.clock.advance({ minutes: 31 });
    await run(rotation);
    const third = await claim();
    expect(userOf(third.connectionString)).toBe('turning-1');
    expect(third.connectionString).not.toBe(first.connectionString);
    expect([await works(first.connectionString), await works(second.connectionString), await works(third.connectionString)]).toEqual([
      false,
      true,
      true,
    ]);
    expect(third.created).toBe(first.created);

    // a rotation that is late comes now at the earliest, and the account rests for an interval then
    server.clock.advance({ minutes: 200 });
    expect(await claim()).toEqual({ ...third, reclaimAt: inMinutes(30) });
  });

  test('a rotation that was interrupted is finished, by the next round or the next claim', async () => {
    const { connectionString } = await pulse.claimNamespace({ namespace: 'halfway' }, { expires: day() });
    const [before] = await server.db<{ password2: string }>`select password_2 from pulse.namespaces where namespace = 'halfway'`;
    server.clock.advance({ minutes: 61 });
    const cutOff = await withServer([pulseService], {
      environment: { ...environment, PULSE_MANAGEMENT_URL: 'http://a:b@127.0.0.1:1' },
      db: server.db,
      clock: server.clock,
    });
    const ctx = contextOf(cutOff.server.services.get('pulse') as RunningService);
    await expect(rotation.run(ctx, 100)).rejects.toThrow('cannot be reached');
    await server.db`update pulse.namespaces set password_2 = ${before?.password2}, next_active = 2, applied = false where namespace = 'halfway'`;
    const claimed = await pulse.claimNamespace({ namespace: 'halfway' }, { expires: day() });
    expect(userOf(claimed.connectionString)).toBe('halfway-2');
    expect([await works(connectionString), await works(claimed.connectionString)]).toEqual([true, true]);
    expect(await run(rotation)).toBeGreaterThan(0);
    expect(await run(rotation)).toBe(0);
  });

  test('a namespace that has ended goes: accounts, connections, queues and exchanges, and nothing else', async () => {
    const { connectionString } = await pulse.claimNamespace({ namespace: 'ending' }, { expires: inMinutes(60) });
    const kept = await pulse.claimNamespace({ namespace: 'ending-2' }, { expires: day() });
    for (const [claimed, namespace] of [
      [connectionString, 'ending'],
      [kept.connectionString, 'ending-2'],
    ] as const) {
      const channel = await openChannel(await connect(claimed));
      for (let i = 0; i < 3; i++) {
        await channel.assertQueue(`queue/${namespace}/${i}`, { durable: true });
        await channel.assertExchange(`exchange/${namespace}/${i}`, 'topic');
      }
    }
    const connection = await connect(connectionString);
    const closed = new Promise(resolve => void connection.once('close', resolve));
    // the management interface learns of connections with a delay
    await expect
      .poll(async () => (await rabbit.api<{ user: string }[]>('GET', '/connections')).filter(({ user }) => user === 'ending-1').length)
      .toBe(2);
    await run(expiry);
    expect(await works(connectionString)).toBe(true);
    server.clock.advance({ minutes: 60 });
    await run(expiry);
    await closed;
    expect(await works(connectionString)).toBe(false);
    expect([await userExists('ending-1'), await userExists('ending-2')]).toEqual([false, false]);
    expect([await namesOf('queues', 'queue/ending/'), await namesOf('exchanges', 'exchange/ending/')]).toEqual([[], []]);
    expect(await namesOf('queues', 'queue/ending-2/')).toHaveLength(3);
    expect(await namesOf('exchanges', 'exchange/ending-2/')).toHaveLength(3);
    expect(await works(kept.connectionString)).toBe(true);
    const anew = await pulse.claimNamespace({ namespace: 'ending' }, { expires: day() });
    expect(anew.created).toBe(new Date(server.clock.nowMs()).toISOString());
    expect(await works(anew.connectionString)).toBe(true);
  });

  test('a claim finishes a removal that was interrupted, and begins anew', async () => {
    const { connectionString } = await pulse.claimNamespace({ namespace: 'phoenix' }, { expires: day() });
    await server.db`update pulse.namespaces set removing = true where namespace = 'phoenix'`;
    await expect(pulse.namespace({ namespace: 'phoenix' })).rejects.toMatchObject({ code: 'ResourceNotFound' });
    const anew = await pulse.claimNamespace({ namespace: 'phoenix' }, { expires: day() });
    expect([await works(connectionString), await works(anew.connectionString)]).toEqual([false, true]);
  });

  test('connections that are too old are closed; those of others are left alone', async () => {
    const { connectionString } = await pulse.claimNamespace({ namespace: 'old' }, { expires: inMinutes(7 * 24 * 60) });
    await rabbit.api('PUT', '/users/stranger-1', { password: 'p', tags: '' });
    await rabbit.api('PUT', inVhost('permissions', 'stranger-1'), { configure: '.*', write: '.*', read: '.*' });
    const url = new URL(connectionString);
    url.username = 'stranger-1';
    url.password = 'p';
    const [own, stranger] = [await connect(connectionString), await connect(url.href)];
    const ends: string[] = [];
    own.once('close', () => ends.push('own'));
    stranger.once('close', () => ends.push('stranger'));
    const shown = async (): Promise<string[]> => (await rabbit.api<{ user: string }[]>('GET', '/connections')).map(({ user }) => user);
    await expect.poll(shown).toEqual(expect.arrayContaining(['old-1', 'stranger-1']));
    await runMonitor();
    expect(ends).toEqual([]);
    await runMonitor(121 * MINUTE_MS);
    await expect.poll(() => ends).toEqual(['own']);
    await expect.poll(shown).toContain('stranger-1');
  });

  test('the contact is told of a queue that grows and of its recovery; one that is far too long is deleted', async () => {
    await mail.taken();
    const { connectionString } = await pulse.claimNamespace({ namespace: 'growing' }, { expires: day(), contact: 'owner@example.com' });
    const channel = await openChannel(await connect(connectionString));
    await channel.assertQueue('queue/growing/big', { durable: true });
    const other = await (await connect(vhost.url)).createConfirmChannel();
    await other.assertQueue('queue/not-claimed/big', { durable: true });
    const send = async (count: number): Promise<void> => {
      for (let i = 0; i < count; i++) {
        other.sendToQueue('queue/growing/big', Buffer.from('{}'));
        other.sendToQueue('queue/not-claimed/big', Buffer.from('{}'));
      }
      await other.waitForConfirms();
    };
    const subjects = async (): Promise<string[]> => {
      await runMonitor();
      await runMonitor();
      return (await mail.taken()).map(({ subject, envelope }) => `${envelope.to.join()}: ${subject}`);
    };
    await send(10);
    expect(await subjects()).toEqual([]);
    await send(1);
    await expect.poll(subjects).toEqual(['owner@example.com: Taskcluster Pulse: queue queue/growing/big is too long']);
    expect(await subjects()).toEqual([]);
    await channel.purgeQueue('queue/growing/big');
    await expect.poll(subjects).toEqual(['owner@example.com: Taskcluster Pulse: queue queue/growing/big has recovered']);
    expect(await subjects()).toEqual([]);
    await send(21);
    await expect.poll(subjects).toEqual(['owner@example.com: Taskcluster Pulse: queue queue/growing/big was deleted']);
    expect(await subjects()).toEqual([]);
    expect(await namesOf('queues', 'queue/growing/')).toEqual([]);
    expect(await namesOf('queues', 'queue/not-claimed/')).toEqual(['queue/not-claimed/big']);
    expect(await server.db`select queue from pulse.long_queues`).toEqual([]);
  });

  test('a queue without a contact is deleted all the same, and a contact on the denylist is not tried for ever', async () => {
    await server.db`insert into notify.denylist (type, address) values ('email', 'denied@example.com')`;
    for (const [namespace, contact] of [
      ['silent', undefined],
      ['denied', 'denied@example.com'],
    ] as const) {
      const { connectionString } = await pulse.claimNamespace({ namespace }, { expires: day(), ...(contact !== undefined && { contact }) });
      const channel = await openChannel(await connect(connectionString));
      await channel.assertQueue(`queue/${namespace}/big`, { durable: true });
      const other = await (await connect(vhost.url)).createConfirmChannel();
      for (let i = 0; i < 21; i++) {
        other.sendToQueue(`queue/${namespace}/big`, Buffer.from('{}'));
      }
      await other.waitForConfirms();
      await expect
        .poll(async () => {
          await runMonitor();
          return namesOf('queues', `queue/${namespace}/`);
        })
        .toEqual([]);
    }
    expect(await server.db`select queue from pulse.long_queues`).toEqual([]);
  });

  test('users of this service are marked as such', async () => {
    await pulse.claimNamespace({ namespace: 'marked' }, { expires: day() });
    expect(await rabbit.api('GET', '/users/marked-1')).toMatchObject({ tags: [TAG] });
  });
});
