import type { schedulerApi } from '@tscluster/api/scheduler/api.ts';
import type { Handlers } from '../../../platform/service.ts';
import type { Ctx } from '../ctx.ts';
import { submitGraph } from '../graphs/submit.ts';

export const graphHandlers: Handlers<typeof schedulerApi, Ctx> = {
  async submitGraph({ ctx, params: { taskGroupId }, bodyText, held, check }) {
    return submitGraph(ctx, { taskGroupId, bodyText, held: await held(), check, isDryRun: false });
  },

  async checkGraph({ ctx, params: { taskGroupId }, bodyText, held, check }) {
    return submitGraph(ctx, { taskGroupId, bodyText, held: await held(), check, isDryRun: true });
  },
};
