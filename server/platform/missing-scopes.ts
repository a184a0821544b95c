/**
 * What a caller is told whose scopes do not suffice: in words, and as data in the error's `details`. It is told of scopes what it asked for, and of
 * itself what it may know: which roles it has, if it may read its own scopes or those roles.
 */
import { authApi } from '@tscluster/api/auth/api.ts';
import { type ScopeExpression, ScopeSet, missingScopes, renderTemplate, smallestMissing } from '@tscluster/api/scopes.ts';
import type { Caller, HawkRequest } from './caller.ts';

/** `details` of an `InsufficientScopes` error. */
export interface MissingScopes {
  /** The fewest scopes that would do. Absent when no scopes would. */
  readonly missingScopes?: readonly string[];
  /** Other sets of as few scopes that would do as well. */
  readonly alternatives?: readonly (readonly string[])[];
  /** Where they could be granted: to the client itself, if its credentials are not limited, or to a role that it has. */
  readonly grantTo?: { readonly clientId?: string; readonly roleIds: readonly string[] };
  /** The credentials carry a list of scopes of their own, which a grant to their client does not lengthen. */
  readonly limitedBy?: Limit;
}

export type Limit = 'certificate' | 'authorizedScopes';

const MAX_ROLES = 20;
const MAX_LISTED = 10;
const ASSUME = 'assume:';

/** What limits a request's credentials to less than their client's scopes, by its `ext`; that it is genuine was checked before. */
export const limitOf = ({ authorization, resource }: Pick<HawkRequest, 'authorization' | 'resource'>): Limit | undefined => {
  const text = authorization === undefined ? extOfBewit(resource) : /\bext="([^"]*)"/.exec(authorization)?.[1];
  if (!text) {
    return undefined;
  }
  try {
    const ext = JSON.parse(Buffer.from(text, 'base64').toString('utf8')) as Record<string, unknown> | null;
    return ext?.['authorizedScopes'] !== undefined ? 'authorizedScopes' : ext?.['certificate'] === undefined ? undefined : 'certificate';
  } catch {
    return undefined;
  }
};

const extOfBewit = (resource: string): string | undefined => {
  const bewit = /[?&]bewit=([^&]*)/.exec(resource)?.[1];
  return bewit === undefined ? undefined : Buffer.from(bewit, 'base64url').toString('latin1').split('\\')[3];
};

/** Roles that a grant to would reach the caller, as far as it may know them. Nothing is ever to be granted to everybody. */
const rolesOf = ({ scopes }: Caller): string[] => {
  const held = new ScopeSet(scopes);
  const knowsItself = held.has(authApi.methods.currentScopes.scopes) || held.has(authApi.methods.listRoles.scopes);
  const mayRead = (roleId: string): boolean => held.has(String(renderTemplate(authApi.methods.role.scopes, { roleId })));
  return held.scopes
    .filter(scope => scope.startsWith(ASSUME) && !scope.endsWith('*'))
    .map(scope => scope.slice(ASSUME.length))
    .filter(roleId => roleId !== 'anonymous' && roleId !== '' && (knowsItself || mayRead(roleId)))
    .slice(0, MAX_ROLES);
};

/** For programs. `preferred` is the expression with its alternatives in the order in which they should be proposed. */
export const describeMissing = (caller: Caller, preferred: ScopeExpression, limitedBy: Limit | undefined): MissingScopes => {
  const [missing, ...alternatives] = smallestMissing(caller.scopes, preferred);
  const granting =
    caller.hasCredentials && missing ? { grantTo: { ...(limitedBy ? {} : { clientId: caller.clientId }), roleIds: rolesOf(caller) } } : {};
  return {
    ...(missing ? { missingScopes: missing } : {}),
    ...(alternatives.length > 0 ? { alternatives } : {}),
    ...granting,
    ...(limitedBy && caller.hasCredentials ? { limitedBy } : {}),
  };
};

const fence = (expression: ScopeExpression): string =>
  ['```', typeof expression === 'string' ? expression : JSON.stringify(expression, null, 2), '```'].join('\n');

const listed = (words: readonly string[]): string => {
  const shown = words.slice(0, MAX_LISTED).map(word => `\`${word}\``);
  return words.length > MAX_LISTED ? `${shown.join(', ')} and ${words.length - MAX_LISTED} more` : shown.join(', ');
};

const LIMITS = {
  certificate: 'The credentials are temporary: what they may do was said when they were made.',
  authorizedScopes: 'The request is limited to its `authorizedScopes`.',
} as const;

/** For people: what the protocol has, and a last paragraph on how to get it. */
export const missingText = (caller: Caller, required: ScopeExpression, details: MissingScopes): string => {
  if (!caller.hasCredentials) {
    return ['This request requires Taskcluster credentials that satisfy the following scope expression:', fence(required)].join('\n\n');
  }
  return [
    `Client ID ${caller.clientId} does not have sufficient scopes and is missing the following scopes:`,
    fence(missingScopes(caller.scopes, required) ?? required),
    'This request requires the client to satisfy the following scope expression:',
    fence(required),
    ...howToGet(details),
  ].join('\n\n');
};

/** For people: how missing scopes are got. */
export const howToGet = ({ missingScopes: missing, grantTo, limitedBy }: MissingScopes): string[] => {
  if (!missing || !grantTo) {
    return ['No scopes would do.'];
  }
  const { clientId, roleIds } = grantTo;
  const roles = roleIds.length > 0 ? `${roleIds.length === 1 ? 'the role' : 'one of the roles'} ${listed(roleIds)}` : undefined;
  const places = [clientId === undefined ? undefined : `the client \`${clientId}\``, roles].filter(place => place !== undefined);
  const where = places.length > 0 ? ` It can be granted to ${places.join(', or to ')}.` : '';
  return [`The least that would do is ${listed(missing)}.${where}${limitedBy ? ` ${LIMITS[limitedBy]}` : ''}`];
};
