import fc from 'fast-check';
import { expect, test } from 'vitest';
import { findCycles, wayRound } from './cycles.ts';

test('groups of nodes that reach each other are found', () => {
  expect(findCycles([])).toEqual([]);
  expect(findCycles([[0], [1]])).toEqual([]);
  expect(findCycles([[1], [2], []])).toEqual([]);
  expect(findCycles([[1], [0]])).toEqual([[0, 1]]);
  expect(findCycles([[1], [2], [0, 3], [4], [5], [3]]).map(group => group.toSorted((a, b) => a - b))).toEqual([
    [3, 4, 5],
    [0, 1, 2],
  ]);
});

test('a chain and a circle of 10,000 need no deep stack', () => {
  const chain = Array.from({ length: 10_000 }, (_, i) => (i === 0 ? [] : [i - 1]));
  expect(findCycles(chain)).toEqual([]);
  const circle = chain.map((edges, i) => (i === 0 ? [9_999] : edges));
  expect(findCycles(circle)[0]?.length).toBe(10_000);
  expect(wayRound(circle, findCycles(circle)[0] as number[]).length).toBe(10_000);
});

const graphs = fc
  .integer({ min: 1, max: 12 })
  .chain(size => fc.array(fc.uniqueArray(fc.nat(size - 1), { maxLength: 4 }), { minLength: size, maxLength: size }));

/** Node → everything that can be reached from it in one step or more. */
const reach = (edges: readonly (readonly number[])[]): Set<number>[] =>
  edges.map((_, start) => {
    const seen = new Set<number>();
    const visit = (node: number): void =>
      (edges[node] as number[]).forEach(target => {
        if (!seen.has(target)) {
          seen.add(target);
          visit(target);
        }
      });
    visit(start);
    return seen;
  });

test('what is found is what can be reached both ways, and each has a way round', () => {
  fc.assert(
    fc.property(graphs, edges => {
      const reached = reach(edges);
      const cycles = findCycles(edges);
      const inCycle = new Set(cycles.flat());
      edges.forEach((_, node) => {
        const isInOne = edges.some((_each, other) => other !== node && reached[node]?.has(other) && reached[other]?.has(node));
        expect(inCycle.has(node)).toBe(isInOne);
      });
      for (const members of cycles) {
        const way = wayRound(edges, members);
        expect(way.length).toBeGreaterThan(1);
        expect(new Set(way).size).toBe(way.length);
        way.forEach((node, i) => expect(edges[node]).toContain(way[(i + 1) % way.length]));
      }
    }),
  );
});
