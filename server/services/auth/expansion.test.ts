import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { normalizeScopes, patternMatch } from '@tscluster/api/scopes.ts';
import vectors from '../../testing/vectors/auth.json' with { type: 'json' };
import { compileRoles, ExpansionError, RoleError, scopesAddedToRole } from './expansion.ts';
import type { RoleRule } from './expansion.ts';

const rules = (roles: Record<string, string[]>): RoleRule[] => Object.entries(roles).map(([roleId, scopes]) => ({ roleId, scopes }));
const roleSets = vectors.roleSets as Record<string, Record<string, string[]>>;

const errorOf = (run: () => void): RoleError | undefined => {
  try {
    run();
    return undefined;
  } catch (error) {
    if (error instanceof RoleError) {
      return error;
    }
    throw error;
  }
};

describe('the protocol vectors', () => {
  test.each(vectors.roleExpansion)('$roles: $input', vector => {
    const compiled = compileRoles(rules(roleSets[vector.roles] ?? {}));
    const refused = errorOf(() => compiled.validate());
    if (vector.expanded) {
      expect(refused).toBeUndefined();
      expect(compiled.expand(vector.input)).toEqual(vector.expanded);
    } else {
      expect(refused?.kind).toBe('cycle');
    }
  });

  test.each(vectors.roleValidation)('validation of $roles', vector => {
    const roles = rules(vector.roles);
    const compiled = compileRoles(roles);
    const refused = errorOf(() => compiled.validate());
    expect(refused?.message).toBe(vector.error?.message);
    expect(refused?.kind).toBe({ DependencyCycleError: 'cycle', InvalidScopeError: 'parameter' }[vector.error?.code ?? '']);
    // of a set that is refused, some one role is to blame; in a valid set none is
    const blamed = roles.filter(({ roleId }) => errorOf(() => compiled.validateRole(roleId)));
    expect(blamed.length > 0).toBe(!vector.ok);
  });

  test.each(vectors.updateRoleScopesAdded)('$roleId to $newScopes', vector => {
    const roles = vector.roles as unknown as Record<string, string[]>;
    const compiled = compileRoles(rules(roles));
    expect(scopesAddedToRole(compiled.expand(roles[vector.roleId] ?? []), vector.newScopes)).toEqual(vector.scopesAdded);
  });
});

/** The protocol's definition, word for word. */
const fixedPoint = (roles: readonly RoleRule[], input: readonly string[]): string[] => {
  const found = new Set(input);
  for (const scope of found) {
    const wild = scope.endsWith('*');
    const t = wild ? scope.slice(0, -1) : scope;
    for (const { roleId, scopes } of roles) {
      const pattern = `assume:${roleId}`;
      if (!pattern.endsWith('*')) {
        if (scope === pattern || (wild && pattern.startsWith(t))) {
          scopes.forEach(added => found.add(added));
        }
        continue;
      }
      const prefix = pattern.slice(0, -1);
      const parameter = t.startsWith(prefix) ? scope.slice(prefix.length) : wild && prefix.startsWith(t) ? '*' : undefined;
      if (parameter !== undefined) {
        scopes.forEach(added =>
          found.add(parameter.endsWith('*') ? added.replace(/<\.\.>.*$/, () => parameter) : added.replace('<..>', () => parameter)),
        );
      }
    }
  }
  return normalizeScopes([...found]);
};

/** The protocol's dependency rule over all pairs, and reachability. */
const hasCycle = (roles: readonly RoleRule[]): boolean => {
  const edges = roles.map(({ roleId, scopes }) => {
    const substituted = roleId.endsWith('*') ? scopes.map(scope => scope.replace(/<\.\.>.*$/, () => '*')) : scopes;
    return roles.flatMap((other, index) => {
      const pattern = `assume:${other.roleId}`;
      return substituted.some(scope => patternMatch(scope, pattern) || patternMatch(pattern, scope)) ? [index] : [];
    });
  });
  return edges.some((_, start) => {
    const reached = new Set(edges[start]);
    for (const next of reached) {
      edges[next]?.forEach(index => reached.add(index));
    }
    return reached.has(start);
  });
};

describe('against the definition', () => {
  const word = fc.stringMatching(/^[ab:]{0,3}$/);
  const roleId = fc.tuple(word, fc.constantFrom('', '*', '*', '**')).map(([name, star]) => (name + star === '' ? 'a' : name + star));
  const scope = fc.oneof(
    fc.tuple(fc.constantFrom('assume:', 'assume:', 'x:'), word, fc.constantFrom('', '<..>', '*', 'c<..>d')).map(parts => parts.join('')),
    fc.constantFrom('a', 'ab*', 'x*'),
  );
  const role = fc.record({ roleId, scopes: fc.uniqueArray(scope, { maxLength: 3 }) });
  const roles = fc.uniqueArray(role, { maxLength: 6, selector: item => item.roleId });
  const input = fc.array(
    fc.tuple(fc.constantFrom('assume:', 'ass', 'y'), word, fc.constantFrom('', '*', '**')).map(parts => parts.join('')),
    { maxLength: 4 },
  );

  test('cycles are found exactly where there are some', () => {
    fc.assert(
      fc.property(roles, set => {
        expect(errorOf(() => compileRoles(set).validate())?.kind).toBe(hasCycle(set) ? 'cycle' : undefined);
      }),
      { numRuns: 2_000 },
    );
  });

  test('expansion is the fixed point', () => {
    fc.assert(
      fc.property(roles, input, (set, scopes) => {
        fc.pre(!hasCycle(set));
        expect(compileRoles(set).expand(scopes)).toEqual(fixedPoint(set, scopes));
      }),
      { numRuns: 3_000 },
    );
  });

  test('a role added to a valid set is to blame for any cycle', () => {
    fc.assert(
      fc.property(roles, role, (set, added) => {
        fc.pre(!hasCycle(set));
        const changed = [...set.filter(item => item.roleId !== added.roleId), added];
        expect(errorOf(() => compileRoles(changed).validateRole(added.roleId))?.kind).toBe(hasCycle(changed) ? 'cycle' : undefined);
      }),
      { numRuns: 2_000 },
    );
  });
});

test('an expansion that multiplies without end is refused', () => {
  const roles = Array.from({ length: 30 }, (_, i) => ({
    roleId: `a${i}:*`,
    scopes: [`assume:a${i + 1}:<..>x`, `assume:a${i + 1}:<..>y`],
  }));
  const compiled = compileRoles(roles);
  compiled.validate();
  expect(() => compiled.expand(['assume:a0:'])).toThrow(ExpansionError);
});

test('a closure does not outlive its version', () => {
  expect(compileRoles([{ roleId: 'a', scopes: ['x'] }]).expand(['assume:a'])).toEqual(['assume:a', 'x']);
  expect(compileRoles([{ roleId: 'a', scopes: ['y'] }]).expand(['assume:a'])).toEqual(['assume:a', 'y']);
});
