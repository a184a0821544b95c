/** What the handlers and loops of auth share. */
import type { authApi } from '@tscluster/api/auth/api.ts';
import { normalizeScopes } from '@tscluster/api/scopes.ts';
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

/** Refuses scopes that clients and roles may not be given. */
export const refuseDoubleStars = (scopes: readonly string[]): void => {
  if (scopes.some(scope => scope.endsWith('**'))) {
    inputError('scopes must not end with `**`');
  }
};

/** Ids stand in indexes, whose entries are limited; far below, a person can still read them. */
const MAX_ID_LENGTH = 2_000;

/** Refuses ids of clients and roles that could not be stored. */
export const refuseLongId = (name: 'clientId' | 'roleId', id: string): void => {
  if (id.length > MAX_ID_LENGTH) {
    inputError(`${name} has {{length}} characters; at most ${MAX_ID_LENGTH} are allowed`, { length: id.length });
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

/**
 * Expands scopes to show them. When roles have come to multiply beyond all bounds, the scopes themselves are shown: one such client or role must not
 * make whole lists unreadable, nor itself impossible to disable.
 */
export const expandToShow = (roles: CompiledRoles, scopes: readonly string[]): string[] => {
  try {
    return [...roles.expand(scopes)];
  } catch (error) {
    if (error instanceof ExpansionError) {
      return normalizeScopes(scopes);
    }
    throw error;
  }
};
