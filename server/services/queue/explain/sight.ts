/**
 * What a caller may see of other tasks, task queues and workers: whatever it could read by another method, by that method's own scopes. What is left out
 * is noted with the scopes that would show it.
 */
import { authApi } from '@tscluster/api/auth/api.ts';
import type { Method, ScopeTemplate } from '@tscluster/api/define.ts';
import { queueApi } from '@tscluster/api/queue/api.ts';
import { ScopeSet, type ScopeExpression, renderTemplate, satisfies, smallestMissing } from '@tscluster/api/scopes.ts';
import type { Caller } from '../../../platform/caller.ts';

type MethodName = keyof (typeof queueApi)['methods'];
export type Params = Readonly<Record<string, string>>;

export interface NotShown {
  readonly what: string;
  readonly missingScopes: string[];
}

export interface Sight {
  /** Whether the caller may call a method of the queue. */
  may(method: MethodName, params: Params): boolean;
  /** The fewest scopes that the caller would need in addition. */
  missing(method: MethodName, params: Params): string[];
  /** Whether the caller may call one of some methods; if not, it is noted that something is left out. */
  shows(what: string, readBy: readonly (readonly [MethodName, Params])[]): boolean;
  /** Notes that something of any number of tasks is left out, with the scope as it is declared: which tasks they are is not said. */
  hide(what: string, method: MethodName): void;
  /** Whether the caller may know that this client did something. If not, it is noted. */
  showsClient(clientId: string): boolean;
  readonly notShown: readonly NotShown[];
}

export const makeSight = (caller: Pick<Caller, 'clientId' | 'scopes'>): Sight => {
  const held = new ScopeSet(caller.scopes);
  const hidden = new Map<string, NotShown>();
  const template = (method: MethodName): ScopeTemplate => {
    const declared: Method = queueApi.methods[method];
    return declared.scopes ?? { AllOf: [] };
  };
  const expression = (method: MethodName, params: Params): ScopeExpression => renderTemplate(template(method), params) ?? { AllOf: [] };
  const note = (what: string, missingScopes: string[]): void => {
    hidden.set(`${what} ${missingScopes.join(' ')}`, { what, missingScopes });
  };
  const missing = (wanted: ScopeExpression): string[] => smallestMissing(held, wanted)[0] ?? [];
  return {
    may: (method, params) => satisfies(held, expression(method, params)),
    missing: (method, params) => missing(expression(method, params)),
    shows: (what, readBy) => {
      const wanted = { AnyOf: readBy.map(([method, params]) => expression(method, params)) };
      const isSeen = satisfies(held, wanted);
      if (!isSeen) {
        note(what, missing(wanted));
      }
      return isSeen;
    },
    hide: (what, method) => {
      const declared = template(method);
      note(what, typeof declared === 'string' ? [declared] : []);
    },
    showsClient: clientId => {
      const declared = authApi.methods.listAuditHistory.scopes;
      const isSeen = clientId === caller.clientId || satisfies(held, renderTemplate(declared, { clientId }) ?? { AllOf: [] });
      if (!isSeen) {
        note('who changed the task', [declared]);
      }
      return isSeen;
    },
    get notShown() {
      return [...hidden.values()];
    },
  };
};
