import { beforeEach, describe, expect, test } from 'vitest';
import { makeExt, signedText, signRequest, signUrl } from '@tscluster/client/hawk.ts';
import { createHmac } from 'node:crypto';
import { createTemporaryCredentials } from '../../platform/temporary-credentials.ts';
import vectors from '../../testing/vectors/auth.json' with { type: 'json' };
import type { AuthResult, HawkRequest } from '../../platform/caller.ts';
import { HawkAuthenticator } from './authenticator.ts';
import type { KnownClient, ScopeExpander } from './authenticator.ts';
import { compileRoles } from './expansion.ts';

const target = { method: 'get', resource: '/api/queue/v1/ping?x=1', host: 'tc.example.net', port: 443 };
const url = new URL('https://tc.example.net/api/queue/v1/ping?x=1');

const given = {
  nowMs: vectors.now,
  roles: compileRoles([]) as ScopeExpander,
  clients: new Map<string, KnownClient>(),
  used: [] as string[],
  looked: 0,
};

beforeEach(() => {
  given.nowMs = vectors.now;
  given.roles = compileRoles(Object.entries(vectors.authenticate.roles).map(([roleId, scopes]) => ({ roleId, scopes })));
  given.clients = new Map(
    Object.entries(vectors.authenticate.clients).map(([clientId, client]) => [
      clientId,
      {
        clientId,
        accessToken: client.accessToken,
        scopes: client.scopes,
        expires: new Date(client.expires),
        disabled: 'disabled' in client && client.disabled,
      },
    ]),
  );
  given.used = [];
  given.looked = 0;
});

const make = (): HawkAuthenticator =>
  new HawkAuthenticator({
    cachedClient: clientId => given.clients.get(clientId),
    findClient: clientId => {
      given.looked += 1;
      return Promise.resolve(given.clients.get(clientId));
    },
    roles: () => given.roles,
    nowMs: () => given.nowMs,
    succeeded: client => given.used.push(client.clientId),
  });

const tester = (): KnownClient => given.clients.get('tester') as KnownClient;
const sign = async (
  credentials: { clientId: string; accessToken: string; certificate?: string },
  authorizedScopes?: string[],
): Promise<HawkRequest> => ({
  ...target,
  authorization: await signRequest({ credentials, authorizedScopes, nowMs: given.nowMs, method: 'get', url, nonce: 'abc123' }),
});
const answer = async (authenticator: HawkAuthenticator, request: HawkRequest): Promise<AuthResult> => authenticator.authenticate(request);
const failure = async (request: HawkRequest): Promise<string> => {
  const response = await answer(make(), request);
  return response.status === 'auth-failed' ? response.message : response.status;
};

const asSent = (result: AuthResult): unknown => JSON.parse(JSON.stringify(result));

describe('the protocol vectors', () => {
  test.each(vectors.authenticate.cases)('$name', async vector => {
    const authenticator = make();
    expect(asSent(await answer(authenticator, vector.request))).toEqual(vector.response);
    // and again from memory
    expect(asSent(await answer(authenticator, vector.request))).toEqual(vector.response);
  });
});

describe('what is remembered', () => {
  const temporary = (scopes: string[], expiryMs = 3_600_000): ReturnType<typeof createTemporaryCredentials> =>
    createTemporaryCredentials({
      credentials: tester(),
      clientId: 'named/x',
      scopes,
      start: new Date(vectors.now),
      expiry: new Date(vectors.now + expiryMs),
      seed: 'AbCdEfGhIjKlMnOpQrStUvWxYz0123456789-_AbCdEf',
    });

  test('the second call looks nothing up, and both count as use of the issuer', async () => {
    const authenticator = make();
    const request = await sign(temporary(['test:a']));
    expect((await answer(authenticator, request)).status).toBe('auth-success');
    expect(given.looked).toBe(1);
    expect((await answer(authenticator, request)).status).toBe('auth-success');
    expect(given.looked).toBe(1);
    expect(given.used).toEqual(['tester', 'tester']);
  });

  test('a call with a wrong mac is not remembered and is no use of the client', async () => {
    const authenticator = make();
    const request = await sign({ clientId: 'tester', accessToken: 'wrong' });
    expect(await answer(authenticator, request)).toEqual({ status: 'auth-failed', message: 'Unauthorized: Bad mac' });
    await answer(authenticator, request);
    expect(given.looked).toBe(2);
    expect(given.used).toEqual([]);
  });

  test('a changed client is seen at once', async () => {
    const authenticator = make();
    const request = await sign(temporary(['test:a']));
    await answer(authenticator, request);
    given.clients.set('tester', { ...tester(), scopes: ['auth:create-client:named/*'] });
    expect((await answer(authenticator, request)) as { message?: string }).toMatchObject({
      message:
        "ext.certificate issuer `tester` doesn't satisfy all certificate scopes test:a.  The temporary credentials were not generated correctly.",
    });
    given.clients.set('tester', { ...tester(), disabled: true });
    expect(await answer(authenticator, request)).toMatchObject({ message: "Client with clientId 'tester' is disabled" });
    given.clients.delete('tester');
    expect(await answer(authenticator, request)).toMatchObject({ message: "Client with clientId 'tester' not found" });
  });

  test('changed roles are seen at once, with and without credentials', async () => {
    const authenticator = make();
    const request = await sign(tester());
    await answer(authenticator, request);
    await answer(authenticator, target);
    given.roles = compileRoles([{ roleId: 'anonymous', scopes: ['new'] }]);
    expect(((await answer(authenticator, request)) as { scopes: readonly string[] }).scopes).toEqual([
      'assume:anonymous',
      'assume:bot-role',
      'auth:create-client:named/*',
      'new',
      'test:*',
    ]);
    expect(((await answer(authenticator, target)) as { scopes: readonly string[] }).scopes).toEqual(['assume:anonymous', 'new']);
  });

  test('a certificate ends five minutes after its expiry, a client with its own', async () => {
    const authenticator = make();
    const short = temporary(['test:a'], 60_000);
    await answer(authenticator, await sign(short));
    given.nowMs = vectors.now + 60_000 + 300_000;
    expect((await answer(authenticator, await sign(short))).status).toBe('auth-success');
    given.nowMs += 1;
    expect(await answer(authenticator, await sign(short))).toEqual({ status: 'auth-failed', message: 'ext.certificate.expiry < now' });

    await answer(authenticator, await sign(tester()));
    given.nowMs = tester().expires.getTime();
    expect((await answer(authenticator, await sign(tester()))).status).toBe('auth-success');
    given.nowMs += 1;
    expect(await answer(authenticator, await sign(tester()))).toEqual({
      status: 'auth-failed',
      message: "Client with clientId: 'tester' has expired",
    });
  });

  test('the clock is checked again every time', async () => {
    const authenticator = make();
    const request = await sign(tester());
    await answer(authenticator, request);
    given.nowMs += 900_001;
    expect(await answer(authenticator, request)).toEqual({ status: 'auth-failed', message: 'Unauthorized: Stale timestamp' });
    const signedUrl = new URL(await signUrl({ credentials: tester(), nowMs: given.nowMs, url, expirySeconds: 60 }));
    const byUrl = { ...target, resource: signedUrl.pathname + signedUrl.search };
    expect((await answer(authenticator, byUrl)).status).toBe('auth-success');
    given.nowMs += 60_000;
    expect(await answer(authenticator, byUrl)).toEqual({ status: 'auth-failed', message: 'Unauthorized: Access expired' });
  });
});

describe('headers', () => {
  const header = (text: string): Promise<string> => failure({ ...target, authorization: text });

  test('are refused with what is wrong', async () => {
    expect(await header('Hawk id="a", ts="1", nonce="x", mac="y", id="b"')).toBe('Bad Request: Duplicate attribute: id');
    expect(await header('Hawk id="", ts="1", nonce="x", mac="y"')).toBe('Bad Request: Bad attribute value: id');
    expect(await header('Hawk id="é", ts="1", nonce="x", mac="y"')).toBe('Bad Request: Bad attribute value: id');
    expect(await header('Hawk id=a')).toBe('Bad Request: Bad header format');
    expect(await header('Hawk id="a" ts="1"')).toBe('Bad Request: Bad header format');
    expect(await header('!')).toBe('Bad Request: Invalid header syntax');
    expect(await header(`Hawk id="${'a'.repeat(4096)}"`)).toBe('Bad Request: Header length too long');
  });

  test('name the scheme in any case, order attributes freely, and may carry app and dlg', async () => {
    const text = signedText({ kind: 'header', ts: '1894708800', nonce: 'n', ...target, app: 'app', dlg: 'dlg' });
    const mac = createHmac('sha256', tester().accessToken).update(text).digest('base64');
    expect(await header(`hAwK  mac="${mac}",dlg="dlg" , app="app",nonce="n",ts="1894708800",id="tester"`)).toBe('auth-success');
    expect(await header(`Hawk mac="${mac}", app="app", nonce="n", ts="1894708800", id="tester"`)).toBe('Unauthorized: Bad mac');
  });

  test('with a time that is no number are stale', async () => {
    const text = signedText({ kind: 'header', ts: 'NaN', nonce: 'n', ...target });
    const mac = createHmac('sha256', tester().accessToken).update(text).digest('base64');
    expect(await header(`Hawk id="tester", ts="NaN", nonce="n", mac="${mac}"`)).toBe('Unauthorized: Stale timestamp');
  });
});

describe('bewits', () => {
  const bewit = (text: string): Promise<string> => failure({ ...target, resource: `/a?bewit=${Buffer.from(text).toString('base64url')}` });

  test('are refused with what is wrong', async () => {
    expect(await bewit('tester\\\\mac\\')).toBe('Bad Request: Missing bewit attributes');
    expect(await bewit('\\1\\mac\\')).toBe('Bad Request: Missing bewit attributes');
    expect(await bewit('a\\1\\mac')).toBe('Bad Request: Invalid bewit structure');
    expect(await failure({ ...target, resource: `/a?bewit=${'A'.repeat(4096)}` })).toBe('Bad Request: Resource path exceeds max length');
  });

  test('never live forever for want of a number', async () => {
    const text = signedText({ kind: 'bewit', ts: 'soon', nonce: '', method: 'GET', resource: '/a', host: target.host, port: 443 });
    const mac = createHmac('sha256', tester().accessToken).update(text).digest('base64');
    expect(await bewit(`tester\\soon\\${mac}\\`)).toBe('Unauthorized: Access expired');
  });

  test('only count as such in the query of a path', async () => {
    expect(await failure({ ...target, resource: '/a?xbewit=AAAA' })).toBe('no-auth');
    expect(await failure({ ...target, resource: '/a/bewit=AAAA' })).toBe('no-auth');
  });
});

describe('ext', () => {
  const withExt = async (value: unknown): Promise<string> => {
    const ext = Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');
    const text = signedText({ kind: 'header', ts: '1894708800', nonce: 'n', ...target, ext });
    const mac = createHmac('sha256', tester().accessToken).update(text).digest('base64');
    return failure({ ...target, authorization: `Hawk id="tester", ts="1894708800", nonce="n", ext="${ext}", mac="${mac}"` });
  };

  test('is an object in either base64 alphabet', async () => {
    expect(await withExt({ authorizedScopes: ['test:?>~'] })).toBe('auth-success');
    expect(await withExt({ other: 1 })).toBe('auth-success');
    expect(await withExt('null')).toBe('Failed to parse ext');
    expect(await withExt('[]')).toBe('Failed to parse ext');
  });

  test('carries a certificate whose every field is checked', async () => {
    const good = JSON.parse(
      createTemporaryCredentials({
        credentials: tester(),
        scopes: ['test:a'],
        start: new Date(vectors.now),
        expiry: new Date(vectors.now + 1000),
        seed: 'AbCdEfGhIjKlMnOpQrStUvWxYz0123456789-_AbCdEf',
      }).certificate,
    ) as object;
    expect(await withExt({ certificate: { ...good, seed: 1 } })).toBe('ext.certificate.seed must be a string');
    expect(await withExt({ certificate: 'text' })).toBe('ext.certificate must be a JSON object');
    expect(await withExt({ certificate: [] })).toBe('ext.certificate must be a JSON object');
    expect(await withExt({ certificate: { ...good, signature: 7 } })).toBe(
      'ext.certificate.signature is not valid, or wrong clientId provided',
    );
    expect(await withExt({ certificate: good })).toBe('Unauthorized: Bad mac');
  });

  test('names only a client id that could exist', async () => {
    given.clients.set('tester', { ...tester(), scopes: ['*'] });
    const named = createTemporaryCredentials({
      credentials: tester(),
      clientId: 'a b',
      scopes: [],
      start: new Date(vectors.now),
      expiry: new Date(vectors.now + 1000),
      seed: 'AbCdEfGhIjKlMnOpQrStUvWxYz0123456789-_AbCdEf',
    });
    expect(await failure(await sign(named))).toBe('ext.certificate.issuer must only be used with a valid clientId');
  });

  test('accepts an empty list of scopes signed in either form', async () => {
    const seed = 'AbCdEfGhIjKlMnOpQrStUvWxYz0123456789-_AbCdEf';
    const made = createTemporaryCredentials({
      credentials: tester(),
      scopes: [],
      start: new Date(vectors.now),
      expiry: new Date(vectors.now + 1000),
      seed,
    });
    expect(await failure(await sign(made))).toBe('auth-success');
    const text = `version:1\nseed:${seed}\nstart:${vectors.now}\nexpiry:${vectors.now + 1000}\nscopes:\n`;
    const signature = createHmac('sha256', tester().accessToken).update(text).digest('base64');
    const other = { ...made, certificate: JSON.stringify({ ...(JSON.parse(made.certificate) as object), signature }) };
    expect(makeExt(other.certificate, undefined)).toBeDefined();
    expect(await failure(await sign(other))).toBe('auth-success');
  });
});

test('scopes that expand without end fail the authentication, not the server', async () => {
  given.roles = compileRoles(
    Array.from({ length: 30 }, (_, i) => ({ roleId: `a${i}:*`, scopes: [`assume:a${i + 1}:<..>x`, `assume:a${i + 1}:<..>y`] })),
  );
  given.clients.set('tester', { ...tester(), scopes: ['assume:a0:'] });
  expect(await failure(await sign(tester()))).toMatch(/^these scopes expand to more than 100000 scopes/);
});
