/**
 * Messages that fire hooks. One subscription serves all hooks: it is bound to whatever any of them wants, and a message becomes one row for each hook
 * that wants it (`hooks.fires`), which the loop then fires.
 */
import { routingKeyMatches } from '@tscluster/api/routing-key.ts';
import type { Tx } from '../../db/sql.ts';
import type { Subscription } from '../../platform/bus/bus.ts';
import type { BusEvent } from '../../platform/events.ts';
import { type Ctx, newTaskId } from './ctx.ts';
import { dropOldestWaiting, insertEventFires } from './fires.db.ts';
import { type HookBinding, type HookKey, listAllBindings, listBindingsTo, lockBindings, setBindings } from './hooks.db.ts';

export const SUBSCRIPTION = 'hooks/fire';

/** Makes the subscription want what all hooks together want. */
export const rebindAll = async ({ platform }: Ctx, tx: Tx): Promise<void> => {
  await lockBindings(tx);
  await platform.bus.rebind(tx, SUBSCRIPTION, await listAllBindings(tx));
};

/** Stores the bindings of a hook; `before` are those it has. */
export const changeBindings = async (
  ctx: Ctx,
  tx: Tx,
  hook: HookKey,
  before: readonly HookBinding[],
  after: readonly HookBinding[],
): Promise<void> => {
  if (before.length > 0 || after.length > 0) {
    await setBindings(tx, hook, after);
    await rebindAll(ctx, tx);
  }
};

/** The hooks that want some events, read once for each exchange. */
const makeFinder = (tx: Tx): ((event: BusEvent) => Promise<HookKey[]>) => {
  const known = new Map<string, Awaited<ReturnType<typeof listBindingsTo>>>();
  return async event => {
    const bindings = known.get(event.exchange) ?? (await listBindingsTo(tx, event.exchange));
    known.set(event.exchange, bindings);
    const keys = [event.routingKey, ...event.cc];
    const hooks = new Map<string, HookKey>();
    for (const { pattern, hookGroupId, hookId } of bindings) {
      if (keys.some(key => routingKeyMatches(pattern, key))) {
        hooks.set(`${hookGroupId}/${hookId}`, { hookGroupId, hookId });
      }
    }
    return [...hooks.values()];
  };
};

const handleEvents = async (ctx: Ctx, events: readonly BusEvent[], tx: Tx): Promise<void> => {
  const findHooks = makeFinder(tx);
  const { maxWaitingEvents, eventsPerMinute: perMinute } = ctx;
  let added = 0;
  let dropped = 0;
  // one after the other: how often a hook may fire depends on those before
  for (const event of events) {
    const hooks = await findHooks(event);
    if (hooks.length > 0) {
      const { id, exchange, routingKey } = event;
      const now = ctx.platform.clock.now();
      const noted = await insertEventFires(
        tx,
        { id, exchange, routingKey, payload: JSON.stringify(event.payload), now, perMinute },
        hooks.map(hook => ({ ...hook, taskId: newTaskId(ctx, hook) })),
      );
      added += noted;
      dropped += noted > 0 ? await dropOldestWaiting(tx, hooks, maxWaitingEvents) : 0;
    }
  }
  if (added > 0) {
    tx.afterCommit(() => {
      ctx.wakeFires();
      if (dropped > 0) {
        ctx.dropped.inc(dropped);
        ctx.platform.log.warn({ dropped }, 'messages dropped, because too many wait for a hook');
      }
    });
  }
};

export const makeSubscription = (ctx: Ctx): Subscription => ({
  name: SUBSCRIPTION,
  bindings: 'stored',
  handle: (event, tx) => handleEvents(ctx, [event], tx),
  handleMany: (events, tx) => handleEvents(ctx, events, tx),
});
