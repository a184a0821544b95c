import type { queueApi } from '@tscluster/api/queue/api.ts';
import type { Caller } from '../../../platform/caller.ts';
import { inputError } from '../../../platform/errors.ts';
import { makePage, readPage } from '../../../platform/page.ts';
import { type Handlers, RawJson } from '../../../platform/service.ts';
import { createTask } from '../creation.ts';
import type { Ctx } from '../ctx.ts';
import { checkScopes, checkTimes, definitionText, makeTask, resolveTaskQueueId } from '../definition.ts';
import { MAX_LISTED, rerunDownstream } from '../downstream.ts';
import { listDependents } from '../groups.db.ts';
import { prioritiesFrom, priorityName, splitTaskQueueId } from '../rules.ts';
import { type DefinitionRow, type StatusRow, type TaskRow, definitionsStatement, statusesStatement } from '../tasks.db.ts';
import { cancelTask, changePriority, requireTask, rerunTask, scheduleTask, unknownTask } from '../transitions.ts';

type TaskMethods =
  | 'task'
  | 'tasks'
  | 'status'
  | 'statuses'
  | 'createTask'
  | 'scheduleTask'
  | 'rerunTask'
  | 'rerunDownstream'
  | 'cancelTask'
  | 'changeTaskPriority'
  | 'listDependentTasks';

const statusAnswer = (status: string): RawJson => new RawJson(`{"status":${status}}`);

/** Who changes a single task. */
const by = async (caller: () => Promise<Caller>) => ({ clientId: (await caller()).clientId, ofGroup: false });

/** What the scopes for controlling a task are made of. */
const control = ({ taskId, taskGroupId, schedulerId, projectId }: TaskRow) => ({ taskId, taskGroupId, schedulerId, projectId });

/** `{"<key>":[…],"continuationToken":…}` of texts. */
export const listText = (key: string, texts: readonly string[], continuationToken: string | undefined, before = ''): RawJson =>
  new RawJson(
    `{${before}"${key}":[${texts.join(',')}]${continuationToken === undefined ? '' : `,"continuationToken":${JSON.stringify(continuationToken)}`}}`,
  );

/** A page of the ids that a caller listed: distinct, in their own order. */
const pageOfIds = (taskIds: readonly string[], query: { continuationToken?: string | undefined; limit?: string | undefined }) => {
  const { limit, after } = readPage(query, ['string']);
  const ids = [...new Set(taskIds)].sort();
  const rest = after === undefined ? ids : ids.filter(id => id > after[0]);
  return makePage(rest.slice(0, limit + 1), limit, id => [id]);
};

export const taskHandlers: Pick<Handlers<typeof queueApi, Ctx>, TaskMethods> = {
  async createTask({ ctx, params: { taskId }, body, authorize }) {
    const taskQueueId = resolveTaskQueueId(body);
    const { maxDependencies } = ctx.config;
    if (body.dependencies.length > maxDependencies) {
      inputError(
        'The task has {{count}} dependencies; at most {{maxDependencies}} are allowed. Put a task in between that depends on a part of them.',
        {
          count: body.dependencies.length,
          maxDependencies,
        },
      );
    }
    await authorize({
      scopes: body.scopes,
      routes: body.routes,
      projectId: body.projectId,
      schedulerId: body.schedulerId,
      priorities: prioritiesFrom(body.priority),
      ...splitTaskQueueId(taskQueueId),
    });
    const times = checkTimes(body, ctx.platform.clock.nowMs(), ctx.config);
    checkScopes(body.scopes);
    return statusAnswer(await createTask(ctx, makeTask(taskId, body, taskQueueId, times)));
  },

  async task({ ctx, params: { taskId } }) {
    const row = (await ctx.reader.definition(taskId)) ?? unknownTask(taskId);
    return new RawJson(definitionText(priorityName(row.priority), row.definition));
  },

  async status({ ctx, params: { taskId } }) {
    return statusAnswer((await ctx.reader.status(taskId)) ?? unknownTask(taskId));
  },

  async tasks({ ctx, body: { taskIds }, query, authorize }) {
    await authorize({ taskIds });
    const page = pageOfIds(taskIds, query);
    const { rows } = await ctx.platform.db.run<DefinitionRow>(definitionsStatement(page.rows));
    const texts = rows.map(row => `{"taskId":"${row.taskId}","task":${definitionText(priorityName(row.priority), row.definition)}}`);
    return listText('tasks', texts, page.continuationToken);
  },

  async statuses({ ctx, body: { taskIds }, query, authorize }) {
    await authorize({ taskIds });
    const page = pageOfIds(taskIds, query);
    const { rows } = await ctx.platform.db.run<StatusRow>(statusesStatement(page.rows));
    const texts = rows.map(row => `{"taskId":"${row.taskId}","status":${row.status}}`);
    return listText('statuses', texts, page.continuationToken);
  },

  async scheduleTask({ ctx, params: { taskId }, authorize, caller }) {
    await authorize(control(await requireTask(ctx, taskId)));
    return statusAnswer(await scheduleTask(ctx, taskId, await by(caller)));
  },

  async rerunTask({ ctx, params: { taskId }, authorize, caller }) {
    await authorize(control(await requireTask(ctx, taskId)));
    return statusAnswer(await rerunTask(ctx, taskId, await by(caller)));
  },

  async rerunDownstream({ ctx, params: { taskId }, caller, held }) {
    await requireTask(ctx, taskId);
    const { status, waiting, late } = await rerunDownstream(ctx, taskId, await held(), await by(caller));
    const lists = {
      waiting: waiting.length,
      taskIds: waiting.slice(0, MAX_LISTED),
      late: late.length,
      lateTaskIds: late.slice(0, MAX_LISTED),
    };
    return new RawJson(`{"status":${status},${JSON.stringify(lists).slice(1)}`);
  },

  async cancelTask({ ctx, params: { taskId }, authorize, caller }) {
    await authorize(control(await requireTask(ctx, taskId)));
    return statusAnswer(await cancelTask(ctx, taskId, await by(caller)));
  },

  async changeTaskPriority({ ctx, params: { taskId }, body: { newPriority }, authorize, caller }) {
    const { taskQueueId } = await requireTask(ctx, taskId);
    await authorize({ taskId, taskQueueId });
    return statusAnswer(await changePriority(ctx, taskId, newPriority, await by(caller)));
  },

  async listDependentTasks({ ctx, params: { taskId }, query }) {
    await requireTask(ctx, taskId);
    const { limit, after } = readPage(query, ['string']);
    const listed = await listDependents(ctx.platform.db, taskId, after?.[0] ?? '', limit + 1, ctx.platform.clock.now());
    const page = makePage(listed, limit, row => [row.taskId]);
    const texts = page.rows.map(row => row.text);
    return listText('tasks', texts, page.continuationToken, `"taskId":"${taskId}",`);
  },
};
