/**
 * The log of changes. Whoever changes clients or roles raises the version of `auth` and writes what changed under the new number, in the transaction
 * of the change. The version's row stays locked until the commit, so that numbers have no gaps and become visible in their order: a process that knows
 * version 7 and sees 8 and 10 has missed entries that were removed for age, and starts afresh.
 */
import type { Query, Tx } from '../../db/sql.ts';
import type { RoleRow } from './roles.db.ts';

export interface Change {
  readonly version: number;
  readonly kind: 'client' | 'role';
  readonly id: string;
  /** The role as it is now; undefined for clients, and for roles that are gone. */
  readonly role: RoleRow | undefined;
}

/** Locks the version until the transaction ends, so that nobody else changes clients or roles, and reads it. */
export const lockVersion = async (tx: Tx): Promise<number> => {
  const [row] = await tx<{ version: number }>`select version from platform.versions where name = 'auth' for update`;
  return row?.version ?? 0;
};

/** Records changes of some clients or roles; answers with the newest version. */
export const recordChanges = async (tx: Tx, kind: Change['kind'], ids: readonly string[], now: Date): Promise<number> => {
  const [row] = await tx<{ version: number }>`
    with raised as (
      update platform.versions set version = version + ${ids.length}::int where name = 'auth' returning version
    ), written as (
      insert into auth.changes (version, kind, id, changed)
      select raised.version - ${ids.length}::int + place, ${kind}, id, ${now}
      from raised, unnest(${ids}::text[]) with ordinality as changed (id, place)
    )
    select version from raised`;
  return row?.version ?? 0;
};

interface ChangeRow extends RoleRow {
  readonly current: number;
  readonly version: number | null;
  readonly kind: Change['kind'];
  readonly id: string;
}

/** The present version and what changed after `since`, all of one moment. */
export const changesSince = async (db: Query, since: number): Promise<{ current: number; changes: Change[] }> => {
  const rows = await db<ChangeRow>`
    select v.version as current, c.version, c.kind, c.id, r.role_id, r.scopes, r.description, r.created, r.last_modified
    from platform.versions v
    left join auth.changes c on c.version > ${since}
    left join auth.roles r on c.kind = 'role' and r.role_id = c.id collate platform.protocol_order
    where v.name = 'auth' order by c.version`;
  return {
    current: rows[0]?.current ?? 0,
    changes: rows.flatMap(({ version, kind, id, roleId, scopes, description, created, lastModified }) =>
      version === null
        ? []
        : [{ version, kind, id, role: roleId === null ? undefined : { roleId, scopes, description, created, lastModified } }],
    ),
  };
};

/** The present version and all roles, of one moment. */
export const allRoles = async (db: Query): Promise<{ current: number; roles: RoleRow[] }> => {
  const rows = await db<RoleRow & { current: number }>`
    select v.version as current, r.role_id, r.scopes, r.description, r.created, r.last_modified
    from platform.versions v left join auth.roles r on true where v.name = 'auth'`;
  return {
    current: rows[0]?.current ?? 0,
    roles: rows.flatMap(({ roleId, scopes, description, created, lastModified }) =>
      roleId === null ? [] : [{ roleId, scopes, description, created, lastModified }],
    ),
  };
};

/** Forgets up to `limit` changes from before `before`; answers with how many. */
export const forgetChanges = async (db: Query, before: Date, limit: number): Promise<number> => {
  const rows = await db`
    delete from auth.changes where version in (select version from auth.changes where changed < ${before} order by changed limit ${limit})
    returning version`;
  return rows.length;
};
