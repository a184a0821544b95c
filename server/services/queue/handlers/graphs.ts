import type { schedulerApi } from '@tscluster/api/scheduler/api.ts';
import { notFound } from '../../../platform/errors.ts';
import { type Handlers, HttpReply } from '../../../platform/service.ts';
import type { Ctx } from '../ctx.ts';
import { SSE_HEADERS, followGroup } from '../graphs/follow.ts';
import { submitGraph } from '../graphs/submit.ts';
import { getGroup } from '../groups.db.ts';

export const graphHandlers: Handlers<typeof schedulerApi, Ctx> = {
  async submitGraph({ ctx, params: { taskGroupId }, bodyText, held, check }) {
    return submitGraph(ctx, { taskGroupId, bodyText, held: await held(), check, isDryRun: false });
  },

  async checkGraph({ ctx, params: { taskGroupId }, bodyText, held, check }) {
    return submitGraph(ctx, { taskGroupId, bodyText, held: await held(), check, isDryRun: true });
  },

  async followGroup({ ctx, params: { taskGroupId }, query, headers, caller, hawk, sourceIp, signal }) {
    const { db, clock, log, random } = ctx.platform;
    const group = (await getGroup(db, taskGroupId)) ?? notFound('There is no task group `{{taskGroupId}}`.', { taskGroupId });
    if (hawk().method === 'head') {
      return new HttpReply(200, SSE_HEADERS);
    }
    const { clientId, expires, hasCredentials } = await caller();
    const leave = ctx.followers.enter(hasCredentials ? `Client ${clientId}` : `Address ${sourceIp ?? 'unknown'}`);
    try {
      const body = await followGroup({
        db,
        clock,
        log,
        watches: ctx.groupWatches,
        group,
        lastId: [headers['last-event-id']].flat().at(-1) || query.lastEventId,
        isWhole: query.tasks === 'true',
        retryMs: 500 + Math.floor(random.float() * 1_000), // not all at once after a restart
        expires: hasCredentials ? expires : undefined,
        signal: signal(),
      });
      if (!body) {
        leave();
        return new HttpReply(204);
      }
      body.once('close', leave);
      return new HttpReply(200, SSE_HEADERS, body);
    } catch (error) {
      leave();
      throw error;
    }
  },
};
