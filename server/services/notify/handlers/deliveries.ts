/** What became of messages. */
import type { notifyApi } from '@tscluster/api/notify/api.ts';
import type { Delivery, NotificationType } from '@tscluster/api/notify/deliveries.ts';
import { makePage, type PageQuery, readPage } from '../../../platform/page.ts';
import type { Handlers } from '../../../platform/service.ts';
import type { NotifyCtx } from '../context.ts';
import { type DeliveryFilter, type DeliveryRow, listDeliveries } from '../deliveries.db.ts';

const view = (row: DeliveryRow): Delivery => ({
  deliveryId: row.deliveryId,
  notificationType: row.type,
  notificationAddress: row.address,
  state: row.state,
  ...(row.reason === null ? {} : { reason: row.reason }),
  ...(row.subject === null ? {} : { subject: row.subject }),
  ...(row.clientId === null ? {} : { clientId: row.clientId }),
  ...(row.route === null ? {} : { route: row.route }),
  ...(row.taskId === null ? {} : { taskId: row.taskId }),
  ...(row.taskGroupId === null ? {} : { taskGroupId: row.taskGroupId }),
  attempts: row.attempts,
  created: row.created.toISOString(),
  ...(row.due === null ? {} : { nextAttempt: row.due.toISOString() }),
  ...(row.resolved === null ? {} : { resolved: row.resolved.toISOString() }),
});

const page = async (
  ctx: NotifyCtx,
  query: PageQuery,
  filter: DeliveryFilter,
): Promise<{ deliveries: Delivery[]; continuationToken?: string }> => {
  const { limit, after } = readPage(query, ['number'], { foreignToken: 'refuse' });
  const { rows, ...next } = makePage(await listDeliveries(ctx.db, filter, after?.[0], limit + 1), limit, row => [row.id]);
  return { deliveries: rows.map(view), ...next };
};

type DeliveryHandlers = Pick<
  Handlers<typeof notifyApi, NotifyCtx>,
  'listTaskDeliveries' | 'listTaskGroupDeliveries' | 'listAddressDeliveries'
>;

export const deliveryHandlers: DeliveryHandlers = {
  listTaskDeliveries: ({ ctx, params: { taskId }, query }) => page(ctx, query, { taskId }),
  listTaskGroupDeliveries: ({ ctx, params: { taskGroupId }, query }) => page(ctx, query, { taskGroupId }),
  listAddressDeliveries: ({ ctx, params: { notificationType, notificationAddress }, query }) =>
    page(ctx, query, { type: notificationType as NotificationType, address: notificationAddress }),
};
