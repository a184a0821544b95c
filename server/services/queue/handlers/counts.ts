import type { queueApi } from '@tscluster/api/queue/api.ts';
import { makePage, readPage } from '../../../platform/page.ts';
import type { Handlers } from '../../../platform/service.ts';
import { countClaimed, countPending, listClaimed, listPending, listedDefinition } from '../counts.db.ts';
import type { Ctx } from '../ctx.ts';
import { splitTaskQueueId } from '../rules.ts';
import { listText } from './tasks.ts';

type CountMethods = 'pendingTasks' | 'taskQueueCounts' | 'listPendingTasks' | 'listClaimedTasks';

export const countHandlers: Pick<Handlers<typeof queueApi, Ctx>, CountMethods> = {
  async pendingTasks({ ctx, params: { taskQueueId } }) {
    const { db, clock } = ctx.platform;
    return { ...splitTaskQueueId(taskQueueId), taskQueueId, pendingTasks: await countPending(db, taskQueueId, clock.now()) };
  },

  async taskQueueCounts({ ctx, params: { taskQueueId } }) {
    const { db, clock } = ctx.platform;
    const [pendingTasks, claimedTasks] = await Promise.all([
      countPending(db, taskQueueId, clock.now()),
      countClaimed(db, taskQueueId, clock.now()),
    ]);
    return { ...splitTaskQueueId(taskQueueId), taskQueueId, pendingTasks, claimedTasks };
  },

  async listPendingTasks({ ctx, params: { taskQueueId }, query }) {
    const { db, clock } = ctx.platform;
    const { limit, after } = readPage(query, ['number'], { foreignToken: 'restart' });
    const page = makePage(await listPending(db, taskQueueId, after?.[0] ?? 0, limit + 1, clock.now()), limit, row => [row.seq]);
    const texts = page.rows.map(
      row => `{"taskId":"${row.taskId}","runId":${row.runId},"task":${listedDefinition(row)},"inserted":"${row.inserted.toISOString()}"}`,
    );
    return listText('tasks', texts, page.continuationToken);
  },

  async listClaimedTasks({ ctx, params: { taskQueueId }, query }) {
    const { db, clock } = ctx.platform;
    const { limit, after } = readPage(query, ['time', 'string'], { foreignToken: 'restart' });
    const start = { claimed: new Date(after?.[0] ?? 0), taskId: after?.[1] ?? '' };
    const rows = await listClaimed(db, taskQueueId, start, limit + 1, clock.now());
    const page = makePage(rows, limit, row => [row.claimed.getTime(), row.taskId]);
    const texts = page.rows.map(
      row =>
        `{"taskId":"${row.taskId}","runId":${row.runId},"workerGroup":"${row.workerGroup}","workerId":"${row.workerId}",` +
        `"claimed":"${row.claimed.toISOString()}","task":${listedDefinition(row)}}`,
    );
    return listText('tasks', texts, page.continuationToken);
  },
};
