import { authApi } from '@tscluster/api/auth/api.ts';
import { loginApi } from '@tscluster/api/login/api.ts';
import { beforeEach, describe, expect, it } from 'vitest';
import type { ApiCallError } from '@tscluster/client/client.ts';
import { createSignInLink } from '../../local/sign-in-link.ts';
import { createTemporaryCredentials } from '../../platform/temporary-credentials.ts';
import { type TestServer, seededRandom, withServer } from '../../testing/server.ts';
import { auth } from '../auth/service.ts';
import { login } from './service.ts';
import { deleteExpired } from './sessions.db.ts';

let server: TestServer;
beforeEach(async () => {
  server = await withServer([auth, login], {
    environment: { STATIC_CLIENTS: '[]' },
  });
});

const root = () => ({ clientId: 'static/taskcluster/root', accessToken: 'token-of-root-0123456789abcdef' });
const ask = (path: string, init: RequestInit = {}): Promise<Response> => server.fetch(`${server.rootUrl}${path}`, init);
const post = (path: string, body: unknown, headers: Record<string, string> = {}): Promise<Response> =>
  ask(path, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });

const link = (scopes?: readonly string[]): Promise<{ url: string; expires: string }> => {
  const [forLogin, forAuth] = [server.client(loginApi, { credentials: root() }), server.client(authApi, { credentials: root() })];
  return createSignInLink({ login: forLogin, auth: forAuth, clock: server.clock, random: seededRandom(3) }, root(), scopes);
};
const makeToken = async (scopes?: readonly string[]): Promise<string> => (await link(scopes)).url.split('#')[1] as string;
const cookieOf = (response: Response): string => (response.headers.get('set-cookie') ?? '').split(';')[0] as string;
const signIn = async (scopes?: readonly string[]): Promise<string> => {
  const response = await post('/login/link', { token: await makeToken(scopes) });
  expect(response.status).toBe(200);
  return cookieOf(response);
};
const own = (cookie: string): RequestInit => ({ headers: { cookie, 'x-requested-with': 'taskcluster', 'sec-fetch-site': 'same-origin' } });
type Credentials = { clientId: string; accessToken: string; certificate: string };

describe('a sign-in link', () => {
  it('has its token in the fragment, and works for ten minutes', async () => {
    expect(await link()).toEqual({
      url: expect.stringMatching(/^http:\/\/taskcluster\.test\/login\/link#[A-Za-z0-9_-]{43}$/) as string,
      expires: new Date(server.clock.nowMs() + 600_000).toJSON(),
    });
  });

  it('signs one browser in, once', async () => {
    const token = await makeToken();
    const answers = await Promise.all([1, 2, 3, 4].map(() => post('/login/link', { token })));
    expect(answers.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, 400, 400, 400]);
    const good = answers.find(({ status }) => status === 200) as Response;
    expect(await good.json()).toEqual({
      clientId: 'static/taskcluster/root',
      expires: new Date(server.clock.nowMs() + 7 * 86_400_000).toJSON(),
    });
    expect(good.headers.get('set-cookie')).toMatch(
      /^taskcluster-session=[A-Za-z0-9_-]{43}; Path=\/; HttpOnly; SameSite=Lax; Max-Age=604800$/,
    );
    expect((await (answers.find(({ status }) => status === 400) as Response).json()) as object).toMatchObject({ code: 'InputError' });
  });

  it('ends after ten minutes, and is removed', async () => {
    const token = await makeToken();
    await server.clock.tick({ minutes: 10 });
    expect((await post('/login/link', { token })).status).toBe(400);
    const cookie = await signIn();
    await makeToken();
    await server.clock.tick({ days: 7 });
    expect((await ask('/login/me', own(cookie))).status).toBe(401);
    expect(await deleteExpired(server.db, server.clock.now(), 10)).toBe(1);
    expect(await server.db`select 1 from login.links union all select 1 from login.sessions`).toEqual([]);
  });

  it('is stored as a hash, and its credentials encrypted', async () => {
    const token = await makeToken();
    const cookie = await signIn();
    const rows = JSON.stringify([await server.db`select * from login.links`, await server.db`select * from login.sessions`]);
    expect(rows).not.toContain(token);
    expect(rows).not.toContain(cookie.split('=')[1]);
    expect(rows).not.toContain('certificate');
  });

  it('needs a scope, and temporary credentials that are not over', async () => {
    const seed = 'x'.repeat(44);
    const inMs = (ms: number): Date => new Date(server.clock.nowMs() + ms);
    const credentials = createTemporaryCredentials({ credentials: root(), scopes: [], start: inMs(-2_000), expiry: inMs(2_000), seed });
    for (const [scopes, code] of [
      [null, 'InsufficientScopes'],
      [[], 'InsufficientScopes'],
    ] as const) {
      const client = server.client(loginApi, scopes === null ? { scopes } : { credentials });
      await expect(client.createSignInLink({ credentials })).rejects.toMatchObject({ statusCode: 403, code });
    }
    const login = server.client(loginApi, { credentials: root() });
    const over = createTemporaryCredentials({ credentials: root(), scopes: [], start: inMs(-2_000), expiry: inMs(0), seed });
    for (const certificate of ['', 'null', '{}', '[]', '{', '{"expiry":"2100"}', '{"expiry":1e300}', over.certificate]) {
      await expect(login.createSignInLink({ credentials: { ...credentials, certificate } })).rejects.toMatchObject({
        statusCode: 400,
        code: 'InputError',
      });
    }
    const wrong = await server.fetch(`${server.rootUrl}/api/login/v1/sign-in-link`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ credentials: { accessToken: 'the-secret' } }),
    });
    expect([wrong.status, (await wrong.text()).includes('the-secret')]).toEqual([403, false]);
    await expect(login.createSignInLink({ credentials: { clientId: 'x', accessToken: 'the-secret' } } as never)).rejects.toSatisfy(
      (error: ApiCallError) => error.code === 'InputValidationError' && !JSON.stringify(error.body).includes('the-secret'),
    );
    expect(await server.db`select 1 from login.links`).toEqual([]);
  });
});

describe('a session', () => {
  it('gives the credentials that the link was made of, until their issuer is changed', async () => {
    const admin = server.client(authApi, { credentials: root() });
    const { accessToken } = await admin.createClient(
      { clientId: 'some' },
      {
        expires: '2100-01-01T00:00:00.000Z',
        description: '',
        scopes: ['auth:current-scopes', 'auth:get-client:some', 'login:create-sign-in-link', 'x:*'],
      },
    );
    const some = { clientId: 'some', accessToken };
    const [forLogin, forAuth] = [server.client(loginApi, { credentials: some }), server.client(authApi, { credentials: some })];
    const context = { login: forLogin, auth: forAuth, clock: server.clock, random: seededRandom(3) };
    const { url } = await createSignInLink(context, some);
    const cookie = cookieOf(await post('/login/link', { token: url.split('#')[1] }));
    const answer = (await (await ask('/login/credentials', own(cookie))).json()) as { expires: string; credentials: Credentials };
    expect(answer.expires).toBe(new Date(server.clock.nowMs() + 7 * 86_400_000 - 30_000).toJSON());
    const browser = server.client(authApi, { credentials: answer.credentials });
    expect((await browser.currentScopes()).scopes).toEqual([
      'assume:anonymous',
      'auth:current-scopes',
      'auth:get-client:some',
      'login:create-sign-in-link',
      'x:*',
    ]);
    // a session's credentials make a link for the next browser, but cannot be narrowed
    const next = { ...context, login: server.client(loginApi, { credentials: answer.credentials }) };
    await expect(createSignInLink(next, answer.credentials, ['x:y'])).rejects.toThrow('cannot be narrowed');
    const second = await post('/login/link', { token: (await createSignInLink(next, answer.credentials)).url.split('#')[1] });
    expect(await second.json()).toEqual({ clientId: 'some', expires: new Date(server.clock.nowMs() + 7 * 86_400_000).toJSON() });
    await admin.disableClient({ clientId: 'some' });
    await expect(browser.currentScopes()).rejects.toMatchObject({ statusCode: 401 });
  });

  it('may be given less than its maker has', async () => {
    const cookie = await signIn(['auth:current-scopes', 'x:y']);
    const { credentials } = (await (await ask('/login/credentials', own(cookie))).json()) as { credentials: Credentials };
    expect((await server.client(authApi, { credentials }).currentScopes()).scopes).toEqual([
      'assume:anonymous',
      'auth:current-scopes',
      'x:y',
    ]);
  });

  it('lasts a week', async () => {
    const cookie = await signIn();
    await server.clock.tick({ days: 6 });
    expect((await ask('/login/me', own(cookie))).status).toBe(200);
    await server.clock.tick({ days: 1 });
    expect((await ask('/login/me', own(cookie))).status).toBe(401);
  });

  it('ends with signing out', async () => {
    const cookie = await signIn();
    const other = await signIn();
    const out = await ask('/login/logout', { method: 'POST', ...own(cookie) });
    expect([out.status, out.headers.get('set-cookie')]).toEqual([200, 'taskcluster-session=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0']);
    expect((await ask('/login/credentials', own(cookie))).status).toBe(401);
    expect((await ask('/login/credentials', own(other))).status).toBe(200);
    expect((await ask('/login/logout', { method: 'POST' })).status).toBe(200);
  });

  it('is of no use to other sites', async () => {
    const cookie = await signIn();
    const token = await makeToken();
    const json = { 'content-type': 'application/json' };
    const statuses = async (path: string, init: RequestInit): Promise<number> => (await ask(path, init)).status;
    expect(await statuses('/login/credentials', { headers: { cookie } })).toBe(400);
    expect(await statuses('/login/credentials', { headers: { cookie, 'x-requested-with': 'x', 'sec-fetch-site': 'cross-site' } })).toBe(
      403,
    );
    expect(await statuses('/login/credentials', { headers: { cookie, 'x-requested-with': 'x', origin: 'https://evil.example' } })).toBe(
      403,
    );
    expect(
      await statuses('/login/link', {
        method: 'POST',
        headers: { ...json, origin: 'https://evil.example' },
        body: JSON.stringify({ token }),
      }),
    ).toBe(403);
    expect(
      await statuses('/login/link', { method: 'POST', headers: { 'content-type': 'text/plain' }, body: JSON.stringify({ token }) }),
    ).toBe(400);
    expect(
      await statuses('/login/link', { method: 'POST', headers: { ...json, origin: server.rootUrl }, body: JSON.stringify({ token }) }),
    ).toBe(200);
  });

  it('is refused in any other form', async () => {
    for (const cookie of [
      '',
      'taskcluster-session',
      'taskcluster-session=',
      'taskcluster-session=%00',
      `other=1; taskcluster-session=${'x'.repeat(5_000)}`,
    ]) {
      expect((await ask('/login/me', own(cookie))).status).toBe(401);
    }
    for (const body of [
      '',
      '{',
      'null',
      '[]',
      '{"token":1}',
      '{"token":""}',
      '{"token":"nonsense"}',
      JSON.stringify({ token: 'x'.repeat(5_000) }),
    ]) {
      expect((await post('/login/link', body)).status).toBe(400);
    }
    expect((await ask('/login/link', { method: 'PUT' })).status).toBe(405);
    expect((await ask('/login/nowhere')).status).toBe(404);
  });
});

it('the page of a link may run its own script and nothing else', async () => {
  const response = await ask('/login/link');
  expect([response.status, response.headers.get('content-type')]).toEqual([200, 'text/html; charset=utf-8']);
  expect(response.headers.get('content-security-policy')).toMatch(
    /^default-src 'none'; script-src 'sha256-[^']+'; style-src 'sha256-[^']+'; connect-src 'self'; frame-ancestors 'none';/,
  );
  expect(await response.text()).toContain('<title>Sign in · Taskcluster</title>');
});
