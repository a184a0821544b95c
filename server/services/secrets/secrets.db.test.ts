import { authApi } from '@tscluster/api/auth/api.ts';
import { secretsApi } from '@tscluster/api/secrets/api.ts';
import { describe, expect, test } from 'vitest';
import { openLog } from '../../testing/log.ts';
import { refusal } from '../../testing/refusal.ts';
import { type TestServer, withServer } from '../../testing/server.ts';
import { auth } from '../auth/service.ts';
import { expireSecrets, type SecretsCtx, secretContext, secretsService } from './service.ts';

const { log, text: logged } = openLog('trace');

const server = await withServer([secretsService], { log });
const secrets = server.client(secretsApi, { clientId: 'tester' });
const ctxOf = ({ server: { services } }: TestServer): SecretsCtx => services.get('secrets')?.apis?.[0]?.ctx as SecretsCtx;

const inHours = (hours: number): string => new Date(server.clock.nowMs() + hours * 3_600_000).toISOString();
const history = (name: string): Promise<{ clientId: string; action: string }[]> =>
  server.db`select client_id, action from platform.audit where entity_type = 'secret' and entity_id = ${name} order by id`;

describe('a secret', () => {
  test('is what was set, last write wins, and can be deleted more than once', async () => {
    const name = 'project/abc/token';
    const value = { b: 1, a: { list: [true, null, 'ä\u2028"'], 'odd key ': 1e21 } };
    const expires = inHours(1);
    expect(await secrets.set({ name }, { secret: value, expires })).toEqual({});
    const got = await secrets.get({ name });
    expect(got).toEqual({ secret: value, expires });
    expect(Object.keys(got.secret)).toEqual(['b', 'a']);
    await secrets.set({ name }, { secret: {}, expires });
    expect(await secrets.get({ name })).toEqual({ secret: {}, expires });
    expect(await secrets.remove({ name })).toEqual({});
    expect(await secrets.remove({ name })).toEqual({});
    expect(await refusal(secrets.get({ name }))).toEqual({ status: 404, code: 'ResourceNotFound', message: 'Secret not found' });
    expect(await history(name)).toEqual(['created', 'updated', 'deleted', 'deleted'].map(action => ({ clientId: 'tester', action })));
  });

  test('has the date in the canonical form, whatever form it came in', async () => {
    await secrets.set({ name: 'dates' }, { secret: {}, expires: '2100-02-03t04:05:06.123456+01:00' });
    expect(await secrets.get({ name: 'dates' })).toEqual({ secret: {}, expires: '2100-02-03T03:05:06.123Z' });
    await secrets.set({ name: 'dates' }, { secret: {}, expires: '9999-12-31T23:59:59Z' });
    expect(await secrets.get({ name: 'dates' })).toEqual({ secret: {}, expires: '9999-12-31T23:59:59.000Z' });
    await secrets.set({ name: 'dates' }, { secret: {}, expires: '0000-01-01T00:00:00Z' });
    expect((await refusal(secrets.get({ name: 'dates' }))).status).toBe(404);
    for (const expires of ['2100-02-03T04:05:06+24:00', '9999-12-31T23:59:59-01:00', '2100-02-30T00:00:00Z']) {
      expect(await refusal(secrets.set({ name: 'dates' }, { secret: {}, expires }))).toMatchObject({
        code: 'InputValidationError',
        message: expect.stringContaining('data/expires must match format "date-time"'),
      });
    }
  });

  test('of an expiry that is over is accepted and cannot be read', async () => {
    await secrets.set({ name: 'past' }, { secret: { a: 1 }, expires: inHours(-1) });
    expect((await refusal(secrets.get({ name: 'past' }))).code).toBe('ResourceNotFound');
    expect((await secrets.list()).secrets).not.toContain('past');
    await secrets.set({ name: 'past' }, { secret: { a: 1 }, expires: inHours(1) });
    expect((await history('past')).map(({ action }) => action)).toEqual(['created', 'created']);
  });

  test('is gone from the moment it expires, and removed within the hour', async () => {
    const own = await withServer([secretsService]);
    const client = own.client(secretsApi);
    const at = (ms: number): string => new Date(own.clock.nowMs() + ms).toISOString();
    for (const [name, ms] of [
      ['b', 1_000],
      ['a', 2_000],
      ['c', 3_000],
      ['d', 3_001],
    ] as const) {
      await client.set({ name }, { secret: { name }, expires: at(ms) });
    }
    own.clock.advance({ seconds: 3 });
    expect((await client.list()).secrets).toEqual(['c', 'd']);
    expect((await client.get({ name: 'c' })).secret).toEqual({ name: 'c' });
    own.clock.advance({ ms: 1 });
    expect((await refusal(client.get({ name: 'c' }))).code).toBe('ResourceNotFound');
    expect(await expireSecrets.run(ctxOf(own), 2)).toBe(2);
    expect(await expireSecrets.run(ctxOf(own), 2)).toBe(1);
    expect(await own.db`select name from secrets.secrets`).toEqual([{ name: 'd' }]);
    expect(await own.db`select client_id, action from platform.audit where entity_id = 'a' order by id`).toEqual([
      { clientId: 'caller-0', action: 'created' },
      { clientId: 'static/taskcluster/secrets', action: 'expired' },
    ]);
  });

  test('is encrypted in the database, bound to its name', async () => {
    await secrets.set({ name: 'sealed' }, { secret: { password: 'hunter2-at-rest' }, expires: inHours(1) });
    const [row] = await server.db<{ encrypted: string }>`select encrypted from secrets.secrets where name = 'sealed'`;
    expect(row?.encrypted).toMatch(/^v1:test:[\w-]+$/);
    expect(server.platform.keyring.decrypt(row?.encrypted ?? '', secretContext('sealed'))).toBe('{"password":"hunter2-at-rest"}');
    await server.db`insert into secrets.secrets select 'moved', encrypted, expires from secrets.secrets where name = 'sealed'`;
    expect((await refusal(secrets.get({ name: 'moved' }))).code).toBe('InternalServerError');
    await secrets.remove({ name: 'moved' });
  });

  test('survives any number of writers and readers at once', async () => {
    const name = 'contended';
    await Promise.all(
      Array.from({ length: 20 }, async (_, i) => {
        await secrets.set({ name }, { secret: { i, again: i }, expires: inHours(1) });
        const { secret } = await secrets.get({ name });
        expect(secret['i']).toBe(secret['again']);
      }),
    );
    expect((await history(name)).map(({ action }) => action)).toEqual(['created', ...Array(19).fill('updated')]);
  });
});

describe('names', () => {
  const rawPath = async (path: string): Promise<unknown> => {
    server.setAnonymousScopes(['secrets:get:a/b c', 'secrets:get:', 'secrets:get:x//y/']);
    const response = await server.fetch(`${server.rootUrl}/api/secrets/v1/secret/${path}`);
    return { status: response.status, body: await response.json() };
  };

  test('may have slashes, raw or encoded, and be empty', async () => {
    for (const name of ['a/b c', '', 'x//y/']) {
      await secrets.set({ name }, { secret: { name }, expires: inHours(1) });
    }
    for (const path of ['a/b%20c', 'a%2Fb%20c', '%61/b%20c']) {
      expect(await rawPath(path)).toMatchObject({ status: 200, body: { secret: { name: 'a/b c' } } });
    }
    expect(await rawPath('')).toMatchObject({ status: 200, body: { secret: { name: '' } } });
    expect(await rawPath('x//y/')).toMatchObject({ status: 200, body: { secret: { name: 'x//y/' } } });
    expect(await rawPath('a/b%20c/')).toMatchObject({ status: 403 });
  });

  test('that are too long for the database are refused; deleting one is not', async () => {
    const name = 'ä'.repeat(1_001);
    expect(await refusal(secrets.set({ name }, { secret: {}, expires: inHours(1) }))).toMatchObject({ status: 400, code: 'InputError' });
    expect(await secrets.remove({ name })).toEqual({});
    expect((await refusal(secrets.get({ name }))).status).toBe(404);
    await secrets.set({ name: 'ä'.repeat(1_000) }, { secret: {}, expires: inHours(1) });
    await secrets.remove({ name: 'ä'.repeat(1_000) });
  });

  test('are listed in the order of ids, page by page, also while others come and go', async () => {
    const own = await withServer([secretsService]);
    const client = own.client(secretsApi);
    const expires = new Date(own.clock.nowMs() + 3_600_000).toISOString();
    for (const name of ['o.Zed', 'o.abc', 'o.a_b', 'o.Abc', '0', 'p/q']) {
      await client.set({ name }, { secret: {}, expires });
    }
    const seen: string[] = [];
    let continuationToken: string | undefined;
    do {
      const page = await client.list({ limit: '2', ...(continuationToken === undefined ? {} : { continuationToken }) });
      seen.push(...page.secrets);
      ({ continuationToken } = page);
      await client.set({ name: `0/${seen.length}` }, { secret: {}, expires });
      await client.remove({ name: '0' });
    } while (continuationToken !== undefined);
    expect(seen).toEqual(['0', 'o.a_b', 'o.abc', 'o.Abc', 'o.Zed', 'p/q']);
    expect(await client.list({ limit: '0' })).toEqual({ secrets: [] });
    expect(await refusal(client.list({ continuationToken: '&' }))).toMatchObject({ status: 400, code: 'InputError' });
    expect(await refusal(client.list({ continuationToken: '' }))).toMatchObject({ status: 400, code: 'InvalidRequestArguments' });
    expect(await refusal(client.list({ limit: '-1' }))).toMatchObject({ status: 400, code: 'InvalidRequestArguments' });
  });
});

describe('scopes', () => {
  test('are those of the name, whether or not the secret is there', async () => {
    await secrets.set({ name: 'guarded/x' }, { secret: { a: 1 }, expires: inHours(1) });
    const reader = server.client(secretsApi, { scopes: ['secrets:get:guarded/*'] });
    const writer = server.client(secretsApi, { scopes: ['secrets:set:guarded/x'] });
    const stranger = server.client(secretsApi, { scopes: null });
    expect((await reader.get({ name: 'guarded/x' })).secret).toEqual({ a: 1 });
    const forbidden = async (call: Promise<unknown>, scope: string): Promise<void> => {
      expect(await refusal(call)).toMatchObject({ status: 403, code: 'InsufficientScopes', message: expect.stringContaining(scope) });
    };
    for (const name of ['guarded/x', 'guarded/none']) {
      await forbidden(reader.set({ name }, { secret: {}, expires: inHours(1) }), `secrets:set:${name}`);
      await forbidden(reader.remove({ name }), `secrets:set:${name}`);
      await forbidden(writer.get({ name }), `secrets:get:${name}`);
      await forbidden(stranger.get({ name }), `secrets:get:${name}`);
    }
    await forbidden(reader.list(), 'secrets:list-secrets');
    expect((await secrets.get({ name: 'guarded/x' })).secret).toEqual({ a: 1 });
    await writer.remove({ name: 'guarded/x' });
  });
});

describe('a value', () => {
  const VALUE = 'hunter2-never-to-be-seen';
  const put = async (body: string, headers: Record<string, string> = { 'content-type': 'application/json' }): Promise<string> => {
    server.setAnonymousScopes(['secrets:set:leaky/*', 'secrets:get:leaky/*']);
    const response = await server.fetch(`${server.rootUrl}/api/secrets/v1/secret/leaky/a`, { method: 'PUT', headers, body });
    return response.text();
  };

  test.each([
    ['without an expiry', JSON.stringify({ secret: { password: VALUE } })],
    ['with a wrong expiry', JSON.stringify({ secret: { password: VALUE }, expires: 'tomorrow' })],
    ['as the expiry', JSON.stringify({ secret: {}, expires: [VALUE] })],
    ['as a text', JSON.stringify({ secret: VALUE, expires: '2100-01-01T00:00:00Z' })],
    ['under another key', JSON.stringify({ secret: {}, expires: '2100-01-01T00:00:00Z', value: VALUE })],
    ['as the whole body', JSON.stringify({ password: VALUE })],
    ['in a list', JSON.stringify([VALUE])],
    ['alone', JSON.stringify(VALUE)],
    ['cut off', `{"secret": {"password": "${VALUE}`],
    ['with what is no JSON', `{"secret": ${VALUE}}`],
    ['with a NUL', JSON.stringify({ secret: { [`${VALUE}/x`]: 'a\0b' }, expires: '2100-01-01T00:00:00Z' })],
  ])('given %s is not in the answer', async (_how, body) => {
    const answer = await put(body);
    expect(answer).toMatch(/"code":\s*"(InputValidationError|MalformedPayload|InputError)"/);
    expect(answer).not.toContain('hunter2');
    expect(answer).not.toContain('never-to');
  });

  test('given with another content type is not in the answer', async () => {
    expect(await put(JSON.stringify({ secret: { password: VALUE } }), { 'content-type': 'text/plain' })).not.toContain(VALUE);
  });

  test('of which the payload is echoed is left out, and the rest is not', async () => {
    const answer = JSON.parse(await put(JSON.stringify({ secret: { password: VALUE }, expires: 'tomorrow' }))) as {
      requestInfo: { payload: unknown };
    };
    expect(answer.requestInfo.payload).toEqual({ secret: '(OMITTED)', expires: 'tomorrow' });
  });

  test('is in no log, audit or metric, whatever happens to it', async () => {
    await secrets.set({ name: 'leaky/b' }, { secret: { password: VALUE }, expires: inHours(1) });
    await secrets.get({ name: 'leaky/b' });
    await secrets.list();
    // what cannot be decrypted is an internal error, which is logged with its cause
    await server.db`update secrets.secrets set encrypted = 'v1:lost:AAAA' where name = 'leaky/b'`;
    expect((await refusal(secrets.get({ name: 'leaky/b' }))).code).toBe('InternalServerError');
    // and a database that fails while the value is on its way to it
    await server.db`alter table secrets.secrets add constraint no_more check (name <> 'leaky/c')`;
    expect((await refusal(secrets.set({ name: 'leaky/c' }, { secret: { password: VALUE }, expires: inHours(1) }))).code).toBe(
      'InternalServerError',
    );
    await server.db`alter table secrets.secrets drop constraint no_more`;
    await secrets.remove({ name: 'leaky/b' });
    expect(logged()).toContain('audit-event');
    expect(logged()).toContain('request failed');
    expect(logged()).not.toContain(VALUE);
    expect(JSON.stringify(await server.db`select * from platform.audit`)).not.toContain(VALUE);
    expect(await server.platform.metrics.registry.metrics()).not.toContain(VALUE);
    expect(JSON.stringify(await server.db`select * from platform.outbox`)).not.toContain(VALUE);
  });
});

test('the history shows in the audit of auth', async () => {
  const own = await withServer([auth, secretsService]);
  const credentials = { clientId: 'static/taskcluster/root', accessToken: 'token-of-root-0123456789abcdef' };
  await own.client(secretsApi, { credentials }).set({ name: 'p/q' }, { secret: {}, expires: '2100-01-01T00:00:00Z' });
  const { auditHistory } = await own.client(authApi, { credentials }).getEntityHistory({ entityType: 'secret', entityId: 'p/q' });
  expect(auditHistory).toMatchObject([{ actionType: 'created', clientId: 'static/taskcluster/root' }]);
});
