/** A link that signs one browser in with the rights of the credentials at hand. */
import type { authApi } from '@tscluster/api/auth/api.ts';
import type { loginApi } from '@tscluster/api/login/api.ts';
import type { Client, Credentials } from '@tscluster/client/client.ts';
import type { Clock, Random } from '../platform/clock.ts';
import { createTemporaryCredentials } from '../platform/temporary-credentials.ts';

const LIFETIME_MS = 7 * 24 * 3600 * 1000;
/** Clocks differ. */
const BACKDATE_MS = 5 * 60 * 1000;

export interface SignInLinkContext {
  readonly login: Pick<Client<typeof loginApi>, 'createSignInLink'>;
  readonly auth: Pick<Client<typeof authApi>, 'client'>;
  readonly clock: Clock;
  readonly random: Random;
}

/**
 * Makes the link. Permanent credentials stay where they are: the browser gets temporary ones for a week, with `scopes` (default: all of the
 * client's). Temporary credentials cannot be narrowed, so they are handed over as they are.
 *
 * @throws an `Error` when `scopes` are given for temporary credentials
 */
export const createSignInLink = async (
  { login, auth, clock, random }: SignInLinkContext,
  { clientId, accessToken, certificate }: Credentials,
  scopes?: readonly string[],
): Promise<{ url: string; expires: string }> => {
  if (certificate !== undefined) {
    if (scopes) {
      throw new Error('Temporary credentials cannot be narrowed: leave the scopes out, or use permanent credentials.');
    }
    return login.createSignInLink({ credentials: { clientId, accessToken, certificate } });
  }
  return login.createSignInLink({
    credentials: createTemporaryCredentials({
      credentials: { clientId, accessToken },
      scopes: scopes ?? (await auth.client({ clientId })).scopes,
      start: new Date(clock.nowMs() - BACKDATE_MS),
      expiry: new Date(clock.nowMs() + LIFETIME_MS),
      seed: Buffer.from(random.bytes(33)).toString('base64url'),
    }),
  });
};
