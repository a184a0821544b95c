import { expect, test } from 'vitest';
import { outputPattern } from './docs.ts';

test.each([
  ['a\nb\n', 'a\nb\n', true],
  ['a\nb\n', 'a\nc\n', false],
  ['a\n', 'a\nb\n', false],
  ['a …\n', 'a b c\n', true],
  ['a …\n', 'a b\nc\n', false],
  ['a\n…\nb\n', 'a\nx\ny\nb\n', true],
  ['a\n…\nb\n', 'a\nb\n', true],
  ['a\n…\nb\n', 'a\nx\n', false],
  ['1.5 (x)\n', '1.5 (x)\n', true],
  ['1.5\n', '1x5\n', false],
])('%j says what %j is: %j', (stated, printed, isSo) => {
  expect(outputPattern(stated).test(printed)).toBe(isSo);
});
