import { expect, test } from 'vitest';
import { addHashes, hasHashes, readHashes } from './hashes.ts';

test('values become text', () => {
  expect(readHashes({ sha256: 'a', n: 7, flag: true })).toEqual({ sha256: 'a', n: '7', flag: 'true' });
  expect(readHashes(undefined)).toEqual({});
  expect(readHashes({ none: null, list: [1, [2]], mean: { toString: 1, valueOf: 2 } })).toEqual({
    none: 'null',
    list: '[1,[2]]',
    mean: '{"toString":1,"valueOf":2}',
  });
});

test('algorithms are added, values never change', () => {
  expect(addHashes({ a: '1' }, { a: '1', b: '2' })).toEqual({ a: '1', b: '2' });
  expect(() => addHashes({ a: '1' }, { a: '2' })).toThrow('The a hash of this object was given as 1 before; it cannot become 2.');
  expect(addHashes({}, { constructor: 'x' })).toEqual({ constructor: 'x' });
});

test('what is finished has all of them or not', () => {
  expect(hasHashes({ a: '1', b: '2' }, { b: '2' })).toBe(true);
  expect(hasHashes({ a: '1' }, { b: '2' })).toBe(false);
  expect(hasHashes({ a: '1' }, { a: '2' })).toBe(false);
  expect(hasHashes({}, { constructor: 'x' })).toBe(false);
});
