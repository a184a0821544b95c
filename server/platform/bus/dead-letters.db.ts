/** Events that were given up: `platform.dead_letters`, for an operator to look at, for a month. */
import type { Query } from '../../db/sql.ts';

export interface DeadLetter {
  readonly subscription: string;
  readonly eventId: string;
  /** The event as JSON. */
  readonly event: string;
  readonly error: string;
  readonly at: Date;
}

export const recordDeadLetter = async (query: Query, { subscription, eventId, event, error, at }: DeadLetter): Promise<void> => {
  await query`
    insert into platform.dead_letters (subscription, event_id, event, error, at)
    values (${subscription}, ${eventId}, ${event}, ${error}, ${at})`;
};

/** Deletes up to `limit` of those older than `before`; answers with how many. */
export const expireDeadLetters = async (query: Query, before: Date, limit: number): Promise<number> => {
  const rows = await query`
    delete from platform.dead_letters where id in (select id from platform.dead_letters where at < ${before} order by at limit ${limit})
    returning id`;
  return rows.length;
};
