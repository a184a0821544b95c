/** Who changed what: a platform table that any service writes in its own transaction. */
import type { Tx } from '../db/sql.ts';

export type AuditedEntity = 'client' | 'role' | 'secret' | 'hook' | 'worker-pool';
export type AuditAction = 'created' | 'updated' | 'deleted' | 'client enabled' | 'client disabled' | 'access token reset' | 'expired';

export interface AuditEntry {
  readonly entityType: AuditedEntity;
  readonly entityId: string;
  /** Who did it. */
  readonly clientId: string;
  readonly action: AuditAction;
}

/** Notes a change in the transaction that makes it. */
export const writeAudit = async (tx: Tx, entry: AuditEntry, now: Date): Promise<void> => {
  await tx`
    insert into platform.audit (entity_type, entity_id, client_id, action, created)
    values (${entry.entityType}, ${entry.entityId}, ${entry.clientId}, ${entry.action}, ${now})`;
};
