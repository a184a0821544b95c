import type { queueApi } from '@tscluster/api/queue/api.ts';
import { conflict, notFound } from '../../../platform/errors.ts';
import { makePage, readPage } from '../../../platform/page.ts';
import type { Handlers } from '../../../platform/service.ts';
import { announce, groupEvent } from '../announce.ts';
import type { Ctx } from '../ctx.ts';
import { listHeld } from '../downstream.db.ts';
import {
  type GroupRow,
  countGroupTasks,
  getGroup,
  groupView,
  listCancellable,
  listGroupTasks,
  listPrioritizable,
  sealGroup,
} from '../groups.db.ts';
import { priorityRank } from '../rules.ts';
import { changePriorities } from '../tasks.db.ts';
import { callOffReruns, cancelAll, lockPending } from '../transitions.ts';
import { listText } from './tasks.ts';

type GroupMethods = 'listTaskGroup' | 'getTaskGroup' | 'sealTaskGroup' | 'cancelTaskGroup' | 'changeTaskGroupPriority';

/** Tasks changed by one transaction. */
const CHUNK = 500;

const requireGroup = async (ctx: Ctx, taskGroupId: string): Promise<GroupRow> =>
  (await getGroup(ctx.platform.db, taskGroupId)) ?? notFound('There is no task group `{{taskGroupId}}`.', { taskGroupId });

/** Goes through a list in chunks. `change` is told how many were changed before and whether this is the last chunk; it answers with what it changed. */
const inChunks = async (
  list: (after: string) => Promise<string[]>,
  change: (taskIds: readonly string[], before: number, isLast: boolean) => Promise<string[]>,
): Promise<string[]> => {
  const changed: string[] = [];
  let after = '';
  for (;;) {
    const taskIds = await list(after);
    const isLast = taskIds.length < CHUNK;
    changed.push(...(await change(taskIds, changed.length, isLast)));
    if (isLast) {
      return changed;
    }
    after = taskIds.at(-1) as string;
  }
};

export const groupHandlers: Pick<Handlers<typeof queueApi, Ctx>, GroupMethods> = {
  async getTaskGroup({ ctx, params: { taskGroupId } }) {
    return groupView(await requireGroup(ctx, taskGroupId));
  },

  async listTaskGroup({ ctx, params: { taskGroupId }, query }) {
    const group = groupView(await requireGroup(ctx, taskGroupId));
    const { limit, after } = readPage(query, ['string']);
    const page = makePage(await listGroupTasks(ctx.platform.db, taskGroupId, after?.[0] ?? '', limit + 1), limit, row => [row.taskId]);
    return listText(
      'tasks',
      page.rows.map(row => row.text),
      page.continuationToken,
      `${JSON.stringify(group).slice(1, -1)},`,
    );
  },

  async sealTaskGroup({ ctx, params: { taskGroupId }, authorize }) {
    const { schedulerId } = await requireGroup(ctx, taskGroupId);
    await authorize({ taskGroupId, schedulerId });
    return ctx.platform.db.tx(async tx => {
      const sealed = (await sealGroup(tx, taskGroupId, ctx.platform.clock.now())) as GroupRow;
      await announce(tx, [groupEvent('taskGroupSealed', sealed)]);
      return groupView(sealed);
    });
  },

  async cancelTaskGroup({ ctx, params: { taskGroupId }, authorize, caller }) {
    const { db, clock } = ctx.platform;
    const { schedulerId, sealed } = await requireGroup(ctx, taskGroupId);
    if (!sealed) {
      conflict('Task group `{{taskGroupId}}` is not sealed: tasks could be added while it is cancelled. Call `sealTaskGroup` first.', {
        taskGroupId,
      });
    }
    await authorize({ taskGroupId, schedulerId });
    const by = { clientId: (await caller()).clientId, ofGroup: true };
    const taskIds = await inChunks(
      after => listCancellable(db, taskGroupId, after, CHUNK, clock.now()),
      async ids => (ids.length === 0 ? [] : db.tx(async tx => (await cancelAll(tx, ctx, ids, by)).map(row => row.taskId))),
    );
    await inChunks(
      after => listHeld(db, taskGroupId, after, CHUNK),
      async ids => (ids.length === 0 ? [] : db.tx(tx => callOffReruns(tx, ctx, ids, by)).then(() => [])),
    );
    return { taskGroupId, taskGroupSize: await countGroupTasks(db, taskGroupId), cancelledCount: taskIds.length, taskIds };
  },

  async changeTaskGroupPriority({ ctx, params: { taskGroupId }, body: { newPriority }, authorize, caller }) {
    const { db, clock } = ctx.platform;
    const group = await requireGroup(ctx, taskGroupId);
    const { schedulerId } = group;
    await authorize({ taskGroupId, schedulerId });
    const by = { clientId: (await caller()).clientId, ofGroup: true };
    const rank = priorityRank(newPriority);
    const summary = (tasksAffected: number) => ({ taskGroupId, schedulerId, newPriority, tasksAffected });
    const taskIds = await inChunks(
      after => listPrioritizable(db, taskGroupId, rank, after, CHUNK, clock.now()),
      (ids, before, isLast) =>
        db.tx(async tx => {
          await lockPending(tx, ctx, ids);
          const changed = await changePriorities(tx, ids, rank, by, clock.now().toISOString());
          if (isLast) {
            await announce(tx, [groupEvent('taskGroupPriorityChanged', group, summary(before + changed.length))]);
          }
          return changed;
        }),
    );
    return { ...summary(taskIds.length), taskIds };
  },
};
