/** Events that are not part of a hot statement: repeats, and changes of single tasks and groups. */
import type { Exchange } from '@tscluster/api/define.ts';
import { exchangeName } from '@tscluster/api/define.ts';
import { queueEvents } from '@tscluster/api/queue/events.ts';
import type { TaskStatus } from '@tscluster/api/queue/tasks.ts';
import type { Tx } from '../../db/sql.ts';
import { buildRoutingKey } from '@tscluster/api/routing-key.ts';
import { type OutboxEvent, publishAll } from '../../platform/events.ts';
import type { GroupRow } from './groups.db.ts';
import { groupView } from './groups.db.ts';
import { splitTaskQueueId } from './rules.ts';
import type { TaskRow } from './tasks.db.ts';

type ExchangeName = keyof (typeof queueEvents)['exchanges'];

export interface AboutRun {
  readonly runId?: number | undefined;
  readonly workerGroup?: string | undefined;
  readonly workerId?: string | undefined;
}

/** Fields that are undefined are left out of the payload, as the protocol wants it. */
const event = (
  name: ExchangeName,
  key: Record<string, string | number | undefined>,
  cc: readonly string[],
  payload: object,
): OutboxEvent => {
  const exchange: Exchange = queueEvents.exchanges[name];
  return {
    exchange: exchangeName(queueEvents, exchange.exchange),
    routingKey: buildRoutingKey(exchange, key),
    cc,
    payload: { ...payload, version: 1 },
  };
};

/** An event about a task. The run and the worker are named in the routing key and in the payload, as far as they are given. */
export const taskEvent = (
  name: ExchangeName,
  task: Pick<TaskRow, 'taskId' | 'taskQueueId' | 'schedulerId' | 'taskGroupId' | 'tags' | 'cc'>,
  status: TaskStatus,
  about: AboutRun = {},
  more: object = { task: { tags: JSON.parse(task.tags) as Record<string, string> } },
): OutboxEvent =>
  event(
    name,
    {
      ...splitTaskQueueId(task.taskQueueId),
      taskId: task.taskId,
      schedulerId: task.schedulerId,
      taskGroupId: task.taskGroupId,
      ...about,
    },
    JSON.parse(task.cc) as string[],
    { status, ...about, ...more },
  );

/** An event about a group. */
export const groupEvent = (
  name: 'taskGroupResolved' | 'taskGroupSealed' | 'taskGroupPriorityChanged',
  group: GroupRow,
  payload: object = groupView(group),
): OutboxEvent => event(name, { taskGroupId: group.taskGroupId, schedulerId: group.schedulerId }, [], payload);

/** Announces in the order given. */
export const announce = (tx: Tx, events: readonly OutboxEvent[]): Promise<void> => publishAll(tx, events);
