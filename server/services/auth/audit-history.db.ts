import { sql } from '../../db/sql.ts';
import type { Fragment, Query } from '../../db/sql.ts';

export interface HistoryRow {
  readonly id: number;
  readonly entityType: string;
  readonly entityId: string;
  readonly clientId: string;
  readonly action: string;
  readonly created: Date;
}

const listHistory = async (db: Query, which: Fragment, after: number | undefined, limit: number): Promise<HistoryRow[]> => db<HistoryRow>`
  select id, entity_type, entity_id, client_id, action, created from platform.audit
  where ${which} and id > ${after ?? 0} order by id limit ${limit}`;

/** What was done to one thing, the oldest first. */
export const listEntityHistory = async (
  db: Query,
  { entityType, entityId, after, limit }: { entityType: string; entityId: string; after: number | undefined; limit: number },
): Promise<HistoryRow[]> => listHistory(db, sql`entity_type = ${entityType} and entity_id = ${entityId}`, after, limit);

/** What one client did, the oldest first. */
export const listClientHistory = async (
  db: Query,
  { clientId, after, limit }: { clientId: string; after: number | undefined; limit: number },
): Promise<HistoryRow[]> => listHistory(db, sql`client_id = ${clientId}`, after, limit);

/** Deletes up to `limit` entries from before `before`; answers with how many. */
export const deleteHistory = async (db: Query, before: Date, limit: number): Promise<number> => {
  const rows = await db`
    delete from platform.audit where id in (select id from platform.audit where created < ${before} order by created limit ${limit})
    returning id`;
  return rows.length;
};
