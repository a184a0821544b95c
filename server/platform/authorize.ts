/** Authorisation of one request: authenticates at most once and lazily, renders the declared scopes, and says precisely what is missing. */
import crypto from 'node:crypto';
import type { ScopeTemplate } from '@tscluster/api/define.ts';
import { type ScopeExpression, ScopeSet, renderTemplate, satisfies } from '@tscluster/api/scopes.ts';
import { type Authenticator, type Caller, type HawkRequest, hasTwoSchemes, toCaller } from './caller.ts';
import type { Clock } from './clock.ts';
import { ApiError } from './errors.ts';
import { type Limit, type MissingScopes, describeMissing, limitOf, missingText } from './missing-scopes.ts';

/** What a request with both a header and a bewit is told. */
export const TWO_SCHEMES = 'Request uses two authentication schemes at once: an Authorization header and a bewit. Send only one of them.';

/** Base64 of the Hawk payload hash (`hawk.1.payload`): content type in lower case without parameters, then the body as received. */
export const payloadHash = (contentType: string, body: string): string => {
  const type = (contentType.split(';')[0] ?? '').trim().toLowerCase();
  return crypto.hash('sha256', `hawk.1.payload\n${type}\n${body}\n`, 'base64');
};

const sameText = (a: string, b: string): boolean => {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.length === right.length && crypto.timingSafeEqual(left, right);
};

/** What a caller holds. */
export interface Held {
  readonly scopes: ScopeSet;
  /** What to say of scopes that are missing: the fewest that would do, and where they could be granted. */
  describe(missing: ScopeExpression): MissingScopes;
}

export interface Authorization {
  caller(): Promise<Caller>;
  /** Throws `AuthenticationFailed` or `InsufficientScopes`. */
  authorize(template: ScopeTemplate, params: Readonly<Record<string, unknown>>): Promise<void>;
  /** What the caller holds, for handlers that decide by themselves what that allows. Throws `AuthenticationFailed`. */
  held(): Promise<Held>;
  /** Whether anything was authorised (or found public). */
  readonly done: boolean;
}

/**
 * Throws `AuthenticationFailed` or `InsufficientScopes` unless the caller satisfies the expression. The error tells what is missing; `more` adds the
 * order in which alternatives are proposed, and what limits the credentials.
 */
export const requireScopes = (
  who: Caller,
  expression: ScopeExpression,
  more: () => { readonly preferred?: ScopeExpression | undefined; readonly limitedBy?: Limit | undefined } = () => ({}),
): void => {
  if (who.failure !== undefined) {
    throw new ApiError('AuthenticationFailed', who.failure);
  }
  if (!satisfies(who.scopes, expression)) {
    const { preferred, limitedBy } = more();
    const details = describeMissing(who, preferred ?? expression, limitedBy);
    throw new ApiError('InsufficientScopes', missingText(who, expression, details), {}, details);
  }
};

export const makeAuthorization = (
  authenticator: Authenticator,
  request: HawkRequest,
  rawBody: { contentType: string; text: string },
  clock: Clock,
): Authorization => {
  let known: Caller | Promise<Caller> | undefined;
  let done = false;

  const authenticate = async (): Promise<Caller> => {
    if (hasTwoSchemes(request)) {
      return toCaller({ status: 'auth-failed', message: TWO_SCHEMES }, clock.now());
    }
    const result = await authenticator.authenticate(request);
    if (result.status === 'auth-success' && result.hash !== undefined) {
      const computed = payloadHash(rawBody.contentType, rawBody.text);
      if (!sameText(computed, result.hash)) {
        const message = `Invalid payload hash: the request says ${result.hash}, but hash of the payload received is ${computed}`;
        return toCaller({ status: 'auth-failed', message }, clock.now());
      }
    }
    return toCaller(result, clock.now());
  };

  const caller = async (): Promise<Caller> => {
    known ??= authenticate();
    return known;
  };

  return {
    caller,
    authorize: async (template, params) => {
      const expression = renderTemplate(template, params);
      if (expression === undefined) {
        done = true;
        return;
      }
      requireScopes(await caller(), expression, () => ({
        preferred: renderTemplate(template, params, { weakestFirst: true }),
        limitedBy: limitOf(request),
      }));
      done = true;
    },
    held: async () => {
      const who = await caller();
      if (who.failure !== undefined) {
        throw new ApiError('AuthenticationFailed', who.failure);
      }
      done = true;
      return { scopes: new ScopeSet(who.scopes), describe: missing => describeMissing(who, missing, limitOf(request)) };
    },
    get done() {
      return done;
    },
  };
};
