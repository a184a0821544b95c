/** What tasks announce becomes deliveries to be made, in the transaction that notes the event: none is lost, and none comes twice. */
import type { TaskStatus } from '@tscluster/api/queue/tasks.ts';
import type { Subscription } from '../../platform/bus/bus.ts';
import { slugid } from '../../platform/clock.ts';
import { parseDateTime } from '../../platform/validate.ts';
import type { NotifyCtx } from './context.ts';
import type { Cause } from './deliver.ts';
import { insertRouted } from './deliveries.db.ts';
import { watchGroup } from './groups.db.ts';
import { asksForTask, groupBindings, isIgnored, routesOf, taskBindings } from './routes.ts';

const statusOf = (payload: unknown): TaskStatus => (payload as { status: TaskStatus }).status;

export const taskSubscription = (ctx: NotifyCtx): Subscription => ({
  name: 'notify/tasks',
  bindings: taskBindings(ctx.routePrefix),
  handle: async (event, tx) => {
    const status = statusOf(event.payload);
    const routes = routesOf(event.cc, ctx.routePrefix).filter(route => asksForTask(route, status.state));
    if (routes.length === 0 || isIgnored(status, ctx.ignoredReasons)) {
      return;
    }
    const cause: Cause = { kind: 'task', status };
    for (const { route, type, address } of routes) {
      const row = {
        deliveryId: slugid(ctx.random),
        type,
        address,
        eventId: event.id,
        route,
        taskId: status.taskId,
        taskGroupId: status.taskGroupId,
        cause,
        created: ctx.clock.now(),
      };
      await insertRouted(tx, row, ctx.channelOf(type).channel.checkAddress(address, type));
    }
    tx.afterCommit(ctx.wake);
  },
});

export const groupSubscription = (ctx: NotifyCtx): Subscription => ({
  name: 'notify/groups',
  bindings: groupBindings(ctx.routePrefix),
  handle: async (event, tx) => {
    const { taskGroupId, expires } = statusOf(event.payload);
    const routes = routesOf(event.cc, ctx.routePrefix).filter(({ kind }) => kind === 'group');
    if (routes.length > 0) {
      await watchGroup(
        tx,
        { taskGroupId, routes: routes.map(({ route }) => route), expires: new Date(parseDateTime(expires)) },
        ctx.clock.now(),
      );
      tx.afterCommit(ctx.wakeGroups);
    }
  },
});
