/** The table of deliveries: one message to one address each. */
import type { DeliveryState, NotificationType } from '@tscluster/api/notify/deliveries.ts';
import { json, type Query, sql, type Tx } from '../../db/sql.ts';

export interface DeliveryRow {
  readonly id: number;
  readonly deliveryId: string;
  readonly type: NotificationType;
  readonly address: string;
  readonly state: DeliveryState;
  readonly reason: string | null;
  readonly subject: string | null;
  readonly clientId: string | null;
  readonly route: string | null;
  readonly taskId: string | null;
  readonly taskGroupId: string | null;
  readonly attempts: number;
  readonly due: Date | null;
  readonly created: Date;
  readonly resolved: Date | null;
}

/** A delivery that some process has in hand. */
export interface TakenDelivery extends Pick<
  DeliveryRow,
  'id' | 'deliveryId' | 'type' | 'address' | 'route' | 'taskId' | 'taskGroupId' | 'attempts' | 'created'
> {
  /** What the message is to be made from, as JSON. */
  readonly cause: string | null;
  /** The message as JSON, once it was made. */
  readonly content: string | null;
}

const TAKEN = sql`id, delivery_id, type, address, route, task_id, task_group_id, attempts, created, cause, content`;

/** Keeps two processes from admitting messages to one address at once: limits and duplicates are counted, not guessed. Until the transaction ends. */
export const lockAddress = async (tx: Tx, type: NotificationType, address: string): Promise<void> => {
  await tx`select pg_advisory_xact_lock(hashtextextended(${`notify ${type} ${address}`}, 0))`;
};

/** What speaks against a message: the denylist, the same message since `duplicatesSince`, and how many were admitted since `countedSince`. */
export const getObstacles = async (
  tx: Tx,
  about: {
    readonly type: NotificationType;
    readonly address: string;
    readonly digest: string;
    readonly duplicatesSince: Date;
    readonly countedSince: Date;
  },
): Promise<{ isDenied: boolean; isDuplicate: boolean; admitted: number }> => {
  const { type, address, digest } = about;
  const [row] = await tx<{ isDenied: boolean; isDuplicate: boolean; admitted: number }>`
    select
      exists (select from notify.denylist where type = ${type} and address = ${address}) as is_denied,
      exists (select from notify.deliveries
        where digest = ${digest} and created > ${about.duplicatesSince} and state in ('waiting', 'sent')) as is_duplicate,
      (select count(*) from notify.deliveries
        where type = ${type} and md5(address) = md5(${address}) and created > ${about.countedSince}
          and digest is not null and state in ('waiting', 'sent')) as admitted`;
  return row ?? { isDenied: false, isDuplicate: false, admitted: 0 };
};

export interface NewDelivery {
  readonly deliveryId: string;
  readonly type: NotificationType;
  readonly address: string;
  readonly subject: string;
  readonly clientId: string;
  readonly created: Date;
}

/** Notes a message that was asked for and is not sent; final. */
export const insertSkipped = async (tx: Tx, row: NewDelivery, reason: string): Promise<void> => {
  await tx`
    insert into notify.deliveries (delivery_id, type, address, state, reason, subject, client_id, created, resolved)
    values (${row.deliveryId}, ${row.type}, ${row.address}, 'skipped', ${reason}, ${row.subject}, ${row.clientId}, ${row.created}, ${row.created})`;
};

/** Notes a message that is about to be tried for the first time; nobody else takes it before `due`. */
export const insertAdmitted = async (
  tx: Tx,
  row: NewDelivery & { readonly content: object; readonly digest: string; readonly due: Date },
): Promise<TakenDelivery> => {
  const [taken] = await tx<TakenDelivery>`
    insert into notify.deliveries (delivery_id, type, address, state, subject, client_id, content, digest, attempts, due, created)
    values (${row.deliveryId}, ${row.type}, ${row.address}, 'waiting', ${row.subject}, ${row.clientId}, ${json(row.content)}, ${row.digest}, 1,
      ${row.due}, ${row.created})
    returning ${TAKEN}`;
  return taken as TakenDelivery;
};

/** Something that is to be sent because of a route. */
export interface RoutedDelivery {
  readonly deliveryId: string;
  readonly type: NotificationType;
  readonly address: string;
  /** With the route, what makes it the same delivery when the event comes again. */
  readonly eventId: string;
  readonly route: string;
  readonly taskId: string | undefined;
  readonly taskGroupId: string;
  readonly cause: object;
  readonly created: Date;
}

/** Notes it, once per event and route; it is due at once. With a `problem`, it has failed before it began. */
export const insertRouted = async (tx: Tx, row: RoutedDelivery, problem: string | undefined): Promise<boolean> => {
  const state = problem === undefined ? 'waiting' : 'failed';
  const rows = await tx`
    insert into notify.deliveries (delivery_id, type, address, state, reason, event_id, route, task_id, task_group_id, cause, due, created, resolved)
    values (${row.deliveryId}, ${row.type}, ${row.address}, ${state}, ${problem ?? null}, ${row.eventId}, ${row.route}, ${row.taskId ?? null},
      ${row.taskGroupId}, ${problem === undefined ? json(row.cause) : null}, ${problem === undefined ? row.created : null}, ${row.created},
      ${problem === undefined ? null : row.created})
    on conflict (event_id, route) where event_id is not null do nothing returning id`;
  return rows.length > 0;
};

/** Takes deliveries of some types that are due, the oldest first; nobody else takes them before `until`. */
export const takeDue = async (
  db: Query,
  types: readonly NotificationType[],
  now: Date,
  until: Date,
  limit: number,
): Promise<TakenDelivery[]> => {
  const rows = await db<TakenDelivery>`
    update notify.deliveries set attempts = attempts + 1, due = ${until}
    where id in (
      select id from notify.deliveries
      where state = 'waiting' and type = any(${types}::text[]) and due <= ${now} order by type, due limit ${limit} for update skip locked)
    returning ${TAKEN}`;
  return rows.toSorted((a, b) => a.id - b.id);
};

/** Keeps the message of a delivery in hand once it was made and admitted. */
export const setContent = async (
  tx: Tx,
  { id, attempts }: TakenDelivery,
  { content, digest, subject }: { content: object; digest: string; subject: string },
): Promise<boolean> => {
  const rows = await tx`
    update notify.deliveries set content = ${json(content)}, digest = ${digest}, subject = ${subject}, cause = null
    where id = ${id} and state = 'waiting' and attempts = ${attempts} returning id`;
  return rows.length > 0;
};

/** Ends a delivery in hand; false when another process has taken it meanwhile. What it was made from is forgotten. */
export const resolveDelivery = async (
  db: Query,
  { id, attempts }: TakenDelivery,
  outcome: { readonly state: 'sent' | 'skipped' | 'failed'; readonly reason?: string | undefined },
  now: Date,
): Promise<boolean> => {
  const rows = await db`
    update notify.deliveries set state = ${outcome.state}, reason = ${outcome.reason ?? null}, due = null, cause = null, content = null, resolved = ${now}
    where id = ${id} and state = 'waiting' and attempts = ${attempts} returning id`;
  return rows.length > 0;
};

/** Puts a delivery in hand off. */
export const postponeDelivery = async (db: Query, { id, attempts }: TakenDelivery, reason: string, due: Date): Promise<void> => {
  await db`
    update notify.deliveries set reason = ${reason}, due = ${due} where id = ${id} and state = 'waiting' and attempts = ${attempts}`;
};

const COLUMNS = sql`id, delivery_id, type, address, state, reason, subject, client_id, route, task_id, task_group_id, attempts, due, created, resolved`;

export type DeliveryFilter =
  | { readonly taskId: string }
  | { readonly taskGroupId: string }
  | { readonly type: NotificationType; readonly address: string };

/** Deliveries before `before`, the newest first; `limit` at most. */
export const listDeliveries = async (
  db: Query,
  filter: DeliveryFilter,
  before: number | undefined,
  limit: number,
): Promise<DeliveryRow[]> =>
  db<DeliveryRow>`
    select ${COLUMNS} from notify.deliveries
    where ${
      'taskId' in filter
        ? sql`task_id = ${filter.taskId}`
        : 'taskGroupId' in filter
          ? sql`task_group_id = ${filter.taskGroupId}`
          : sql`type = ${filter.type} and md5(address) = md5(${filter.address}) and address = ${filter.address}`
    }
    ${before === undefined ? sql`` : sql`and id < ${before}`}
    order by id desc limit ${limit}`;

/** Forgets records that have had their time; those that wait stay. */
export const deleteOldDeliveries = async (db: Query, before: Date, limit: number): Promise<number> => {
  const rows = await db`
    delete from notify.deliveries where id in (
      select id from notify.deliveries where created < ${before} and state <> 'waiting' order by created limit ${limit} for update skip locked)
    returning id`;
  return rows.length;
};
