import { expect, test } from 'vitest';
import { formatDuration, fromNow, parseDuration } from './durations.ts';

const SECOND = 1000;
const HOUR = 3600 * SECOND;
const DAY = 24 * HOUR;

test.each([
  ['', 0],
  ['2 days 3 hours', 2 * DAY + 3 * HOUR],
  ['2d3h', 2 * DAY + 3 * HOUR],
  ['1 year 2 months 3 weeks', (365 + 60 + 21) * DAY],
  ['1yr2mo3wk4d5hr6min7sec', (365 + 60 + 21 + 4) * DAY + 5 * HOUR + 367 * SECOND],
  ['1Y 1MO 1W 1D 1H 1M 1S', (365 + 30 + 7 + 1) * DAY + HOUR + 61 * SECOND],
  ['-1mo', -30 * DAY],
  ['+ 5 seconds', 5 * SECOND],
  ['90m', 90 * 60 * SECOND],
  ['  1 minute  ', 60 * SECOND],
])('%j is a duration', (text, ms) => {
  expect(parseDuration(text)).toBe(ms);
});

test.each(['1h 2d', '1', 'day', '1 fortnight', '1.5 h', '--1d', '1d1d', '1 monthly'])('%j is not', text => {
  expect(() => parseDuration(text)).toThrow(`"${text}" is not a duration.`);
});

test('a duration counts from an instant', () => {
  const now = new Date('2030-01-15T12:00:00.500Z');
  expect(fromNow('1 day', now).toISOString()).toBe('2030-01-16T12:00:00.500Z');
  expect(() => fromNow('999999999 years', now)).toThrow('beyond the range of dates');
});

test.each([
  [-5, '0s'],
  [41_600, '42s'],
  [65_000, '1m 05s'],
  [7_620_000, '2h 07m'],
])('%d ms read %s', (ms, text) => {
  expect(formatDuration(ms)).toBe(text);
});
