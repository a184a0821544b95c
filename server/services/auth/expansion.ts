/**
 * Role expansion (protocol: "Role expansion"). A role is a rule: whoever holds a scope matching `assume:<roleId>` also holds the role's scopes, and so
 * on to a fixed point.
 *
 * A set of roles is compiled once per version of the roles. Rules without a trailing `*` stand in one sorted list, rules `p*` in another, each of the
 * latter linked to the longest other prefix `p'` of its own `p`. The rules that a scope `t` triggers are then found by one binary search: all prefixes
 * of `t` lie on the chain of links that starts at the greatest `p ≤ t`.
 *
 * What one scope triggers does not depend on the other scopes of a set, so that the closure of each is remembered, and the expansion of a set is the
 * union of closures.
 */
import { mergeScopes, normalizeScopes, patternMatch, ScopeSet } from '@tscluster/api/scopes.ts';

const ASSUME = 'assume:';
const PARAMETER = '<..>';

/** The most scopes that one expansion may yield: roles that fan out at every step could otherwise grow without end. */
export const MAX_EXPANDED_SCOPES = 100_000;
/** The most scopes, over all remembered closures, that one compiled set keeps. */
const MAX_REMEMBERED_SCOPES = 200_000;

export interface RoleRule {
  readonly roleId: string;
  readonly scopes: readonly string[];
}

export interface CompiledRoles {
  /** All scopes that follow from these, normalised. Throws `ExpansionError` beyond `MAX_EXPANDED_SCOPES`. */
  expand(scopes: readonly string[]): readonly string[];
  /** Throws `RoleError` when the whole set has a cycle or a malformed parameter. */
  validate(): void;
  /** The same for a set that was valid before this one role came or changed: any new cycle passes through it. */
  validateRole(roleId: string): void;
}

/** Roles that may not be stored: `cycle` or `parameter`. */
export class RoleError extends Error {
  readonly kind: 'cycle' | 'parameter';
  constructor(kind: 'cycle' | 'parameter', message: string) {
    super(message);
    this.name = 'RoleError';
    this.kind = kind;
  }
}

export class ExpansionError extends Error {
  constructor() {
    super(`these scopes expand to more than ${MAX_EXPANDED_SCOPES} scopes; roles that assume several others with a parameter multiply`);
    this.name = 'ExpansionError';
  }
}

/** `a:<..>:b` as what stands before and after the parameter. */
interface Template {
  readonly before: string;
  readonly after: string;
}

interface ExactRule {
  readonly pattern: string;
  readonly roleId: string;
  readonly scopes: readonly string[];
}

interface StarRule extends ExactRule {
  /** The pattern without its `*`. */
  readonly prefix: string;
  readonly plain: readonly string[];
  readonly templates: readonly Template[];
  /** The rule with the longest prefix that is a proper prefix of this one's. */
  parent: StarRule | undefined;
}

type Rule = ExactRule | StarRule;

/** Index of the first element not below `key`. */
const lowerBound = <T>(list: readonly T[], key: string, keyOf: (item: T) => string): number => {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (keyOf(list[middle] as T) < key) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
};

const patternOf = (rule: ExactRule): string => rule.pattern;
const prefixOf = (rule: StarRule): string => rule.prefix;
const byCodeUnits = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

const isTrigger = (scope: string): boolean => scope.startsWith(ASSUME) || (scope.endsWith('*') && ASSUME.startsWith(scope.slice(0, -1)));

const starRule = ({ roleId, scopes }: RoleRule): StarRule => {
  const plain: string[] = [];
  const templates: Template[] = [];
  for (const scope of scopes) {
    const at = scope.indexOf(PARAMETER);
    if (at === -1) {
      plain.push(scope);
    } else {
      templates.push({ before: scope.slice(0, at), after: scope.slice(at + PARAMETER.length) });
    }
  }
  const pattern = ASSUME + roleId;
  return { roleId, pattern, scopes, prefix: pattern.slice(0, -1), plain, templates, parent: undefined };
};

const fill = ({ before, after }: Template, parameter: string): string =>
  parameter.endsWith('*') ? before + parameter : before + parameter + after;

class Compiled implements CompiledRoles {
  readonly #exact: readonly ExactRule[];
  readonly #exactByPattern: ReadonlyMap<string, ExactRule>;
  readonly #star: readonly StarRule[];
  readonly #closures = new Map<string, readonly string[]>();
  #rememberedScopes = 0;

  constructor(roles: Iterable<RoleRule>) {
    const exact: ExactRule[] = [];
    const star: StarRule[] = [];
    for (const role of roles) {
      if (role.roleId.endsWith('*')) {
        star.push(starRule(role));
      } else {
        exact.push({ roleId: role.roleId, pattern: ASSUME + role.roleId, scopes: role.scopes });
      }
    }
    exact.sort((a, b) => byCodeUnits(a.pattern, b.pattern));
    star.sort((a, b) => byCodeUnits(a.prefix, b.prefix));
    let previous: StarRule | undefined;
    for (const rule of star) {
      let parent = previous;
      while (parent && !rule.prefix.startsWith(parent.prefix)) {
        parent = parent.parent;
      }
      rule.parent = parent;
      previous = rule;
    }
    this.#exact = exact;
    this.#exactByPattern = new Map(exact.map(rule => [rule.pattern, rule]));
    this.#star = star;
  }

  expand(scopes: readonly string[]): readonly string[] {
    // a scope dropped here would trigger nothing that the one covering it does not
    const input = normalizeScopes(scopes);
    if (input[0] === '*') {
      return ['*'];
    }
    const triggers = input.filter(isTrigger);
    if (triggers.length === 0) {
      return input;
    }
    if (input.length === 1) {
      return this.#closure(input[0] as string);
    }
    if (triggers.length <= 2) {
      let merged: readonly string[] = input;
      for (const trigger of triggers) {
        merged = mergeScopes(merged, this.#closure(trigger));
      }
      return this.#checked(merged);
    }
    const all = input.filter(scope => !isTrigger(scope));
    for (const trigger of triggers) {
      for (const scope of this.#closure(trigger)) {
        all.push(scope);
      }
      this.#checked(all);
    }
    return normalizeScopes(all);
  }

  validate(): void {
    for (const rule of this.#star) {
      checkParameters(rule);
    }
    this.#findCycle([...this.#exact, ...this.#star].sort((a, b) => byCodeUnits(a.pattern, b.pattern)));
  }

  validateRole(roleId: string): void {
    const rule = this.#rule(roleId);
    if (rule) {
      if ('prefix' in rule) {
        checkParameters(rule);
      }
      this.#findCycle([rule]);
    }
  }

  #rule(roleId: string): Rule | undefined {
    if (!roleId.endsWith('*')) {
      return this.#exactByPattern.get(ASSUME + roleId);
    }
    const prefix = (ASSUME + roleId).slice(0, -1);
    const rule = this.#star[lowerBound(this.#star, prefix, prefixOf)];
    return rule?.prefix === prefix ? rule : undefined;
  }

  #checked<T extends readonly string[]>(scopes: T): T {
    if (scopes.length > MAX_EXPANDED_SCOPES) {
      throw new ExpansionError();
    }
    return scopes;
  }

  /** Everything that follows from one scope, itself included, normalised. */
  #closure(scope: string): readonly string[] {
    const known = this.#closures.get(scope);
    if (known) {
      return known;
    }
    const found = new Set([scope]);
    // a Set iterates over what is added meanwhile
    for (const next of found) {
      if (isTrigger(next)) {
        this.#addConsequences(next, found);
        if (found.size > MAX_EXPANDED_SCOPES) {
          throw new ExpansionError();
        }
      }
    }
    const closure = normalizeScopes([...found]);
    if (this.#rememberedScopes + closure.length > MAX_REMEMBERED_SCOPES) {
      this.#closures.clear();
      this.#rememberedScopes = 0;
    }
    this.#closures.set(scope, closure);
    this.#rememberedScopes += closure.length;
    return closure;
  }

  #addConsequences(scope: string, found: Set<string>): void {
    this.#eachRule(scope, (rule, parameter) => {
      if (parameter === undefined || !('prefix' in rule)) {
        for (const added of rule.scopes) {
          found.add(added);
        }
        return;
      }
      for (const added of rule.plain) {
        found.add(added);
      }
      for (const template of rule.templates) {
        found.add(fill(template, parameter));
      }
    });
  }

  /** The rules that a scope triggers, with the parameter for those that end in `*`. */
  #eachRule(scope: string, visit: (rule: Rule, parameter: string | undefined) => void): void {
    const isWild = scope.endsWith('*');
    const stem = isWild ? scope.slice(0, -1) : scope;
    if (isWild) {
      for (let i = lowerBound(this.#exact, stem, patternOf); i < this.#exact.length; i += 1) {
        const rule = this.#exact[i] as ExactRule;
        if (!rule.pattern.startsWith(stem)) {
          break;
        }
        visit(rule, undefined);
      }
    } else {
      const rule = this.#exactByPattern.get(scope);
      if (rule) {
        visit(rule, undefined);
      }
    }
    for (let rule = this.#longestPrefix(stem); rule; rule = rule.parent) {
      visit(rule, scope.slice(rule.prefix.length));
    }
    if (isWild) {
      for (let i = lowerBound(this.#star, stem, prefixOf); i < this.#star.length; i += 1) {
        const rule = this.#star[i] as StarRule;
        if (!rule.prefix.startsWith(stem)) {
          break;
        }
        // the same prefix was on the chain above
        if (rule.prefix.length > stem.length) {
          visit(rule, '*');
        }
      }
    }
  }

  #longestPrefix(text: string): StarRule | undefined {
    const at = lowerBound(this.#star, text, prefixOf);
    let rule = this.#star[at]?.prefix === text ? this.#star[at] : this.#star[at - 1];
    while (rule && !text.startsWith(rule.prefix)) {
      rule = rule.parent;
    }
    return rule;
  }

  /** The rules that may apply once this one does, whatever its parameter. */
  #dependencies(rule: Rule): Set<Rule> {
    const found = new Set<Rule>();
    const scopes = 'prefix' in rule ? [...rule.plain, ...rule.templates.map(template => fill(template, '*'))] : rule.scopes;
    for (const scope of scopes) {
      if (!isTrigger(scope)) {
        continue;
      }
      // a literal scope against a pattern is `#eachRule`, save that `a*` as a pattern also covers the text `a*` itself: same rules
      this.#eachRule(scope, next => {
        if (patternMatch(scope, next.pattern) || patternMatch(next.pattern, scope)) {
          found.add(next);
        }
      });
    }
    return found;
  }

  /** Depth first, without recursion: chains of roles may be long. */
  #findCycle(starts: readonly Rule[]): void {
    const done = new Set<Rule>();
    for (const start of starts) {
      if (done.has(start)) {
        continue;
      }
      const path: { rule: Rule; next: Iterator<Rule> }[] = [{ rule: start, next: this.#dependencies(start).values() }];
      const onPath = new Set<Rule>([start]);
      while (path.length > 0) {
        const top = path[path.length - 1] as (typeof path)[number];
        const { value: dependency, done: exhausted } = top.next.next();
        if (exhausted) {
          path.pop();
          onPath.delete(top.rule);
          done.add(top.rule);
        } else if (onPath.has(dependency)) {
          const from = path.findIndex(step => step.rule === dependency);
          const names = [...path.slice(from).map(step => step.rule.pattern), dependency.pattern];
          throw new RoleError('cycle', `Roles may not contain dependency cycles, found: ${names.map(name => `'${name}'`).join(' -> ')}`);
        } else if (!done.has(dependency)) {
          path.push({ rule: dependency, next: this.#dependencies(dependency).values() });
          onPath.add(dependency);
        }
      }
    }
  }
}

const checkParameters = (rule: StarRule): void => {
  for (const scope of rule.scopes) {
    const first = scope.indexOf(PARAMETER);
    if (first === -1) {
      continue;
    }
    if (scope.includes(PARAMETER, first + PARAMETER.length)) {
      throw new RoleError('parameter', `parameterized scope '${scope}' contains multiple '${PARAMETER}'`);
    }
    if (scope.endsWith(`*${PARAMETER}`)) {
      throw new RoleError('parameter', `parameterized scope '${scope}' ends with '*${PARAMETER}' which implies an ambiguous kleene`);
    }
  }
};

/** Compiles a set of roles for expansion and validation. Valid roles are assumed for expansion. */
export const compileRoles = (roles: Iterable<RoleRule>): CompiledRoles => new Compiled(roles);

/**
 * The scopes that an update adds to a role: those not satisfied by the expansion of its present scopes. (Unlike clients, where a scope counts as added
 * when it is not literally there.)
 */
export const scopesAddedToRole = (expandedOldScopes: readonly string[], newScopes: readonly string[]): string[] => {
  const held = new ScopeSet(expandedOldScopes);
  return newScopes.filter(scope => !held.has(scope));
};
