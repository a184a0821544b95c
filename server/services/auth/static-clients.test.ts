import { describe, expect, test } from 'vitest';
import { BUILT_IN_CLIENTS, checkStaticClients, withOwnClients } from './static-clients.ts';

const accessToken = 'x'.repeat(22);
const own = Object.keys(BUILT_IN_CLIENTS).map(name => ({ clientId: `static/taskcluster/${name}`, accessToken }));
const other = { clientId: 'static/other', accessToken, description: 'd', scopes: ['a'] };
const problem = (value: unknown): string => {
  try {
    checkStaticClients(value);
    return 'none';
  } catch (error) {
    return (error as Error).message;
  }
};

describe('checkStaticClients', () => {
  test('takes all of the services or none of them, and others', () => {
    expect(checkStaticClients([other])).toEqual([other]);
    expect(checkStaticClients([...own, other]).find(client => client.clientId === 'static/taskcluster/notify')).toEqual({
      clientId: 'static/taskcluster/notify',
      accessToken,
      description: 'Internal client',
      scopes: ['queue:get-task:*', 'queue:list-task-group:*'],
    });
    expect(problem(own.slice(1))).toBe(`the clients of these services are missing: ${own[0]?.clientId}`);
  });

  test('says what is wrong, and never an access token', () => {
    expect(problem({})).toBe('must be an array of {clientId, accessToken, description?, scopes?}');
    expect(problem([{ ...other, clientId: 'other' }])).toBe('clientId "other" must begin with static/');
    expect(problem([{ ...other, accessToken: 'short-secret' }])).toBe(
      'static/other needs an accessToken of 22 to 66 letters, digits, - and _',
    );
    expect(problem([{ ...other, accessToken: 'x'.repeat(67) }])).not.toContain('xxx');
    expect(problem([{ clientId: 'static/other', accessToken }])).toBe(
      'static/other needs a description; static/other needs scopes, an array of texts of printable ASCII characters',
    );
    expect(problem([{ ...other, scopes: ['é'] }])).toBe('static/other needs scopes, an array of texts of printable ASCII characters');
    expect(problem([{ ...other, expires: 'never' }])).toBe('static/other has expires, which no static client has');
    expect(problem([other, other])).toBe('a clientId is given twice');
    expect(problem([...own, { ...own[0], clientId: 'static/taskcluster/unknown' }])).toBe(
      "static/taskcluster/unknown is none of the services' clients",
    );
    expect(problem(own.map(client => ({ ...client, scopes: [] })))).toContain(
      'static/taskcluster/queue must have no scopes and no description: they are built in',
    );
  });
});

describe('withOwnClients', () => {
  test("adds the services' own with the tokens of the platform, unless they are configured", () => {
    const added = withOwnClients([other], service => `token-of-${service}`);
    expect(added.length).toBe(own.length + 1);
    expect(added).toContainEqual({
      clientId: 'static/taskcluster/root',
      accessToken: 'token-of-root',
      description: 'Internal client',
      scopes: ['*'],
    });
    const configured = checkStaticClients(own);
    expect(withOwnClients(configured, () => '')).toBe(configured);
  });

  test('knows what sign-in may do', () => {
    expect(BUILT_IN_CLIENTS['web-server']).toEqual([
      'assume:github-org-admin:*',
      'assume:github-team:*',
      'assume:login-identity:*',
      'assume:mozilla-group:*',
      'assume:mozillians-group:*',
      'auth:create-client:github/*',
      'auth:create-client:mozilla-auth0/*',
      'auth:delete-client:github/*',
      'auth:delete-client:mozilla-auth0/*',
      'auth:disable-client:github/*',
      'auth:disable-client:mozilla-auth0/*',
      'auth:enable-client:github/*',
      'auth:enable-client:mozilla-auth0/*',
      'auth:update-client:github/*',
      'auth:update-client:mozilla-auth0/*',
      'auth:reset-access-token:github/*',
      'auth:reset-access-token:mozilla-auth0/*',
    ]);
  });
});
