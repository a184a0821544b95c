/** What auth does on its own: follow changes made elsewhere, and remove what has had its time. */
import { audit } from '../../platform/audit.ts';
import { loop } from '../../platform/loop.ts';
import { deleteHistory } from './audit-history.db.ts';
import { forgetChanges, recordChanges } from './changes.db.ts';
import { deleteExpiredClients } from './clients.db.ts';
import type { AuthContext } from './context.ts';

const HOUR_MS = 3600 * 1000;
/** A process that has not looked for longer starts afresh. */
const CHANGES_KEPT_MS = HOUR_MS;

/** Half the time within which a revoked client or role must be gone everywhere. */
export const followChanges = loop<AuthContext>({
  name: 'auth/follow-changes',
  everyMs: 500,
  batch: 1,
  everywhere: true,
  run: async ({ directory }) => {
    await directory.look();
    return 0;
  },
});

export const purgeExpiredClients = loop<AuthContext>({
  name: 'auth/purge-expired-clients',
  everyMs: HOUR_MS,
  batch: 100,
  run: async (ctx, limit) =>
    ctx.db.tx(async tx => {
      const now = ctx.clock.now();
      const deleted = await deleteExpiredClients(tx, now, limit);
      for (const clientId of deleted) {
        await audit(tx, ctx, 'auth', { entityType: 'client', entityId: clientId, action: 'expired', clientId: 'static/taskcluster/auth' });
      }
      if (deleted.length > 0) {
        const version = await recordChanges(tx, 'client', deleted, now);
        tx.afterCommit(() => {
          ctx.directory.clientsChanged(deleted, version);
          ctx.notifyOthers();
        });
      }
      return deleted.length;
    }),
});

export const purgeAuditHistory = loop<AuthContext>({
  name: 'auth/purge-audit-history',
  everyMs: HOUR_MS,
  batch: 1_000,
  run: ({ db, clock, auditRetentionMs }, limit) => deleteHistory(db, new Date(clock.nowMs() - auditRetentionMs), limit),
});

export const purgeChanges = loop<AuthContext>({
  name: 'auth/purge-changes',
  everyMs: HOUR_MS,
  batch: 1_000,
  run: ({ db, clock }, limit) => forgetChanges(db, new Date(clock.nowMs() - CHANGES_KEPT_MS), limit),
});
