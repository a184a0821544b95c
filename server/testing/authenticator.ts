/**
 * Stands in for the auth service where a test is about another one: callers are named with their scopes, signatures are not checked. Temporary
 * credentials have the scopes of their certificate.
 */
import type { Authenticator } from '../platform/caller.ts';
import type { Clock } from '../platform/clock.ts';

const attribute = (header: string, name: string): string | undefined => new RegExp(`${name}="([^"]*)"`).exec(header)?.[1];

export const makeTestAuthenticator = (clock: Clock, scopesOf: (clientId: string) => readonly string[] | undefined): Authenticator => ({
  authenticate: ({ authorization, resource }) => {
    const expires = new Date(clock.nowMs() + 3_600_000);
    const bewit = /[?&]bewit=([^&]+)/.exec(resource)?.[1];
    const [id, ext] =
      authorization === undefined
        ? bewit === undefined
          ? [undefined, undefined]
          : (([bewitId, , , bewitExt]) => [bewitId, bewitExt])(Buffer.from(bewit, 'base64url').toString().split('\\'))
        : [attribute(authorization, 'id'), attribute(authorization, 'ext')];
    if (id === undefined) {
      return { status: 'no-auth', scheme: 'none', scopes: scopesOf('anonymous') ?? [], expires };
    }
    const parsed = ext
      ? (JSON.parse(Buffer.from(ext, 'base64').toString()) as { certificate?: { scopes: string[] }; authorizedScopes?: string[] })
      : {};
    const scopes = parsed.authorizedScopes ?? parsed.certificate?.scopes ?? scopesOf(id);
    if (!scopes) {
      return { status: 'auth-failed', message: `Client with clientId '${id}' not found` };
    }
    return { status: 'auth-success', scheme: 'hawk', clientId: id, scopes, expires };
  },
});
