/**
 * Answers who signed a request and what they may do (protocol: "authenticateHawk"). Every call to every service passes here, so what follows from the
 * same client id and `ext` is remembered: the certificate's checks, the key, the expanded scopes. Then a warm call costs parsing a header and one HMAC.
 *
 * A remembered answer holds while the issuing client and the roles are the very same objects as when it was made (whoever changes them replaces them),
 * and until the moment the client expires or the certificate is no longer accepted. Only successes are remembered, and never a mac.
 */
import { ScopeSet } from '@tscluster/api/scopes.ts';
import type { Authenticator, AuthResult, HawkRequest } from '../../platform/caller.ts';
import { issuerOf, parseExt, verifyAuthorizedScopes, verifyCertificate } from './certificate.ts';
import { ExpansionError } from './expansion.ts';
import { AuthenticationError, hasBewit, parseBewit, parseHeader, verifyClaim } from './hawk.ts';
import type { FailureReason, HawkClaim } from './hawk.ts';

const NO_AUTH_LIFETIME_MS = 15 * 60 * 1000;
const ANONYMOUS: readonly string[] = ['assume:anonymous'];
/** Entries of each of the two generations of remembered answers, and how many scopes those of one generation may hold. */
const GENERATION_ENTRIES = 5_000;
const GENERATION_SCOPES = 200_000;

/** A client as authentication needs it. A change makes a new object. */
export interface KnownClient {
  readonly clientId: string;
  readonly accessToken: string;
  readonly scopes: readonly string[];
  readonly expires: Date;
  readonly disabled: boolean;
}

/** The roles in force. A change makes a new object. */
export interface ScopeExpander {
  expand(scopes: readonly string[]): readonly string[];
}

export interface AuthenticatorSources<C extends KnownClient = KnownClient> {
  /** Called first: makes sure that what is in memory is recent. Returns a promise only when there is something to wait for. */
  refresh?(): Promise<void> | undefined;
  /** The client if it is in memory. */
  cachedClient(clientId: string): C | undefined;
  findClient(clientId: string): Promise<C | undefined>;
  roles(): ScopeExpander;
  nowMs(): number;
  /** Told of each success: the client whose access token was behind it, and the name used. */
  succeeded?(client: C, clientId: string, scheme: Scheme, nowMs: number): void;
  failed?(reason: FailureReason, scheme: Scheme): void;
}

export type Scheme = 'hawk' | 'bewit';

interface Grant<C> {
  readonly client: C;
  readonly roles: ScopeExpander;
  readonly key: string;
  readonly scopes: readonly string[];
  readonly expires: Date;
  /** The last millisecond in which it holds. */
  readonly untilMs: number;
}

/** Two generations: what is found in the older moves to the younger; when that is full it becomes the older. Bounded without bookkeeping per use. */
class Remembered<V extends { readonly scopes: readonly string[] }> {
  #young = new Map<string, V>();
  #old = new Map<string, V>();
  #scopes = 0;

  get(key: string): V | undefined {
    const found = this.#young.get(key);
    if (found) {
      return found;
    }
    const older = this.#old.get(key);
    if (older) {
      this.#old.delete(key);
      this.set(key, older);
    }
    return older;
  }

  set(key: string, value: V): void {
    if (this.#young.size >= GENERATION_ENTRIES || this.#scopes >= GENERATION_SCOPES) {
      this.#old = this.#young;
      this.#young = new Map();
      this.#scopes = 0;
    }
    this.#young.set(key, value);
    this.#scopes += value.scopes.length;
  }

  delete(key: string): void {
    this.#young.delete(key);
    this.#old.delete(key);
  }
}

export class HawkAuthenticator<C extends KnownClient = KnownClient> implements Authenticator {
  readonly #sources: AuthenticatorSources<C>;
  readonly #grants = new Remembered<Grant<C>>();
  /** What issuers of certificates hold: the queue alone issues one for every run. */
  readonly #issuers = new WeakMap<C, { readonly roles: ScopeExpander; readonly held: ScopeSet }>();
  #anonymous: { readonly roles: ScopeExpander; readonly scopes: readonly string[] } | undefined;

  constructor(sources: AuthenticatorSources<C>) {
    this.#sources = sources;
  }

  /** Never throws for what a caller sent. An empty `authorization` counts as none; a header is used before a bewit. */
  async authenticate(request: HawkRequest): Promise<AuthResult> {
    const { authorization, resource } = request;
    const refreshing = this.#sources.refresh?.();
    if (refreshing) {
      await refreshing;
    }
    const isHeader = authorization !== undefined && authorization !== '';
    if (!isHeader && !hasBewit(resource)) {
      return this.#noAuth();
    }
    const scheme = isHeader ? 'hawk' : 'bewit';
    try {
      const claim = isHeader ? parseHeader(authorization, resource) : parseBewit(request);
      const known = this.#knownGrant(claim);
      const grant = known ?? (await this.#makeGrant(claim));
      const nowMs = this.#sources.nowMs();
      verifyClaim(claim, request, grant.key, nowMs);
      if (!known) {
        this.#grants.set(grantKey(claim), grant);
      }
      this.#sources.succeeded?.(grant.client, claim.id, scheme, nowMs);
      const { scopes, expires } = grant;
      return { status: 'auth-success', scheme: 'hawk', clientId: claim.id, scopes, expires, hash: claim.hash };
    } catch (error) {
      if (error instanceof AuthenticationError || error instanceof ExpansionError) {
        this.#sources.failed?.(error instanceof AuthenticationError ? error.reason : 'scopes', scheme);
        return { status: 'auth-failed', message: error.message };
      }
      throw error;
    }
  }

  #heldBy(client: C, roles: ScopeExpander): ScopeSet {
    const known = this.#issuers.get(client);
    if (known?.roles === roles) {
      return known.held;
    }
    const held = new ScopeSet(roles.expand(client.scopes));
    this.#issuers.set(client, { roles, held });
    return held;
  }

  #noAuth(): AuthResult {
    const roles = this.#sources.roles();
    if (this.#anonymous?.roles !== roles) {
      this.#anonymous = { roles, scopes: roles.expand(ANONYMOUS) };
    }
    return {
      status: 'no-auth',
      scheme: 'none',
      scopes: this.#anonymous.scopes,
      expires: new Date(this.#sources.nowMs() + NO_AUTH_LIFETIME_MS),
    };
  }

  #knownGrant(claim: HawkClaim): Grant<C> | undefined {
    const key = grantKey(claim);
    const grant = this.#grants.get(key);
    if (
      grant &&
      grant.untilMs >= this.#sources.nowMs() &&
      grant.roles === this.#sources.roles() &&
      grant.client === this.#sources.cachedClient(grant.client.clientId)
    ) {
      return grant;
    }
    if (grant) {
      this.#grants.delete(key);
    }
    return undefined;
  }

  async #makeGrant(claim: HawkClaim): Promise<Grant<C>> {
    const { id } = claim;
    const ext = claim.ext === '' ? {} : parseExt(claim.ext);
    const issuerId = issuerOf(ext, id);
    const client = await this.#sources.findClient(issuerId);
    const nowMs = this.#sources.nowMs();
    const roles = this.#sources.roles();
    if (!client) {
      throw new AuthenticationError('unknown-client', `Client with clientId '${issuerId}' not found`);
    }
    if (client.disabled) {
      throw new AuthenticationError('disabled', `Client with clientId '${issuerId}' is disabled`);
    }
    if (client.expires.getTime() < nowMs) {
      throw new AuthenticationError('expired', `Client with clientId: '${issuerId}' has expired`);
    }
    let key = client.accessToken;
    let { scopes } = client;
    let expiresMs = client.expires.getTime();
    let untilMs = expiresMs;
    // anything false counts as absent, as it does for the caller's library
    if (ext.certificate) {
      const issuer = { clientId: issuerId, accessToken: client.accessToken, held: this.#heldBy(client, roles) };
      const restricted = verifyCertificate(ext.certificate, id, issuer, nowMs);
      key = restricted.accessToken;
      scopes = restricted.scopes;
      expiresMs = Math.min(expiresMs, restricted.expiryMs);
      untilMs = Math.min(untilMs, restricted.acceptedUntilMs);
    }
    if (ext.authorizedScopes !== undefined && ext.authorizedScopes !== null) {
      scopes = verifyAuthorizedScopes(ext.authorizedScopes, roles.expand([...ANONYMOUS, ...scopes]));
    }
    return {
      client,
      roles,
      key,
      scopes: roles.expand([...ANONYMOUS, ...scopes]),
      expires: new Date(expiresMs),
      untilMs,
    };
  }
}

// neither a header's attributes nor the parts of a bewit contain a backslash
const grantKey = ({ id, ext }: HawkClaim): string => (ext === '' ? id : `${id}\\${ext}`);
