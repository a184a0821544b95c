/** Task queues, and the older views of them: provisioners and worker types. */
import type { queueApi } from '@tscluster/api/queue/api.ts';
import { notFound } from '../../../platform/errors.ts';
import { makePage, readPage } from '../../../platform/page.ts';
import type { Handlers, Platform } from '../../../platform/service.ts';
import { splitTaskQueueId } from '../rules.ts';
import {
  getProvisionerRow,
  getTaskQueueRow,
  listProvisionerRows,
  listTaskQueueRows,
  listTaskQueuesOf,
  type ProvisionerRow,
  type TaskQueueRow,
} from '../task-queues.db.ts';
import type { WorkerRecorder } from '../workers-seen.ts';

export interface TaskQueueCtx {
  readonly platform: Platform;
  readonly seen: WorkerRecorder;
}

type Names = 'listProvisioners' | 'getProvisioner' | 'listWorkerTypes' | 'getWorkerType' | 'listTaskQueues' | 'getTaskQueue';

/** What nobody can set any more. */
const FIXED = { description: '', stability: 'experimental' } as const;

const dates = ({ expires, lastDateActive }: { expires: Date; lastDateActive: Date }) => ({
  expires: expires.toISOString(),
  lastDateActive: lastDateActive.toISOString(),
});
const provisionerView = (row: ProvisionerRow) => ({ provisionerId: row.provisionerId, ...dates(row), ...FIXED });
const taskQueueView = (row: TaskQueueRow) => ({ taskQueueId: row.taskQueueId, ...dates(row), ...FIXED });
const workerTypeView = (row: TaskQueueRow) => ({ ...splitTaskQueueId(row.taskQueueId), ...taskQueueView(row) });

const token = (continuationToken: string | undefined) => (continuationToken === undefined ? {} : { continuationToken });

export const taskQueueHandlers: Pick<Handlers<typeof queueApi, TaskQueueCtx>, Names> = {
  async listProvisioners({ ctx: { platform, seen }, query }) {
    const { limit, after } = readPage(query, ['string']);
    await seen.flush();
    const all = await listProvisionerRows(platform.db, platform.clock.now(), after?.[0], limit + 1);
    const { rows, continuationToken } = makePage(all, limit, row => [row.provisionerId]);
    return { provisioners: rows.map(provisionerView), ...token(continuationToken) };
  },

  async getProvisioner({ ctx: { platform, seen }, params: { provisionerId } }) {
    await seen.flush();
    const row = await getProvisionerRow(platform.db, provisionerId, platform.clock.now());
    return row ? provisionerView(row) : notFound('Provisioner {{provisionerId}} not found', { provisionerId });
  },

  async listWorkerTypes({ ctx: { platform, seen }, params: { provisionerId }, query }) {
    const { limit, after } = readPage(query, ['string']);
    await seen.flush();
    const all = await listTaskQueuesOf(platform.db, provisionerId, platform.clock.now(), after?.[0], limit + 1);
    const { rows, continuationToken } = makePage(all, limit, row => [row.taskQueueId]);
    return { workerTypes: rows.map(workerTypeView), ...token(continuationToken) };
  },

  async getWorkerType({ ctx: { platform, seen }, params: { provisionerId, workerType } }) {
    await seen.flush();
    const row = await getTaskQueueRow(platform.db, `${provisionerId}/${workerType}`, platform.clock.now());
    return row ? workerTypeView(row) : notFound('Worker type {{provisionerId}}/{{workerType}} not found', { provisionerId, workerType });
  },

  async listTaskQueues({ ctx: { platform, seen }, query }) {
    const { limit, after } = readPage(query, ['string']);
    await seen.flush();
    const all = await listTaskQueueRows(platform.db, platform.clock.now(), after?.[0], limit + 1);
    const { rows, continuationToken } = makePage(all, limit, row => [row.taskQueueId]);
    return { taskQueues: rows.map(taskQueueView), ...token(continuationToken) };
  },

  async getTaskQueue({ ctx: { platform, seen }, params: { taskQueueId } }) {
    await seen.flush();
    const row = await getTaskQueueRow(platform.db, taskQueueId, platform.clock.now());
    return row ? taskQueueView(row) : notFound('Task queue {{taskQueueId}} not found', { taskQueueId });
  },
};
