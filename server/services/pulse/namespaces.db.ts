/** Namespaces and their two passwords: `pulse.namespaces`. */
import { type Query, sql } from '../../db/sql.ts';

export type Account = 1 | 2;

export interface NamespaceRow {
  readonly namespace: string;
  readonly contact: string | null;
  readonly created: Date;
  readonly expires: Date;
  /** Encrypted. */
  readonly password1: string;
  readonly password2: string;
  readonly active: Account;
  readonly nextActive: Account;
  /** Whether the broker has both passwords. */
  readonly applied: boolean;
  readonly nextRotation: Date;
  readonly removing: boolean;
}

const COLUMNS = sql`namespace, contact, created, expires, password_1, password_2, active, next_active, applied, next_rotation, removing`;

export const getNamespace = async (query: Query, namespace: string): Promise<NamespaceRow | undefined> => {
  const [row] = await query<NamespaceRow>`select ${COLUMNS} from pulse.namespaces where namespace = ${namespace}`;
  return row;
};

/** Makes a namespace, or extends one; undefined while it is being removed. A contact of null keeps the one there is. */
export const claimRow = async (
  query: Query,
  claim: Pick<NamespaceRow, 'namespace' | 'contact' | 'expires' | 'password1' | 'password2'>,
  now: Date,
): Promise<NamespaceRow | undefined> => {
  const { namespace, contact, expires, password1, password2 } = claim;
  const [row] = await query<NamespaceRow>`
    insert into pulse.namespaces as n (namespace, contact, created, expires, password_1, password_2, active, next_active, applied, next_rotation)
    values (${namespace}, ${contact}, ${now}, ${expires}, ${password1}, ${password2}, 1, 1, false, ${now})
    on conflict (namespace) do update set expires = excluded.expires, contact = coalesce(excluded.contact, n.contact) where not n.removing
    returning ${COLUMNS}`;
  return row;
};

/** Gives the account that rests another password; it becomes the active one once the broker has it. False when somebody else was first. */
export const beginRotation = async (query: Query, row: NamespaceRow, password: string): Promise<boolean> => {
  const resting: Account = row.active === 1 ? 2 : 1;
  const column = resting === 1 ? sql`password_1` : sql`password_2`;
  const rows = await query`
    update pulse.namespaces set ${column} = ${password}, next_active = ${resting}, applied = false
    where namespace = ${row.namespace} and applied and not removing and next_rotation = ${row.nextRotation}
    returning namespace`;
  return rows.length > 0;
};

/** Notes that the broker has the passwords of a row; undefined when the row has been removed, or others since. */
export const finishRotation = async (query: Query, row: NamespaceRow, nextRotation: Date): Promise<NamespaceRow | undefined> => {
  const [changed] = await query<NamespaceRow>`
    update pulse.namespaces set applied = true, active = next_active,
      next_rotation = case when applied then next_rotation else ${nextRotation} end
    where namespace = ${row.namespace} and not removing and password_1 = ${row.password1} and password_2 = ${row.password2}
    returning ${COLUMNS}`;
  return changed;
};

/** Those whose passwords have to change, or were being changed by somebody who was interrupted. */
export const listDue = (query: Query, now: Date, limit: number): Promise<NamespaceRow[]> =>
  query<NamespaceRow>`
    select ${COLUMNS} from pulse.namespaces where not removing and expires > ${now} and (next_rotation <= ${now} or not applied)
    order by next_rotation, namespace limit ${limit}`;

/** Those that have ended, or whose removal was interrupted. */
export const listEnded = (query: Query, now: Date, limit: number): Promise<NamespaceRow[]> =>
  query<NamespaceRow>`
    select ${COLUMNS} from pulse.namespaces where expires <= ${now} or removing order by expires, namespace limit ${limit}`;

/** From now on nobody gives it out; false when it has been extended meanwhile. */
export const beginRemoval = async (query: Query, namespace: string, now: Date): Promise<boolean> => {
  const rows = await query`
    update pulse.namespaces set removing = true where namespace = ${namespace} and (expires <= ${now} or removing) returning namespace`;
  return rows.length > 0;
};

export const finishRemoval = async (query: Query, namespace: string): Promise<void> => {
  await query`delete from pulse.namespaces where namespace = ${namespace} and removing`;
};

/** Live ones after a name, in order; `limit` at most. */
export const listNamespaces = (query: Query, now: Date, after: string | undefined, limit: number): Promise<NamespaceRow[]> =>
  query<NamespaceRow>`
    select ${COLUMNS} from pulse.namespaces where expires > ${now} and not removing
      ${after === undefined ? sql`` : sql`and namespace > ${after}`}
    order by namespace limit ${limit}`;
