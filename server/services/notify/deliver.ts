/**
 * Loops that send what is due, one per channel, so that a slow one holds up no other. Messages to one address go one after the other, in the order in
 * which they were asked for; different addresses at the same time.
 */
import type { TaskDefinition, TaskStatus } from '@tscluster/api/queue/tasks.ts';
import { ApiCallError } from '@tscluster/client/client.ts';
import { type Loop, loop } from '../../platform/loop.ts';
import { admit, digestOf, SKIPPED } from './admission.ts';
import { attempt, ATTEMPT_MS, conclude, type Content, LEASE_MS, noteFailure } from './attempt.ts';
import type { Channel } from './channels/channel.ts';
import type { NotifyCtx } from './context.ts';
import { setContent, takeDue, type TakenDelivery } from './deliveries.db.ts';
import { type GroupSummary, makeGroupContext, makeTaskContext } from './subjects.ts';

/** What a message is to be made from. */
export type Cause = { readonly kind: 'task'; readonly status: TaskStatus } | { readonly kind: 'group'; readonly summary: GroupSummary };

type TaskReader = (taskId: string) => Promise<TaskDefinition>;

/** Makes the message of a delivery. */
const compose = async (ctx: NotifyCtx, channel: Channel, delivery: TakenDelivery, readTask: TaskReader): Promise<unknown> => {
  const cause = JSON.parse(delivery.cause ?? '') as Cause;
  const { address, type } = delivery;
  if (cause.kind === 'group') {
    return channel.aboutGroup(makeGroupContext(ctx.rootUrl, cause.summary), address, type);
  }
  return channel.aboutTask(makeTaskContext(ctx, await readTask(cause.status.taskId), cause.status), address, type);
};

/** The message, made and admitted, or undefined when nothing is to be sent after all; both are noted. */
const prepare = async (ctx: NotifyCtx, channel: Channel, delivery: TakenDelivery, readTask: TaskReader): Promise<Content | undefined> => {
  if (delivery.content !== null) {
    return JSON.parse(delivery.content) as Content;
  }
  const message = await compose(ctx, channel, delivery, readTask);
  const { type, address } = delivery;
  const digest = digestOf(type, channel.identity(address, message));
  const admission = await ctx.db.tx(async tx => {
    const decided = await admit(tx, ctx, { type, address, digest });
    if (decided.skip !== undefined) {
      return { skip: decided.skip };
    }
    const content: Content = { message, limit: decided.limit };
    return { content, isOurs: await setContent(tx, delivery, { content, digest, subject: channel.subject(message) }) };
  });
  if ('skip' in admission) {
    await conclude(ctx, delivery, 'skipped', SKIPPED[admission.skip]);
    return undefined;
  }
  return admission.isOurs ? admission.content : undefined;
};

const handle = async (ctx: NotifyCtx, channel: Channel, delivery: TakenDelivery, readTask: TaskReader): Promise<void> => {
  let content: Content | undefined;
  try {
    content = await prepare(ctx, channel, delivery, readTask);
  } catch (error) {
    if (error instanceof ApiCallError && error.statusCode === 404) {
      await conclude(ctx, delivery, 'failed', 'The task does not exist any more.');
    } else {
      await noteFailure(ctx, delivery, error);
    }
    return;
  }
  if (content) {
    await attempt(ctx, delivery, content);
  }
};

/** The loop of a channel. */
export const deliverLoop = (channel: Channel): Loop<NotifyCtx> =>
  loop({
    name: `notify/${channel.name}`,
    everyMs: 5_000,
    batch: 50,
    run: async (ctx, limit) => {
      const now = ctx.clock.now();
      const untilMs = now.getTime() + LEASE_MS;
      const taken = await takeDue(ctx.db, channel.types, now, new Date(untilMs), limit);
      const tasks = new Map<string, Promise<TaskDefinition>>();
      const readTask: TaskReader = taskId => {
        const known = tasks.get(taskId) ?? ctx.queue.task({ taskId });
        tasks.set(taskId, known);
        return known;
      };
      const byAddress = Map.groupBy(taken, each => `${each.type} ${each.address}`);
      await Promise.all(
        [...byAddress.values()].map(async deliveries => {
          for (const delivery of deliveries) {
            // what cannot be tried before somebody else may take it is left to them
            if (ctx.clock.nowMs() + ATTEMPT_MS < untilMs) {
              await handle(ctx, channel, delivery, readTask);
            }
          }
        }),
      );
      return taken.length;
    },
  });
