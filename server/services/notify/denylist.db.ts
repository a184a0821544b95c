/** Where nothing is sent to. */
import type { NotificationAddress } from '@tscluster/api/notify/denylist.ts';
import { type Query, sql } from '../../db/sql.ts';

export const addDenied = async (db: Query, { notificationType, notificationAddress }: NotificationAddress): Promise<void> => {
  await db`insert into notify.denylist (type, address) values (${notificationType}, ${notificationAddress}) on conflict do nothing`;
};

export const removeDenied = async (db: Query, { notificationType, notificationAddress }: NotificationAddress): Promise<void> => {
  await db`delete from notify.denylist where type = ${notificationType} and address = ${notificationAddress}`;
};

// Like all lists; sorted anew for each page, because those who manage the list by hand do not make it long.
const ADDRESS = sql`address collate platform.protocol_order`;

/** Denied addresses after one, by type and address; `limit` at most. */
export const listDenied = async (
  db: Query,
  after: readonly [string, string] | undefined,
  limit: number,
): Promise<NotificationAddress[]> => db<NotificationAddress>`
  select type as notification_type, address as notification_address from notify.denylist
  ${after === undefined ? sql`` : sql`where (type, ${ADDRESS}) > (${after[0]}, ${after[1]})`}
  order by type, ${ADDRESS} limit ${limit}`;
