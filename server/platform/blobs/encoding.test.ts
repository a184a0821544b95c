import { expect, test } from 'vitest';
import { acceptsEncoding, makeDecoder } from './encoding.ts';

test.each([
  [undefined, true],
  ['gzip', true],
  ['GZIP, deflate', true],
  ['gzip;q=0.5', true],
  ['*', true],
  ['identity', false],
  ['', false],
  ['gzip;q=0', false],
  ['gzip; q=0.000, *', false],
  ['br, *;q=0', false],
])('Accept-Encoding %s admits gzip: %s', (header, expected) => {
  expect(acceptsEncoding(header, 'gzip')).toBe(expected);
});

test('what cannot be decoded is told', () => {
  expect(makeDecoder('compress')).toBeUndefined();
  expect(makeDecoder('gzip')).toBeDefined();
});
