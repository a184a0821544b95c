/** Rights that end while a connection lasts, with the real auth service. */
import { type authApi as AuthApi, authApi } from '@tscluster/api/auth/api.ts';
import { eventsApi } from '@tscluster/api/events/api.ts';
import { type Client, type Credentials, createClient } from '@tscluster/client/client.ts';
import { systemClock } from '@tscluster/client/clock.ts';
import { describe, expect, it } from 'vitest';
import { createTemporaryCredentials } from '../../platform/temporary-credentials.ts';
import { auth } from '../auth/service.ts';
import { FUTURE, ROOT } from '../auth/testing.ts';
import { type Reader, type ServedEvents, TASK, anEvent, numbersOf, readStream, serveEvents } from './testing.ts';

const SEED = 'kOC7cYZ_QaSl9a4ky12PUgB0WJ9QxLSrqAW-_V5zKqPw';

interface Started extends ServedEvents {
  readonly root: Client<typeof AuthApi>;
  /** Listens, and has read the `ready`. */
  connect(credentials?: Credentials, authorizedScopes?: readonly string[]): Promise<Reader>;
  /** Creates a client. */
  create(clientId: string, scopes: readonly string[], expires?: string): Promise<Credentials>;
  /** Lets the time come in which rights are checked again. */
  recheck(): Promise<void>;
}

const start = async (): Promise<Started> => {
  const served = await serveEvents({ environment: { EVENTS_RECHECK_SECONDS: '10', EVENTS_MAX_CONNECTION_SECONDS: '100000000' } }, [auth]);
  const { clock } = served.server;
  const root = served.server.client(authApi, { credentials: ROOT });
  const signing = { ...systemClock, nowMs: clock.nowMs, now: clock.now };
  return {
    ...served,
    root,
    connect: async (credentials, authorizedScopes) => {
      const client = createClient(eventsApi, { rootUrl: served.origin, credentials, authorizedScopes, retries: 0, clock: signing });
      const reader = readStream((await client.connect({ taskId: TASK })).stream as ReadableStream<Uint8Array>);
      expect(await reader.next()).toMatchObject({ event: 'ready' });
      return reader;
    },
    create: async (clientId, scopes, expires = FUTURE) => {
      const { accessToken } = await root.createClient({ clientId }, { expires, description: 'for a test', scopes: [...scopes] });
      return { clientId, accessToken };
    },
    recheck: () => clock.tick({ seconds: 10 }),
  };
};

/** What a stream ends with, after events and pings. */
const endOf = async (stream: Reader): Promise<unknown> => (await stream.rest()).at(-1)?.data;

/** Ticks until the stream has ended: what auth is asked takes its time. */
const untilEnd = async (started: Started, stream: Reader): Promise<unknown> => {
  let isOver = false;
  const end = endOf(stream).finally(() => (isOver = true));
  while (!isOver) {
    await started.recheck();
    await started.server.db`select 1`; // real time passes for what auth is asked
  }
  return end;
};

describe('a connection ends soon after', () => {
  it('its client is deleted, disabled, or loses the scope; others stay', async () => {
    const started = await start();
    const { root } = started;
    const names = ['deleted', 'disabled', 'narrowed', 'kept'] as const;
    const streams: Record<string, Reader> = {};
    for (const name of names) {
      streams[name] = await started.connect(await started.create(`test/${name}`, ['web:read-pulse']));
    }
    await root.deleteClient({ clientId: 'test/deleted' });
    await root.disableClient({ clientId: 'test/disabled' });
    await root.updateClient({ clientId: 'test/narrowed' }, { expires: FUTURE, description: '', scopes: ['web:read'] });
    const gone = (name: string): object => ({
      code: 'AuthenticationFailed',
      message: `Client test/${name} no longer exists, is disabled, or has expired.`,
    });
    expect(await untilEnd(started, streams['deleted'] as Reader)).toEqual(gone('deleted'));
    expect(await untilEnd(started, streams['disabled'] as Reader)).toEqual(gone('disabled'));
    expect(await untilEnd(started, streams['narrowed'] as Reader)).toEqual({
      code: 'InsufficientScopes',
      message: 'Listening takes the scope web:read-pulse, which this caller no longer has.',
    });
    await started.publish(anEvent(1));
    const kept = streams['kept'] as Reader;
    let received;
    do {
      received = await kept.next();
    } while (received?.event === 'ping');
    expect(numbersOf(received ? [received] : [])).toEqual([1]);
    await kept.close();
  });

  it('the role that allowed it is changed, for anybody', async () => {
    const started = await start();
    await started.root.createRole({ roleId: 'anonymous' }, { description: '', scopes: ['web:read-pulse'] });
    const stream = await started.connect();
    const named = await started.connect(await started.create('test/nothing', []));
    await started.recheck();
    await started.root.updateRole({ roleId: 'anonymous' }, { description: '', scopes: ['queue:get-task:*'] });
    expect(await untilEnd(started, stream)).toMatchObject({ code: 'InsufficientScopes' });
    expect(await untilEnd(started, named)).toMatchObject({ code: 'InsufficientScopes' });
    await expect(started.connect()).rejects.toMatchObject({ statusCode: 403 });
  });

  it('temporary credentials lose what is behind them', async () => {
    const started = await start();
    const { clock } = started.server;
    const issuer = await started.create('test/issuer', ['web:*', 'auth:create-client:test/named']);
    const temporary = (name?: string): Credentials =>
      createTemporaryCredentials({
        credentials: issuer,
        clientId: name,
        scopes: ['web:read-pulse', 'web:other'],
        start: clock.now(),
        expiry: new Date(clock.nowMs() + 30 * 86_400_000),
        seed: SEED,
      });
    const unnamed = await started.connect(temporary());
    const named = await started.connect(temporary('test/named'), ['web:read-pulse']);
    await started.recheck();
    await started.root.updateClient(
      { clientId: 'test/issuer' },
      { expires: FUTURE, description: '', scopes: ['web:read-pulse', 'auth:create-client:test/named'] },
    );
    const lost = { code: 'AuthenticationFailed', message: 'Client test/issuer no longer has all scopes of these credentials.' };
    expect(await untilEnd(started, unnamed)).toEqual(lost);
    expect(await untilEnd(started, named)).toEqual(lost);
  });
});

describe('a connection ends with the credentials', () => {
  it('of a certificate, and of a client', async () => {
    const started = await start();
    const { clock } = started.server;
    const issuer = await started.create('test/issuer', ['web:*'], new Date(clock.nowMs() + 120_000).toISOString());
    const temporary = createTemporaryCredentials({
      credentials: issuer,
      clientId: undefined,
      scopes: ['web:read-pulse'],
      start: clock.now(),
      expiry: new Date(clock.nowMs() + 90_000),
      seed: SEED,
    });
    const [short, long] = [await started.connect(temporary), await started.connect(issuer)];
    const ended = { code: 'AuthenticationFailed', message: 'The credentials of this connection have expired.' };
    await clock.tick({ seconds: 89 });
    await clock.tick({ seconds: 1 });
    expect(await endOf(short)).toEqual(ended);
    await clock.tick({ seconds: 30 });
    expect(await endOf(long)).toMatchObject({ code: 'AuthenticationFailed' });
    clock.advance({ seconds: 1 });
    await expect(started.connect(issuer)).rejects.toMatchObject({ statusCode: 401 });
  });
});

describe('while auth cannot be asked', () => {
  it('connections stay', async () => {
    const started = await start();
    const stream = await started.connect(await started.create('test/one', ['web:read-pulse']));
    await started.server.db`alter table auth.clients rename to clients_away`;
    for (let i = 0; i < 3; i++) {
      await started.recheck();
    }
    await started.server.db`alter table auth.clients_away rename to clients`;
    await started.publish(anEvent(1));
    let received;
    do {
      received = await stream.next();
    } while (received?.event === 'ping');
    expect(numbersOf(received ? [received] : [])).toEqual([1]);
    await stream.close();
  });
});
