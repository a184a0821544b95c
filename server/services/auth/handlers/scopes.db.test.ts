import { beforeAll, describe, expect, test } from 'vitest';
import { authApi } from '@tscluster/api/auth/api.ts';
import { signRequest } from '@tscluster/client/hawk.ts';
import { createTemporaryCredentials } from '../../../platform/temporary-credentials.ts';
import vectors from '../../../testing/vectors/auth.json' with { type: 'json' };
import { tokenContext } from '../directory.ts';
import type { AuthServer } from '../testing.ts';
import { FUTURE, refusal, ROOT, withAuth } from '../testing.ts';

const SEED = 'AbCdEfGhIjKlMnOpQrStUvWxYz0123456789-_AbCdEf';

let server: AuthServer;
beforeAll(async () => {
  server = await withAuth();
});

describe('expandScopes', () => {
  test('takes unique scopes of those who may expand', async () => {
    await server.root.createRole({ roleId: 'expand:*' }, { scopes: ['p:<..>:q'], description: '' });
    expect(await server.root.expandScopes({ scopes: ['z', 'assume:expand:x', 'y*', 'yb'] })).toEqual({
      scopes: ['assume:expand:x', 'p:x:q', 'y*', 'z'],
    });
    expect((await refusal(server.root.expandScopes({ scopes: ['z', 'z'] }))).code).toBe('InputValidationError');
    expect((await refusal(server.stranger.expandScopes({ scopes: [] }))).code).toBe('InsufficientScopes');
    expect(await server.root.expandScopes({ scopes: ['x**'] })).toEqual({ scopes: ['x**'] });
  });
});

describe('currentScopes', () => {
  test('is all that the caller may do, after narrowing', async () => {
    await server.root.createRole({ roleId: 'current:1' }, { scopes: ['auth:current-scopes', 'deep'], description: '' });
    const { accessToken } = await server.root.createClient(
      { clientId: 'current/1' },
      { expires: FUTURE, description: '', scopes: ['assume:current:1', 'w:*'] },
    );
    const own = server.client(authApi, { credentials: { clientId: 'current/1', accessToken } });
    expect((await own.currentScopes()).scopes).toEqual(['assume:anonymous', 'assume:current:1', 'auth:current-scopes', 'deep', 'w:*']);
    const temporary = createTemporaryCredentials({
      credentials: { clientId: 'current/1', accessToken },
      scopes: ['auth:current-scopes', 'w:1'],
      start: server.clock.now(),
      expiry: new Date(server.clock.nowMs() + 60_000),
      seed: SEED,
    });
    const narrow = server.client(authApi, { credentials: temporary });
    expect((await narrow.currentScopes()).scopes).toEqual(['assume:anonymous', 'auth:current-scopes', 'w:1']);
  });
});

describe('the anonymous role', () => {
  test("is everybody's, with and without credentials", async () => {
    const own = await withAuth();
    expect((await refusal(own.stranger.currentScopes())).message).toBe(
      'This request requires Taskcluster credentials that satisfy the following scope expression:\n\n```\nauth:current-scopes\n```',
    );
    await own.root.createRole({ roleId: 'anonymous' }, { scopes: ['auth:current-scopes', 'pub'], description: '' });
    expect((await own.stranger.currentScopes()).scopes).toEqual(['assume:anonymous', 'auth:current-scopes', 'pub']);
    const named = await own.as('somebody', ['q']);
    expect((await named.currentScopes()).scopes).toEqual(['assume:anonymous', 'auth:current-scopes', 'pub', 'q']);
    // bad credentials are refused, not treated as none
    const wrong = own.client(authApi, { credentials: { clientId: 'somebody', accessToken: 'wrong' } });
    expect((await refusal(wrong.currentScopes())).status).toBe(401);
    await own.close();
  });
});

describe('authenticateHawk', () => {
  test('answers as the protocol vectors say, over HTTP', async () => {
    const own = await withAuth();
    own.clock.advance({ ms: vectors.now - own.clock.nowMs() });
    for (const [roleId, scopes] of Object.entries(vectors.authenticate.roles)) {
      await own.root.createRole({ roleId }, { scopes, description: '' });
    }
    for (const [clientId, { expires, scopes, accessToken }] of Object.entries(vectors.authenticate.clients)) {
      await own.root.createClient({ clientId }, { expires, scopes, description: '' });
      const encrypted = own.platform.keyring.encrypt(accessToken, tokenContext(clientId));
      await own.db`update auth.clients set access_token = ${encrypted} where client_id = ${clientId}`;
      if (clientId === 'disabled') {
        await own.root.disableClient({ clientId });
      }
    }
    for (const { name, request, response } of vectors.authenticate.cases) {
      expect(await own.stranger.authenticateHawk(request as Parameters<typeof own.stranger.authenticateHawk>[0]), name).toEqual(response);
    }
    await own.close();
  });

  test('names client, scopes, expiry and payload hash; the request is checked against the schema', async () => {
    const { accessToken } = await server.root.createClient(
      { clientId: 'hawk/1' },
      { expires: FUTURE, description: '', scopes: ['b', 'a'] },
    );
    const url = new URL('https://queue.example.com/api/queue/v1/ping?x=1');
    const authorization = await signRequest({
      credentials: { clientId: 'hawk/1', accessToken },
      nowMs: server.clock.nowMs(),
      method: 'put',
      url,
      nonce: 'n',
      hash: 'abc=',
    });
    const request = { method: 'put' as const, resource: '/api/queue/v1/ping?x=1', host: 'queue.example.com', port: 443, authorization };
    expect(await server.stranger.authenticateHawk(request)).toEqual({
      status: 'auth-success',
      scheme: 'hawk',
      clientId: 'hawk/1',
      scopes: ['a', 'assume:anonymous', 'b'],
      expires: FUTURE,
      hash: 'abc=',
    });
    expect(await server.stranger.authenticateHawk({ ...request, sourceIp: '127.0.0.1', port: 444 })).toEqual({
      status: 'auth-failed',
      message: 'Unauthorized: Bad mac',
    });
    const refused = await refusal(server.stranger.authenticateHawk({ ...request, port: 65_536 }));
    expect(refused.code).toBe('InputValidationError');
  });

  test('temporary credentials end with their issuer', async () => {
    const own = await server.as('issuer/1', ['auth:create-client:issued/*', 'auth:current-scopes']);
    await own.currentScopes();
    const { accessToken } = await server.root.resetAccessToken({ clientId: 'issuer/1' });
    const temporary = createTemporaryCredentials({
      credentials: { clientId: 'issuer/1', accessToken },
      clientId: 'issued/1',
      scopes: ['auth:current-scopes'],
      start: server.clock.now(),
      expiry: new Date(server.clock.nowMs() + 3_600_000),
      seed: SEED,
    });
    const issued = server.client(authApi, { credentials: temporary });
    await issued.currentScopes();
    await server.root.disableClient({ clientId: 'issuer/1' });
    expect((await refusal(issued.currentScopes())).message).toBe("Client with clientId 'issuer/1' is disabled");
    await server.root.enableClient({ clientId: 'issuer/1' });
    await issued.currentScopes();
    await server.root.updateClient({ clientId: 'issuer/1' }, { expires: FUTURE, description: '', scopes: ['auth:current-scopes'] });
    expect((await refusal(issued.currentScopes())).message).toBe(
      "ext.certificate issuer `issuer/1` doesn't have `auth:create-client:issued/1` for supplied clientId.",
    );
    // their name is noted as the one who acts
    await server.root.updateClient(
      { clientId: 'issuer/1' },
      { expires: FUTURE, description: '', scopes: ['auth:create-client:*', 'auth:current-scopes', 'auth:create-role:*'] },
    );
    const named = createTemporaryCredentials({
      credentials: { clientId: 'issuer/1', accessToken },
      clientId: 'issued/2',
      scopes: ['auth:create-role:by-name'],
      start: server.clock.now(),
      expiry: new Date(server.clock.nowMs() + 3_600_000),
      seed: SEED,
    });
    await server.client(authApi, { credentials: named }).createRole({ roleId: 'by-name' }, { scopes: [], description: '' });
    expect((await server.root.listAuditHistory({ clientId: 'issued/2' })).auditHistory).toMatchObject([
      { clientId: 'issued/2', actionType: 'created', entityType: 'role', entityId: 'by-name' },
    ]);
  });

  test('a header and a signed URL at once are refused by the service', async () => {
    const signed = await server.client(authApi, { credentials: ROOT }).buildSignedUrl('currentScopes', {});
    const url = new URL(signed);
    const authorization = await signRequest({ credentials: ROOT, nowMs: server.clock.nowMs(), method: 'get', url, nonce: 'n' });
    expect((await server.fetch(signed)).status).toBe(200);
    const both = await server.fetch(signed, { headers: { authorization } });
    expect(both.status).toBe(401);
    expect(((await both.json()) as { message: string }).message).toContain('two authentication schemes at once');
  });
});

describe('the test endpoints', () => {
  const tester = { clientId: 'tester', accessToken: 'no-secret' };

  test('know the client tester with the scopes that the call names', async () => {
    const own = server.client(authApi, { credentials: tester });
    expect(await own.testAuthenticate({ clientScopes: ['test:*'], requiredScopes: ['test:a', 'test:b'] })).toEqual({
      clientId: 'tester',
      scopes: ['assume:anonymous', 'test:*'],
    });
    expect(await own.testAuthenticate({ clientScopes: ['a'], requiredScopes: [] })).toEqual({
      clientId: 'tester',
      scopes: ['a', 'assume:anonymous'],
    });
    expect(await refusal(own.testAuthenticate({ clientScopes: ['test:*'], requiredScopes: ['other', '<x>'] }))).toMatchObject({
      status: 403,
      code: 'InsufficientScopes',
    });
  });

  test('take no credentials where no scope is required, and no other client', async () => {
    expect(await server.stranger.testAuthenticate({})).toEqual({ clientId: 'auth-failed:no-auth', scopes: ['assume:anonymous'] });
    expect((await refusal(server.stranger.testAuthenticate({ requiredScopes: ['x'] }))).code).toBe('InsufficientScopes');
    expect(await refusal(server.root.testAuthenticate({}))).toEqual({
      status: 401,
      code: 'AuthenticationFailed',
      message: "Client with clientId 'static/taskcluster/root' not found",
    });
  });

  test('take temporary credentials, narrowed ones and signed URLs', async () => {
    const temporary = createTemporaryCredentials({
      credentials: tester,
      clientId: 'test:me',
      scopes: ['test:authenticate-get'],
      start: server.clock.now(),
      expiry: new Date(server.clock.nowMs() + 60_000),
      seed: SEED,
    });
    const own = server.client(authApi, { credentials: temporary });
    expect(await own.testAuthenticateGet()).toEqual({ clientId: 'test:me', scopes: ['assume:anonymous', 'test:authenticate-get'] });
    const plain = server.client(authApi, { credentials: tester });
    expect(await plain.testAuthenticateGet()).toEqual({
      clientId: 'tester',
      scopes: ['assume:anonymous', 'test:*', 'auth:create-client:test:*'],
    });
    const byUrl = await server.fetch(await own.buildSignedUrl('testAuthenticateGet', {}));
    expect(await byUrl.json()).toEqual({ clientId: 'test:me', scopes: ['assume:anonymous', 'test:authenticate-get'] });
  });
});

describe('a failed authentication', () => {
  test('is told with 401 and the way to authenticate', async () => {
    const wrong = await server.fetch(`${server.rootUrl}/api/auth/v1/scopes/current`, { headers: { authorization: 'Basic eDp5' } });
    expect(wrong.status).toBe(401);
    expect(wrong.headers.get('www-authenticate')).toBe('hawk');
    expect(await wrong.json()).toMatchObject({ code: 'AuthenticationFailed', requestInfo: { method: 'currentScopes' } });
  });
});
