/** Every method of auth. */
import { describe, expect, test } from 'vitest';
import { expectRefusal } from '../../official.ts';
import { type Under, call, has, inAnHour } from '../library.ts';

export const authCalls = (under: Under): void => {
  describe('auth', () => {
    const clientId = 'e2e/methods';

    test('clients', async () => {
      const { auth } = under.root;
      const words = { description: 'made here', expires: inAnHour().toISOString(), scopes: ['e2e:a'], deleteOnExpiration: false };
      const created = await call(auth, 'createClient', clientId, words);
      expect(created).toMatchObject({ clientId, scopes: ['e2e:a'], disabled: false, accessToken: expect.stringMatching(/^[\w-]{44}$/) });
      await expectRefusal(call(auth, 'createClient', clientId, { ...words, description: 'other' }), 409, 'RequestConflict', 'exists');
      expect(await call(auth, 'client', clientId)).toMatchObject({ clientId, expandedScopes: ['e2e:a'] });
      await expectRefusal(call(auth, 'client', 'e2e/none'), 404, 'ResourceNotFound', 'Client not found');
      const { clients } = await call(auth, 'listClients', { prefix: 'e2e/' });
      expect(clients).toMatchObject([{ clientId }]);
      await expectRefusal(call(auth, 'listClients', { limit: 'many' }), 400, 'InvalidRequestArguments', 'limit');
      expect(await call(auth, 'updateClient', clientId, { ...words, scopes: ['e2e:b'] })).toMatchObject({ scopes: ['e2e:b'] });
      await expectRefusal(
        call(under.nobody.auth, 'updateClient', clientId, words),
        403,
        'InsufficientScopes',
        `auth:update-client:${clientId}`,
      );
      expect(await call(auth, 'disableClient', clientId)).toMatchObject({ disabled: true });
      await expectRefusal(call(auth, 'disableClient', 'e2e/none'), 404, 'ResourceNotFound');
      expect(await call(auth, 'enableClient', clientId)).toMatchObject({ disabled: false });
      await expectRefusal(call(auth, 'enableClient', 'static/e2e'), 400, 'InputError', 'reserved for statically configured clients');
      const reset = await call(auth, 'resetAccessToken', clientId);
      expect(reset.accessToken).not.toBe(created.accessToken);
      await expectRefusal(
        call(under.nobody.auth, 'resetAccessToken', clientId),
        403,
        'InsufficientScopes',
        `auth:reset-access-token:${clientId}`,
      );
      await expectRefusal(call(under.nobody.auth, 'deleteClient', clientId), 403, 'InsufficientScopes', `auth:delete-client:${clientId}`);
      expect(await call(auth, 'deleteClient', clientId)).toBeUndefined();
      await expectRefusal(call(auth, 'client', clientId), 404, 'ResourceNotFound');
    });

    test('roles', async () => {
      const { auth } = under.root;
      const roleId = 'e2e-methods';
      const words = { description: 'made here', scopes: ['e2e:a'] };
      expect(await call(auth, 'createRole', roleId, words)).toMatchObject({ roleId, scopes: ['e2e:a'] });
      await expectRefusal(call(auth, 'createRole', roleId, { ...words, scopes: ['e2e:b'] }), 409, 'RequestConflict', roleId);
      await expectRefusal(call(auth, 'createRole', 'e2e-cycle', { ...words, scopes: ['assume:e2e-cycle'] }), 400, 'InputError', 'cycle');
      expect(await call(auth, 'role', roleId)).toMatchObject({ roleId, expandedScopes: ['assume:e2e-methods', 'e2e:a'] });
      await expectRefusal(call(auth, 'role', 'e2e-none'), 404, 'ResourceNotFound', 'Role not found');
      expect(await call(auth, 'updateRole', roleId, { ...words, scopes: ['e2e:b'] })).toMatchObject({ scopes: ['e2e:b'] });
      await expectRefusal(call(auth, 'updateRole', 'e2e-none', words), 404, 'ResourceNotFound', 'e2e-none');
      expect((await call(auth, 'listRoles')).map((role: { roleId: string }) => role.roleId)).toEqual(
        expect.arrayContaining(['anonymous', roleId]),
      );
      expect((await call(auth, 'listRoles2', { limit: '1' })).roles).toHaveLength(1);
      expect((await call(auth, 'listRoleIds')).roleIds).toEqual(expect.arrayContaining(['anonymous', roleId]));
      await expectRefusal(call(under.impostor.auth, 'listRoles'), 401, 'AuthenticationFailed', 'Bad mac');
      await expectRefusal(call(auth, 'listRoles2', { continuationToken: 'not one', limit: '1' }), 400, 'InputError', 'continuationToken');
      await expectRefusal(call(auth, 'listRoleIds', { limit: 'many' }), 400, 'InvalidRequestArguments', 'limit');
      await expectRefusal(call(under.nobody.auth, 'deleteRole', roleId), 403, 'InsufficientScopes', `auth:delete-role:${roleId}`);
      expect(await call(auth, 'deleteRole', roleId)).toBeUndefined();
    });

    test('scopes and history', async () => {
      const { auth } = under.root;
      expect(await call(auth, 'expandScopes', { scopes: ['e2e:b', 'e2e:a', 'e2e:*'] })).toEqual({ scopes: ['e2e:*'] });
      await expectRefusal(call(auth, 'expandScopes', { scopes: ['a', 'a'] }), 400, 'InputValidationError', 'data/scopes');
      expect(await call(auth, 'currentScopes')).toMatchObject({ scopes: expect.arrayContaining(['*']) });
      await expectRefusal(call(under.impostor.auth, 'currentScopes'), 401, 'AuthenticationFailed', 'Bad mac');
      const { auditHistory } = await call(auth, 'getEntityHistory', 'client', clientId);
      expect(auditHistory.map(({ actionType }: { actionType: string }) => actionType)).toEqual([
        'created',
        'updated',
        'client disabled',
        'client enabled',
        'access token reset',
        'deleted',
      ]);
      await expectRefusal(
        call(under.nobody.auth, 'getEntityHistory', 'client', clientId),
        403,
        'InsufficientScopes',
        'auth:audit-history:client',
      );
      const own = await call(auth, 'listAuditHistory', under.installation.credentials.clientId, { limit: '3' });
      expect(own.auditHistory).toHaveLength(3);
      await expectRefusal(
        call(under.nobody.auth, 'listAuditHistory', clientId),
        403,
        'InsufficientScopes',
        `auth:client-audit-history:${clientId}`,
      );
    });

    test('authentication', async () => {
      const { auth } = under.root;
      const request = { method: 'get', resource: '/x', host: 'localhost', port: 80 };
      expect(await call(under.nobody.auth, 'authenticateHawk', request)).toMatchObject({ status: 'no-auth', scheme: 'none' });
      await expectRefusal(call(auth, 'authenticateHawk', { ...request, port: 'http' }), 400, 'InputValidationError', 'data/port');
      const tester = under.connect({ clientId: 'tester', accessToken: 'no-secret' }).auth;
      const scopes = { clientScopes: ['test:*'], requiredScopes: ['test:x'] };
      expect(await call(tester, 'testAuthenticate', scopes)).toMatchObject({
        clientId: 'tester',
        scopes: expect.arrayContaining(['test:*']),
      });
      await expectRefusal(call(tester, 'testAuthenticate', { ...scopes, requiredScopes: ['other'] }), 403, 'InsufficientScopes', 'other');
      expect(await call(tester, 'testAuthenticateGet')).toMatchObject({ clientId: 'tester' });
      await expectRefusal(call(auth, 'testAuthenticateGet'), 401, 'AuthenticationFailed', 'not found');
    });

    test('credentials of other systems', async () => {
      const { auth } = under.root;
      if (has(auth, 'azureAccounts')) {
        expect(await call(auth, 'azureAccounts')).toEqual({ accounts: [] });
        await expectRefusal(call(under.nobody.auth, 'azureAccounts'), 403, 'InsufficientScopes', 'auth:azure-table:list-accounts');
      }
      expect(await call(auth, 'websocktunnelToken', 'audience', 'client')).toMatchObject({
        wstAudience: 'audience',
        wstClient: 'client',
        token: expect.stringMatching(/^[\w-]+\.[\w-]+\.[\w-]+$/),
      });
      await expectRefusal(
        call(under.nobody.auth, 'websocktunnelToken', 'audience', 'client'),
        403,
        'InsufficientScopes',
        'auth:websocktunnel-token:audience/client',
      );
      const notFound = async (name: string, ...args: unknown[]): Promise<void> => {
        if (has(auth, name)) {
          await expectRefusal(call(auth, name, ...args), 404, 'ResourceNotFound');
        }
      };
      await notFound('awsS3Credentials', 'read-only', 'a-bucket', 'prefix/');
      await notFound('azureTables', 'account');
      await notFound('azureTableSAS', 'account', 'aTable', 'read-only');
      await notFound('azureContainers', 'account');
      await notFound('azureContainerSAS', 'account', 'container', 'read-write');
      await notFound('sentryDSN', 'project');
      await notFound('gcpCredentials', '-', 'account@example.com');
      await notFound('githubRepoToken', 'app', 'owner', { permissions: { contents: 'read' }, repositories: ['repository'] });
    });
  });
};
