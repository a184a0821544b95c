/** Scopes and authentication, and the endpoints with which authors of client libraries try theirs. */
import type { AuthenticateHawkResponse } from '@tscluster/api/auth/scopes.ts';
import { compareScopes, satisfies } from '@tscluster/api/scopes.ts';
import { requireScopes, TWO_SCHEMES } from '../../../platform/authorize.ts';
import { hasTwoSchemes, toCaller } from '../../../platform/caller.ts';
import type { AuthResult, HawkRequest } from '../../../platform/caller.ts';
import type { Clock } from '../../../platform/clock.ts';
import { HawkAuthenticator } from '../authenticator.ts';
import { expandFor } from '../context.ts';
import type { AuthHandlers } from '../context.ts';

const TESTER = 'tester';
const TESTER_TOKEN = 'no-secret';
const TEST_LIFETIME_MS = 24 * 3600 * 1000;

const ANONYMOUS = 'assume:anonymous';

/** Instead of roles: the anonymous one is put in its place, the client's own scopes stay in the order in which they were given. */
const withoutRoles = (scopes: readonly string[]): readonly string[] => {
  if (scopes[0] !== ANONYMOUS) {
    return scopes;
  }
  const own = scopes.slice(1);
  if (satisfies(own, ANONYMOUS)) {
    return own;
  }
  const at = own.findIndex(scope => compareScopes(scope, ANONYMOUS) > 0);
  return at === -1 ? [...own, ANONYMOUS] : [...own.slice(0, at), ANONYMOUS, ...own.slice(at)];
};

/** Authenticates a request as of the client `tester`, the only one there is here, without roles; and checks what is required. */
const authenticateTester = async (
  request: HawkRequest,
  clock: Clock,
  clientScopes: readonly string[],
  requiredScopes: readonly string[],
): Promise<{ clientId: string; scopes: string[] }> => {
  const tester = {
    clientId: TESTER,
    accessToken: TESTER_TOKEN,
    scopes: clientScopes,
    expires: new Date(clock.nowMs() + TEST_LIFETIME_MS),
    disabled: false,
  };
  const known = (clientId: string): typeof tester | undefined => (clientId === TESTER ? tester : undefined);
  const authenticator = new HawkAuthenticator({
    cachedClient: known,
    findClient: clientId => Promise.resolve(known(clientId)),
    roles: () => ({ expand: withoutRoles }),
    nowMs: () => clock.nowMs(),
  });
  const result: AuthResult = hasTwoSchemes(request)
    ? { status: 'auth-failed', message: TWO_SCHEMES }
    : await authenticator.authenticate(request);
  const caller = toCaller(result, clock.now());
  requireScopes(caller, { AllOf: [...requiredScopes] });
  return { clientId: caller.clientId, scopes: [...caller.scopes] };
};

const toReply = (result: AuthResult): AuthenticateHawkResponse => {
  if (result.status === 'auth-failed') {
    return { status: result.status, message: result.message };
  }
  const common = { scopes: [...result.scopes], expires: result.expires.toISOString() };
  if (result.status === 'no-auth') {
    return { status: result.status, scheme: result.scheme, ...common };
  }
  const { status, scheme, clientId, hash } = result;
  return { status, scheme, clientId, ...common, ...(hash !== undefined && { hash }) };
};

export const scopeHandlers: Pick<
  AuthHandlers,
  'expandScopes' | 'currentScopes' | 'authenticateHawk' | 'authenticateHawkBatch' | 'testAuthenticate' | 'testAuthenticateGet'
> = {
  async expandScopes({ ctx, body }) {
    return { scopes: expandFor(ctx.directory.roles, body.scopes) };
  },

  async currentScopes({ caller }) {
    return { scopes: [...(await caller()).scopes] };
  },

  async authenticateHawk({ ctx, body }) {
    return toReply(await ctx.authenticator.authenticate(body));
  },

  async authenticateHawkBatch({ ctx, body }) {
    await ctx.directory.refresh();
    const freshForMs = Math.floor(ctx.directory.freshForMs); // what follows is at least as fresh
    const results = await Promise.all(body.requests.map(async request => ctx.authenticator.authenticate(request)));
    return { results: results.map(toReply), freshForMs };
  },

  async testAuthenticate({ ctx, body, hawk }) {
    return authenticateTester(hawk(), ctx.clock, body.clientScopes, body.requiredScopes);
  },

  async testAuthenticateGet({ ctx, hawk }) {
    return authenticateTester(hawk(), ctx.clock, ['test:*', 'auth:create-client:test:*'], ['test:authenticate-get']);
  },
};
