import { describe, expect, test } from 'vitest';
import vectors from '../server/testing/vectors/auth.json' with { type: 'json' };
import { makeExt, payloadHash, payloadText, signRequest, signUrl } from './hawk.ts';

describe('signRequest', () => {
  test.each(vectors.hawkHeader)('$method $url', async vector => {
    const hash = vector.payload === undefined ? undefined : await payloadHash(vector.payload, vector.contentType);
    expect(hash ?? null).toBe(vector.hash);
    const header = await signRequest({
      credentials: { clientId: vector.id, accessToken: vector.key },
      authorizedScopes: vector.ext?.authorizedScopes,
      nowMs: vector.ts * 1000 + 999,
      method: vector.method,
      url: new URL(vector.url),
      nonce: vector.nonce,
      hash,
    });
    expect(header).toBe(vector.header);
  });
});

describe('payloadHash', () => {
  test.each(vectors.payloadHash)('$payload as $contentType', async vector => {
    expect(payloadText(vector.payload, vector.contentType)).toBe(vector.normalized);
    expect(await payloadHash(vector.payload, vector.contentType)).toBe(vector.hash);
  });
});

describe('signUrl', () => {
  test.each(vectors.bewit)('$url', async vector => {
    const signed = await signUrl({
      credentials: { clientId: vector.id, accessToken: vector.key },
      authorizedScopes: vector.ext?.authorizedScopes,
      nowMs: vector.nowSeconds * 1000,
      url: new URL(vector.url),
      expirySeconds: vector.ttl,
    });
    expect(signed).toBe(vector.signedUrl);
  });
});

describe('makeExt', () => {
  test('is absent without certificate and restriction', () => {
    expect(makeExt(undefined, undefined)).toBeUndefined();
  });

  test.each(vectors.temporaryCredentials)('carries the certificate of $clientId', vector => {
    expect(makeExt(JSON.stringify(vector.certificate), undefined)).toBe(vector.extWithCertificate);
  });

  test('carries an empty restriction', () => {
    expect(atob(makeExt(undefined, []) ?? '')).toBe('{"authorizedScopes":[]}');
  });
});
