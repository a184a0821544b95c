/** What the handlers and loops of auth share. */
import type { AuditAction, AuditedEntity } from '../../platform/audit.ts';
import { writeAudit } from '../../platform/audit.ts';
import type { authApi } from '@tscluster/api/auth/api.ts';
import type { Tx } from '../../db/sql.ts';
import type { Handlers, Platform } from '../../platform/service.ts';
import type { Authenticator } from '../../platform/caller.ts';
import { inputError } from '../../platform/errors.ts';
import type { Directory } from './directory.ts';
import { ExpansionError } from './expansion.ts';
import type { CompiledRoles } from './expansion.ts';

export interface AuthContext extends Pick<Platform, 'db' | 'clock' | 'random' | 'keyring' | 'log'> {
  readonly directory: Directory;
  readonly authenticator: Authenticator;
  /** Tells other processes that clients or roles have changed. */
  readonly notifyOthers: () => void;
  /** Absent: not configured. */
  readonly websocktunnelSecret: string | undefined;
  readonly auditRetentionMs: number;
}

export type AuthHandlers = Handlers<typeof authApi, AuthContext>;

/** Notes in the history who did what, and in the log once it is certain. */
export const audit = async (
  tx: Tx,
  ctx: AuthContext,
  entry: { entityType: AuditedEntity; entityId: string; action: AuditAction; clientId: string },
): Promise<void> => {
  await writeAudit(tx, entry, ctx.clock.now());
  tx.afterCommit(() =>
    ctx.log.info(
      { service: 'auth', entity: entry.entityType, entityId: entry.entityId, clientId: entry.clientId, action: entry.action },
      'audit-event',
    ),
  );
};

/** Refuses scopes that clients and roles may not be given. */
export const refuseDoubleStars = (scopes: readonly string[]): void => {
  if (scopes.some(scope => scope.endsWith('**'))) {
    inputError('scopes must not end with `**`');
  }
};

/** Expands scopes; too many of them are the caller's mistake. */
export const expandFor = (roles: CompiledRoles, scopes: readonly string[]): string[] => {
  try {
    return [...roles.expand(scopes)];
  } catch (error) {
    if (error instanceof ExpansionError) {
      inputError('{{problem}}', { problem: error.message });
    }
    throw error;
  }
};
