import { sql } from '../../db/sql.ts';
import type { Query, Tx } from '../../db/sql.ts';

export interface ClientRow {
  readonly clientId: string;
  readonly description: string;
  /** Encrypted. */
  readonly accessToken: string;
  /** As given, in that order. */
  readonly scopes: readonly string[];
  readonly expires: Date;
  readonly disabled: boolean;
  readonly deleteOnExpiration: boolean;
  readonly created: Date;
  readonly lastModified: Date;
  readonly lastDateUsed: Date;
  readonly lastRotated: Date;
}

const COLUMNS = sql`client_id, description, access_token, scopes, expires, disabled, delete_on_expiration,
  created, last_modified, last_date_used, last_rotated`;

export const getClient = async (db: Query, clientId: string): Promise<ClientRow | undefined> => {
  const [row] = await db<ClientRow>`select ${COLUMNS} from auth.clients where client_id = ${clientId}`;
  return row;
};

/** Locks the client until the transaction ends. */
export const getClientForUpdate = async (tx: Tx, clientId: string): Promise<ClientRow | undefined> => {
  const [row] = await tx<ClientRow>`select ${COLUMNS} from auth.clients where client_id = ${clientId} for update`;
  return row;
};

/** Clients after `after` in the protocol's order, those that begin with `prefix` only; `limit` at most. */
export const listClients = async (
  db: Query,
  { prefix, after, limit }: { prefix: string | undefined; after: string | undefined; limit: number },
): Promise<ClientRow[]> => db<ClientRow>`
  select ${COLUMNS} from auth.clients
  where true
  ${after === undefined ? sql`` : sql`and client_id > ${after}`}
  ${prefix === undefined ? sql`` : sql`and client_id collate "C" >= ${prefix} and starts_with(client_id, ${prefix})`}
  order by client_id limit ${limit}`;

/** Answers with whether there was no such client. */
export const insertClient = async (tx: Tx, row: ClientRow): Promise<boolean> => {
  const inserted = await tx`
    insert into auth.clients (client_id, description, access_token, scopes, expires, disabled, delete_on_expiration,
      created, last_modified, last_date_used, last_rotated)
    values (${row.clientId}, ${row.description}, ${row.accessToken}, ${row.scopes}, ${row.expires}, ${row.disabled}, ${row.deleteOnExpiration},
      ${row.created}, ${row.lastModified}, ${row.lastDateUsed}, ${row.lastRotated})
    on conflict do nothing returning client_id`;
  return inserted.length > 0;
};

export type ClientChange = Partial<Omit<ClientRow, 'clientId' | 'created' | 'lastDateUsed' | 'lastModified'>>;

/** Changes what is given; undefined when there is no such client. */
export const updateClient = async (tx: Tx, clientId: string, change: ClientChange, now: Date): Promise<ClientRow | undefined> => {
  const [row] = await tx<ClientRow>`
    update auth.clients set last_modified = ${now}
    ${change.description === undefined ? sql`` : sql`, description = ${change.description}`}
    ${change.accessToken === undefined ? sql`` : sql`, access_token = ${change.accessToken}`}
    ${change.scopes === undefined ? sql`` : sql`, scopes = ${change.scopes}`}
    ${change.expires === undefined ? sql`` : sql`, expires = ${change.expires}`}
    ${change.disabled === undefined ? sql`` : sql`, disabled = ${change.disabled}`}
    ${change.deleteOnExpiration === undefined ? sql`` : sql`, delete_on_expiration = ${change.deleteOnExpiration}`}
    ${change.lastRotated === undefined ? sql`` : sql`, last_rotated = ${change.lastRotated}`}
    where client_id = ${clientId} returning ${COLUMNS}`;
  return row;
};

/** Answers with whether there was such a client. */
export const deleteClient = async (tx: Tx, clientId: string): Promise<boolean> => {
  const deleted = await tx`delete from auth.clients where client_id = ${clientId} returning client_id`;
  return deleted.length > 0;
};

/** Notes when clients were last used. */
export const touchClients = async (db: Query, clientIds: readonly string[], now: Date): Promise<void> => {
  await db`update auth.clients set last_date_used = greatest(last_date_used, ${now}) where client_id = any(${clientIds}::text[])`;
};

/** Deletes up to `limit` clients that have expired and are to be deleted then; answers with their ids. */
export const deleteExpiredClients = async (tx: Tx, now: Date, limit: number): Promise<string[]> => {
  const rows = await tx<{ clientId: string }>`
    delete from auth.clients where client_id in (
      select client_id from auth.clients where delete_on_expiration and expires < ${now}
      order by expires limit ${limit} for update skip locked)
    returning client_id`;
  return rows.map(row => row.clientId);
};

/** All statically configured clients. */
export const listStaticClients = async (db: Query): Promise<ClientRow[]> => db<ClientRow>`
  select ${COLUMNS} from auth.clients where client_id collate "C" >= 'static/' and client_id collate "C" < 'static0'`;
