/**
 * Credentials for other systems. Those for S3, Azure, Google Cloud, Sentry and GitHub check scopes and then say that the system is not configured: no
 * setting configures them yet, and the protocol has an answer for that.
 */
import { notFound } from '../../../platform/errors.ts';
import type { AuthHandlers } from '../context.ts';
import { makeTunnelToken } from '../websocktunnel.ts';

const noAccount = (account: string): never => notFound("Account '{{account}}' not found, can't delegate access", { account });

const isReadOnly = (level: string): boolean => level === 'read-only';

export const credentialHandlers: Pick<
  AuthHandlers,
  | 'awsS3Credentials'
  | 'azureAccounts'
  | 'azureTables'
  | 'azureTableSAS'
  | 'azureContainers'
  | 'azureContainerSAS'
  | 'sentryDSN'
  | 'websocktunnelToken'
  | 'gcpCredentials'
  | 'githubRepoToken'
> = {
  async awsS3Credentials({ params: { level, bucket, prefix }, authorize }) {
    await authorize({ levelIsReadOnly: isReadOnly(level), bucket, prefix });
    return notFound('No credentials available for bucket {{bucket}}', { bucket });
  },

  async azureAccounts() {
    return { accounts: [] };
  },

  async azureTables({ params: { account } }) {
    return noAccount(account);
  },

  async azureTableSAS({ params: { account, table, level }, authorize }) {
    await authorize({ levelIsReadOnly: isReadOnly(level), account, table });
    return noAccount(account);
  },

  async azureContainers({ params: { account } }) {
    return noAccount(account);
  },

  async azureContainerSAS({ params: { account, container, level }, authorize }) {
    await authorize({ levelIsReadOnly: isReadOnly(level), account, container });
    return noAccount(account);
  },

  async sentryDSN() {
    return notFound('Sentry credentials not found');
  },

  async websocktunnelToken({ ctx, params: { wstAudience, wstClient }, caller }) {
    const secret = ctx.websocktunnelSecret ?? notFound('Websocktunnel is not configured: the deployment has set no WEBSOCKTUNNEL_SECRET');
    const { clientId } = await caller();
    const { token, expires } = makeTunnelToken(secret, {
      tunnelClient: wstClient,
      audience: wstAudience,
      clientId,
      nowMs: ctx.clock.nowMs(),
    });
    return { wstClient, wstAudience, token, expires: expires.toISOString() };
  },

  async gcpCredentials({ params: { projectId } }) {
    return notFound('No credentials available for Google Cloud project {{projectId}}', { projectId });
  },

  async githubRepoToken({ params: { appName, owner }, body, authorize }) {
    const repositories = body.repositories.map(name => name.toLowerCase());
    const repoPerms = Object.entries(body.permissions).flatMap(([permission, level]) =>
      repositories.map(repository => `${repository}:${permission}:${level}`),
    );
    await authorize({ appName, owner: owner.toLowerCase(), repoPerms });
    return notFound('GitHub app {{appName}} is not configured', { appName });
  },
};
