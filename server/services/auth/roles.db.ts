import { sql } from '../../db/sql.ts';
import type { Query, Tx } from '../../db/sql.ts';

export interface RoleRow {
  readonly roleId: string;
  /** Sorted in scope order. */
  readonly scopes: readonly string[];
  readonly description: string;
  readonly created: Date;
  readonly lastModified: Date;
}

const COLUMNS = sql`role_id, scopes, description, created, last_modified`;

export const getRole = async (db: Query, roleId: string): Promise<RoleRow | undefined> => {
  const [row] = await db<RoleRow>`select ${COLUMNS} from auth.roles where role_id = ${roleId}`;
  return row;
};

/** Roles after `after` in the protocol's order; `limit` at most, or all. */
export const listRoles = async (
  db: Query,
  { after, limit }: { after: string | undefined; limit: number | undefined },
): Promise<RoleRow[]> => db<RoleRow>`
  select ${COLUMNS} from auth.roles
  ${after === undefined ? sql`` : sql`where role_id > ${after}`}
  order by role_id ${limit === undefined ? sql`` : sql`limit ${limit}`}`;

/** As `listRoles`, the ids only. */
export const listRoleIds = async (
  db: Query,
  { after, limit }: { after: string | undefined; limit: number | undefined },
): Promise<string[]> => {
  const rows = await db<{ roleId: string }>`
    select role_id from auth.roles
    ${after === undefined ? sql`` : sql`where role_id > ${after}`}
    order by role_id ${limit === undefined ? sql`` : sql`limit ${limit}`}`;
  return rows.map(row => row.roleId);
};

export const insertRole = async (tx: Tx, row: RoleRow): Promise<void> => {
  await tx`
    insert into auth.roles (role_id, scopes, description, created, last_modified)
    values (${row.roleId}, ${row.scopes}, ${row.description}, ${row.created}, ${row.lastModified})`;
};

export const updateRole = async (tx: Tx, row: RoleRow): Promise<void> => {
  await tx`
    update auth.roles set scopes = ${row.scopes}, description = ${row.description}, last_modified = ${row.lastModified}
    where role_id = ${row.roleId}`;
};

/** Answers with whether there was such a role. */
export const deleteRole = async (tx: Tx, roleId: string): Promise<boolean> => {
  const deleted = await tx`delete from auth.roles where role_id = ${roleId} returning role_id`;
  return deleted.length > 0;
};
