/**
 * What travels in a request's `ext`: the certificate of temporary credentials, and a restriction to some scopes (protocol: "Temporary credentials",
 * "authorizedScopes"). The order of checks is the protocol's; the first failure is reported.
 */
import { isValidScope, ScopeSet } from '@tscluster/api/scopes.ts';
import {
  certificateText,
  MAX_CERTIFICATE_LIFETIME_MS,
  signCertificate,
  temporaryAccessToken,
} from '../../platform/temporary-credentials.ts';
import { AuthenticationError, equalInConstantTime } from './hawk.ts';

const SKEW_MS = 5 * 60 * 1000;
const SEED_LENGTH = 44;
const CLIENT_ID = /^[A-Za-z0-9!@/:.+|_-]+$/;

/** `ext` decoded; the values are the caller's and still unchecked. */
export interface Ext {
  readonly certificate?: unknown;
  readonly authorizedScopes?: unknown;
}

const refuse = (message: string): never => {
  throw new AuthenticationError('bad-ext', message);
};

/** Decodes an `ext` attribute: base64 (either alphabet) of a JSON object. Unknown keys are ignored. */
export const parseExt = (text: string): Ext => {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(text, 'base64').toString('utf8'));
  } catch {
    return refuse('Failed to parse ext');
  }
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : refuse('Failed to parse ext');
};

/** Who issued the credentials of `clientId`: itself, unless the certificate names another. */
export const issuerOf = (ext: Ext, clientId: string): string => {
  const issuer = (ext.certificate as { issuer?: unknown } | null | undefined)?.issuer;
  if (issuer === undefined || issuer === null) {
    return clientId;
  }
  if (typeof issuer !== 'string') {
    return refuse('ext.certificate.issuer must be a string');
  }
  return issuer === clientId ? refuse('ext.certificate.issuer must differ from the supplied clientId') : issuer;
};

const scopeList = (value: unknown, name: string): readonly string[] => {
  if (!Array.isArray(value)) {
    return refuse(`${name} must be an array`);
  }
  return value.every(isValidScope) ? value : refuse(`${name} must be an array of valid scopes`);
};

/** Those of `scopes` that `held` does not satisfy. */
const unsatisfied = (held: ScopeSet, scopes: readonly string[]): string[] => scopes.filter(scope => !held.has(scope));

export interface Issuer {
  readonly clientId: string;
  readonly accessToken: string;
  /** Expanded. */
  readonly held: ScopeSet;
}

export interface Restricted {
  /** The Hawk key. */
  readonly accessToken: string;
  /** As certified, not expanded. */
  readonly scopes: readonly string[];
  readonly expiryMs: number;
  /** Until when the certificate is accepted: some minutes past its expiry. */
  readonly acceptedUntilMs: number;
}

/** Verifies a certificate for use under the name `clientId`. Throws `AuthenticationError`. */
export const verifyCertificate = (given: unknown, clientId: string, issuer: Issuer, nowMs: number): Restricted => {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    return refuse('ext.certificate must be a JSON object');
  }
  const certificate = given as Partial<Record<string, unknown>>;
  const { version, seed, start, expiry, signature } = certificate;
  const isNamed = issuer.clientId !== clientId;
  if (version !== 1) {
    return refuse('ext.certificate.version must be 1');
  }
  if (typeof seed !== 'string') {
    return refuse('ext.certificate.seed must be a string');
  }
  if (seed.length !== SEED_LENGTH) {
    return refuse('ext.certificate.seed must be 44 characters');
  }
  if (typeof start !== 'number') {
    return refuse('ext.certificate.start must be a number');
  }
  if (typeof expiry !== 'number') {
    return refuse('ext.certificate.expiry must be a number');
  }
  const scopes = scopeList(certificate['scopes'], 'ext.certificate.scopes');
  if (start > nowMs + SKEW_MS) {
    return refuse('ext.certificate.start > now');
  }
  if (expiry < nowMs - SKEW_MS) {
    return refuse('ext.certificate.expiry < now');
  }
  if (expiry - start > MAX_CERTIFICATE_LIFETIME_MS) {
    return refuse('ext.certificate cannot last longer than 31 days!');
  }
  if (isNamed) {
    if (!CLIENT_ID.test(clientId)) {
      return refuse('ext.certificate.issuer must only be used with a valid clientId');
    }
    const needed = `auth:create-client:${clientId}`;
    if (unsatisfied(issuer.held, [needed]).length > 0) {
      throw new AuthenticationError(
        'scopes',
        `ext.certificate issuer \`${issuer.clientId}\` doesn't have \`${needed}\` for supplied clientId.`,
      );
    }
  } else if (certificate['clientId'] !== undefined) {
    return refuse('ext.certificate.clientId must only be used with ext.certificate.issuer');
  }
  const missing = unsatisfied(issuer.held, scopes);
  if (missing.length > 0) {
    throw new AuthenticationError(
      'scopes',
      `ext.certificate issuer \`${issuer.clientId}\` doesn't satisfy all certificate scopes ${missing.join(', ')}.  ` +
        'The temporary credentials were not generated correctly.',
    );
  }
  const text = certificateText({ scopes, start, expiry, seed }, isNamed ? { name: clientId, issuer: issuer.clientId } : undefined);
  // a client library signs an empty list of scopes with a newline after `scopes:`
  const texts = scopes.length === 0 ? [text, `${text}\n`] : [text];
  if (typeof signature !== 'string' || !texts.some(signed => equalInConstantTime(signCertificate(issuer.accessToken, signed), signature))) {
    return refuse('ext.certificate.signature is not valid, or wrong clientId provided');
  }
  return { accessToken: temporaryAccessToken(issuer.accessToken, seed), scopes, expiryMs: expiry, acceptedUntilMs: expiry + SKEW_MS };
};

/** Checks a restriction against the scopes held (expanded, with the anonymous role's): each must be satisfied. Throws `AuthenticationError`. */
export const verifyAuthorizedScopes = (given: unknown, held: readonly string[]): readonly string[] => {
  const scopes = scopeList(given, 'ext.authorizedScopes');
  if (unsatisfied(new ScopeSet(held), scopes).length > 0) {
    const list = (items: readonly string[]): string => `\n\n\`\`\`\n${items.join('\n')}\n\`\`\``;
    throw new AuthenticationError(
      'scopes',
      `Supplied credentials do not satisfy authorizedScopes; credentials have scopes:${list(held)}\n\nauthorizedScopes are:${list(scopes)}`,
    );
  }
  return scopes;
};
