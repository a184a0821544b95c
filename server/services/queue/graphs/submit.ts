/** Submitting a graph: check it, hold it against what is stored, store it; and again when it was overtaken. */
import type { SubmittedGraph } from '@tscluster/api/scheduler/api.ts';
import type { Held } from '../../../platform/authorize.ts';
import type { Validator } from '../../../platform/validate.ts';
import type { Ctx } from '../ctx.ts';
import { type CheckedGraph, checkGraph } from './check.ts';
import { type Plan, lookAt } from './look.ts';
import { Problems } from './problems.ts';
import { Outdated, groupExpiry, storeGraph } from './store.ts';

const MAX_TRIES = 20;

export interface Submission {
  readonly taskGroupId: string;
  readonly bodyText: string;
  readonly held: Held;
  readonly check: Validator['check'];
  readonly isDryRun: boolean;
}

/** Other requests have their turn between the parts of a large one. */
const pause = (): Promise<void> =>
  new Promise(resolve => {
    setImmediate(resolve);
  });

/** Creates the tasks of a graph that do not exist, all or none; refuses it with everything that is wrong. */
export const submitGraph = async (ctx: Ctx, { taskGroupId, bodyText, held, check, isDryRun }: Submission): Promise<SubmittedGraph> => {
  const { db, clock } = ctx.platform;
  const problems = new Problems(taskGroupId, held);
  const graph = await checkGraph({ taskGroupId, bodyText, held, check, config: ctx.config, nowMs: clock.nowMs(), problems, pause });
  for (let tries = 1; ; tries++) {
    const plan = await lookAt(db, taskGroupId, graph, problems, pause);
    problems.throwIfAny();
    if (isDryRun || plan.create.length === 0) {
      return describe(graph, plan, expiryOf(graph, plan), isDryRun);
    }
    try {
      return describe(graph, plan, await storeGraph(ctx, plan, pause), isDryRun);
    } catch (error) {
      if (!(error instanceof Outdated)) {
        throw error;
      }
      if (tries >= MAX_TRIES) {
        throw new Error(`Graph ${taskGroupId} was neither stored nor refused`, { cause: error });
      }
    }
  }
};

/** When the group will expire, or does. One that is gone before the last of its tasks would have lasted as long as they say. */
const expiryOf = (graph: CheckedGraph, { group, create }: Plan): Date =>
  groupExpiry(group?.expires, group || create.length > 0 ? create.map(({ task }) => task) : graph.tasks.flatMap(({ task }) => task ?? []));

const describe = (
  graph: CheckedGraph,
  { taskGroupId, schedulerId, group, create }: Plan,
  expires: Date,
  isDryRun: boolean,
): SubmittedGraph => ({
  taskGroupId,
  schedulerId,
  expires: expires.toISOString(),
  ...(group?.sealed ? { sealed: group.sealed.toISOString() } : {}),
  tasks: graph.tasks.length,
  dependencies: graph.dependencies,
  created: create.length,
  existing: graph.tasks.length - create.length,
  pending: create.filter(({ unmet }) => unmet === 0).length,
  isDryRun,
});
