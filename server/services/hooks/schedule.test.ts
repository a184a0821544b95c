/** Patterns and what they mean, in UTC and in zones that change their clocks. */
import { beforeAll, describe, expect, test } from 'vitest';
import { type Schedules, ScheduleError, loadSchedules } from './schedule.ts';
import { findZone } from './zone.ts';

let schedules: Schedules;
beforeAll(async () => {
  schedules = await loadSchedules();
});

/** The next times after one, as `MM-DDTHH:MM:SS` in UTC. */
const times = (pattern: string | string[], after: string, count = 1): string[] => {
  const found: string[] = [];
  let at = new Date(after);
  for (let i = 0; i < count; i++) {
    const next = schedules.next([pattern].flat(), at);
    if (!next) {
      break;
    }
    found.push(next.toISOString().slice(5, 19));
    at = next;
  }
  return found;
};

describe('patterns', () => {
  // 1 March 2026 is a Sunday
  test.each([
    ['*/15 * * * *', '03-01T00:15:00'],
    ['0 0 1 * * *', '03-01T01:00:00'],
    ['0 0 9,21 * * 1-5', '03-02T09:00:00'],
    ['0 30 2 L * *', '03-31T02:30:00'],
    ['0 0 0 * * 5L', '03-27T00:00:00'],
    ['0 0 0 * * 1#2', '03-09T00:00:00'],
    ['0 0 0 ? * ?', '03-02T00:00:00'],
    ['5/20 * * * *', '03-01T00:05:00'],
    ['0 0 * JUN-AUG *', '06-01T00:00:00'],
    ['0 0 * * 7', '03-08T00:00:00'],
    ['0 0 * * SUN', '03-08T00:00:00'],
    ['0 0 * * THU', '03-05T00:00:00'],
    ['0 0 29 2 *', '02-29T00:00:00'],
    ['*/10 * * * * *', '03-01T00:00:10'],
    ['  0   6 * * *  ', '03-01T06:00:00'],
    ['@yearly', '01-01T00:00:00'],
    ['@monthly', '04-01T00:00:00'],
    ['@weekly', '03-08T00:00:00'],
    ['@daily', '03-02T00:00:00'],
    ['@hourly', '03-01T01:00:00'],
    ['@minutely', '03-01T00:01:00'],
    ['@secondly', '03-01T00:00:01'],
    ['@weekdays', '03-02T00:00:00'],
    ['@weekends', '03-07T00:00:00'],
  ])('%s', (pattern, expected) => {
    schedules.check(pattern);
    expect(times(pattern, '2026-03-01T00:00:00.000Z')).toEqual([expected]);
  });

  test('of day and weekday match when either does', () => {
    expect(times('0 0 13 * 5', '2026-03-01T00:00:00Z', 4)).toEqual([
      '03-06T00:00:00',
      '03-13T00:00:00',
      '03-20T00:00:00',
      '03-27T00:00:00',
    ]);
    expect(times('0 0 5 * 0', '2026-03-01T00:00:00Z', 3)).toEqual(['03-05T00:00:00', '03-08T00:00:00', '03-15T00:00:00']);
  });

  test('that match at once count once, and a match is strictly later', () => {
    expect(times(['0 * * * *', '0 0,12 * * *', '30 0 * * *'], '2026-03-01T00:00:00.000Z', 3)).toEqual([
      '03-01T00:30:00',
      '03-01T01:00:00',
      '03-01T02:00:00',
    ]);
    expect(times('* * * * * *', '2026-03-01T00:00:00.500Z')).toEqual(['03-01T00:00:01']);
    expect(times('* * * * *', '2026-03-01T00:00:59.999Z')).toEqual(['03-01T00:01:00']);
  });

  test('none never fire', () => {
    expect(schedules.next([], new Date(0))).toBeUndefined();
  });

  test.each([
    ['', 'no fields'],
    ['* * * *', '4 fields'],
    ['* * * * * * *', '7 fields'],
    ['H * * * *', 'H is not supported'],
    ['1H * * * *', 'H is not supported'],
    ['0 0 * * 5#H', 'H is not supported'],
    ['60 * * * *', 'got value 60 expected range 0-59'],
    ['5-2 * * * *', 'Invalid range'],
    ['*/0 * * * *', 'cannot repeat at every 0 time'],
    ['0 0 15W * *', 'Invalid characters'],
    ['0 0 0 * * 1,2#2', 'Constraint error'],
    ['0 0 30 2 *', 'Invalid explicit day of month definition'],
    ['not a pattern at all', 'Invalid characters'],
    ['a b c d e', 'Invalid characters'],
    ['@reboot', 'Unknown shortcut @reboot'],
    ['CRON_TZ=Mars/Base 0 0 * * *', 'Unknown time zone Mars/Base'],
    ['CRON_TZ= 0 0 * * *', 'Unknown time zone'],
    ['CRON_TZ=Europe/Berlin', '1 fields'],
  ])('%s is refused', (pattern, problem) => {
    expect(() => schedules.check(pattern)).toThrow(problem);
    expect(() => schedules.check(pattern)).toThrow(ScheduleError);
  });
});

test('a pattern without end is refused', () => {
  expect(() => schedules.check(`${'0,'.repeat(600)}0 * * * *`)).toThrow('more than 1000 characters');
});

describe('zones', () => {
  const SPRING = '2026-03-28T12:00:00Z'; // Berlin: on the 29th 02:00 becomes 03:00, which is 01:00 UTC
  const AUTUMN = '2026-10-24T12:00:00Z'; // Berlin: on the 25th 03:00 becomes 02:00, which is 01:00 UTC
  const berlin = (pattern: string): string => `CRON_TZ=Europe/Berlin ${pattern}`;

  test('move with the clocks', () => {
    expect(times(berlin('0 9 * * *'), SPRING, 2)).toEqual(['03-29T07:00:00', '03-30T07:00:00']);
    expect(times(berlin('0 9 * * *'), '2026-03-27T12:00:00Z')).toEqual(['03-28T08:00:00']);
    expect(times(berlin('@daily'), AUTUMN, 3)).toEqual(['10-24T22:00:00', '10-25T23:00:00', '10-26T23:00:00']);
  });

  test('fire a skipped time as much later', () => {
    expect(times(berlin('30 2 * * *'), SPRING, 2)).toEqual(['03-29T01:30:00', '03-30T00:30:00']);
    expect(times(berlin('*/30 2 * * *'), SPRING, 3)).toEqual(['03-29T01:00:00', '03-29T01:30:00', '03-30T00:00:00']);
    // 03:00 is there on its own account, and once
    expect(times(berlin('0,30 2,3 * * *'), SPRING, 3)).toEqual(['03-29T01:00:00', '03-29T01:30:00', '03-30T00:00:00']);
  });

  test('fire a repeated time the first time, whenever one asks', () => {
    expect(times(berlin('30 2 * * *'), AUTUMN, 2)).toEqual(['10-25T00:30:00', '10-26T01:30:00']);
    expect(times(berlin('30 2 * * *'), '2026-10-25T00:45:00Z')).toEqual(['10-26T01:30:00']);
    expect(times(berlin('30 2 * * *'), '2026-10-25T01:10:00Z')).toEqual(['10-26T01:30:00']);
    expect(times(berlin('*/20 2,3 * * *'), '2026-10-25T00:30:00Z', 3)).toEqual(['10-25T00:40:00', '10-25T02:00:00', '10-25T02:20:00']);
  });

  test('go through the change hour by hour with a pattern of every hour', () => {
    expect(times(berlin('30 * * * *'), '2026-03-28T23:00:00Z', 4)).toEqual([
      '03-28T23:30:00',
      '03-29T00:30:00',
      '03-29T01:30:00',
      '03-29T02:30:00',
    ]);
    expect(times(berlin('30 * * * *'), '2026-10-24T23:00:00Z', 4)).toEqual([
      '10-24T23:30:00',
      '10-25T00:30:00',
      '10-25T01:30:00',
      '10-25T02:30:00',
    ]);
    expect(times(berlin('0 * 1 7 *'), '2026-01-01T00:00:00Z')).toEqual(['06-30T22:00:00']);
  });

  test('of half an hour, west of Greenwich, and without changes are right, too', () => {
    // Lord Howe: on 4 October 02:00 becomes 02:30, which is 15:30 UTC the day before
    const howe = (pattern: string): string => `CRON_TZ=Australia/Lord_Howe ${pattern}`;
    expect(times(howe('15 2 * * *'), '2026-10-03T12:00:00Z', 2)).toEqual(['10-03T15:45:00', '10-04T15:15:00']);
    expect(times(howe('20,40 2 * * *'), '2026-10-03T12:00:00Z', 3)).toEqual(['10-03T15:40:00', '10-03T15:50:00', '10-04T15:20:00']);
    // and on 5 April 02:00 becomes 01:30, which is 15:00 UTC the day before
    expect(times(howe('45 1 * * *'), '2026-04-04T12:00:00Z', 2)).toEqual(['04-04T14:45:00', '04-05T15:15:00']);
    expect(times('CRON_TZ=America/New_York 30 2 * * *', '2026-03-08T00:00:00Z', 2)).toEqual(['03-08T07:30:00', '03-09T06:30:00']);
    expect(times('CRON_TZ=Asia/Kolkata 0 0 * * *', '2026-03-08T00:00:00Z')).toEqual(['03-08T18:30:00']);
    expect(times('CRON_TZ=UTC 0 0 * * *', '2026-03-08T00:00:00Z')).toEqual(['03-09T00:00:00']);
  });

  test.each(['Europe/Berlin', 'America/New_York', 'Australia/Lord_Howe', 'Africa/Casablanca', 'America/Havana', 'Africa/Cairo'])(
    'a year in %s, minute by minute',
    name => {
      const zone = findZone(name);
      const [start, end] = [Date.parse('2026-01-01T12:00:00Z'), Date.parse('2026-12-31T12:00:00Z')];
      const wallOf = (ms: number): number => ms + (zone?.offsetMs(ms) ?? 0);
      // every minute of the wall clock, when it comes first; what the clocks skip goes on where they were before
      const fixed = new Set<number>();
      const hourly = new Set<number>();
      const minuteOfDay = (wall: number): number => (wall / 60_000) % 1440;
      let latest = wallOf(start) - 60_000;
      for (let ms = start; ms < end; ms += 60_000) {
        const wall = wallOf(ms);
        if (wall % 3_600_000 === 900_000) {
          hourly.add(ms);
        }
        for (let each = latest + 60_000; each <= wall; each += 60_000) {
          // 00:15, 00:45, 01:15, ... 03:45
          if (minuteOfDay(each) < 240 && each % 1_800_000 === 900_000) {
            fixed.add(ms + each - latest - 60_000);
          }
        }
        latest = Math.max(latest, wall);
      }
      const all = (pattern: string): number[] => {
        const found: number[] = [];
        for (let at = schedules.next([pattern], new Date(start - 1)); at && at.getTime() < end; at = schedules.next([pattern], at)) {
          found.push(at.getTime());
        }
        return found;
      };
      const sorted = (times: Set<number>): number[] => [...times].toSorted((a, b) => a - b);
      expect(all(`CRON_TZ=${name} 15,45 0-3 * * *`)).toEqual(sorted(fixed));
      expect(all(`CRON_TZ=${name} 15 * * * *`)).toEqual(sorted(hourly));
    },
    60_000,
  );
});
