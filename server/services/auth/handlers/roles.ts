/**
 * Roles. They are one set: whether a role may be stored depends on the others, so a change holds the lock on the version from looking to commit, and
 * what it checks is exactly what it changes.
 */
import { authEvents } from '@tscluster/api/auth/events.ts';
import type { RoleInfo } from '@tscluster/api/auth/roles.ts';
import { sortScopes } from '@tscluster/api/scopes.ts';
import type { Tx } from '../../../db/sql.ts';
import { audit } from '../../../platform/audit.ts';
import { conflict, inputError, notFound } from '../../../platform/errors.ts';
import { publish } from '../../../platform/events.ts';
import { makePage, readPage } from '../../../platform/page.ts';
import type { PageQuery } from '../../../platform/page.ts';
import { lockVersion, recordChanges } from '../changes.db.ts';
import { expandFor, expandToShow, refuseDoubleStars, refuseLongId } from '../context.ts';
import type { AuthContext, AuthHandlers } from '../context.ts';
import { RoleError, scopesAddedToRole } from '../expansion.ts';
import type { CompiledRoles } from '../expansion.ts';
import { deleteRole, getRole, insertRole, listRoleIds, listRoles, updateRole } from '../roles.db.ts';
import type { RoleRow } from '../roles.db.ts';

const roleInfo = (roles: CompiledRoles, row: RoleRow): RoleInfo => ({
  roleId: row.roleId,
  scopes: [...row.scopes],
  description: row.description,
  created: row.created.toISOString(),
  lastModified: row.lastModified.toISOString(),
  expandedScopes: expandToShow(roles, [`assume:${row.roleId}`]),
});

const EVENTS = { created: 'roleCreated', updated: 'roleUpdated', deleted: 'roleDeleted' } as const;

/** Announces what was done to a role and notes it in the history. */
const announce = async (tx: Tx, ctx: AuthContext, roleId: string, action: keyof typeof EVENTS, by: string): Promise<void> => {
  await publish(tx, authEvents, EVENTS[action], { message: { roleId } });
  await audit(tx, ctx, 'auth', { entityType: 'role', entityId: roleId, action, clientId: by });
};

/** Compiles the roles with this one changed; refuses cycles, malformed parameters and a role without end. */
const checkedRoles = (ctx: AuthContext, row: RoleRow): CompiledRoles => {
  const compiled = ctx.directory.rolesWith(row.roleId, row);
  try {
    compiled.validateRole(row.roleId);
    expandFor(compiled, [`assume:${row.roleId}`]);
  } catch (error) {
    if (error instanceof RoleError) {
      inputError('{{problem}}', { problem: error.message });
    }
    throw error;
  }
  return compiled;
};

/** Locks the roles and brings what this process knows of them up to date. */
const lockRoles = async (tx: Tx, ctx: AuthContext): Promise<void> => ctx.directory.catchUp(tx, await lockVersion(tx));

const invalidate = async (tx: Tx, ctx: AuthContext, roleId: string, row: RoleRow | undefined, compiled: CompiledRoles): Promise<void> => {
  const version = await recordChanges(tx, 'role', [roleId], ctx.clock.now());
  tx.afterCommit(() => {
    ctx.directory.roleChanged(roleId, row, compiled, version);
    ctx.notifyOthers();
  });
};

const isSame = (a: RoleRow, b: RoleRow): boolean =>
  a.description === b.description && a.scopes.length === b.scopes.length && a.scopes.every((scope, i) => scope === b.scopes[i]);

/** Without a limit, or with 0: everything, and a token is only checked. */
const rolePage = (query: PageQuery): { limit: number | undefined; after: string | undefined } => {
  const { after } = readPage(query, ['string'], { foreignToken: 'refuse' });
  const limit = Number(query.limit ?? 0);
  return limit === 0 ? { limit: undefined, after: undefined } : { limit: Math.min(limit, Number.MAX_SAFE_INTEGER - 1), after: after?.[0] };
};

/** A page of what was read with one more than the limit. */
const pageOf = <R>(rows: R[], limit: number | undefined, id: (row: R) => string): { rows: R[]; token: { continuationToken?: string } } => {
  const { rows: page, continuationToken } = makePage(rows, limit ?? rows.length, row => [id(row)]);
  return { rows: page, token: continuationToken === undefined ? {} : { continuationToken } };
};

export const roleHandlers: Pick<
  AuthHandlers,
  'listRoles' | 'listRoles2' | 'listRoleIds' | 'role' | 'createRole' | 'updateRole' | 'deleteRole'
> = {
  async listRoles({ ctx }) {
    const rows = await listRoles(ctx.db, { after: undefined, limit: undefined });
    return rows.map(row => roleInfo(ctx.directory.roles, row));
  },

  async listRoles2({ ctx, query }) {
    const { limit, after } = rolePage(query);
    const rows = await listRoles(ctx.db, { after, limit: limit === undefined ? undefined : limit + 1 });
    const page = pageOf(rows, limit, row => row.roleId);
    return { roles: page.rows.map(row => roleInfo(ctx.directory.roles, row)), ...page.token };
  },

  async listRoleIds({ ctx, query }) {
    const { limit, after } = rolePage(query);
    const ids = await listRoleIds(ctx.db, { after, limit: limit === undefined ? undefined : limit + 1 });
    const page = pageOf(ids, limit, id => id);
    return { roleIds: page.rows, ...page.token };
  },

  async role({ ctx, params: { roleId } }) {
    const row = (await getRole(ctx.db, roleId)) ?? notFound('Role not found');
    return roleInfo(ctx.directory.roles, row);
  },

  async createRole({ ctx, params: { roleId }, body, authorize, caller }) {
    refuseLongId('roleId', roleId);
    refuseDoubleStars(body.scopes);
    await authorize({ roleId, scopes: body.scopes });
    const by = (await caller()).clientId;
    const now = ctx.clock.now();
    const asked: RoleRow = { roleId, scopes: sortScopes(body.scopes), description: body.description, created: now, lastModified: now };
    return ctx.db.tx(async tx => {
      await lockRoles(tx, ctx);
      const existing = await getRole(tx, roleId);
      if (existing) {
        if (!isSame(existing, asked)) {
          conflict("Role with roleId '{{roleId}}' already exists", { roleId });
        }
        await announce(tx, ctx, roleId, 'created', by);
        return roleInfo(ctx.directory.roles, existing);
      }
      const compiled = checkedRoles(ctx, asked);
      const answer = roleInfo(compiled, asked);
      await insertRole(tx, asked);
      await announce(tx, ctx, roleId, 'created', by);
      await invalidate(tx, ctx, roleId, asked, compiled);
      return answer;
    });
  },

  async updateRole({ ctx, params: { roleId }, body, authorize, caller }) {
    refuseDoubleStars(body.scopes);
    const by = (await caller()).clientId;
    return ctx.db.tx(async tx => {
      await lockRoles(tx, ctx);
      const old = (await getRole(tx, roleId)) ?? notFound("Role with roleId '{{roleId}}' not found", { roleId });
      await authorize({ roleId, scopesAdded: scopesAddedToRole(expandFor(ctx.directory.roles, old.scopes), body.scopes) });
      const row: RoleRow = { ...old, scopes: sortScopes(body.scopes), description: body.description, lastModified: ctx.clock.now() };
      const compiled = checkedRoles(ctx, row);
      const answer = roleInfo(compiled, row);
      await updateRole(tx, row);
      await announce(tx, ctx, roleId, 'updated', by);
      await invalidate(tx, ctx, roleId, row, compiled);
      return answer;
    });
  },

  async deleteRole({ ctx, params: { roleId }, caller }) {
    refuseLongId('roleId', roleId);
    const by = (await caller()).clientId;
    await ctx.db.tx(async tx => {
      await lockRoles(tx, ctx);
      const existed = await deleteRole(tx, roleId);
      await announce(tx, ctx, roleId, 'deleted', by);
      if (existed) {
        await invalidate(tx, ctx, roleId, undefined, ctx.directory.rolesWith(roleId, undefined));
      }
    });
  },
};
