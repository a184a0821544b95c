/** Who changed what: a platform table that any service writes in its own transaction. */
import type { Tx } from '../db/sql.ts';
import type { Clock } from './clock.ts';
import type { Log } from './log.ts';

export type AuditedEntity = 'client' | 'role' | 'secret' | 'hook' | 'worker-pool';
export type AuditAction = 'created' | 'updated' | 'deleted' | 'client enabled' | 'client disabled' | 'access token reset' | 'expired';

export interface AuditEntry {
  readonly entityType: AuditedEntity;
  readonly entityId: string;
  /** Who did it. */
  readonly clientId: string;
  readonly action: AuditAction;
}

/** Notes a change in the transaction that makes it, and in the log once it is certain. */
export const audit = async (
  tx: Tx,
  { clock, log }: { readonly clock: Clock; readonly log: Log },
  service: string,
  { entityType, entityId, clientId, action }: AuditEntry,
): Promise<void> => {
  await tx`
    insert into platform.audit (entity_type, entity_id, client_id, action, created)
    values (${entityType}, ${entityId}, ${clientId}, ${action}, ${clock.now()})`;
  tx.afterCommit(() => log.info({ service, entity: entityType, entityId, clientId, action }, 'audit-event'));
};
