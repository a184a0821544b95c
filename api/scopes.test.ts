import { readFileSync } from 'node:fs';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ScopeTemplate } from './define.ts';
import {
  ScopeSet,
  TemplateParamError,
  compareScopes,
  intersectScopes,
  isAutomatic,
  isSufficient,
  isValidScope,
  isValidTemplate,
  mergeScopes,
  missingScopes,
  normalizeScopes,
  patternMatch,
  renderTemplate,
  satisfies,
  satisfiesAll,
  smallestMissing,
  scopesSatisfying,
  sortScopes,
  templateParams,
  type ParamKind,
  type ScopeExpression,
} from './scopes.ts';
import { CLIENT_ID_PATTERN, SLUGID_PATTERN } from './types.ts';

interface Vectors {
  patternMatch: { pattern: string; scope: string; expect: boolean }[];
  validScope: { scope: unknown; expect: boolean }[];
  satisfaction: {
    scopes: string[];
    expression: ScopeExpression;
    satisfied: boolean;
    scopesSatisfying: string[] | null;
    missing: ScopeExpression | null;
  }[];
  normalize: { input: string[]; sorted: string[]; normalized: string[] }[];
  union: { a: string[]; b: string[]; union: string[] }[];
  intersection: { a: string[]; b: string[]; intersection: string[] }[];
  templateValid: { template: unknown; valid: boolean }[];
  templateRender: {
    template: ScopeTemplate;
    params: Record<string, unknown>;
    paramTypes: Record<string, ParamKind>;
    sufficient: boolean;
    rendered?: ScopeExpression | null;
    error?: string;
  }[];
  slugidPattern: { slug: string; v4: boolean }[];
  clientIdPattern: { value: string; ok: boolean }[];
}
const vectors = JSON.parse(readFileSync(new URL('../server/testing/vectors/auth.json', import.meta.url), 'utf8')) as Vectors;
const text = (value: unknown): string => JSON.stringify(value);

describe('vectors', () => {
  test.each(vectors.patternMatch)('$pattern matches $scope: $expect', ({ pattern, scope, expect: matches }) => {
    expect(patternMatch(pattern, scope)).toBe(matches);
    expect(satisfies([pattern], scope)).toBe(matches);
    expect(new ScopeSet([pattern]).has(scope)).toBe(matches);
  });

  test.each(vectors.validScope)('$scope is a scope: $expect', ({ scope, expect: valid }) => {
    expect(isValidScope(scope)).toBe(valid);
  });

  test.each(vectors.satisfaction)('$scopes for $expression', ({ scopes, expression, satisfied, scopesSatisfying: used, missing }) => {
    for (const held of [scopes, new ScopeSet(scopes)]) {
      expect(satisfies(held, expression)).toBe(satisfied);
      expect(scopesSatisfying(held, expression)).toEqual(used ?? undefined);
      expect(missingScopes(held, expression)).toEqual(missing ?? undefined);
    }
  });

  test.each(vectors.normalize)('normal form of $input', ({ input, sorted, normalized }) => {
    expect(sortScopes(input)).toEqual(sorted);
    expect(normalizeScopes(input)).toEqual(normalized);
    expect(new ScopeSet(input).scopes).toEqual(normalized);
  });

  test.each(vectors.union)('$a and $b together', ({ a, b, union }) => {
    expect(mergeScopes(a, b)).toEqual(union);
  });

  test.each(vectors.intersection)('what $a and $b share', ({ a, b, intersection }) => {
    expect(intersectScopes(a, b)).toEqual(intersection);
  });

  test.each(vectors.templateValid.map(v => ({ ...v, name: text(v.template) })))(
    'template $name is valid: $valid',
    ({ template, valid }) => {
      expect(isValidTemplate(template)).toBe(valid);
    },
  );

  test.each(vectors.templateRender.map(v => ({ ...v, name: `${text(v.template)} with ${text(v.params)}` })))('template $name', vector => {
    expect(Object.fromEntries(templateParams(vector.template))).toEqual(vector.paramTypes);
    expect(isSufficient(vector.template, vector.params)).toBe(vector.sufficient);
    if (vector.error === undefined) {
      expect(renderTemplate(vector.template, vector.params)).toEqual(vector.rendered ?? undefined);
    } else {
      const render = () => renderTemplate(vector.template, vector.params);
      expect(render).toThrow(TemplateParamError);
      expect(render).toThrow(vector.error);
    }
  });

  test.each(vectors.slugidPattern)('$slug is a slugid: $v4', ({ slug, v4 }) => {
    expect(new RegExp(SLUGID_PATTERN).test(slug)).toBe(v4);
  });

  test.each(vectors.clientIdPattern)('$value is a client id: $ok', ({ value, ok }) => {
    expect(new RegExp(CLIENT_ID_PATTERN).test(value)).toBe(ok);
  });
});

test('a method is authorised from its URL only when every branch can be', () => {
  expect(isAutomatic('queue:get-task:<taskId>', ['taskId'])).toBe(true);
  expect(isAutomatic('auth:list-clients', [])).toBe(true);
  expect(isAutomatic('object:upload:<projectId>:<name>', ['name'])).toBe(false);
  expect(isAutomatic({ AllOf: ['a:<x>', { for: 's', in: 'x', each: '<s>' }] }, ['x'])).toBe(false);
  expect(isAutomatic({ if: 'x', then: 'a' }, ['x'])).toBe(false);
  expect(isAutomatic({ AnyOf: ['a:<x>', { AllOf: ['b:<y>'] }] }, ['x', 'y'])).toBe(true);
});

describe('whatever the scopes', () => {
  // Few letters, so that scopes cover each other often.
  const scope = fc.string({ unit: fc.constantFrom('a', 'b', ':', '*'), maxLength: 5 });
  const scopes = fc.array(scope, { maxLength: 12 });

  test('a set answers like its list', () => {
    fc.assert(
      fc.property(scopes, scope, (held, wanted) => {
        const expected = held.some(pattern => patternMatch(pattern, wanted));
        expect(satisfies(held, wanted)).toBe(expected);
        expect(new ScopeSet(held).has(wanted)).toBe(expected);
      }),
    );
  });

  test('normal form gives the same, is sorted, and nothing in it covers another', () => {
    fc.assert(
      fc.property(scopes, held => {
        const normal = normalizeScopes(held);
        expect(satisfiesAll(normal, held)).toBe(true);
        expect(satisfiesAll(held, normal)).toBe(true);
        expect(normal).toEqual(normal.toSorted(compareScopes));
        expect(normal.filter(one => normal.some(other => other !== one && patternMatch(other, one)))).toEqual([]);
        expect(new Set(normal).size).toBe(normal.length);
      }),
    );
  });

  test('an intersection is given by both and gives what both give', () => {
    // A scope that ends with two stars also gives the pattern one star shorter, and so more than it matches. No client or role may have one.
    const sound = scopes.map(held => held.filter(one => !one.endsWith('**')));
    fc.assert(
      fc.property(sound, sound, scope, (a, b, wanted) => {
        const shared = intersectScopes(a, b);
        expect(satisfiesAll(a, shared) && satisfiesAll(b, shared)).toBe(true);
        expect(satisfies(shared, wanted)).toBe(satisfies(a, wanted) && satisfies(b, wanted));
      }),
    );
  });

  const { expression } = fc.letrec<{ expression: ScopeExpression }>(tie => ({
    expression: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      scope,
      fc.record({ AllOf: fc.array(tie('expression'), { maxLength: 3 }) }),
      fc.record({ AnyOf: fc.array(tie('expression'), { maxLength: 3 }) }),
    ),
  }));

  test('what is missing, what was used and whether it is satisfied agree', () => {
    fc.assert(
      fc.property(scopes, expression, (held, wanted) => {
        const satisfied = satisfies(held, wanted);
        const missing = missingScopes(held, wanted);
        const used = scopesSatisfying(held, wanted);
        expect(missing === undefined).toBe(satisfied);
        expect(used !== undefined).toBe(satisfied);
        if (used) {
          expect(satisfiesAll(held, used)).toBe(true);
          expect(satisfies(used, wanted)).toBe(true);
        }
        if (missing !== undefined) {
          expect(satisfies(held, missing)).toBe(false);
          expect(missingScopes(held, missing)).toEqual(missing);
        }
      }),
    );
  });

  const stringsIn = (wanted: ScopeExpression): string[] =>
    typeof wanted === 'string' ? [wanted] : ('AllOf' in wanted ? wanted.AllOf : wanted.AnyOf).flatMap(stringsIn);

  test('the fewest that are missing would do, and no fewer would', () => {
    fc.assert(
      fc.property(scopes, expression, (held, wanted) => {
        const strings = [...new Set(stringsIn(wanted))].slice(0, 10);
        fc.pre(strings.length === new Set(stringsIn(wanted)).size);
        const subsets = Array.from({ length: 2 ** strings.length }, (_, mask) => strings.filter((_, i) => mask & (2 ** i)));
        const sizes = subsets.filter(some => satisfies([...held, ...some], wanted)).map(some => some.length);
        const ways = smallestMissing(held, wanted);
        // a pattern that stands in another alternative might do for several
        const isApart = strings.every(one => strings.every(other => one === other || !patternMatch(one, other)));
        if (isApart) {
          expect(ways[0]?.length ?? Number.POSITIVE_INFINITY).toBe(Math.min(...sizes));
        }
        for (const way of ways) {
          expect(way).toHaveLength(ways[0]?.length ?? 0);
          expect(satisfies([...held, ...way], wanted)).toBe(true);
        }
      }),
    );
  });
});

describe('the fewest scopes that are missing', () => {
  const ways = (held: string[], wanted: ScopeExpression): string[][] => smallestMissing(held, wanted);

  test('are those of the smallest alternative', () => {
    expect(ways([], { AnyOf: ['a', { AllOf: ['b', 'c'] }] })).toEqual([['a']]);
    expect(ways(['b'], { AnyOf: [{ AllOf: ['x', 'y'] }, { AllOf: ['b', 'c'] }] })).toEqual([['c']]);
    expect(ways([], { AnyOf: ['a', 'b'] })).toEqual([['a'], ['b']]);
    expect(ways([], { AllOf: ['z', 'a', { AnyOf: ['b', 'c'] }] })).toEqual([
      ['a', 'b', 'z'],
      ['a', 'c', 'z'],
    ]);
  });

  test('serve several places at once', () => {
    expect(ways([], { AllOf: [{ AnyOf: ['a', 'b'] }, { AnyOf: ['b', 'c'] }] })).toEqual([['b']]);
    expect(ways([], { AllOf: ['x:*', 'x:y', 'x:z'] })).toEqual([['x:*']]);
  });

  test('are none when all is held, and there are none that would do for nothing', () => {
    expect(ways(['*'], { AllOf: ['a', 'b'] })).toEqual([[]]);
    expect(ways([], { AllOf: [] })).toEqual([[]]);
    expect(ways(['*'], { AnyOf: [] })).toEqual([]);
    expect(ways([], { AllOf: ['a', { AnyOf: [] }] })).toEqual([]);
  });

  test('are found in large expressions, too', () => {
    const many = Array.from({ length: 10_000 }, (_, i) => `queue:get-task:${i}`);
    expect(ways(['queue:get-task:1*'], { AllOf: many })[0]).toHaveLength(10_000 - 1_111);
    const pairs = Array.from({ length: 300 }, (_, i) => ({ AnyOf: [`a:${i}`, `b:${i}`] }));
    expect(ways([], { AllOf: pairs })[0]).toHaveLength(300);
  });
});
