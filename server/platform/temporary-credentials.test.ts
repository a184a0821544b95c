import { describe, expect, test } from 'vitest';
import vectors from '../testing/vectors/auth.json' with { type: 'json' };
import { certificateText, createTemporaryCredentials } from './temporary-credentials.ts';

const issuer = { clientId: 'project/bot', accessToken: 'vNh7Lq2tQ8-OEd0_5f1uPQGm4kWzXaRsTc9JybIM3HAg' };
const request = {
  credentials: issuer,
  clientId: 'project/bot/1',
  scopes: ['a'],
  start: new Date(vectors.now),
  expiry: new Date(vectors.now + 60_000),
  seed: 'AbCdEfGhIjKlMnOpQrStUvWxYz0123456789-_AbCdEf',
};

describe('createTemporaryCredentials', () => {
  test.each(vectors.temporaryCredentials)('makes the credentials of $clientId with $scopes.length scopes', vector => {
    const named = vector.clientId === vector.issuer.clientId ? undefined : vector.clientId;
    const made = createTemporaryCredentials({
      credentials: vector.issuer,
      clientId: named,
      scopes: vector.scopes,
      start: new Date(vector.start),
      expiry: new Date(vector.expiry),
      seed: vector.seed,
    });
    expect(certificateText(vector, named === undefined ? undefined : { name: named, issuer: vector.issuer.clientId })).toBe(
      vector.stringToSign,
    );
    expect(made.clientId).toBe(vector.clientId);
    expect(made.accessToken).toBe(vector.accessToken);
    expect(JSON.parse(made.certificate)).toEqual(vector.certificate);
    expect(Buffer.from(JSON.stringify({ certificate: JSON.parse(made.certificate) as unknown })).toString('base64')).toBe(
      vector.extWithCertificate,
    );
  });

  test('refuses what could never verify', () => {
    expect(() => createTemporaryCredentials({ ...request, seed: 'short' })).toThrow('seed must be 44 characters (two slugids), got 5');
    expect(() => createTemporaryCredentials({ ...request, clientId: issuer.clientId })).toThrow(
      "named temporary credentials need a name other than the issuer's, `project/bot`",
    );
    const month = 31 * 24 * 3600 * 1000;
    expect(() => createTemporaryCredentials({ ...request, expiry: new Date(vectors.now + month) })).not.toThrow();
    expect(() => createTemporaryCredentials({ ...request, expiry: new Date(vectors.now + month + 1) })).toThrow(
      'temporary credentials cannot last longer than 31 days',
    );
  });
});
