/** Durations in words, as every Taskcluster client reads them (protocol: "Dates"): `2 days 3 hours`, `-1mo`, `90min`. */
import { Problem } from './problem.ts';

const UNITS: readonly (readonly [words: string, ms: number])[] = [
  ['y|yr|yrs|years?', 365 * 86_400_000],
  ['mo|months?', 30 * 86_400_000],
  ['w|wk|wks|weeks?', 7 * 86_400_000],
  ['d|days?', 86_400_000],
  ['h|hr|hrs|hours?', 3_600_000],
  ['m|min|mins|minutes?', 60_000],
  ['s|sec|secs|seconds?', 1_000],
];

const PATTERN = new RegExp(`^\\s*([-+]?)\\s*${UNITS.map(([words]) => `(?:(\\d+)\\s*(?:${words})(?![a-z])\\s*)?`).join('')}$`, 'i');

/** Milliseconds of a duration; a year is 365 days, a month 30. Empty means none. @throws {Problem} when it is not one */
export const parseDuration = (text: string): number => {
  const match = PATTERN.exec(text);
  if (!match) {
    throw new Problem(
      `"${text}" is not a duration.`,
      'Write numbers with units in falling order: years, months, weeks, days, hours, minutes, seconds, such as "2 days 3 hours", "-1mo" or "90min".',
    );
  }
  const [, sign, ...amounts] = match;
  const ms = UNITS.reduce((sum, [, unitMs], index) => sum + Number(amounts[index] ?? 0) * unitMs, 0);
  return sign === '-' ? -ms : ms;
};

/** The instant that lies a duration after another. @throws {Problem} when it is not a duration, or lies beyond what a date can be */
export const fromNow = (duration: string, now: Date): Date => {
  const then = new Date(now.getTime() + parseDuration(duration));
  if (Number.isNaN(then.getTime())) {
    throw new Problem(`"${duration}" from now is beyond the range of dates.`);
  }
  return then;
};

/** A length of time for people: `42s`, `3m 05s`, `2h 07m`. */
export const formatDuration = (ms: number): string => {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const pad = (value: number): string => String(value).padStart(2, '0');
  if (seconds < 60) {
    return `${seconds}s`;
  }
  if (seconds < 3600) {
    return `${Math.floor(seconds / 60)}m ${pad(seconds % 60)}s`;
  }
  return `${Math.floor(seconds / 3600)}h ${pad(Math.floor((seconds % 3600) / 60))}m`;
};
