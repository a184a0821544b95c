/** Auth in one server, the queue in another: who calls is asked over HTTP, and what auth changes holds there too. */
import crypto from 'node:crypto';
import { authApi } from '@tscluster/api/auth/api.ts';
import { queueApi } from '@tscluster/api/queue/api.ts';
import { type Client, ApiCallError } from '@tscluster/client/client.ts';
import { signedText } from '@tscluster/client/hawk.ts';
import { beforeAll, describe, expect, test } from 'vitest';
import { createTemporaryCredentials } from '../platform/temporary-credentials.ts';
import { auth } from '../services/auth/service.ts';
import { queueService } from '../services/queue/service.ts';
import { type TestServer, withServer } from '../testing/server.ts';

const ROOT = { clientId: 'static/taskcluster/root', accessToken: 'token-of-root-0123456789abcdef' };
const FUTURE = '2100-01-01T00:00:00.000Z';

let server: TestServer;
let root: Client<typeof authApi>;
beforeAll(async () => {
  server = await withServer([auth, queueService], { split: true });
  root = server.client(authApi, { credentials: ROOT });
});

const until = async (isSo: () => Promise<boolean>): Promise<void> => {
  while (!(await isSo())) {
    await server.clock.tick({ ms: 1 });
  }
};

const refusal = async (call: Promise<unknown>): Promise<string> => {
  try {
    await call;
  } catch (error) {
    if (error instanceof ApiCallError) {
      return `${error.statusCode} ${error.code}`;
    }
    throw error;
  }
  return 'allowed';
};

const makeClient = async (clientId: string, scopes: readonly string[]): Promise<{ clientId: string; accessToken: string }> => {
  const { accessToken } = await root.createClient({ clientId }, { expires: FUTURE, description: '', scopes: [...scopes] });
  return { clientId, accessToken: accessToken as string };
};

const list = (credentials: { clientId: string; accessToken: string; certificate?: string } | null): Promise<string> =>
  refusal(server.client(queueApi, credentials ? { credentials } : { scopes: null }).pendingTasks({ taskQueueId: 'prov/type' }));

describe('who calls', () => {
  test('permanent and temporary credentials, and none', async () => {
    const credentials = await makeClient('someone', ['queue:pending-count:prov/*', 'auth:create-client:someone/*']);
    expect(await list(credentials)).toBe('allowed');
    expect(await list({ ...credentials, accessToken: 'x'.repeat(44) })).toBe('401 AuthenticationFailed');
    expect(await list({ ...credentials, clientId: 'nobody' })).toBe('401 AuthenticationFailed');
    expect(await list(null)).toBe('403 InsufficientScopes');
    const temporary = (scopes: string[]) =>
      createTemporaryCredentials({
        credentials,
        clientId: 'someone/else',
        scopes,
        start: server.clock.now(),
        expiry: new Date(server.clock.nowMs() + 60_000),
        seed: 'A'.repeat(44),
      });
    expect(await list(temporary(['queue:pending-count:prov/type']))).toBe('allowed');
    expect(await list(temporary(['queue:pending-count:prov/other']))).toBe('403 InsufficientScopes');
    expect(await list(temporary(['queue:create-task:*']))).toBe('401 AuthenticationFailed');
  });

  test('a hash of the body is compared where the body is', async () => {
    const credentials = await makeClient('hasher', ['*']);
    const url = new URL(`${server.rootUrl}/api/queue/v1/tasks/status`);
    const send = async (body: string, hashed: string): Promise<number> => {
      const [ts, nonce] = [String(Math.floor(server.clock.nowMs() / 1000)), 'abcdef'];
      const hash = crypto.hash('sha256', `hawk.1.payload\napplication/json\n${hashed}\n`, 'base64');
      const text = signedText({ kind: 'header', ts, nonce, method: 'POST', resource: url.pathname, host: url.host, port: 80, hash });
      const mac = crypto.createHmac('sha256', credentials.accessToken).update(text).digest('base64');
      const authorization = `Hawk id="hasher", ts="${ts}", nonce="${nonce}", hash="${hash}", mac="${mac}"`;
      return (await server.fetch(url, { method: 'POST', headers: { authorization, 'content-type': 'application/json' }, body })).status;
    };
    const body = '{"taskIds":["fN1SbArXTPSVFNUvaOlinQ"]}';
    expect(await send(body, body)).toBe(200);
    expect(await send(body, '{"taskIds":[]}')).toBe(401);
  });

  test('signed URLs', async () => {
    const credentials = await makeClient('signer', ['queue:pending-count:prov/*']);
    const client = server.client(queueApi, { credentials });
    const url = await client.buildSignedUrl('pendingTasks', { taskQueueId: 'prov/type' });
    expect((await server.fetch(url)).status).toBe(200);
    expect((await server.fetch(url.replace('prov/type', 'prov/other').replace('prov%2Ftype', 'prov%2Fother'))).status).toBe(401);
    await server.clock.tick({ minutes: 16 });
    expect((await server.fetch(url)).status).toBe(401);
  });

  test('many at once each are who they are, among requests that make no sense', async () => {
    const credentials = await Promise.all(
      Array.from({ length: 20 }, (_, i) => makeClient(`many-${i}`, i % 2 === 0 ? ['queue:pending-count:*'] : [])),
    );
    const odd = { authorization: `Hawk ${'\u00ff'.repeat(50)}`, host: 'not a host' };
    const url = `${server.rootUrl}/api/queue/v1/pending/prov/type`;
    const [results, strange] = await Promise.all([
      Promise.all(credentials.map(list)),
      Promise.all(Array.from({ length: 20 }, async () => (await server.fetch(url, { headers: odd })).status)),
    ]);
    expect(results).toEqual(credentials.map((_, i) => (i % 2 === 0 ? 'allowed' : '403 InsufficientScopes')));
    expect(new Set(strange)).toEqual(new Set([401]));
  });
});

describe('what changes at auth', () => {
  test('holds for the next call: a disabled client, and a narrowed one', async () => {
    const credentials = await makeClient('passing', ['queue:pending-count:*']);
    expect(await list(credentials)).toBe('allowed');
    await root.updateClient({ clientId: 'passing' }, { expires: FUTURE, description: '', scopes: [] });
    expect(await list(credentials)).toBe('403 InsufficientScopes');
    await root.disableClient({ clientId: 'passing' });
    expect(await list(credentials)).toBe('401 AuthenticationFailed');
  });

  test('holds for callers without credentials as soon as the change is told', async () => {
    expect(await list(null)).toBe('403 InsufficientScopes');
    await root.createRole({ roleId: 'anonymous' }, { description: '', scopes: ['queue:pending-count:*'] });
    await until(async () => (await list(null)) === 'allowed');
    await root.deleteRole({ roleId: 'anonymous' });
    await until(async () => (await list(null)) === '403 InsufficientScopes');
  });

  test('holds for callers without credentials within a second when nobody tells', async () => {
    expect(await list(null)).toBe('403 InsufficientScopes');
    // as another process would, whose word is lost
    await server.db`insert into auth.roles (role_id, scopes, description, created, last_modified)
      values ('anonymous', ${['queue:pending-count:*']}, '', ${server.clock.now()}, ${server.clock.now()})`;
    await server.db`with v as (update platform.versions set version = version + 1 where name = 'auth' returning version)
      insert into auth.changes (version, kind, id, changed) select version, 'role', 'anonymous', ${server.clock.now()} from v`;
    await server.clock.tick({ ms: 1_000 });
    expect(await list(null)).toBe('allowed');
  });
});

test('without auth requests are refused with 503 after a while, and public ones are answered', async () => {
  const credentials = await makeClient('late', ['*']);
  await server.authServer?.close();
  let settled = false;
  const refused = list(credentials).finally(() => {
    settled = true;
  });
  while (!settled) {
    await server.clock.tick({ ms: 500 });
    await new Promise<void>(resolve => {
      setTimeout(resolve, 5);
    });
  }
  expect(await refused).toBe('503 ServiceUnavailable');
  expect((await server.fetch(`${server.rootUrl}/api/queue/v1/ping`)).status).toBe(200);
});
