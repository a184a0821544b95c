/**
 * Who calls. A service asks an `Authenticator` (the auth service in the same process, or `auth.authenticateHawk` over HTTP), at most once per
 * request and only when it needs to know.
 */
import type { IncomingMessage } from 'node:http';
import type { TLSSocket } from 'node:tls';

/** What auth needs to check a request (the input of `auth.authenticateHawk`). */
export interface HawkRequest {
  /** Lower case. */
  readonly method: string;
  /** Path and query exactly as received. */
  readonly resource: string;
  readonly host: string;
  readonly port: number;
  readonly authorization?: string | undefined;
  readonly sourceIp?: string | undefined;
}

export type AuthResult =
  | {
      readonly status: 'auth-success';
      readonly scheme: 'hawk';
      readonly clientId: string;
      /** Expanded and normalised, the anonymous role's included. */
      readonly scopes: readonly string[];
      readonly expires: Date;
      /** The payload hash of the header, which the called service compares. */
      readonly hash?: string | undefined;
    }
  | { readonly status: 'auth-failed'; readonly message: string }
  | { readonly status: 'no-auth'; readonly scheme: 'none'; readonly scopes: readonly string[]; readonly expires: Date };

export interface Authenticator {
  authenticate(request: HawkRequest): AuthResult | Promise<AuthResult>;
}

export interface Caller {
  /** The name in the credentials; `auth-failed:no-auth` or `auth-failed:auth-failed` without. For logs and audit, never for access control. */
  readonly clientId: string;
  readonly scopes: readonly string[];
  /** When the credentials end, to bound what is derived from them. */
  readonly expires: Date;
  /** Why authentication failed, if credentials were given and are not valid. */
  readonly failure?: string;
  readonly hasCredentials: boolean;
}

export const toCaller = (result: AuthResult, now: Date): Caller => {
  switch (result.status) {
    case 'auth-success':
      return { clientId: result.clientId, scopes: result.scopes, expires: result.expires, hasCredentials: true };
    case 'no-auth':
      return { clientId: 'auth-failed:no-auth', scopes: result.scopes, expires: result.expires, hasCredentials: false };
    case 'auth-failed':
      return { clientId: 'auth-failed:auth-failed', scopes: [], expires: now, failure: result.message, hasCredentials: true };
  }
};

const BEWIT = /[?&]bewit=/;

/** The Hawk view of a request: host and port come from the `Host` header, as a proxy forwards it. */
export const hawkRequest = (request: IncomingMessage, sourceIp?: string): HawkRequest => {
  const hostHeader = request.headers.host ?? '';
  const match = /^(\[[^\]]*\]|[^:]*)(?::(\d+))?$/.exec(hostHeader);
  const forwardedPort = single(request.headers['x-forwarded-port']);
  const https = single(request.headers['x-forwarded-proto']) === 'https';
  const encrypted = (request.socket as TLSSocket).encrypted;
  let port = match?.[2] === undefined ? (encrypted ? 443 : 80) : Number(match[2]);
  if (forwardedPort !== undefined && /^\d+$/.test(forwardedPort)) {
    port = Number(forwardedPort);
  } else if (https) {
    port = 443;
  }
  return {
    method: (request.method ?? 'GET').toLowerCase(),
    resource: request.url ?? '/',
    host: match?.[1] ?? hostHeader,
    port,
    authorization: request.headers.authorization || undefined,
    sourceIp,
  };
};

const single = (value: string | string[] | undefined): string | undefined => (Array.isArray(value) ? value[0] : value);

/** Both a header and a bewit: refused before anybody is asked. */
export const hasTwoSchemes = (request: HawkRequest): boolean => request.authorization !== undefined && BEWIT.test(request.resource);
