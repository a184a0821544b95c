/** The history that every service writes of clients, roles, secrets, hooks and worker pools. */
import type { AuditEntry } from '@tscluster/api/auth/clients.ts';
import { makePage, readPage } from '../../../platform/page.ts';
import { listClientHistory, listEntityHistory } from '../audit-history.db.ts';
import type { HistoryRow } from '../audit-history.db.ts';
import type { AuthHandlers } from '../context.ts';

const historyPage = (rows: HistoryRow[], limit: number): { auditHistory: AuditEntry[]; continuationToken?: string } => {
  const page = makePage(rows, limit, row => [row.id]);
  return {
    auditHistory: page.rows.map(({ clientId, action, created, entityId, entityType }) => ({
      clientId,
      actionType: action,
      created: created.toISOString(),
      entityId,
      entityType,
    })),
    ...(page.continuationToken !== undefined && { continuationToken: page.continuationToken }),
  };
};

export const auditHandlers: Pick<AuthHandlers, 'getEntityHistory' | 'listAuditHistory'> = {
  async getEntityHistory({ ctx, params: { entityType, entityId }, query }) {
    const { limit, after } = readPage(query, ['number']);
    return historyPage(await listEntityHistory(ctx.db, { entityType, entityId, after: after?.[0], limit: limit + 1 }), limit);
  },

  async listAuditHistory({ ctx, params: { clientId }, query }) {
    const { limit, after } = readPage(query, ['number']);
    return historyPage(await listClientHistory(ctx.db, { clientId, after: after?.[0], limit: limit + 1 }), limit);
  },
};
