/** Which events of the broker were handled: `platform.handled`, written in the transaction of the effect. */
import { textArray } from '../../db/arrays.ts';
import type { Query, Tx } from '../../db/sql.ts';
import type { BusEvent } from '../events.ts';

/** Notes that a subscription handles events in this transaction; answers with those that it has not before. Waits for a process that handles one of them. */
export const noteHandled = async (tx: Tx, subscription: string, events: readonly BusEvent[], at: Date): Promise<BusEvent[]> => {
  const rows = await tx<{ eventId: string }>`
    insert into platform.handled (subscription, event_id, at)
    select ${subscription}, id, ${at} from unnest(${textArray(events.map(({ id }) => id))}::text[]) with ordinality t (id, n) order by n
    on conflict do nothing returning event_id`;
  const fresh = new Set(rows.map(({ eventId }) => eventId));
  return events.filter(({ id }) => fresh.delete(id));
};

/** Deletes up to `limit` notes older than `before`; answers with how many. */
export const expireHandled = async (query: Query, before: Date, limit: number): Promise<number> => {
  const rows = await query`
    delete from platform.handled where (subscription, event_id) in (
      select subscription, event_id from platform.handled where at < ${before} order by at limit ${limit} for update skip locked)
    returning at`;
  return rows.length;
};
