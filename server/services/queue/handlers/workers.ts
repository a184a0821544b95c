/** Workers: who was seen, what they did last, and who gets no tasks. */
import type { queueApi } from '@tscluster/api/queue/api.ts';
import { param, TASK_QUEUE_ID_PATTERN } from '@tscluster/api/types.ts';
import { inputError, notFound } from '../../../platform/errors.ts';
import { makePage, readPage } from '../../../platform/page.ts';
import type { Handlers } from '../../../platform/service.ts';
import { parseDateTime } from '../../../platform/validate.ts';
import { noteQuarantine } from '../explain/history.db.ts';
import { splitTaskQueueId } from '../rules.ts';
import { upsertTaskQueues } from '../task-queues.db.ts';
import { declareWorkerRow, getWorkerRow, listWorkerRows, setQuarantine, type WorkerKey, type WorkerRow } from '../workers.db.ts';
import type { Ctx } from '../ctx.ts';

type Names = 'listWorkers' | 'getWorker' | 'quarantineWorker' | 'declareWorker';

const DAY_MS = 24 * 3_600_000;

interface WorkerParams {
  readonly provisionerId: string;
  readonly workerType: string;
  readonly workerGroup: string;
  readonly workerId: string;
}
const keyOf = ({ provisionerId, workerType, workerGroup, workerId }: WorkerParams): WorkerKey => ({
  taskQueueId: `${provisionerId}/${workerType}`,
  workerGroup,
  workerId,
});

const taskRun = (text: string) => {
  const at = text.indexOf('/');
  return { taskId: text.slice(0, at), runId: Number(text.slice(at + 1)) };
};

const workerView = (row: WorkerRow) => ({
  ...splitTaskQueueId(row.taskQueueId),
  taskQueueId: row.taskQueueId,
  workerGroup: row.workerGroup,
  workerId: row.workerId,
  quarantineUntil: row.quarantineUntil.toISOString(),
  expires: row.expires.toISOString(),
  firstClaim: row.firstClaim.toISOString(),
  recentTasks: row.recentTasks.map(taskRun),
  lastDateActive: row.lastDateActive.toISOString(),
});

const listedView = (row: WorkerRow, now: Date) => {
  const latest = row.recentTasks.at(-1);
  return {
    workerGroup: row.workerGroup,
    workerId: row.workerId,
    firstClaim: row.firstClaim.toISOString(),
    lastDateActive: row.lastDateActive.toISOString(),
    ...(latest === undefined ? {} : { latestTask: taskRun(latest) }),
    ...(row.quarantineUntil > now ? { quarantineUntil: row.quarantineUntil.toISOString() } : {}),
  };
};

const missingWorker = (key: WorkerKey): never =>
  notFound('Worker {{workerGroup}}/{{workerId}} of task queue {{taskQueueId}} not found', { ...key });

/** What the answer's schema and every list of task queues rely on; the URL's own pattern is looser. */
const checkTaskQueueId = (taskQueueId: string): void => {
  if (!param.taskQueueId.test(taskQueueId)) {
    inputError('`{{taskQueueId}}` is not a task queue id: it must match {{pattern}}.', { taskQueueId, pattern: TASK_QUEUE_ID_PATTERN });
  }
};

export const workerHandlers: Pick<Handlers<typeof queueApi, Ctx>, Names> = {
  async listWorkers({ ctx: { platform, seen }, params: { provisionerId, workerType }, query }) {
    const { limit, after } = readPage(query, ['string', 'string']);
    const now = platform.clock.now();
    const quarantined = query.quarantined === undefined ? undefined : query.quarantined === 'true';
    await seen.flush();
    const all = await listWorkerRows(platform.db, `${provisionerId}/${workerType}`, { now, quarantined, after, limit: limit + 1 });
    const { rows, continuationToken } = makePage(all, limit, row => [row.workerGroup, row.workerId]);
    return { workers: rows.map(row => listedView(row, now)), ...(continuationToken === undefined ? {} : { continuationToken }) };
  },

  async getWorker({ ctx: { platform, seen }, params }) {
    const key = keyOf(params);
    await seen.flush();
    return workerView((await getWorkerRow(platform.db, key, platform.clock.now())) ?? missingWorker(key));
  },

  async quarantineWorker({ ctx: { platform, seen, config }, params, body, caller }) {
    const { db, clock } = platform;
    const key = keyOf(params);
    const now = clock.now();
    const { clientId } = await caller();
    const until = new Date(parseDateTime(body.quarantineUntil));
    const change = {
      clientId,
      updatedAt: now.toISOString(),
      quarantineUntil: until.toISOString(),
      quarantineInfo: body.quarantineInfo ?? '[unspecified]',
    };
    await seen.flush();
    const row = await db.tx(async tx => {
      const known = (await getWorkerRow(tx, key, now)) && (await setQuarantine(tx, key, until, change, new Date(now.getTime() + DAY_MS)));
      if (!known) {
        return undefined;
      }
      await noteQuarantine(tx, key, until, now, config.historyMs);
      return getWorkerRow(tx, key, now);
    });
    if (!row) {
      return missingWorker(key);
    }
    seen.quarantineChanged(key, until);
    return workerView(row);
  },

  async declareWorker({ ctx: { platform, seen }, params, body, authorize }) {
    const { db, clock } = platform;
    await authorize({ ...params, properties: Object.keys(body) });
    const key = keyOf(params);
    checkTaskQueueId(key.taskQueueId);
    const [now, expires] = [clock.now(), new Date(parseDateTime(body.expires))];
    await seen.flush();
    const row = await db.tx(async tx => {
      await upsertTaskQueues(tx, [{ taskQueueId: key.taskQueueId, expiresMs: expires.getTime() }], now);
      await declareWorkerRow(tx, key, now, expires);
      return getWorkerRow(tx, key, new Date(0));
    });
    return workerView(row ?? missingWorker(key));
  },
};
