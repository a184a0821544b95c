/**
 * One message when a group has ended. Groups with such a route are watched in the table; what has happened in them is read from the queue's own counters
 * (its view `group_progress`), because the last task of a group need not have the route. A group has to stay quiet for a moment, unless it is sealed, so
 * that one whose tasks are added one by one is not announced in between. What was announced is noted with the delivery: the same end is never told twice.
 */
import { ApiCallError } from '@tscluster/client/client.ts';
import type { Db } from '../../db/sql.ts';
import { slugid } from '../../platform/clock.ts';
import { loop, type Loop } from '../../platform/loop.ts';
import type { NotifyCtx } from './context.ts';
import type { Cause } from './deliver.ts';
import { insertRouted } from './deliveries.db.ts';
import { deleteOldGroups, endWatch, listGroupRoutes, postponeGroup, type QuietGroup, setOutcome, takeQuietGroups } from './groups.db.ts';
import { GroupTally } from './group-summary.ts';
import { asksForGroup, parseRoute } from './routes.ts';

/** A group in hand belongs to nobody else for so long. */
export const GROUP_LEASE_MS = 120_000;
const LOOK_AGAIN_MS = 60_000;

const tally = async (ctx: NotifyCtx, taskGroupId: string): Promise<GroupTally> => {
  const found = new GroupTally();
  let continuationToken: string | undefined;
  do {
    const page = await ctx.queue.listTaskGroup({ taskGroupId }, continuationToken === undefined ? {} : { continuationToken });
    page.tasks.forEach(task => found.add(task));
    ({ continuationToken } = page);
  } while (continuationToken !== undefined);
  return found;
};

/** Announces a group in hand, if it has ended. */
const announceGroup = async (ctx: NotifyCtx, group: QuietGroup): Promise<void> => {
  const { taskGroupId } = group;
  const found = await tally(ctx, taskGroupId);
  const summary = found.summarize(taskGroupId);
  const now = ctx.clock.now();
  if (!summary) {
    await postponeGroup(ctx.db, group, new Date(now.getTime() + LOOK_AGAIN_MS), null);
    return;
  }
  const outcome = found.outcome(summary);
  const cause: Cause = { kind: 'group', summary };
  await ctx.db.tx(async tx => {
    if (!(await endWatch(tx, group))) {
      return;
    }
    for (const known of await listGroupRoutes(tx, taskGroupId)) {
      const route = parseRoute(known.route, ctx.routePrefix);
      if (!route || known.outcome === outcome) {
        continue;
      }
      await setOutcome(tx, taskGroupId, known.route, outcome);
      if (asksForGroup(route, summary)) {
        const { type, address } = route;
        const about = { eventId: `group/${taskGroupId}/${slugid(ctx.random)}`, route: known.route, taskId: undefined, taskGroupId };
        const row = { deliveryId: slugid(ctx.random), type, address, ...about, cause, created: now };
        await insertRouted(tx, row, ctx.channelOf(type).channel.checkAddress(address, type));
      }
    }
    tx.afterCommit(ctx.wake);
  });
};

/** One group's trouble must not hold up the others: it stays in hand for a while, then somebody looks again. */
const announceSafely = async (ctx: NotifyCtx, group: QuietGroup): Promise<void> => {
  try {
    await announceGroup(ctx, group);
  } catch (error) {
    if (error instanceof ApiCallError && error.statusCode === 404) {
      await ctx.db.tx(tx => endWatch(tx, group));
      return;
    }
    ctx.log.warn({ err: error, taskGroupId: group.taskGroupId }, 'group not announced yet');
  }
};

const groupLoop = (name: string, everyMs: number, stalled: boolean): Loop<NotifyCtx> =>
  loop({
    name,
    everyMs,
    batch: 20,
    run: async (ctx, limit) => {
      const now = ctx.clock.now();
      const groups = await takeQuietGroups(ctx.db, stalled, now, new Date(now.getTime() + GROUP_LEASE_MS), limit);
      for (const group of groups) {
        if (group.quietSince === null && !group.sealed && ctx.settleMs > 0) {
          await postponeGroup(ctx.db, group, new Date(now.getTime() + ctx.settleMs), now);
        } else {
          await announceSafely(ctx, group);
        }
      }
      return groups.length;
    },
  });

/** Groups of which every task was resolved. */
export const resolvedGroups = groupLoop('notify/groups', 1_000, false);
/** Groups in which nothing goes on, though tasks are left. */
export const stalledGroups = groupLoop('notify/stalled-groups', 15_000, true);

export const purgeGroups = loop<{ readonly db: Db; readonly clock: NotifyCtx['clock'] }>({
  name: 'notify/purge-groups',
  everyMs: 3_600_000,
  batch: 1_000,
  run: ({ db, clock }, limit) => deleteOldGroups(db, clock.now(), limit),
});
