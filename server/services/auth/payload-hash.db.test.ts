/** The hash of a body in a signature: auth hands it on, and the service that was called compares it with what it received. */
import { authApi } from '@tscluster/api/auth/api.ts';
import { payloadHash, signRequest } from '@tscluster/client/hawk.ts';
import { beforeAll, describe, expect, test } from 'vitest';
import { type AuthServer, ROOT, withAuth } from './testing.ts';

let server: AuthServer;
beforeAll(async () => {
  server = await withAuth();
});

const BODY = '{"scopes": ["a", "assume:x"]}';
const JSON_TYPE = 'application/json';

const send = async (
  hash: string | undefined,
  { body = BODY, type = 'application/json; charset=utf-8', method = 'POST', path = '/scopes/expand' } = {},
) => {
  const url = new URL(`${server.rootUrl}/api/auth/v1${path}`);
  const authorization = await signRequest({ credentials: ROOT, nowMs: server.clock.nowMs(), method, url, nonce: 'abcdef', hash });
  const reply = await server.fetch(url, {
    method,
    headers: { authorization, 'content-type': type },
    ...(method === 'GET' ? {} : { body }),
  });
  return { status: reply.status, body: (await reply.json()) as { code?: string; message?: string } };
};

describe('a payload hash', () => {
  test('of the body as it was sent is accepted, and none need be given', async () => {
    expect(await send(await payloadHash(BODY, JSON_TYPE))).toMatchObject({ status: 200 });
    expect(await send(await payloadHash(BODY, 'APPLICATION/JSON; q=1'))).toMatchObject({ status: 200 });
    expect(await send(undefined)).toMatchObject({ status: 200 });
  });

  test('of another body or type is refused, naming the hash of what was received', async () => {
    const right = await payloadHash(BODY, JSON_TYPE);
    for (const wrong of [await payloadHash(BODY.replaceAll(' ', ''), JSON_TYPE), await payloadHash(BODY, 'text/plain')]) {
      const { status, body } = await send(wrong);
      expect([status, body.code]).toEqual([401, 'AuthenticationFailed']);
      expect(body.message).toContain(right);
    }
  });

  test('of another length is refused in the same way', async () => {
    for (const wrong of ['x', `${await payloadHash(BODY, JSON_TYPE)}=`, 'a'.repeat(500)]) {
      expect(await send(wrong)).toMatchObject({ status: 401, body: { code: 'AuthenticationFailed' } });
    }
  });

  test('of a request without a body is that of nothing', async () => {
    const empty = { method: 'GET', path: '/scopes/current', type: '' };
    expect(await send(await payloadHash('', ''), empty)).toMatchObject({ status: 200 });
    expect(await send(await payloadHash('x', ''), empty)).toMatchObject({ status: 401 });
  });

  test('is not looked at where nothing is checked', async () => {
    expect(await send('nonsense', { method: 'GET', path: '/ping' })).toMatchObject({ status: 200 });
    const answer = await server.client(authApi, { scopes: null }).authenticateHawk({
      method: 'get',
      resource: '/api/auth/v1/scopes/current',
      host: 'taskcluster.test',
      port: 80,
      authorization: await signRequest({
        credentials: ROOT,
        nowMs: server.clock.nowMs(),
        method: 'get',
        url: new URL(`${server.rootUrl}/api/auth/v1/scopes/current`),
        nonce: 'abcdef',
        hash: 'anything',
      }),
    });
    expect(answer).toMatchObject({ status: 'auth-success', hash: 'anything' });
  });
});
