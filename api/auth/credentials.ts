/** Credentials for other systems, handed out for scopes. A system that is not configured answers `ResourceNotFound`. */
import { methods } from '../define.ts';
import { array, dateTime, object, optional, schema, set, string, stringEnum, uri } from '../schema.ts';
import { continuationToken } from '../types.ts';

export const awsS3CredentialsResponse = schema(
  'auth',
  'aws-s3-credentials-response',
  { title: 'AWS S3 Credentials Response' },
  object({
    credentials: object({
      accessKeyId: string({ description: 'Access key.' }),
      secretAccessKey: string({ description: 'Secret.' }),
      sessionToken: string({ description: 'Session token; the keys do not work without it.' }),
    }),
    expires: dateTime({ description: 'Until when they work.' }),
  }),
);

export const azureAccountListResponse = schema(
  'auth',
  'azure-account-list-response',
  { title: 'Azure Account List Response' },
  object({ accounts: set(string()) }),
);
export const azureTableListResponse = schema(
  'auth',
  'azure-table-list-response',
  { title: 'Azure Table List Response' },
  object({ tables: set(string()), continuationToken: optional(continuationToken()) }),
);
export const azureContainerListResponse = schema(
  'auth',
  'azure-container-list-response',
  { title: 'Azure Container List Response' },
  object({ containers: set(string()), continuationToken: optional(continuationToken()) }),
);
const sharedAccess = {
  sas: string({ description: 'Shared access signature, to be put into the query of requests to Azure.' }),
  expiry: dateTime({ description: 'Until when it works.' }),
};
export const azureTableAccessResponse = schema(
  'auth',
  'azure-table-access-response',
  { title: 'Azure Table Access Response' },
  object(sharedAccess),
);
export const azureContainerResponse = schema(
  'auth',
  'azure-container-response',
  { title: 'Azure Container Access Response' },
  object(sharedAccess),
);

export const sentryDsnResponse = schema(
  'auth',
  'sentry-dsn-response',
  { title: 'Sentry DSN Response' },
  object({
    project: string({ description: 'The project.' }),
    dsn: object({ secret: uri({ description: 'With its secret, for servers.' }), public: uri({ description: 'Without, for browsers.' }) }),
    expires: dateTime({ description: 'Until when they work.' }),
  }),
);

const AUDIENCE_PATTERN = '^[a-zA-Z0-9_-]{1,38}$';
const TUNNEL_CLIENT_PATTERN = '^[a-zA-Z0-9_~.%-]+$';
export const websocktunnelTokenResponse = schema(
  'auth',
  'websocktunnel-token-response',
  { title: 'Websocktunnel Token Response' },
  object({
    wstClient: string({ pattern: TUNNEL_CLIENT_PATTERN, description: 'The name under which the holder may connect.' }),
    wstAudience: string({ pattern: AUDIENCE_PATTERN, description: 'The websocktunnel server it is for.' }),
    token: string({ description: 'The token, a JWT.' }),
    expires: dateTime({ description: 'Until when it works.' }),
  }),
);

export const gcpCredentialsResponse = schema(
  'auth',
  'gcp-credentials-response',
  { title: 'GCP Credentials Response' },
  object({ accessToken: string({ description: 'OAuth2 access token.' }), expireTime: dateTime({ description: 'Until when it works.' }) }),
);

const READ_WRITE_PERMISSIONS = [
  'actions',
  'administration',
  'artifact_metadata',
  'attestations',
  'checks',
  'code_quality',
  'codespaces',
  'contents',
  'dependabot_secrets',
  'deployments',
  'discussions',
  'environments',
  'issues',
  'merge_queues',
  'metadata',
  'packages',
  'pages',
  'pull_requests',
  'repository_custom_properties',
  'repository_hooks',
  'secret_scanning_alerts',
  'secrets',
  'security_events',
  'single_file',
  'statuses',
  'vulnerability_alerts',
] as const;
const readWrite = optional(stringEnum(['read', 'write']));
const permissions = Object.fromEntries(READ_WRITE_PERMISSIONS.map(name => [name, readWrite])) as Record<
  (typeof READ_WRITE_PERMISSIONS)[number],
  typeof readWrite
>;

export const githubRepoTokenRequest = schema(
  'auth',
  'github-repo-token-request',
  { title: 'GitHub Repository Token Request' },
  object({
    permissions: object(
      {
        ...permissions,
        repository_projects: optional(stringEnum(['read', 'write', 'admin'])),
        workflows: optional(stringEnum(['write'])),
      },
      { minProperties: 1, description: 'What the token may do. Each needs a scope of exactly this level for each repository.' },
    ),
    repositories: array(string({ pattern: '^[A-Za-z0-9._-]+$' }), {
      minItems: 1,
      maxItems: 500,
      description: 'Names of the repositories, without their owner.',
    }),
  }),
);

export const githubTokenResponse = schema(
  'auth',
  'github-token-response',
  { title: 'GitHub Token Response' },
  object({ token: string({ description: 'Installation access token.' }), expires: dateTime({ description: 'Until when it works.' }) }),
);

const level = /^(read-write|read-only)$/;
const account = /^[a-z0-9]{3,24}$/;
const azure = { category: 'Azure Credentials', stability: 'deprecated' } as const;

export const credentialMethods = methods({
  awsS3Credentials: {
    method: 'get',
    route: '/aws/s3/<level>/<bucket>/<prefix>',
    splat: ['prefix'],
    params: { level, bucket: /^[a-z0-9][a-z0-9-]{1,62}[a-z0-9]$/ },
    query: { format: /iam-role-compat/ },
    title: 'S3 Credentials',
    description: [
      'Credentials for the objects of an S3 bucket whose keys begin with `prefix`, valid for an hour. With `level` `read-only` they can get and list, with `read-write` also put and delete.',
      '',
      'End the prefix with a slash to mean a folder: `a` covers `ab` as well. With `format=iam-role-compat` the answer looks like that of the metadata service of EC2, for programs that know only this.',
    ].join('\n'),
    category: 'AWS Credentials',
    stability: 'stable',
    scopes: {
      if: 'levelIsReadOnly',
      then: { AnyOf: ['auth:aws-s3:read-only:<bucket>/<prefix>', 'auth:aws-s3:read-write:<bucket>/<prefix>'] },
      else: 'auth:aws-s3:read-write:<bucket>/<prefix>',
    },
    output: awsS3CredentialsResponse,
  },
  azureAccounts: {
    ...azure,
    method: 'get',
    route: '/azure/accounts',
    title: 'List Azure Accounts',
    description: 'The Azure storage accounts for which credentials are handed out.',
    scopes: 'auth:azure-table:list-accounts',
    output: azureAccountListResponse,
  },
  azureTables: {
    ...azure,
    method: 'get',
    route: '/azure/<account>/tables',
    params: { account },
    query: { continuationToken: /^.*$/ },
    title: 'List Azure Tables',
    description: 'The tables of an Azure storage account. Paged.',
    scopes: 'auth:azure-table:list-tables:<account>',
    output: azureTableListResponse,
  },
  azureTableSAS: {
    ...azure,
    method: 'get',
    route: '/azure/<account>/table/<table>/<level>',
    params: { account, table: /^[A-Za-z][A-Za-z0-9]{2,62}$/, level },
    title: 'Azure Table Signature',
    description:
      'A signature to read, or to read and write, one Azure table for some minutes. With `read-write` the table is created if it does not exist.',
    scopes: {
      if: 'levelIsReadOnly',
      then: { AnyOf: ['auth:azure-table:read-only:<account>/<table>', 'auth:azure-table:read-write:<account>/<table>'] },
      else: 'auth:azure-table:read-write:<account>/<table>',
    },
    output: azureTableAccessResponse,
  },
  azureContainers: {
    ...azure,
    method: 'get',
    route: '/azure/<account>/containers',
    params: { account },
    query: { continuationToken: /.*/ },
    title: 'List Azure Containers',
    description: 'The blob containers of an Azure storage account. Paged.',
    scopes: 'auth:azure-container:list-containers:<account>',
    output: azureContainerListResponse,
  },
  azureContainerSAS: {
    ...azure,
    method: 'get',
    route: '/azure/<account>/containers/<container>/<level>',
    params: { account, container: /^(?!.*[-]{2})[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$/, level },
    title: 'Azure Container Signature',
    description:
      'A signature to read, or to read and write, one Azure blob container for some minutes. With `read-write` the container is created if it does not exist.',
    scopes: {
      if: 'levelIsReadOnly',
      then: { AnyOf: ['auth:azure-container:read-only:<account>/<container>', 'auth:azure-container:read-write:<account>/<container>'] },
      else: 'auth:azure-container:read-write:<account>/<container>',
    },
    output: azureContainerResponse,
  },
  sentryDSN: {
    method: 'get',
    route: '/sentry/<project>/dsn',
    params: { project: /^[a-zA-Z0-9_-]{1,64}$/ },
    title: 'Sentry DSN',
    description: 'Where a program sends its errors in Sentry. The project is created if it does not exist. Ask again before `expires`.',
    category: 'Sentry Credentials',
    stability: 'stable',
    scopes: 'auth:sentry:<project>',
    output: sentryDsnResponse,
  },
  websocktunnelToken: {
    method: 'get',
    route: '/websocktunnel/<wstAudience>/<wstClient>',
    params: { wstAudience: new RegExp(AUDIENCE_PATTERN), wstClient: new RegExp(TUNNEL_CLIENT_PATTERN) },
    title: 'Websocktunnel Token',
    description:
      'A token to connect to a websocktunnel server under a name, and so to be reachable from outside. Ask again before `expires`.',
    category: 'Websocktunnel Credentials',
    stability: 'stable',
    scopes: 'auth:websocktunnel-token:<wstAudience>/<wstClient>',
    output: websocktunnelTokenResponse,
  },
  gcpCredentials: {
    method: 'get',
    route: '/gcp/credentials/<projectId>/<serviceAccount>',
    title: 'Google Cloud Credentials',
    description: 'An access token of a Google Cloud service account that the deployment allows, valid for an hour.',
    category: 'GCP Credentials',
    stability: 'stable',
    scopes: 'auth:gcp:access-token:<projectId>/<serviceAccount>',
    output: gcpCredentialsResponse,
  },
  githubRepoToken: {
    method: 'post',
    route: '/github/<appName>/<owner>/repo-token',
    params: { appName: /^[a-zA-Z0-9_-]+$/, owner: /^[A-Za-z0-9._-]+$/ },
    title: 'GitHub Token for Repositories',
    description: [
      'An installation token of a GitHub app, limited to some repositories of an owner and to some permissions.',
      '',
      'Needs `auth:github-repo-token:<appName>/<owner>/<repository>:<permission>:<level>` for each combination, all in lower case; `write` does not imply `read`. When GitHub limits the rate, the answer is `TooManyRequests`.',
    ].join('\n'),
    category: 'Github Credentials',
    stability: 'experimental',
    scopes: { AllOf: [{ for: 'repoPerm', in: 'repoPerms', each: 'auth:github-repo-token:<appName>/<owner>/<repoPerm>' }] },
    input: githubRepoTokenRequest,
    output: githubTokenResponse,
  },
});
