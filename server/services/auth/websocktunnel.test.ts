import { expect, test } from 'vitest';
import vectors from '../../testing/vectors/auth.json' with { type: 'json' };
import { makeTunnelToken } from './websocktunnel.ts';

test('the token of the protocol vectors', () => {
  const { secret, payload, token, expires } = vectors.websocktunnelJwt;
  const made = makeTunnelToken(secret, { tunnelClient: payload.tid, audience: payload.aud, clientId: payload.sub, nowMs: vectors.now });
  expect(made.token).toBe(token);
  expect(made.expires.toISOString()).toBe(expires);
});
