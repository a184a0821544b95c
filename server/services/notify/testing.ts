/** For tests of notifications: the service with its loops in hand, beside a queue with tasks whose routes ask for them. */
import { notifyApi } from '@tscluster/api/notify/api.ts';
import type { Delivery } from '@tscluster/api/notify/deliveries.ts';
import { queueApi } from '@tscluster/api/queue/api.ts';
import type { MethodInput } from '@tscluster/api/define.ts';
import type { Client } from '@tscluster/client/client.ts';
import { slugid } from '@tscluster/client/clock.ts';
import { seededRandom, type TestServer, type WithServerOptions, withServer } from '../../testing/server.ts';
import { queueService } from '../queue/service.ts';
import type { NotifyCtx } from './context.ts';
import { deliverLoop } from './deliver.ts';
import { resolvedGroups, stalledGroups } from './groups.ts';
import { notifyService } from './service.ts';

type NewTask = MethodInput<(typeof queueApi)['methods']['createTask']>;
export type Outcome = 'completed' | 'failed' | 'malformed-payload' | 'worker-shutdown';

export interface NotifyServer extends TestServer {
  readonly notify: Client<typeof notifyApi>;
  readonly queue: Client<typeof queueApi>;
  readonly ctx: NotifyCtx;
  readonly newId: () => string;
  /** Creates a task with these routes. */
  create(routes: readonly string[], fields?: Partial<NewTask>): Promise<string>;
  /** Claims the last run of a task and ends it so. */
  run(taskId: string, outcome: Outcome, runId?: number): Promise<void>;
  /** Hands out all events, then sends everything that is due. */
  deliver(): Promise<void>;
  /** Hands out all events, looks at groups, and sends everything that is due. */
  announce(): Promise<void>;
  /** What became of the messages about a task, the oldest first. */
  deliveriesOf(taskId: string): Promise<Delivery[]>;
}

let seed = 7_000;

export const withNotify = async (options: WithServerOptions = {}): Promise<NotifyServer> => {
  const server = await withServer([queueService, notifyService], options);
  const ctx = server.server.services.get('notify')?.apis?.[0]?.ctx as NotifyCtx;
  const queue = server.client(queueApi);
  const notify = server.client(notifyApi);
  const random = seededRandom(seed++);
  const newId = (): string => slugid(random);
  const deliver = async (): Promise<void> => {
    await server.drain();
    for (const { channel } of ctx.channels) {
      while ((await deliverLoop(channel).run(ctx, 10)) > 0) {
        // until nothing is due
      }
    }
    await server.drain();
  };
  return {
    ...server,
    notify,
    queue,
    ctx,
    newId,
    create: async (routes, fields = {}) => {
      const taskId = newId();
      await queue.createTask(
        { taskId },
        {
          taskQueueId: 'prov/wt',
          created: new Date(server.clock.nowMs()).toISOString(),
          deadline: new Date(server.clock.nowMs() + 3_600_000).toISOString(),
          payload: {},
          metadata: { name: 'build *it*', description: 'd', owner: 'o@example.com', source: 'https://src.example' },
          routes: [...routes],
          ...fields,
        },
      );
      return taskId;
    },
    run: async (taskId, outcome, runId = 0) => {
      const run = { taskId, runId: String(runId) };
      await queue.claimTask(run, { workerGroup: 'g', workerId: 'w' });
      await server.drain();
      if (outcome === 'completed') {
        await queue.reportCompleted(run);
      } else if (outcome === 'failed') {
        await queue.reportFailed(run);
      } else {
        await queue.reportException(run, { reason: outcome });
      }
    },
    deliver,
    announce: async () => {
      await server.drain();
      for (const loop of [resolvedGroups, stalledGroups]) {
        while ((await loop.run(ctx, 10)) > 0) {
          // until nothing is due
        }
      }
      await deliver();
    },
    deliveriesOf: async taskId => (await notify.listTaskDeliveries({ taskId })).deliveries.toReversed(),
  };
};
