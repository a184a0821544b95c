/** Clients. The order of checks is the protocol's; a repeat announces and is noted in the history like the first call. */
import type { ClientInfo } from '@tscluster/api/auth/clients.ts';
import { authEvents } from '@tscluster/api/auth/events.ts';
import { sortScopes } from '@tscluster/api/scopes.ts';
import { plainSlugid } from '@tscluster/client/clock.ts';
import type { Random } from '@tscluster/client/clock.ts';
import type { Tx } from '../../../db/sql.ts';
import { type AuditAction, audit } from '../../../platform/audit.ts';
import { conflict, inputError, notFound } from '../../../platform/errors.ts';
import { publish } from '../../../platform/events.ts';
import { makePage, readPage } from '../../../platform/page.ts';
import { parseDateTime } from '../../../platform/validate.ts';
import { recordChanges } from '../changes.db.ts';
import { deleteClient, getClient, getClientForUpdate, insertClient, listClients, updateClient } from '../clients.db.ts';
import type { ClientChange, ClientRow } from '../clients.db.ts';
import { expandFor, expandToShow, refuseDoubleStars, refuseLongId } from '../context.ts';
import type { AuthContext, AuthHandlers } from '../context.ts';
import { tokenContext } from '../directory.ts';

/** How long a repeated creation gives the same client again. */
const REPEAT_MS = 15 * 60 * 1000;

/** 44 characters. */
export const makeAccessToken = (random: Random): string => plainSlugid(random) + plainSlugid(random);

const clientInfo = (ctx: AuthContext, row: ClientRow): ClientInfo => ({
  clientId: row.clientId,
  description: row.description,
  expires: row.expires.toISOString(),
  created: row.created.toISOString(),
  lastModified: row.lastModified.toISOString(),
  lastDateUsed: row.lastDateUsed.toISOString(),
  lastRotated: row.lastRotated.toISOString(),
  deleteOnExpiration: row.deleteOnExpiration,
  scopes: sortScopes(row.scopes),
  expandedScopes: expandToShow(ctx.directory.roles, row.scopes),
  disabled: row.disabled,
});

/** Refuses ids that cannot be changed here. */
const refuseStatic = (clientId: string): void => {
  refuseLongId('clientId', clientId);
  if (clientId.startsWith('static/')) {
    inputError(
      'clientId "{{clientId}}" starts with "static/" which is reserved for statically configured clients. Contact your administrator to change static clients.',
      { clientId },
    );
  }
};

const clientNotFound = (): never => notFound('Client not found');

const EVENTS = { created: 'clientCreated', deleted: 'clientDeleted' } as const;

/** Announces what was done to a client and notes it in the history. */
const announce = async (tx: Tx, ctx: AuthContext, clientId: string, action: AuditAction, by: string): Promise<void> => {
  const event = action === 'created' || action === 'deleted' ? EVENTS[action] : 'clientUpdated';
  await publish(tx, authEvents, event, { message: { clientId } });
  await audit(tx, ctx, 'auth', { entityType: 'client', entityId: clientId, action, clientId: by });
};

/** Makes everybody forget the client as they know it. Comes last in a transaction, for it locks the version. */
const invalidate = async (tx: Tx, ctx: AuthContext, clientId: string): Promise<void> => {
  const version = await recordChanges(tx, 'client', [clientId], ctx.clock.now());
  tx.afterCommit(() => {
    ctx.directory.clientsChanged([clientId], version);
    ctx.notifyOthers();
  });
};

/** Changes an existing client, announces and notes it. */
const change = async (ctx: AuthContext, clientId: string, action: AuditAction, by: string, changed: ClientChange): Promise<ClientRow> =>
  ctx.db.tx(async tx => {
    const row = (await updateClient(tx, clientId, changed, ctx.clock.now())) ?? clientNotFound();
    await announce(tx, ctx, clientId, action, by);
    await invalidate(tx, ctx, clientId);
    return row;
  });

const sameList = (a: readonly string[], b: readonly string[]): boolean => a.length === b.length && a.every((item, i) => item === b[i]);

const isRepeat = (existing: ClientRow, asked: ClientRow): boolean =>
  asked.created.getTime() - existing.created.getTime() <= REPEAT_MS &&
  existing.description === asked.description &&
  existing.expires.getTime() === asked.expires.getTime() &&
  !existing.disabled &&
  sameList(existing.scopes, asked.scopes);

export const clientHandlers: Pick<
  AuthHandlers,
  'listClients' | 'client' | 'createClient' | 'resetAccessToken' | 'updateClient' | 'enableClient' | 'disableClient' | 'deleteClient'
> = {
  async listClients({ ctx, query }) {
    const { limit, after } = readPage(query, ['string']);
    const rows = await listClients(ctx.db, { prefix: query.prefix, after: after?.[0], limit: limit + 1 });
    const page = makePage(rows, limit, row => [row.clientId]);
    return {
      clients: page.rows.map(row => clientInfo(ctx, row)),
      ...(page.continuationToken !== undefined && { continuationToken: page.continuationToken }),
    };
  },

  async client({ ctx, params: { clientId } }) {
    const row = (await getClient(ctx.db, clientId)) ?? clientNotFound();
    return clientInfo(ctx, row);
  },

  async createClient({ ctx, params: { clientId }, body, authorize, caller }) {
    refuseStatic(clientId);
    const { scopes = [] } = body;
    refuseDoubleStars(scopes);
    await authorize({ clientId, scopes });
    const by = (await caller()).clientId;
    const now = ctx.clock.now();
    const accessToken = makeAccessToken(ctx.random);
    const asked: ClientRow = {
      clientId,
      description: body.description,
      accessToken: ctx.keyring.encrypt(accessToken, tokenContext(clientId)),
      scopes,
      expires: new Date(parseDateTime(body.expires)),
      disabled: false,
      deleteOnExpiration: body.deleteOnExpiration,
      created: now,
      lastModified: now,
      lastDateUsed: now,
      lastRotated: now,
    };
    return ctx.db.tx(async tx => {
      const isNew = await insertClient(tx, asked);
      const row = isNew ? asked : await getClient(tx, clientId);
      if (!row || !(isNew || isRepeat(row, asked))) {
        return conflict('Client already exists');
      }
      expandFor(ctx.directory.roles, row.scopes);
      const token = isNew ? accessToken : ctx.keyring.decrypt(row.accessToken, tokenContext(clientId));
      const answer = { ...clientInfo(ctx, row), accessToken: token };
      await announce(tx, ctx, clientId, 'created', by);
      if (isNew) {
        await invalidate(tx, ctx, clientId);
      }
      return answer;
    });
  },

  async updateClient({ ctx, params: { clientId }, body, authorize, caller }) {
    refuseStatic(clientId);
    refuseDoubleStars(body.scopes ?? []);
    const by = (await caller()).clientId;
    return ctx.db.tx(async tx => {
      const old = (await getClientForUpdate(tx, clientId)) ?? clientNotFound();
      const held = new Set(old.scopes);
      await authorize({ clientId, scopesAdded: (body.scopes ?? []).filter(scope => !held.has(scope)) });
      const changed: ClientChange = {
        description: body.description,
        expires: new Date(parseDateTime(body.expires)),
        deleteOnExpiration: body.deleteOnExpiration,
        ...(body.scopes && { scopes: body.scopes }),
      };
      const row = (await updateClient(tx, clientId, changed, ctx.clock.now())) ?? clientNotFound();
      expandFor(ctx.directory.roles, row.scopes);
      const answer = clientInfo(ctx, row);
      await announce(tx, ctx, clientId, 'updated', by);
      await invalidate(tx, ctx, clientId);
      return answer;
    });
  },

  async resetAccessToken({ ctx, params: { clientId }, caller }) {
    refuseStatic(clientId);
    const by = (await caller()).clientId;
    const accessToken = makeAccessToken(ctx.random);
    const row = await change(ctx, clientId, 'access token reset', by, {
      accessToken: ctx.keyring.encrypt(accessToken, tokenContext(clientId)),
      lastRotated: ctx.clock.now(),
    });
    return { ...clientInfo(ctx, row), accessToken };
  },

  async enableClient({ ctx, params: { clientId }, caller }) {
    refuseStatic(clientId);
    return clientInfo(ctx, await change(ctx, clientId, 'client enabled', (await caller()).clientId, { disabled: false }));
  },

  async disableClient({ ctx, params: { clientId }, caller }) {
    refuseStatic(clientId);
    return clientInfo(ctx, await change(ctx, clientId, 'client disabled', (await caller()).clientId, { disabled: true }));
  },

  async deleteClient({ ctx, params: { clientId }, caller }) {
    refuseStatic(clientId);
    const by = (await caller()).clientId;
    await ctx.db.tx(async tx => {
      const existed = await deleteClient(tx, clientId);
      await announce(tx, ctx, clientId, 'deleted', by);
      if (existed) {
        await invalidate(tx, ctx, clientId);
      }
    });
  },
};
