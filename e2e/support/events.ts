/** What the bus delivers: a durable subscription of the test's own, read straight from the tables in which its deliveries wait. */
import { exchangeName } from '@tscluster/api/define.ts';
import { queueEvents } from '@tscluster/api/queue/events.ts';
import type { Client as Database } from 'pg';
import type { Installation } from './installation.ts';

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

/** Subscribes to every exchange of the queue. The server learns of it when it starts the next time. */
export const subscribeToEverything = async (installation: Installation): Promise<void> => {
  const bindings = Object.values(queueEvents.exchanges).map(({ exchange }) => ({
    exchange: exchangeName(queueEvents, exchange),
    pattern: '#',
  }));
  const database = await installation.connectDatabase();
  try {
    await database.query('insert into platform.subscriptions (name, bindings) values ($1, $2) on conflict do nothing', [
      SUBSCRIPTION,
      JSON.stringify(bindings),
    ]);
  } finally {
    await database.end();
  }
};

/** Events that are committed, but not delivered yet. */
export const countUndelivered = async (database: Database): Promise<number> => {
  const { rows } = await database.query<{ count: string }>('select count(*) from platform.outbox');
  return Number(rows[0]?.count);
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
