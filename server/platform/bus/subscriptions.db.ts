/** Durable subscriptions in `platform.subscriptions`: what each wants, and the version that says whether anything has changed. */
import { type Db, type Query, type Tx, json } from '../../db/sql.ts';
import type { Binding } from './bus.ts';

export interface SubscriptionRow {
  readonly name: string;
  readonly bindings: readonly Binding[];
}

/** The version's row first, always: two transactions that change several subscriptions cannot wait for each other. */
export const raiseVersion = async (tx: Tx): Promise<void> => {
  await tx`update platform.versions set version = version + 1 where name = 'subscriptions'`;
};

/** Until the transaction ends nobody else makes or removes what the broker has for a subscription. */
export const lockSubscription = async (tx: Tx, name: string): Promise<void> => {
  await tx`select pg_advisory_xact_lock(hashtextextended(${`bus/${name}`}, 0))`;
};

/** For so long the broker may take over one subscription, while it is locked. */
export const BROKER_IDLE_MS = 60_000;

/** Rises with every change of a subscription, in its transaction. */
export const readVersion = async (query: Query): Promise<number> => {
  const [row] = await query<{ version: number }>`select version from platform.versions where name = 'subscriptions'`;
  return row?.version ?? 0;
};

const sameBindings = (a: readonly Binding[], b: readonly Binding[]): boolean => JSON.stringify(a) === JSON.stringify(b);

/** Records that a process serves a subscription, with its bindings unless they are the stored ones. */
export const recordSubscription = async (db: Db, name: string, bindings: readonly Binding[] | 'stored', now: Date): Promise<void> => {
  const known = await getSubscription(db, name);
  if (known && (bindings === 'stored' || sameBindings(known.bindings, bindings))) {
    const { affected } = await db.run({ text: 'update platform.subscriptions set seen = $2 where name = $1', values: [name, now] });
    if (affected > 0) {
      return;
    }
  }
  await db.tx(async tx => {
    await raiseVersion(tx);
    const text = json(bindings === 'stored' ? [] : bindings);
    await tx`
      insert into platform.subscriptions (name, bindings, seen) values (${name}, ${text}, ${now})
      on conflict (name) do update set seen = excluded.seen,
        bindings = case when ${bindings === 'stored'} then subscriptions.bindings else excluded.bindings end`;
  });
};

/** Replaces the bindings of a subscription, which need not be served yet; false when they are these already. */
export const recordBindings = async (tx: Tx, name: string, bindings: readonly Binding[], now: Date): Promise<boolean> => {
  const known = await getSubscription(tx, name);
  if (known && sameBindings(known.bindings, bindings)) {
    return false;
  }
  await raiseVersion(tx);
  await tx`
    insert into platform.subscriptions (name, bindings, seen) values (${name}, ${json(bindings)}, ${now})
    on conflict (name) do update set bindings = excluded.bindings`;
  return true;
};

interface StoredSubscription {
  readonly name: string;
  readonly bindings: string;
}
const parse = ({ name, bindings }: StoredSubscription): SubscriptionRow => ({ name, bindings: JSON.parse(bindings) as Binding[] });

const getSubscription = async (query: Query, name: string): Promise<SubscriptionRow | undefined> => {
  const [row] = await query<StoredSubscription>`select name, bindings from platform.subscriptions where name = ${name}`;
  return row && parse(row);
};

/** All of them: as many as there are consumers in the code. */
export const listSubscriptions = async (query: Query): Promise<SubscriptionRow[]> =>
  (await query<StoredSubscription>`select name, bindings from platform.subscriptions order by name`).map(parse);

/** A binding that the message broker does not make, such as one to an exchange that is not there, and what it said. */
export interface RefusedBinding extends Binding {
  readonly reason: string;
}

/** The bindings of a subscription that were refused; they are tried again now and then. */
export const listRefusedBindings = async (query: Query, name: string): Promise<readonly RefusedBinding[]> => {
  const [row] = await query<{ refused: string }>`select refused from platform.subscriptions where name = ${name}`;
  return row ? (JSON.parse(row.refused) as RefusedBinding[]) : [];
};
