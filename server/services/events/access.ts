/**
 * Whether a listener may still listen. A signature is checked once, when the connection is made; what stood behind it may be taken away while the
 * connection lasts. So auth is asked again now and then, about the same things that it checks itself: the client exists, is enabled and not expired, its
 * scopes still cover those of the certificate, and these those that the request was restricted to.
 */
import type { authApi } from '@tscluster/api/auth/api.ts';
import { ScopeSet } from '@tscluster/api/scopes.ts';
import { ApiCallError, type Client } from '@tscluster/client/client.ts';
import type { Clock } from '../../platform/clock.ts';
import type { HawkRequest } from '../../platform/caller.ts';

export const SCOPE = 'web:read-pulse';

/** Who listens; `key` is the same for connections about which the answer is the same. */
export interface Grantee {
  readonly key: string;
  /** The client whose access token is behind the credentials; undefined: nobody in particular. */
  readonly issuer: string | undefined;
  readonly certificateScopes: readonly string[] | undefined;
  readonly authorizedScopes: readonly string[] | undefined;
}

const ANONYMOUS: Grantee = { key: '', issuer: undefined, certificateScopes: undefined, authorizedScopes: undefined };

/** Reads the claims of a request that was authenticated already. */
export const granteeOf = ({ authorization, resource }: HawkRequest): Grantee => {
  const bewit = /[?&]bewit=([^&]+)/.exec(resource)?.[1];
  const [id, ext] =
    authorization === undefined
      ? (([bewitId, , , bewitExt]) => [bewitId, bewitExt])(
          Buffer.from(bewit ?? '', 'base64url')
            .toString()
            .split('\\'),
        )
      : ['id', 'ext'].map(name => new RegExp(`\\b${name}="([^"]*)"`).exec(authorization)?.[1]);
  if (!id) {
    return ANONYMOUS;
  }
  const { certificate, authorizedScopes } = (ext ? JSON.parse(Buffer.from(ext, 'base64').toString()) : {}) as {
    certificate?: { issuer?: string; scopes: readonly string[] } | null;
    authorizedScopes?: readonly string[] | null;
  };
  return {
    key: `${id}\\${ext ?? ''}`,
    issuer: certificate?.issuer ?? id,
    certificateScopes: certificate?.scopes,
    authorizedScopes: authorizedScopes ?? undefined,
  };
};

export type Auth = Pick<Client<typeof authApi>, 'client' | 'expandScopes'>;

/** Why not, as the code and message of a stream's `error`; undefined: it may. Throws when auth cannot be asked. */
export const whyRefused = async (
  auth: Auth,
  clock: Clock,
  { issuer, certificateScopes, authorizedScopes }: Grantee,
): Promise<{ readonly reason: 'AuthenticationFailed' | 'InsufficientScopes'; readonly message: string } | undefined> => {
  const expand = async (scopes: readonly string[]): Promise<readonly string[]> =>
    (await auth.expandScopes({ scopes: [...new Set(['assume:anonymous', ...scopes])] })).scopes;
  let scopes = await expand([]);
  if (issuer !== undefined) {
    const client = await auth.client({ clientId: issuer }).catch((error: unknown) => {
      if (error instanceof ApiCallError && error.statusCode === 404) {
        return undefined;
      }
      throw error;
    });
    if (!client || client.disabled || Date.parse(client.expires) < clock.nowMs()) {
      return { reason: 'AuthenticationFailed', message: `Client ${issuer} no longer exists, is disabled, or has expired.` };
    }
    let held: readonly string[] = client.expandedScopes;
    scopes = [...scopes, ...held];
    for (const restricted of [certificateScopes, authorizedScopes]) {
      if (restricted) {
        const set = new ScopeSet(held);
        if (!restricted.every(scope => set.has(scope))) {
          return { reason: 'AuthenticationFailed', message: `Client ${issuer} no longer has all scopes of these credentials.` };
        }
        scopes = await expand(restricted);
        held = scopes;
      }
    }
  }
  return new ScopeSet(scopes).has(SCOPE)
    ? undefined
    : { reason: 'InsufficientScopes', message: `Listening takes the scope ${SCOPE}, which this caller no longer has.` };
};
