import { expect, test } from 'vitest';
import { makeTurns } from './turns.ts';

test('creators and workers take turns, and claims stand back once for ends of runs', () => {
  const turns = makeTurns();
  const busy = { create: 8, end: 5, claim: 3 };
  expect(Array.from({ length: 6 }, () => turns.next(busy))).toEqual(['create', 'end', 'create', 'claim', 'create', 'end']);
});

test('workers alone end their runs, and then all claim', () => {
  const turns = makeTurns();
  expect(turns.next({ create: 0, end: 4, claim: 4 })).toBe('end');
  expect(turns.next({ create: 0, end: 0, claim: 8 })).toBe('claim');
  expect(turns.next({ create: 0, end: 8, claim: 0 })).toBe('end');
  expect(turns.next({ create: 0, end: 1, claim: 7 })).toBe('end');
  expect(turns.next({ create: 0, end: 1, claim: 7 })).toBe('claim');
});

test('no kind that nobody waits with is taken', () => {
  const kinds = ['create', 'end', 'claim'] as const;
  for (const kind of kinds) {
    const turns = makeTurns();
    for (const before of kinds) {
      turns.next({ create: 8, end: 8, claim: 8, [before]: 0 });
      expect(turns.next({ create: 0, end: 0, claim: 0, [kind]: 6 })).toBe(kind);
    }
  }
});

test('a few calls go together', () => {
  const turns = makeTurns();
  expect(turns.next({ create: 2, end: 2, claim: 1 })).toBeUndefined();
  expect(turns.isReady({ create: 9, end: 9, claim: 9 })).toBe(false);
  expect(turns.next({ create: 3, end: 2, claim: 1 })).toBe('create');
});

test('two workers go with many creators, unless they are late ones of many', () => {
  const turns = makeTurns();
  expect(turns.next({ create: 14, end: 1, claim: 1 })).toBeUndefined();
  expect(turns.next({ create: 14, end: 0, claim: 2 })).toBeUndefined();
  expect(turns.next({ create: 14, end: 8, claim: 0 })).toBe('create');
  expect(turns.next({ create: 6, end: 8, claim: 0 })).toBe('end');
  expect(turns.next({ create: 14, end: 0, claim: 2 })).toBe('create');
  expect(turns.next({ create: 6, end: 0, claim: 2 })).toBe('claim');
  expect(turns.next({ create: 14, end: 2, claim: 0 })).toBeUndefined();
});

test('two creators go with many workers', () => {
  const turns = makeTurns();
  expect(turns.next({ create: 2, end: 5, claim: 5 })).toBeUndefined();
  expect(turns.next({ create: 0, end: 5, claim: 5 })).toBe('end');
});

test('nobody is waited for when those are there whose turn it is', () => {
  const turns = makeTurns();
  turns.next({ create: 8, end: 0, claim: 0 });
  expect(turns.isReady({ create: 8, end: 1, claim: 1 })).toBe(false);
  expect(turns.isReady({ create: 0, end: 1, claim: 2 })).toBe(true);
  turns.next({ create: 0, end: 8, claim: 0 });
  expect(turns.isReady({ create: 2, end: 8, claim: 8 })).toBe(false);
  expect(turns.isReady({ create: 3, end: 0, claim: 0 })).toBe(true);
});
