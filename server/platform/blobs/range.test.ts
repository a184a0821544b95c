import { expect, test } from 'vitest';
import { chooseRange } from './range.ts';

test.each([
  [undefined, 10, { kind: 'all' }],
  ['bytes=0-3', 10, { kind: 'part', start: 0, end: 3 }],
  ['bytes=4-', 10, { kind: 'part', start: 4, end: 9 }],
  ['bytes=-3', 10, { kind: 'part', start: 7, end: 9 }],
  ['bytes=-30', 10, { kind: 'part', start: 0, end: 9 }],
  ['bytes=8-99', 10, { kind: 'part', start: 8, end: 9 }],
  ['bytes=0-0', 1, { kind: 'part', start: 0, end: 0 }],
  ['bytes=10-', 10, { kind: 'none' }],
  ['bytes=-0', 10, { kind: 'none' }],
  ['bytes=0-', 0, { kind: 'none' }],
  ['bytes=5-2', 10, { kind: 'all' }],
  ['bytes=-', 10, { kind: 'all' }],
  ['bytes=0-1,4-5', 10, { kind: 'all' }],
  ['lines=0-1', 10, { kind: 'all' }],
])('%s of %i bytes', (header, size, expected) => {
  expect(chooseRange(header, size)).toEqual(expected);
});
