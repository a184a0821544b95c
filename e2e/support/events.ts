/** What the bus delivers: a durable subscription of the test's own, read straight from the tables in which its deliveries wait. */
import { exchangeName } from '@tscluster/api/define.ts';
import { queueEvents } from '@tscluster/api/queue/events.ts';
import type { Client as Database } from 'pg';
import type { Installation } from './installation.ts';
import { waitFor } from './processes.ts';

const SUBSCRIPTION = 'e2e/everything';

export interface DeliveredEvent {
  /** Order of delivery. */
  readonly seq: number;
  readonly eventId: string;
  /** Without its service: `task-pending`. */
  readonly exchange: string;
  readonly routingKey: string;
  readonly payload: {
    readonly status?: {
      readonly taskId: string;
      readonly state: string;
      readonly runs: readonly { readonly state: string; readonly reasonResolved?: string }[];
    };
    readonly runId?: number;
    readonly workerGroup?: string;
    readonly workerId?: string;
    readonly taskGroupId?: string;
    readonly artifact?: { readonly name: string };
  };
}

/** Full names of the queue's exchanges. */
export const queueExchanges: readonly string[] = Object.values(queueEvents.exchanges).map(({ exchange }) =>
  exchangeName(queueEvents, exchange),
);

/** Subscribes to every exchange of the queue. */
export const subscribeToEverything = async (installation: Pick<Installation, 'connectDatabase'>): Promise<void> => {
  const bindings = queueExchanges.map(exchange => ({ exchange, pattern: '#' }));
  const database = await installation.connectDatabase();
  try {
    await database.query(
      `with raised as (update platform.versions set version = version + 1 where name = 'subscriptions')
       insert into platform.subscriptions (name, bindings) values ($1, $2) on conflict do nothing`,
      [SUBSCRIPTION, JSON.stringify(bindings)],
    );
  } finally {
    await database.end();
  }
};

/** Events that are committed, but not delivered yet. */
export const countUndelivered = async (database: Database): Promise<number> => {
  const { rows } = await database.query<{ count: string }>('select count(*) from platform.outbox');
  return Number(rows[0]?.count);
};

/** Everything delivered since this was asked last, in order, once nothing is left to be delivered. */
export type EventSource = (installation: Pick<Installation, 'connectDatabase'>) => Promise<DeliveredEvent[]>;

const DELIVERY_MS = 60_000;

/** What the bus on Postgres has delivered to the subscription. */
export const fromSubscription: EventSource = async installation => {
  const database = await installation.connectDatabase();
  try {
    await waitFor('the delivery of all events', DELIVERY_MS, async () => (await countUndelivered(database)) === 0);
    return await takeEvents(database);
  } finally {
    await database.end();
  }
};

/** Everything delivered since this was asked last, in order. */
export const takeEvents = async (database: Database): Promise<DeliveredEvent[]> => {
  const { rows } = await database.query<{ seq: string; event: string }>(
    'delete from platform.deliveries where subscription = $1 returning seq, event',
    [SUBSCRIPTION],
  );
  return rows
    .map(({ seq, event }) => {
      const { id, exchange, routingKey, payload } = JSON.parse(event) as {
        id: string;
        exchange: string;
        routingKey: string;
        payload: DeliveredEvent['payload'];
      };
      return { seq: Number(seq), eventId: id, exchange: exchange.slice(exchange.lastIndexOf('/') + 1), routingKey, payload };
    })
    .sort((a, b) => a.seq - b.seq);
};
