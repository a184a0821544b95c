/** The auth service: who signed a request and what they may do. See README.md. */
import { authApi } from '@tscluster/api/auth/api.ts';
import { makeBatcher } from '../../db/batcher.ts';
import { integer, jsonSetting, secret, text } from '../../platform/config.ts';
import { run } from '../../platform/loop.ts';
import { AUTH_CHANGED } from '../../platform/notify.ts';
import { defineService, serve } from '../../platform/service.ts';
import { HawkAuthenticator } from './authenticator.ts';
import { touchClients } from './clients.db.ts';
import type { AuthContext } from './context.ts';
import { Directory, tokenContext } from './directory.ts';
import type { RememberedClient } from './directory.ts';
import { auditHandlers } from './handlers/audit.ts';
import { clientHandlers } from './handlers/clients.ts';
import { credentialHandlers } from './handlers/credentials.ts';
import { roleHandlers } from './handlers/roles.ts';
import { scopeHandlers } from './handlers/scopes.ts';
import { followChanges, purgeAuditHistory, purgeChanges, purgeExpiredClients } from './loops.ts';
import { checkStaticClients, synchronizeStaticClients, withOwnClients } from './static-clients.ts';
import type { StaticClient } from './static-clients.ts';

const HOUR_MS = 3600 * 1000;

/** Names of task and worker credentials are without number; metrics count them together. */
const countedName = (clientId: string): string => /^(?:task-client|worker)\//.exec(clientId)?.[0].concat('*') ?? clientId;

export const auth = defineService({
  name: 'auth',
  encrypted: [
    { table: 'auth.clients', column: 'access_token', key: ['client_id'], context: ({ clientId = '' }) => tokenContext(clientId) },
  ],
  settings: {
    staticClients: secret(
      jsonSetting<readonly StaticClient[]>(
        'STATIC_CLIENTS',
        "clients of the deployment besides the services' own, a JSON array of {clientId, accessToken, description?, scopes?}; ids begin with static/",
        { fallback: [] },
        checkStaticClients,
      ),
    ),
    websocktunnelSecret: secret(
      text('WEBSOCKTUNNEL_SECRET', 'the secret shared with websocktunnel servers; absent: no tokens are given', { fallback: undefined }),
    ),
    lastUsedHours: integer('AUTH_LAST_USED_HOURS', 'hours after which a use of a client is noted again', {
      fallback: 6,
      min: 1,
      max: 8760,
    }),
    auditRetentionDays: integer('AUTH_AUDIT_RETENTION_DAYS', 'days for which the audit history is kept', {
      fallback: 30,
      min: 1,
      max: 36_500,
    }),
  },
  start: async (platform, config) => {
    const { db, clock, keyring, log, metrics } = platform;
    const directory = new Directory({ db, keyring, clock });
    const successes = metrics.counter('auth_success_total', 'Requests authenticated', ['client', 'scheme']);
    const failures = metrics.counter('auth_failure_total', 'Requests with credentials that were refused', ['reason', 'scheme']);

    const touches = makeBatcher<string, void>({
      flush: async clientIds => {
        await touchClients(db, clientIds, clock.now());
        return clientIds.map(() => undefined);
      },
    });
    const noteUse = (client: RememberedClient, nowMs: number): void => {
      if (nowMs - client.lastDateUsed.getTime() > config.lastUsedHours * HOUR_MS) {
        client.lastDateUsed = new Date(nowMs);
        touches
          .add(client.clientId)
          .catch((error: unknown) => log.error({ err: error, clientId: client.clientId }, 'use of a client not noted'));
      }
    };

    const authenticator = new HawkAuthenticator<RememberedClient>({
      refresh: () => directory.refresh(),
      cachedClient: clientId => directory.cachedClient(clientId),
      findClient: clientId => directory.findClient(clientId),
      roles: () => directory.roles,
      nowMs: () => clock.nowMs(),
      succeeded: (client, clientId, scheme, nowMs) => {
        // a name in temporary credentials may be anything: what is counted is the client that issued them
        const isPlain = clientId === client.clientId;
        const counted = countedName(clientId);
        successes.inc({ client: isPlain || counted !== clientId ? counted : client.clientId, scheme });
        noteUse(client, nowMs);
      },
      failed: (reason, scheme) => failures.inc({ reason, scheme }),
    });

    const ctx: AuthContext = {
      db,
      clock,
      random: platform.random,
      keyring,
      log,
      directory,
      authenticator,
      notifyOthers: () => platform.notify(AUTH_CHANGED),
      websocktunnelSecret: config.websocktunnelSecret,
      auditRetentionMs: config.auditRetentionDays * 24 * HOUR_MS,
    };

    await directory.look();
    await synchronizeStaticClients(
      ctx,
      withOwnClients(config.staticClients, name => platform.serviceCredentials(name).accessToken),
    );
    let stopListening: () => void = () => undefined;
    const follow = run(followChanges, ctx, wake => {
      stopListening = platform.onNotify(AUTH_CHANGED, wake);
    });
    const handlers = { ...clientHandlers, ...roleHandlers, ...scopeHandlers, ...auditHandlers, ...credentialHandlers };
    return {
      apis: [serve(authApi, handlers, ctx)],
      loops: [follow, run(purgeExpiredClients, ctx), run(purgeAuditHistory, ctx), run(purgeChanges, ctx)],
      authenticator,
      close: async () => {
        stopListening();
        await touches.drain();
      },
    };
  },
});
