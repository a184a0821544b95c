/**
 * Keeps the broker's bindings equal to `platform.subscriptions`. The broker does not say what is bound, so the table remembers (`bound`) what it may
 * have been told, before it is told: what a crash leaves behind is found and removed the next time. One process works on a subscription at a time.
 */
import type { ChannelModel } from 'amqplib';
import { type Db, type Tx, json } from '../../../db/sql.ts';
import type { Log } from '../../log.ts';
import type { Binding } from '../bus.ts';
import { BROKER_IDLE_MS, lockSubscription, type RefusedBinding } from '../subscriptions.db.ts';
import { bindAll, declareQueues, queueName, unbindAll, withChannel } from './topology.ts';

export interface BindingsCtx {
  readonly db: Db;
  readonly log: Log;
  /** The broker's user, whose name is part of the queues' names. */
  readonly user: string;
  /** Runs one after another what each needs two database connections, so that they cannot use up the pool waiting for each other. */
  readonly oneAtATime: <T>(work: () => Promise<T>) => Promise<T>;
}

/** A queue of one. */
export const makeOneAtATime = (): BindingsCtx['oneAtATime'] => {
  let last: Promise<unknown> = Promise.resolve();
  return work => {
    const next = last.then(work);
    last = next.catch(() => undefined);
    return next;
  };
};

interface BindingsRow {
  readonly name: string;
  readonly bindings: readonly Binding[];
  readonly bound: readonly Binding[];
  /** False when somebody was interrupted on the way from `bound` to `bindings`. */
  readonly settled: boolean;
  readonly refused: readonly RefusedBinding[];
}

const keyOf = ({ exchange, pattern }: Binding): string => JSON.stringify([exchange, pattern]);
const without = (some: readonly Binding[], others: readonly Binding[]): Binding[] => {
  const keys = new Set(others.map(keyOf));
  return some.filter(each => !keys.has(keyOf(each))).map(({ exchange, pattern }) => ({ exchange, pattern }));
};

type Stored = { readonly [K in keyof Omit<BindingsRow, 'settled'>]: string } & Pick<BindingsRow, 'settled'>;
const parse = ({ name, bindings, bound, settled, refused }: Stored): BindingsRow => {
  const wanted = JSON.parse(bindings) as Binding[];
  return {
    name,
    bindings: [...new Map(wanted.map(each => [keyOf(each), each])).values()],
    bound: JSON.parse(bound) as Binding[],
    settled,
    refused: JSON.parse(refused) as RefusedBinding[],
  };
};

const listBindings = async (db: Db): Promise<BindingsRow[]> =>
  (await db<Stored>`select name, bindings, bound, settled, refused from platform.subscriptions order by name`).map(parse);

const getBindings = async (db: Db, name: string): Promise<BindingsRow | undefined> => {
  const [row] = await db<Stored>`select name, bindings, bound, settled, refused from platform.subscriptions where name = ${name}`;
  return row && parse(row);
};

/** Declares the queues of one subscription and makes its bindings what they shall be; `all` binds again what should be bound already. */
const bindOne = async ({ db, log, user, oneAtATime }: BindingsCtx, connection: ChannelModel, name: string, all: boolean): Promise<void> => {
  const work = async (lock: Tx): Promise<void> => {
    await lockSubscription(lock, name);
    const row = await getBindings(db, name);
    if (!row) {
      return;
    }
    await withChannel(connection, channel => declareQueues(channel, user, name));
    const missing = all || !row.settled ? row.bindings : without(row.bindings, row.bound);
    const surplus = without(row.bound, row.bindings);
    const told = [...row.bound, ...without(row.bindings, row.bound)];
    await db`update platform.subscriptions set bound = ${json(told)}, settled = false where name = ${name}`;
    const refused = await bindAll(connection, queueName(user, name), missing);
    await unbindAll(connection, queueName(user, name), surplus);
    await db`
      update platform.subscriptions set bound = ${json(without(row.bindings, refused))}, settled = true, refused = ${json(refused)}
      where name = ${name}`;
    for (const each of without(refused, row.refused)) {
      log.warn({ subscription: name, ...each }, 'the message broker refuses a binding; it is tried again now and then');
    }
  };
  await oneAtATime(() => db.tx(work, { idleMs: BROKER_IDLE_MS }));
};

/** Every subscription, from the start: after connecting, because the broker may be another or have lost everything. */
export const bindEverything = async (ctx: BindingsCtx, connection: ChannelModel): Promise<void> => {
  for (const { name } of await listBindings(ctx.db)) {
    await bindOne(ctx, connection, name, true);
  }
};

/** The subscriptions whose bindings are not what they should be, refused ones included. */
export const bindChanges = async (ctx: BindingsCtx, connection: ChannelModel): Promise<void> => {
  for (const { name, bindings, bound, settled } of await listBindings(ctx.db)) {
    if (!settled || without(bindings, bound).length > 0 || without(bound, bindings).length > 0) {
      await bindOne(ctx, connection, name, false);
    }
  }
};

/** One subscription that this process serves. */
export const bindSubscription = (ctx: BindingsCtx, connection: ChannelModel, name: string): Promise<void> =>
  bindOne(ctx, connection, name, true);
