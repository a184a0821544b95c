import type { queueApi } from '@tscluster/api/queue/api.ts';
import { inputError } from '../../../platform/errors.ts';
import type { Handlers } from '../../../platform/service.ts';
import { parseDateTime } from '../../../platform/validate.ts';
import type { Ctx } from '../ctx.ts';
import { explainTask } from '../explain/explain.ts';

const readMoment = (at: string | undefined): number | undefined => {
  if (at === undefined) {
    return undefined;
  }
  const ms = parseDateTime(at);
  return Number.isNaN(ms) ? inputError('`at` ({{at}}) is not a date and time, such as 2030-01-15T12:00:00Z.', { at }) : ms;
};

export const explainHandlers: Pick<Handlers<typeof queueApi, Ctx>, 'explainTask'> = {
  async explainTask({ ctx, params: { taskId }, query, caller }) {
    return explainTask(ctx, taskId, await caller(), readMoment(query.at));
  },
};
