/**
 * The server's side of Hawk (protocol: "Hawk as used" and the failure messages of "authenticateHawk"). Parsing and verifying are apart, because the
 * key is looked up between them; the order in which problems are reported is the protocol's. Why not the `hawk` package: docs/decisions/0002-hawk.md.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import type { HawkRequest } from '../../platform/caller.ts';
import { signedText } from '@tscluster/client/hawk.ts';

const MAX_TEXT_LENGTH = 4096;
const MAX_SKEW_MS = 15 * 60 * 1000;

/** Why credentials were refused, for metrics: few values. */
export type FailureReason =
  | 'bad-request'
  | 'bad-mac'
  | 'stale'
  | 'expired'
  | 'unknown-client'
  | 'disabled'
  | 'bad-ext'
  | 'scopes'
  | 'other';

/** Credentials that do not hold; the message is shown to the caller. */
export class AuthenticationError extends Error {
  readonly reason: FailureReason;
  constructor(reason: FailureReason, message: string) {
    super(message);
    this.name = 'AuthenticationError';
    this.reason = reason;
  }
}

const badRequest = (message: string): never => {
  throw new AuthenticationError('bad-request', `Bad Request: ${message}`);
};
const unauthorized = (reason: FailureReason, message: string): never => {
  throw new AuthenticationError(reason, `Unauthorized: ${message}`);
};

/** What a header or a bewit claims. */
export interface HawkClaim {
  readonly kind: 'header' | 'bewit';
  readonly id: string;
  /** Unix seconds as given: the time of signing, or a bewit's expiry. */
  readonly ts: string;
  readonly nonce: string;
  readonly mac: string;
  readonly ext: string;
  readonly hash: string | undefined;
  readonly app: string | undefined;
  readonly dlg: string | undefined;
  /** Path and query that were signed. */
  readonly resource: string;
}

const HEADER = /^(\w+)(?:\s+(.*))?$/;
const ATTRIBUTE = /(\w+)="([^"\\]*)"\s*(?:,\s*|$)/y;
const ATTRIBUTE_VALUE = /^[\x20\x21\x23-\x5b\x5d-\x7e]+$/;
const ATTRIBUTE_NAMES = new Set(['id', 'ts', 'nonce', 'hash', 'ext', 'mac', 'app', 'dlg']);

/** Parses an `Authorization` header. Throws `AuthenticationError` with the protocol's message. */
export const parseHeader = (header: string, resource: string): HawkClaim => {
  if (header.length > MAX_TEXT_LENGTH) {
    badRequest('Header length too long');
  }
  const parts = HEADER.exec(header) ?? badRequest('Invalid header syntax');
  if (parts[1]?.toLowerCase() !== 'hawk') {
    unauthorized('other', 'Unauthorized');
  }
  const text = parts[2] || badRequest('Invalid header syntax');
  const found = new Map<string, string>();
  ATTRIBUTE.lastIndex = 0;
  while (ATTRIBUTE.lastIndex < text.length) {
    const [, name = '', value = ''] = ATTRIBUTE.exec(text) ?? badRequest('Bad header format');
    if (!ATTRIBUTE_NAMES.has(name)) {
      badRequest(`Unknown attribute: ${name}`);
    }
    if (!ATTRIBUTE_VALUE.test(value)) {
      badRequest(`Bad attribute value: ${name}`);
    }
    if (found.has(name)) {
      badRequest(`Duplicate attribute: ${name}`);
    }
    found.set(name, value);
  }
  return {
    kind: 'header',
    id: found.get('id') ?? badRequest('Missing attributes'),
    ts: found.get('ts') ?? badRequest('Missing attributes'),
    nonce: found.get('nonce') ?? badRequest('Missing attributes'),
    mac: found.get('mac') ?? badRequest('Missing attributes'),
    ext: found.get('ext') ?? '',
    hash: found.get('hash'),
    app: found.get('app'),
    dlg: found.get('dlg'),
    resource,
  };
};

/** Whether path and query carry a bewit, even an empty one. */
export const hasBewit = (resource: string): boolean =>
  resource.startsWith('/') && (resource.includes('?bewit=') || resource.includes('&bewit='));

// up to the last `bewit=`; its value; what follows it
const BEWIT = /^(\/.*)([?&])bewit=([^&$]*)(?:&(.+))?$/;

/** Parses the bewit of a signed URL, for which `hasBewit` holds. Throws `AuthenticationError` with the protocol's message. */
export const parseBewit = ({ method, resource }: Pick<HawkRequest, 'method' | 'resource'>): HawkClaim => {
  if (resource.length > MAX_TEXT_LENGTH) {
    badRequest('Resource path exceeds max length');
  }
  const [, before = '', separator = '', bewit = '', after = ''] = BEWIT.exec(resource) ?? unauthorized('other', 'Unauthorized');
  if (bewit === '') {
    unauthorized('bad-request', 'Empty bewit');
  }
  if (!['GET', 'HEAD'].includes(method.toUpperCase())) {
    unauthorized('bad-request', 'Invalid method');
  }
  if (!/^[\w-]*$/.test(bewit)) {
    badRequest('Invalid bewit encoding');
  }
  const parts = Buffer.from(bewit, 'base64url').toString('utf8').split('\\');
  if (parts.length !== 4) {
    badRequest('Invalid bewit structure');
  }
  const [id, exp, mac, ext = ''] = parts;
  if (!id || !exp || !mac) {
    return badRequest('Missing bewit attributes');
  }
  return {
    kind: 'bewit',
    id,
    ts: exp,
    nonce: '',
    mac,
    ext,
    hash: undefined,
    app: undefined,
    dlg: undefined,
    resource: after === '' ? before : before + separator + after,
  };
};

/** Compares two texts of which one is secret, in a time that tells only whether their lengths are equal. */
export const equalInConstantTime = (a: string, b: string): boolean => {
  const left = Buffer.from(a);
  const right = Buffer.from(b);
  return left.length === right.length && timingSafeEqual(left, right);
};

/** Verifies the mac, then the time. Throws `AuthenticationError`. There is no check for repeated nonces. */
export const verifyClaim = (claim: HawkClaim, request: HawkRequest, key: string, nowMs: number): void => {
  const isHeader = claim.kind === 'header';
  const text = signedText({
    kind: claim.kind,
    ts: claim.ts,
    nonce: claim.nonce,
    method: isHeader ? request.method : 'GET',
    resource: claim.resource,
    host: request.host,
    port: request.port,
    hash: claim.hash,
    ext: claim.ext,
    app: claim.app,
    dlg: claim.dlg,
  });
  if (!equalInConstantTime(createHmac('sha256', key).update(text).digest('base64'), claim.mac)) {
    unauthorized('bad-mac', 'Bad mac');
  }
  // written so that what is no number fails
  const tsMs = Number(claim.ts) * 1000;
  if (isHeader) {
    if (!(Math.abs(tsMs - nowMs) <= MAX_SKEW_MS)) {
      unauthorized('stale', 'Stale timestamp');
    }
  } else if (!(tsMs > nowMs)) {
    unauthorized('expired', 'Access expired');
  }
};
