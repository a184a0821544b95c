import { describe, expect, test } from 'vitest';
import { isRank, readOptions } from './options.ts';
import { isPath, pathOf, pathsOfRoutes, placeOf } from './paths.ts';

const EXPIRES = '2040-01-01T00:00:00.000Z';
const read = (index: unknown) => readOptions({ expires: EXPIRES, extra: { index } });
const DEFAULTS = { rank: 0, data: '{}', expires: new Date(EXPIRES) };

describe('extra.index', () => {
  test('has defaults', () => {
    expect(readOptions({ expires: EXPIRES })).toEqual(DEFAULTS);
    for (const index of [undefined, {}, null, 'x', 5, []]) {
      expect(read(index)).toEqual(DEFAULTS);
    }
    expect(readOptions({ expires: EXPIRES, extra: null })).toEqual(DEFAULTS);
  });

  test('says rank, data and expiry; the expiry may be after that of the task', () => {
    expect(read({ rank: -3, data: { a: [1] }, expires: '2050-01-01 00:00:00+01:00', more: 1 })).toEqual({
      rank: -3,
      data: '{"a":[1]}',
      expires: new Date('2049-12-31T23:00:00.000Z'),
    });
    expect(read({ expires: '2050-01-01' })).toEqual({ ...DEFAULTS, expires: new Date('2050-01-01T00:00:00.000Z') });
  });

  test.each([
    { rank: '1' },
    { rank: null },
    { rank: 0.5 },
    { rank: 2 ** 31 },
    { rank: Number.NaN },
    { data: null },
    { data: [] },
    { data: 'x' },
    { expires: 'soon' },
    { expires: null },
    { expires: 5 },
    { expires: '+099999-01-01T00:00:00Z' },
    { rank: 1, data: {}, expires: '' },
  ])('%j keeps a task out of the index', index => {
    expect(read(index)).toBeUndefined();
  });
});

test('ranks have 32 bits', () => {
  expect([0, -0, 2 ** 31 - 1, -(2 ** 31) + 1].map(isRank)).toEqual([true, true, true, true]);
  expect([2 ** 31, -(2 ** 31), 1.5, Number.POSITIVE_INFINITY, '1', null, undefined].map(isRank)).not.toContain(true);
});

test('paths', () => {
  expect(placeOf('a')).toEqual({ namespace: '', name: 'a' });
  expect(placeOf('a.b.c')).toEqual({ namespace: 'a.b', name: 'c' });
  for (const path of ['a', 'a.b.c', "!~*'()%.-"]) {
    expect(isPath(path)).toBe(true);
    expect(pathOf(placeOf(path))).toBe(path);
  }
  expect(['', '.', 'a.', '.a', 'a..b', 'a b', 'é', 'a\n', 'a.b\n', 'x'.repeat(256)].filter(isPath)).toEqual([]);
});

test('paths of routes', () => {
  expect(
    pathsOfRoutes([
      'route.index.a.b',
      'route.index.a.b',
      'route.indexes.c',
      'index.d',
      'route.index.',
      'route.index.a bad name',
      'route.x.index.e',
    ]),
  ).toEqual(['a.b']);
});
