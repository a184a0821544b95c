import type { queueApi } from '@tscluster/api/queue/api.ts';
import { conflict, notFound } from '../../../platform/errors.ts';
import { makePage, readPage } from '../../../platform/page.ts';
import type { Handlers } from '../../../platform/service.ts';
import { announce, groupEvent } from '../announce.ts';
import type { Ctx } from '../ctx.ts';
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
import { lockPendingStatement } from '../resolve.db.ts';
import { priorityRank } from '../rules.ts';
import { changePriorities } from '../tasks.db.ts';
import { cancelAll } from '../transitions.ts';
import { listText } from './tasks.ts';

type GroupMethods = 'listTaskGroup' | 'getTaskGroup' | 'sealTaskGroup' | 'cancelTaskGroup' | 'changeTaskGroupPriority';

/** Tasks changed by one transaction. */
const CHUNK = 500;

const requireGroup = async (ctx: Ctx, taskGroupId: string): Promise<GroupRow> =>
  (await getGroup(ctx.platform.db, taskGroupId)) ?? notFound('There is no task group `{{taskGroupId}}`.', { taskGroupId });

/** Goes through a list in chunks; `change` answers with the ids it changed. */
const inChunks = async (
  list: (after: string) => Promise<string[]>,
  change: (taskIds: readonly string[]) => Promise<string[]>,
): Promise<string[]> => {
  const changed: string[] = [];
  for (let after = ''; ;) {
    const taskIds = await list(after);
    if (taskIds.length > 0) {
      changed.push(...(await change(taskIds)));
      after = taskIds.at(-1) as string;
    }
    if (taskIds.length < CHUNK) {
      return changed;
    }
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

  async cancelTaskGroup({ ctx, params: { taskGroupId }, authorize }) {
    const { db, clock } = ctx.platform;
    const { schedulerId, sealed } = await requireGroup(ctx, taskGroupId);
    if (!sealed) {
      conflict('Task group `{{taskGroupId}}` is not sealed: tasks could be added while it is cancelled. Call `sealTaskGroup` first.', {
        taskGroupId,
      });
    }
    await authorize({ taskGroupId, schedulerId });
    const taskIds = await inChunks(
      after => listCancellable(db, taskGroupId, after, CHUNK, clock.now()),
      ids => db.tx(async tx => (await cancelAll(tx, ctx, ids)).map(row => row.taskId)),
    );
    return { taskGroupId, taskGroupSize: await countGroupTasks(db, taskGroupId), cancelledCount: taskIds.length, taskIds };
  },

  async changeTaskGroupPriority({ ctx, params: { taskGroupId }, body: { newPriority }, authorize }) {
    const { db, clock } = ctx.platform;
    const group = await requireGroup(ctx, taskGroupId);
    const { schedulerId } = group;
    await authorize({ taskGroupId, schedulerId });
    const rank = priorityRank(newPriority);
    const taskIds = await inChunks(
      after => listPrioritizable(db, taskGroupId, rank, after, CHUNK, clock.now()),
      ids =>
        db.tx(async tx => {
          await tx.run(lockPendingStatement(ids));
          return changePriorities(tx, ids, rank, clock.now().toISOString());
        }),
    );
    const change = { taskGroupId, schedulerId, newPriority, tasksAffected: taskIds.length };
    await db.tx(tx => announce(tx, [groupEvent('taskGroupPriorityChanged', group, change)]));
    return { ...change, taskIds };
  },
};
