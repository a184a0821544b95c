import { beforeAll, describe, expect, test } from 'vitest';
import type { AuthServer } from '../testing.ts';
import { refusal, withAuth } from '../testing.ts';

let server: AuthServer;
beforeAll(async () => {
  server = await withAuth({ environment: { WEBSOCKTUNNEL_SECRET: 'a-secret' } });
});

describe('websocktunnelToken', () => {
  test('is a token for the caller', async () => {
    const own = await server.as('tunnel/1', ['auth:websocktunnel-token:aud/*']);
    const nowS = Math.floor(server.clock.nowMs() / 1000);
    const answer = await own.websocktunnelToken({ wstAudience: 'aud', wstClient: 'me.1~2' });
    expect(answer).toMatchObject({ wstAudience: 'aud', wstClient: 'me.1~2', expires: new Date((nowS + 96 * 3600) * 1000).toISOString() });
    const [, payload] = answer.token.split('.');
    expect(JSON.parse(Buffer.from(payload ?? '', 'base64url').toString())).toEqual({
      tid: 'me.1~2',
      aud: 'aud',
      sub: 'tunnel/1',
      iat: nowS,
      exp: nowS + 96 * 3600,
      nbf: nowS - 900,
      iss: 'taskcluster-auth',
    });
    expect((await refusal(own.websocktunnelToken({ wstAudience: 'other', wstClient: 'me' }))).code).toBe('InsufficientScopes');
    expect((await refusal(server.root.websocktunnelToken({ wstAudience: 'a b', wstClient: 'me' }))).code).toBe('InvalidRequestArguments');
  });

  test('is not given where nothing is configured', async () => {
    const plain = await withAuth();
    expect(await refusal(plain.root.websocktunnelToken({ wstAudience: 'aud', wstClient: 'me' }))).toMatchObject({
      status: 404,
      code: 'ResourceNotFound',
    });
    await plain.close();
  });
});

describe('systems that are not configured', () => {
  const notFound = async (call: Promise<unknown>): Promise<string> => {
    const { status, code, message } = await refusal(call);
    expect([status, code]).toEqual([404, 'ResourceNotFound']);
    return message;
  };

  test('say so to those who have the scopes', async () => {
    const { root } = server;
    expect(await notFound(root.awsS3Credentials({ level: 'read-only', bucket: 'some-bucket', prefix: 'a/b' }))).toBe(
      'No credentials available for bucket some-bucket',
    );
    expect(await root.azureAccounts()).toEqual({ accounts: [] });
    const message = "Account 'acc' not found, can't delegate access";
    expect(await notFound(root.azureTables({ account: 'acc' }))).toBe(message);
    expect(await notFound(root.azureTableSAS({ account: 'acc', table: 'Table', level: 'read-write' }))).toBe(message);
    expect(await notFound(root.azureContainers({ account: 'acc' }))).toBe(message);
    expect(await notFound(root.azureContainerSAS({ account: 'acc', container: 'con', level: 'read-only' }))).toBe(message);
    expect(await notFound(root.sentryDSN({ project: 'p' }))).toBe('Sentry credentials not found');
    expect(await notFound(root.gcpCredentials({ projectId: 'p', serviceAccount: 's@p' }))).toBe(
      'No credentials available for Google Cloud project p',
    );
    expect(
      await notFound(root.githubRepoToken({ appName: 'app', owner: 'o' }, { permissions: { contents: 'read' }, repositories: ['r'] })),
    ).toBe('GitHub app app is not configured');
  });

  test('check scopes first: reading is also for those who may write', async () => {
    const own = await server.as('cloud/1', [
      'auth:aws-s3:read-write:some-bucket/w/*',
      'auth:aws-s3:read-only:some-bucket/r/*',
      'auth:azure-table:read-only:acc/Table',
      'auth:azure-container:read-write:acc/con',
      'auth:github-repo-token:app/owner/repo:contents:write',
    ]);
    const s3 = (level: string, prefix: string): Promise<unknown> => own.awsS3Credentials({ level, bucket: 'some-bucket', prefix });
    await notFound(s3('read-write', 'w/x'));
    await notFound(s3('read-only', 'w/x'));
    await notFound(s3('read-only', 'r/x'));
    expect((await refusal(s3('read-write', 'r/x'))).code).toBe('InsufficientScopes');
    expect((await refusal(s3('read-anything', 'r/x'))).code).toBe('InvalidRequestArguments');
    await notFound(own.azureTableSAS({ account: 'acc', table: 'Table', level: 'read-only' }));
    expect((await refusal(own.azureTableSAS({ account: 'acc', table: 'Table', level: 'read-write' }))).code).toBe('InsufficientScopes');
    await notFound(own.azureContainerSAS({ account: 'acc', container: 'con', level: 'read-only' }));
    const github = (permissions: { contents: 'read' | 'write' }, repositories: string[]): Promise<unknown> =>
      own.githubRepoToken({ appName: 'app', owner: 'OWNER' }, { permissions, repositories });
    await notFound(github({ contents: 'write' }, ['Repo']));
    expect((await refusal(github({ contents: 'read' }, ['repo']))).message).toContain(
      'auth:github-repo-token:app/owner/repo:contents:read',
    );
    expect((await refusal(github({ contents: 'write' }, ['repo', 'other']))).code).toBe('InsufficientScopes');
    expect((await refusal(server.stranger.sentryDSN({ project: 'p' }))).code).toBe('InsufficientScopes');
  });
});
