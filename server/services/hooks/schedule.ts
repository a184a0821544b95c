/**
 * When a schedule fires. A pattern has five or six fields, `[second] minute hour day month weekday`, or is a shortcut such as `@daily`; it is in UTC,
 * or in the zone that stands in front of it: `CRON_TZ=Europe/Berlin 0 9 * * 1-5`. The patterns themselves are cron-parser's, which is also where the
 * protocol's syntax comes from; what the protocol does not have (`H`, fewer fields) is refused.
 *
 * In a zone that changes its clocks: a time that is skipped fires as much later, a time that comes twice fires the first time; patterns of every hour
 * (`*`) go on through the change hour by hour.
 */
import type { CronExpression } from 'cron-parser';
import { type Zone, findZone, nextEveryHour, nextFixed } from './zone.ts';

/** What is wrong with a pattern. */
export class ScheduleError extends Error {}

export interface Schedules {
  /** Checks a pattern. @throws {ScheduleError} */
  check(pattern: string): void;
  /** The first time after `after` at which any of the patterns matches; undefined when there is none. @throws {ScheduleError} */
  next(patterns: readonly string[], after: Date): Date | undefined;
}

const SHORTCUTS = new Set(['@yearly', '@monthly', '@weekly', '@daily', '@hourly', '@minutely', '@secondly', '@weekdays', '@weekends']);
const EVERY_HOUR_SHORTCUTS = new Set(['@hourly', '@minutely', '@secondly']);
const MAX_PATTERN_LENGTH = 1_000;

interface Split {
  readonly zone: Zone | undefined;
  readonly fields: string;
  readonly everyHour: boolean;
}

/** Takes a pattern apart, and refuses what cron-parser would let pass. */
const split = (pattern: string): Split => {
  if (pattern.length > MAX_PATTERN_LENGTH) {
    throw new ScheduleError(`A pattern of more than ${MAX_PATTERN_LENGTH} characters`);
  }
  const match = /^\s*(?:CRON_TZ=(\S*)\s+)?(.*)$/s.exec(pattern);
  const [name, rest] = [match?.[1], (match?.[2] ?? '').trim()];
  const zone = name === undefined ? undefined : findZone(name);
  if (name !== undefined && !zone) {
    throw new ScheduleError(`Unknown time zone ${name}; it must be a name such as Europe/Berlin`);
  }
  const fields = rest.split(/\s+/);
  if (fields.length === 1 && rest.startsWith('@')) {
    if (!SHORTCUTS.has(rest.toLowerCase())) {
      throw new ScheduleError(`Unknown shortcut ${rest}; there are ${[...SHORTCUTS].join(', ')}`);
    }
    return { zone, fields: rest.toLowerCase(), everyHour: EVERY_HOUR_SHORTCUTS.has(rest.toLowerCase()) };
  }
  if (fields.length < 5 || fields.length > 6) {
    const count = rest === '' ? 'no' : String(fields.length);
    throw new ScheduleError(`Invalid cron expression, ${count} fields; there must be five or six ([second] minute hour day month weekday)`);
  }
  if (fields.some(field => field.replaceAll(/thu/gi, '').includes('H'))) {
    throw new ScheduleError('Invalid cron expression, H is not supported: it would be another time whenever it is looked at');
  }
  return { zone, fields: fields.join(' '), everyHour: /^[*?]$/.test(fields.at(-4) ?? '') };
};

/** Loads what knows patterns; that is some megabytes, which an installation without schedules does not need. */
export const loadSchedules = async (): Promise<Schedules> => {
  const { CronExpressionParser } = await import('cron-parser');

  /** The next match on the wall clock. */
  const nextOnWall = (fields: string, wallMs: number): number | undefined => {
    let expression: CronExpression;
    try {
      expression = CronExpressionParser.parse(fields, { currentDate: new Date(wallMs), tz: 'UTC' });
    } catch (error) {
      throw new ScheduleError((error as Error).message);
    }
    try {
      return expression.next().getTime();
    } catch {
      return undefined; // it gives up after some years
    }
  };

  const nextOf = (pattern: string, afterMs: number): number | undefined => {
    const { zone, fields, everyHour } = split(pattern);
    const next = (wallMs: number): number | undefined => nextOnWall(fields, wallMs);
    if (!zone) {
      return next(afterMs);
    }
    return everyHour ? nextEveryHour(zone, next, afterMs) : nextFixed(zone, next, afterMs);
  };

  return {
    check: pattern => {
      if (nextOf(pattern, 0) === undefined) {
        throw new ScheduleError('The pattern matches no time at all');
      }
    },
    next: (patterns, after) => {
      const times = patterns.flatMap(pattern => nextOf(pattern, after.getTime()) ?? []);
      return times.length > 0 ? new Date(Math.min(...times)) : undefined;
    },
  };
};
