/**
 * Clients that come from the deployment's configuration (protocol: "Static clients"): one per service, with built-in scopes, and whatever the operator
 * adds. At every start the database is made to agree.
 */
import { createHash } from 'node:crypto';
import type { Tx } from '../../db/sql.ts';
import { lockVersion, recordChanges } from './changes.db.ts';
import { deleteClient, insertClient, listStaticClients, updateClient } from './clients.db.ts';
import type { ClientRow } from './clients.db.ts';
import type { AuthContext } from './context.ts';
import { tokenContext } from './directory.ts';

const OWN_PREFIX = 'static/taskcluster/';
const OWN_DESCRIPTION = 'Internal client';
/** Far enough. */
const LIFETIME_MS = 1000 * 365 * 24 * 3600 * 1000;

const verbs = ['create', 'delete', 'disable', 'enable', 'update'];
const signInPrefixes = ['github/*', 'mozilla-auth0/*'];

/** The services' own clients, with all they may do. */
export const BUILT_IN_CLIENTS: Readonly<Record<string, readonly string[]>> = {
  'built-in-workers': ['queue:claim-work:built-in/*', 'queue:worker-id:built-in/*'],
  events: ['auth:expand-scopes', 'auth:get-client:*'],
  github: [
    'assume:repo:github.com/*',
    'assume:scheduler-id:taskcluster-github/*',
    'auth:expand-scopes',
    'hooks:trigger-hook:*',
    'queue:cancel-task-group:taskcluster-github/*',
    'queue:get-artifact:public/github/customCheckRunAnnotations.json',
    'queue:get-artifact:public/github/customCheckRunText.md',
    'queue:get-artifact:public/logs/live_backing.log',
    'queue:list-artifacts:*',
    'queue:list-task-group:*',
    'queue:route:checks',
    'queue:route:statuses',
    'queue:scheduler-id:taskcluster-github',
    'queue:seal-task-group:taskcluster-github/*',
  ],
  hooks: ['assume:hook-id:*', 'notify:email:*', 'queue:create-task:*'],
  index: ['queue:get-artifact:*', 'queue:get-task:*'],
  notify: ['queue:get-task:*', 'queue:list-task-group:*'],
  object: [],
  pulse: ['notify:email:*'],
  'purge-cache': [],
  queue: ['*'],
  root: ['*'],
  secrets: [],
  'web-server': [
    ...['github-org-admin', 'github-team', 'login-identity', 'mozilla-group', 'mozillians-group'].map(name => `assume:${name}:*`),
    ...[...verbs, 'reset-access-token'].flatMap(verb =>
      signInPrefixes.map(prefix => (verb === 'reset-access-token' ? `auth:${verb}:${prefix}` : `auth:${verb}-client:${prefix}`)),
    ),
  ],
  'worker-manager': [
    'assume:worker-id:*',
    'assume:worker-pool:*',
    'assume:worker-type:*',
    'auth:create-client:worker/*',
    'notify:email:*',
    'queue:claim-work:*',
    'queue:claimed-count:*',
    'queue:pending-count:*',
    'queue:worker-id:*',
    'secrets:get:worker-pool:*',
    'secrets:get:worker-type:*',
    'worker-manager:remove-worker:*',
    'worker-manager:reregister-worker:*',
    'worker-manager:should-worker-terminate:*',
  ],
};

export interface StaticClient {
  readonly clientId: string;
  readonly accessToken: string;
  readonly description: string;
  readonly scopes: readonly string[];
}

const checkClient = (given: unknown, problems: string[]): StaticClient | undefined => {
  const { clientId, accessToken, description, scopes, ...others } = (given ?? {}) as Record<string, unknown>;
  if (typeof clientId !== 'string' || !/^static\/[A-Za-z0-9!@/:.+|_-]+$/.test(clientId)) {
    problems.push(`clientId ${JSON.stringify(clientId)} must begin with static/`);
    return undefined;
  }
  const before = problems.length;
  if (typeof accessToken !== 'string' || !/^[a-zA-Z0-9_-]{22,66}$/.test(accessToken)) {
    problems.push(`${clientId} needs an accessToken of 22 to 66 letters, digits, - and _`);
  }
  if (Object.keys(others).length > 0) {
    problems.push(`${clientId} has ${Object.keys(others).join(', ')}, which no static client has`);
  }
  const isOwn = clientId.startsWith(OWN_PREFIX);
  const builtIn = BUILT_IN_CLIENTS[clientId.slice(OWN_PREFIX.length)];
  if (isOwn && !builtIn) {
    problems.push(`${clientId} is none of the services' clients`);
  }
  if (isOwn && (description !== undefined || scopes !== undefined)) {
    problems.push(`${clientId} must have no scopes and no description: they are built in`);
  }
  if (!isOwn && typeof description !== 'string') {
    problems.push(`${clientId} needs a description`);
  }
  if (!isOwn && !(Array.isArray(scopes) && scopes.every(scope => typeof scope === 'string' && /^[ -~]*$/.test(scope)))) {
    problems.push(`${clientId} needs scopes, an array of texts of printable ASCII characters`);
  }
  if (problems.length > before) {
    return undefined;
  }
  return {
    clientId,
    accessToken: accessToken as string,
    description: isOwn ? OWN_DESCRIPTION : (description as string),
    scopes: isOwn ? (builtIn ?? []) : (scopes as string[]),
  };
};

/** Checks the configured list; throws an Error that names all mistakes. Access tokens are not repeated in it. */
export const checkStaticClients = (value: unknown): readonly StaticClient[] => {
  if (!Array.isArray(value)) {
    throw new TypeError('must be an array of {clientId, accessToken, description?, scopes?}');
  }
  const problems: string[] = [];
  const clients = value.flatMap(given => checkClient(given, problems) ?? []);
  const ids = new Set(clients.map(client => client.clientId));
  if (ids.size < clients.length) {
    problems.push('a clientId is given twice');
  }
  const missing = Object.keys(BUILT_IN_CLIENTS).filter(name => !ids.has(OWN_PREFIX + name));
  // none of them: then their access tokens are the platform's
  if (problems.length === 0 && missing.length > 0 && clients.some(client => client.clientId.startsWith(OWN_PREFIX))) {
    problems.push(`the clients of these services are missing: ${missing.map(name => OWN_PREFIX + name).join(', ')}`);
  }
  if (problems.length > 0) {
    throw new Error(problems.join('; '));
  }
  return clients;
};

/** The configured clients, and those of the services with the platform's access tokens unless they are configured too. */
export const withOwnClients = (configured: readonly StaticClient[], tokenOf: (service: string) => string): readonly StaticClient[] =>
  configured.some(client => client.clientId.startsWith(OWN_PREFIX))
    ? configured
    : [
        ...Object.entries(BUILT_IN_CLIENTS).map(([name, scopes]) => ({
          clientId: OWN_PREFIX + name,
          accessToken: tokenOf(name),
          description: OWN_DESCRIPTION,
          scopes,
        })),
        ...configured,
      ];

const SUFFIX =
  '\n\n---\nThis is a static client: it comes from the configuration of the deployment and cannot be changed through the API. ' +
  'Ask the administrator.';

const sameToken = (a: string, b: string): boolean => {
  const digest = (text: string): string => createHash('sha256').update(text).digest('base64');
  return digest(a) === digest(b);
};

/** Makes the clients under `static/` those of the configuration. Several processes may start at once. */
export const synchronizeStaticClients = async (ctx: AuthContext, clients: readonly StaticClient[]): Promise<void> => {
  await ctx.db.tx(async tx => {
    const version = await lockVersion(tx);
    const existing = new Map((await listStaticClients(tx)).map(row => [row.clientId, row]));
    const changed: string[] = [];
    for (const client of clients) {
      const row = existing.get(client.clientId);
      existing.delete(client.clientId);
      if (await synchronize(tx, ctx, client, row)) {
        changed.push(client.clientId);
      }
    }
    for (const clientId of existing.keys()) {
      await deleteClient(tx, clientId);
      changed.push(clientId);
    }
    if (changed.length > 0) {
      await recordChanges(tx, 'client', changed, ctx.clock.now());
      tx.afterCommit(() => {
        ctx.directory.clientsChanged(changed, version + changed.length);
        ctx.notifyOthers();
        ctx.log.info({ clients: changed }, 'static clients synchronised');
      });
    }
  });
};

/** Answers with whether anything had to be changed. */
const synchronize = async (tx: Tx, ctx: AuthContext, client: StaticClient, row: ClientRow | undefined): Promise<boolean> => {
  const now = ctx.clock.now();
  const description = client.description + SUFFIX;
  const encrypted = (): string => ctx.keyring.encrypt(client.accessToken, tokenContext(client.clientId));
  if (!row) {
    await insertClient(tx, {
      clientId: client.clientId,
      description,
      accessToken: encrypted(),
      scopes: client.scopes,
      expires: new Date(now.getTime() + LIFETIME_MS),
      disabled: false,
      deleteOnExpiration: false,
      created: now,
      lastModified: now,
      lastDateUsed: now,
      lastRotated: now,
    });
    return true;
  }
  const isTokenSame = sameToken(ctx.keyring.decrypt(row.accessToken, tokenContext(client.clientId)), client.accessToken);
  const isSame =
    isTokenSame &&
    !ctx.keyring.isStale(row.accessToken) &&
    !row.disabled &&
    row.description === description &&
    row.scopes.length === client.scopes.length &&
    row.scopes.every((scope, i) => scope === client.scopes[i]);
  if (isSame) {
    return false;
  }
  const change = { description, scopes: client.scopes, disabled: false, accessToken: encrypted() };
  await updateClient(tx, client.clientId, isTokenSame ? change : { ...change, lastRotated: now }, now);
  return true;
};
