/**
 * The scope algebra: pure, and on the path of every call.
 *
 * A scope is a string of printable ASCII characters. One that ends with `*` is held as a pattern and stands for everything that begins with what is
 * before the star; a star anywhere else is a star. What a caller needs is an expression over scopes; what an API declares is a template of such an
 * expression, whose parameters are filled in for each call.
 *
 * Everything here takes scopes as strings; only `ScopeSet` remembers anything. It answers in the time of a binary search, for sets that are asked
 * more than a few times, such as what a client may do.
 */
import type { ScopeTemplate, ScopeTemplateItem } from './define.ts';

/** What a caller must satisfy. An empty `AllOf` is always satisfied, an empty `AnyOf` never. */
export type ScopeExpression = string | { AllOf: readonly ScopeExpression[] } | { AnyOf: readonly ScopeExpression[] };

const SCOPE = /^[\x20-\x7e]*$/;
const STAR = 42;

export const isValidScope = (scope: unknown): scope is string => typeof scope === 'string' && SCOPE.test(scope);

const isPattern = (scope: string): boolean => scope.charCodeAt(scope.length - 1) === STAR;
const prefixOf = (scope: string): string => (isPattern(scope) ? scope.slice(0, -1) : scope);

/** Whether holding `pattern` gives `scope`: they are equal, or the pattern ends with `*` and the scope begins with the rest of it. */
export const patternMatch = (pattern: string, scope: string): boolean =>
  pattern === scope || (isPattern(pattern) && scope.startsWith(pattern.slice(0, -1)));

// ---- order and normal form ----

/** The order of scopes: by characters without a final star; of two that are alike then, the one with the star comes first. */
export function compareScopes(a: string, b: string): number {
  const [x, y] = [prefixOf(a), prefixOf(b)];
  if (x !== y) {
    return x < y ? -1 : 1;
  }
  return a === b ? 0 : a.length > b.length ? -1 : 1;
}

export const sortScopes = (scopes: readonly string[]): string[] => scopes.toSorted(compareScopes);

/** The shortest list that gives the same: sorted, without repetitions and without scopes that another covers. */
export const normalizeScopes = (scopes: readonly string[]): string[] => dropCovered(sortScopes(scopes));

/** Of a sorted list. What a pattern covers follows it directly. */
function dropCovered(sorted: readonly string[]): string[] {
  const kept: string[] = [];
  let last: string | undefined;
  let covering: string | undefined;
  for (const scope of sorted) {
    if (scope === last || (covering !== undefined && scope.startsWith(covering))) {
      continue;
    }
    kept.push(scope);
    last = scope;
    covering = isPattern(scope) ? scope.slice(0, -1) : undefined;
  }
  return kept;
}

/** What two sets give together, in normal form. */
export const mergeScopes = (a: readonly string[], b: readonly string[]): string[] => normalizeScopes([...a, ...b]);

/** What both sets give: those of `a` that `b` covers, then those of `b` that `a` covers; not sorted. */
export function intersectScopes(a: readonly string[], b: readonly string[]): string[] {
  const covered = (scopes: readonly string[], by: readonly string[]) => {
    const set = new ScopeSet(by);
    return scopes.filter(scope => set.has(scope));
  };
  return [...new Set([...covered(a, b), ...covered(b, a)])];
}

// ---- satisfaction ----

/** A set of scopes that is asked often. */
export class ScopeSet {
  /** In normal form. */
  readonly scopes: readonly string[];
  readonly #exact: ReadonlySet<string>;
  /** What is before the stars. In normal form none begins with another, so at most one can be the beginning of a given scope: the last that is not after it. */
  readonly #prefixes: readonly string[];

  constructor(scopes: readonly string[]) {
    this.scopes = normalizeScopes(scopes);
    this.#exact = new Set(this.scopes);
    this.#prefixes = this.scopes.filter(isPattern).map(prefixOf);
  }

  /** Whether the set gives this scope. */
  has(scope: string): boolean {
    if (this.#exact.has(scope)) {
      return true;
    }
    let low = 0;
    let high = this.#prefixes.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#prefixes[middle] as string) <= scope) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low > 0 && scope.startsWith(this.#prefixes[low - 1] as string);
  }
}

/** Scopes that a caller holds, as a list or ready to be asked. */
export type HeldScopes = readonly string[] | ScopeSet;

const holds = (held: HeldScopes, scope: string): boolean => {
  if (held instanceof ScopeSet) {
    return held.has(scope);
  }
  for (const pattern of held) {
    if (patternMatch(pattern, scope)) {
      return true;
    }
  }
  return false;
};

/** Whether holding these scopes satisfies the expression. */
export function satisfies(held: HeldScopes, expression: ScopeExpression): boolean {
  if (typeof expression === 'string') {
    return holds(held, expression);
  }
  return 'AllOf' in expression
    ? expression.AllOf.every(part => satisfies(held, part))
    : expression.AnyOf.some(part => satisfies(held, part));
}

/** Whether holding these scopes gives every one of some others. */
export const satisfiesAll = (held: HeldScopes, scopes: readonly string[]): boolean => scopes.every(scope => holds(held, scope));

/**
 * The required scopes that were found, in normal form, for the audit log: from an `AnyOf` those of every satisfied branch. Undefined when the expression
 * is not satisfied.
 */
export function scopesSatisfying(held: HeldScopes, expression: ScopeExpression): string[] | undefined {
  const found: string[] = [];
  return collectSatisfying(held, expression, found) ? normalizeScopes(found) : undefined;
}

function collectSatisfying(held: HeldScopes, expression: ScopeExpression, found: string[]): boolean {
  if (typeof expression === 'string') {
    const satisfied = holds(held, expression);
    if (satisfied) {
      found.push(expression);
    }
    return satisfied;
  }
  if ('AllOf' in expression) {
    const before = found.length;
    if (expression.AllOf.every(part => collectSatisfying(held, part, found))) {
      return true;
    }
    found.length = before;
    return false;
  }
  let any = false;
  for (const part of expression.AnyOf) {
    any = collectSatisfying(held, part, found) || any;
  }
  return any;
}

/** What is left of an expression without the parts that are satisfied, for the message to the caller. Undefined when nothing is missing. */
export function missingScopes(held: HeldScopes, expression: ScopeExpression): ScopeExpression | undefined {
  if (typeof expression === 'string') {
    return holds(held, expression) ? undefined : expression;
  }
  const isAll = 'AllOf' in expression;
  const parts = isAll ? expression.AllOf : expression.AnyOf;
  const missing = parts.map(part => missingScopes(held, part)).filter(part => part !== undefined);
  if (isAll ? missing.length === 0 : missing.length < parts.length) {
    return undefined;
  }
  return missing.length === 1 ? missing[0] : isAll ? { AllOf: missing } : { AnyOf: missing };
}

/** Ways that are followed at once: more are only met in expressions that nobody declares. */
const MAX_WAYS = 20;

/**
 * The ways to satisfy an expression with the fewest scopes beyond those held: sets in normal form, all of the same size. One empty set when nothing is
 * missing; none when no scopes would do (an empty `AnyOf`). With more than twenty ways at one place the rest are not looked at, and a pattern of one
 * alternative is not proposed for what another asks for, though it would give that, too.
 */
export function smallestMissing(held: HeldScopes, expression: ScopeExpression): string[][] {
  const ways = waysToSatisfy(held, expression);
  const size = ways[0]?.length;
  return ways.filter(way => way.length === size);
}

/** Sets that would do, the smallest first. */
function waysToSatisfy(held: HeldScopes, expression: ScopeExpression): string[][] {
  if (typeof expression === 'string') {
    return [holds(held, expression) ? [] : [expression]];
  }
  if ('AnyOf' in expression) {
    return smallestFirst(expression.AnyOf.flatMap(part => waysToSatisfy(held, part)));
  }
  const parts = expression.AllOf.map(part => waysToSatisfy(held, part));
  const certain = parts.filter(ways => ways.length === 1).flatMap(ways => ways[0] as string[]);
  const open = parts.filter(ways => ways.length !== 1);
  return open.reduce<string[][]>(
    (before, ways) => smallestFirst(before.flatMap(some => ways.map(more => normalizeScopes([...some, ...more])))),
    [normalizeScopes(certain)],
  );
}

const smallestFirst = (ways: readonly string[][]): string[][] => {
  const distinct = new Map(ways.map(way => [JSON.stringify(way), way]));
  return [...distinct.values()].toSorted((a, b) => a.length - b.length).slice(0, MAX_WAYS);
};

// ---- templates ----

/** Values for the parameters of a template: text or numbers for `<x>`, lists for `in`, true or false for `if`. */
export type TemplateParams = Readonly<Record<string, unknown>>;

const PARAM_NAME = /^[a-zA-Z][a-zA-Z0-9_]*$/;
const PARAM = /<([a-zA-Z][a-zA-Z0-9_]*)>/;

/** Whether a declaration's scopes are well formed; `for` is allowed only inside `AllOf` and `AnyOf`. */
export function isValidTemplate(template: unknown): template is ScopeTemplate {
  if (typeof template === 'string') {
    return SCOPE.test(template);
  }
  const keys = template !== null && typeof template === 'object' ? Object.keys(template).toSorted().join() : '';
  const it = template as Record<string, unknown>;
  switch (keys) {
    case 'AllOf':
    case 'AnyOf':
      return Array.isArray(it[keys]) && it[keys].every(item => isValidTemplate(item) || isValidFor(item));
    case 'if,then':
      return isParamName(it['if']) && isValidTemplate(it['then']);
    case 'else,if,then':
      return isParamName(it['if']) && isValidTemplate(it['then']) && isValidTemplate(it['else']);
    default:
      return false;
  }
}

const isParamName = (name: unknown): boolean => typeof name === 'string' && PARAM_NAME.test(name);

function isValidFor(item: unknown): boolean {
  if (item === null || typeof item !== 'object' || Object.keys(item).toSorted().join() !== 'each,for,in') {
    return false;
  }
  const { for: name, in: list, each } = item as Record<string, unknown>;
  return isParamName(name) && isParamName(list) && typeof each === 'string' && SCOPE.test(each);
}

/** Text and parameter names in turn, beginning and ending with text. The templates are those of the declarations, so what is remembered is bounded. */
const parsed = new Map<string, readonly string[]>();
function parse(text: string): readonly string[] {
  let parts = parsed.get(text);
  if (!parts) {
    parts = text.split(PARAM);
    parsed.set(text, parts);
  }
  return parts;
}

/** Thrown where a template is given parameters that do not fit: a mistake of the service and not of the caller. */
export class TemplateParamError extends Error {
  constructor(name: string, kind: string) {
    super(`Scope expression template expected parameter '${name}' to be a ${kind}`);
    this.name = 'TemplateParamError';
  }
}

function renderText(template: string, params: TemplateParams): string {
  const parts = parse(template);
  let text = parts[0] as string;
  for (let i = 1; i < parts.length; i += 2) {
    const name = parts[i] as string;
    const value = params[name];
    if (typeof value !== 'string' && typeof value !== 'number') {
      throw new TemplateParamError(name, 'string or number');
    }
    text += value;
    text += parts[i + 1] as string;
  }
  return text;
}

export interface RenderOptions {
  /** Alternatives that a `for` makes stand in the order of their list, by convention the strongest first; this turns them round. */
  readonly weakestFirst?: boolean;
}

/**
 * Fills in a template. Values are not looked into: `<x>` in one stays text. Undefined means that nothing is required (an `if` without `else` at the
 * top). Throws `TemplateParamError` when a parameter that is needed is missing or of the wrong kind.
 */
export function renderTemplate(template: ScopeTemplate, params: TemplateParams, options: RenderOptions = {}): ScopeExpression | undefined {
  if (typeof template === 'string') {
    return renderText(template, params);
  }
  if ('AllOf' in template) {
    return { AllOf: renderItems(template.AllOf, params, options, false) };
  }
  if ('AnyOf' in template) {
    return { AnyOf: renderItems(template.AnyOf, params, options, options.weakestFirst ?? false) };
  }
  const flag = params[template.if];
  if (typeof flag !== 'boolean') {
    throw new TemplateParamError(template.if, 'boolean');
  }
  const chosen = flag ? template.then : template.else;
  return chosen === undefined ? undefined : renderTemplate(chosen, params, options);
}

function renderItems(
  items: readonly ScopeTemplateItem[],
  params: TemplateParams,
  options: RenderOptions,
  isTurned: boolean,
): ScopeExpression[] {
  const rendered: ScopeExpression[] = [];
  for (const item of items) {
    if (typeof item === 'object' && 'for' in item) {
      const list = params[item.in];
      if (!Array.isArray(list)) {
        throw new TemplateParamError(item.in, 'array');
      }
      const own: Record<string, unknown> = { ...params };
      for (const value of isTurned ? list.toReversed() : list) {
        own[item.for] = value;
        rendered.push(renderText(item.each, own));
      }
    } else {
      const part = renderTemplate(item, params, options);
      if (part !== undefined) {
        rendered.push(part);
      }
    }
  }
  return rendered;
}

export type ParamKind = 'string' | 'array' | 'boolean';

/** The parameters of a template and their kinds, over all its branches. */
export function templateParams(template: ScopeTemplateItem): Map<string, ParamKind> {
  const found = new Map<string, ParamKind>();
  const text = (template: string, own?: string) => {
    for (const [i, name] of parse(template).entries()) {
      if (i % 2 === 1 && name !== own) {
        found.set(name, 'string');
      }
    }
  };
  const visit = (item: ScopeTemplateItem): void => {
    if (typeof item === 'string') {
      text(item);
    } else if ('AllOf' in item) {
      item.AllOf.forEach(visit);
    } else if ('AnyOf' in item) {
      item.AnyOf.forEach(visit);
    } else if ('for' in item) {
      found.set(item.in, 'array');
      text(item.each, item.for);
    } else {
      found.set(item.if, 'boolean');
      visit(item.then);
      if (item.else !== undefined) {
        visit(item.else);
      }
    }
  };
  visit(template);
  return found;
}

/** Whether these values fit the template, whichever branch is taken. */
export const isSufficient = (template: ScopeTemplate, params: TemplateParams): boolean =>
  [...templateParams(template)].every(([name, kind]) => {
    const value = params[name];
    return kind === 'array' ? Array.isArray(value) : kind === 'boolean' ? typeof value === 'boolean' : isText(value);
  });

const isText = (value: unknown): boolean => typeof value === 'string' || typeof value === 'number';

/**
 * Whether a method is authorised before its handler runs, and before its arguments are even validated: its URL, without the parameters that may be
 * missing, has all that the template needs. Everything else is authorised by the handler.
 */
export const isAutomatic = (template: ScopeTemplate, requiredRouteParams: readonly string[]): boolean =>
  [...templateParams(template)].every(([name, kind]) => kind === 'string' && requiredRouteParams.includes(name));
