/**
 * Messages that fire hooks. One subscription serves all hooks: it is bound to whatever any of them wants, and a message becomes one row for each hook
 * that wants it (`hooks.fires`), which the loop then fires.
 */
import { routingKeyMatches } from '@tscluster/api/routing-key.ts';
import type { Tx } from '../../db/sql.ts';
import type { Binding, Subscription } from '../../platform/bus/bus.ts';
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

const handleEvent = async (ctx: Ctx, event: BusEvent, tx: Tx): Promise<void> => {
  const keys = [event.routingKey, ...event.cc];
  const hooks = new Map<string, HookKey>();
  for (const { pattern, hookGroupId, hookId } of await listBindingsTo(tx, event.exchange)) {
    if (keys.some(key => routingKeyMatches(pattern, key))) {
      hooks.set(`${hookGroupId}/${hookId}`, { hookGroupId, hookId });
    }
  }
  const wanting = [...hooks.values()];
  if (wanting.length === 0) {
    return;
  }
  const { id, exchange, routingKey } = event;
  const added = await insertEventFires(
    tx,
    { id, exchange, routingKey, payload: JSON.stringify(event.payload), now: ctx.platform.clock.now(), perMinute: ctx.eventsPerMinute },
    wanting.map(hook => ({ ...hook, taskId: newTaskId(ctx, hook) })),
  );
  if (added > 0) {
    const dropped = await dropOldestWaiting(tx, wanting, ctx.maxWaitingEvents);
    tx.afterCommit(() => {
      ctx.wakeFires();
      if (dropped > 0) {
        ctx.dropped.inc(dropped);
        ctx.platform.log.warn({ exchange, dropped, hooks: wanting.slice(0, 10) }, 'messages dropped, because too many wait for a hook');
      }
    });
  }
};

export const makeSubscription = (ctx: Ctx, bindings: readonly Binding[]): Subscription => ({
  name: SUBSCRIPTION,
  bindings,
  handle: (event, tx) => handleEvent(ctx, event, tx),
});
