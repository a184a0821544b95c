/**
 * Temporary credentials: whoever holds permanent ones hands out narrower ones, offline (protocol: "Temporary credentials"). The certificate travels
 * with each request and its issuer's access token verifies it, so nothing is stored and revoking the issuer revokes all of them.
 *
 * Synchronous on purpose: the queue makes one per claim, inside a batch. Two HMACs, some 5 µs.
 */
import { createHmac } from 'node:crypto';
import type { Credentials } from '@tscluster/client/client.ts';

/** Certificate version 1. Times in milliseconds since the epoch; the order of scopes is under the signature. */
export interface Certificate {
  readonly version: 1;
  readonly scopes: readonly string[];
  readonly start: number;
  readonly expiry: number;
  readonly seed: string;
  readonly signature: string;
  /** Only in named credentials: the client that issued them. */
  readonly issuer?: string;
}

export interface TemporaryCredentialsRequest {
  /** Permanent credentials of the issuer. */
  readonly credentials: Pick<Credentials, 'clientId' | 'accessToken'>;
  /** A name other than the issuer's, which the issuer may create clients as (`auth:create-client:<name>`). Absent: unnamed, the issuer itself. */
  readonly clientId?: string | undefined;
  readonly scopes: readonly string[];
  readonly start: Date;
  /** At most 31 days after `start`. */
  readonly expiry: Date;
  /** 44 characters: two slugids. Makes each set of credentials different. */
  readonly seed: string;
}

export interface TemporaryCredentials {
  readonly clientId: string;
  readonly accessToken: string;
  /** The certificate as JSON text, as clients pass it around. */
  readonly certificate: string;
}

/** The longest that temporary credentials may live. */
export const MAX_CERTIFICATE_LIFETIME_MS = 31 * 24 * 3600 * 1000;

interface SignedFields {
  readonly scopes: readonly string[];
  readonly start: number;
  readonly expiry: number;
  readonly seed: string;
}

/** The text under a certificate's signature. `name` and `issuer` only for named credentials. No newline at the end, not even with zero scopes. */
export const certificateText = (fields: SignedFields, named?: { readonly name: string; readonly issuer: string }): string => {
  const lines = ['version:1'];
  if (named) {
    lines.push(`clientId:${named.name}`, `issuer:${named.issuer}`);
  }
  lines.push(`seed:${fields.seed}`, `start:${fields.start}`, `expiry:${fields.expiry}`, 'scopes:', ...fields.scopes);
  return lines.join('\n');
};

/** Signs a certificate's text with the issuer's access token: padded base64 of an HMAC-SHA256. */
export const signCertificate = (issuerAccessToken: string, text: string): string =>
  createHmac('sha256', issuerAccessToken).update(text).digest('base64');

/** The access token that belongs to a certificate: unpadded URL-safe base64 of an HMAC-SHA256 over the seed, 43 characters. */
export const temporaryAccessToken = (issuerAccessToken: string, seed: string): string =>
  createHmac('sha256', issuerAccessToken).update(seed).digest('base64url');

/**
 * Makes temporary credentials from permanent ones. Only the shape is checked here; whether the issuer holds the scopes is decided on every use.
 * Throws an `Error` for what could never verify: a seed of another length, a lifetime beyond 31 days, the issuer's own name.
 */
export const createTemporaryCredentials = (request: TemporaryCredentialsRequest): TemporaryCredentials => {
  const { credentials, clientId, scopes, seed } = request;
  const start = request.start.getTime();
  const expiry = request.expiry.getTime();
  if (seed.length !== 44) {
    throw new Error(`seed must be 44 characters (two slugids), got ${seed.length}`);
  }
  if (!(expiry - start <= MAX_CERTIFICATE_LIFETIME_MS)) {
    throw new Error('temporary credentials cannot last longer than 31 days');
  }
  if (clientId === credentials.clientId) {
    throw new Error(`named temporary credentials need a name other than the issuer's, \`${clientId}\``);
  }
  const fields = { scopes, start, expiry, seed };
  const named = clientId === undefined ? undefined : { name: clientId, issuer: credentials.clientId };
  const certificate: Certificate = {
    version: 1,
    ...fields,
    signature: signCertificate(credentials.accessToken, certificateText(fields, named)),
    ...(named && { issuer: named.issuer }),
  };
  return {
    clientId: clientId ?? credentials.clientId,
    accessToken: temporaryAccessToken(credentials.accessToken, seed),
    certificate: JSON.stringify(certificate),
  };
};
