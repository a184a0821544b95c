/** Queues of namespaces that have grown too long, and whether their contact knows: `pulse.long_queues`. */
import { textArray } from '../../db/arrays.ts';
import type { Query } from '../../db/sql.ts';

export type QueueState = 'long' | 'recovered' | 'deleted';

export interface LongQueue {
  readonly queue: string;
  readonly namespace: string;
  readonly state: QueueState;
  readonly messages: number;
}

export interface Notice extends LongQueue {
  readonly contact: string | null;
}

/** Those among some queues that are noted, by name. */
export const getLongQueues = async (query: Query, queues: readonly string[]): Promise<Map<string, QueueState>> => {
  const rows = await query<LongQueue>`select queue, state from pulse.long_queues where queue = any(${textArray(queues)}::text[])`;
  return new Map(rows.map(({ queue, state }) => [queue, state]));
};

/** Notes a state that the contact does not know yet. */
export const noteQueue = async (query: Query, { queue, namespace, state, messages }: LongQueue): Promise<void> => {
  await query`
    insert into pulse.long_queues (queue, namespace, state, messages, told)
    select ${queue}, namespace, ${state}, ${messages}, false from pulse.namespaces where namespace = ${namespace}
    on conflict (queue) do update set state = excluded.state, messages = excluded.messages, told = false`;
};

/** What contacts have to be told. */
export const listNotices = (query: Query, limit: number): Promise<Notice[]> =>
  query<Notice>`
    select q.queue, q.namespace, q.state, q.messages, n.contact
    from pulse.long_queues q join pulse.namespaces n using (namespace) where not q.told order by q.queue limit ${limit}`;

/** The contact knows: what is over is forgotten, unless it has changed meanwhile. */
export const settleNotice = async (query: Query, { queue, state }: LongQueue): Promise<void> => {
  await query`delete from pulse.long_queues where queue = ${queue} and state = ${state} and state <> 'long'`;
  await query`update pulse.long_queues set told = true where queue = ${queue} and state = ${state}`;
};

/** The live namespaces among some names. */
export const listLive = async (query: Query, namespaces: readonly string[], now: Date): Promise<Set<string>> => {
  const rows = await query<{ namespace: string }>`
    select namespace from pulse.namespaces
    where namespace = any(${textArray(namespaces)}::text[]) and expires > ${now} and not removing`;
  return new Set(rows.map(({ namespace }) => namespace));
};

/** Those among some names that are ours, ended ones included. */
export const listKnown = async (query: Query, namespaces: readonly string[]): Promise<Set<string>> => {
  const rows = await query<{ namespace: string }>`
    select namespace from pulse.namespaces where namespace = any(${textArray(namespaces)}::text[])`;
  return new Set(rows.map(({ namespace }) => namespace));
};
