/**
 * Time zones: the wall clock of a zone as a number (milliseconds as if it were UTC), and back. Only what cron needs of them, on the zone data that
 * comes with Node.
 */
const HOUR_MS = 3_600_000;
/** Clocks are changed by less than this, and not twice within it. */
const NEAR_MS = 3 * HOUR_MS;

export interface Zone {
  /** Wall clock minus UTC at an instant, in milliseconds. */
  offsetMs(atMs: number): number;
}

const formats = new Map<string, Zone>();
const MAX_ZONES = 1_000;

/** The zone of an IANA name (`Europe/Berlin`); undefined when there is none. */
export const findZone = (name: string): Zone | undefined => {
  const known = formats.get(name);
  if (known) {
    return known;
  }
  let format: Intl.DateTimeFormat;
  try {
    format = new Intl.DateTimeFormat('en-US', {
      timeZone: name,
      calendar: 'iso8601',
      hourCycle: 'h23',
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      minute: 'numeric',
      second: 'numeric',
    });
  } catch {
    return undefined;
  }
  const zone: Zone = {
    offsetMs: atMs => {
      const whole = Math.floor(atMs / 1000) * 1000;
      const part: Record<string, number> = {};
      for (const { type, value } of format.formatToParts(whole)) {
        part[type] = Number(value);
      }
      const { year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = part;
      return Date.UTC(year, month - 1, day, hour, minute, second) - whole;
    },
  };
  if (formats.size < MAX_ZONES) {
    formats.set(name, zone);
  }
  return zone;
};

/** The first instant in (fromMs, toMs] at which the offset is not that of `fromMs`; the two must differ. To the second. */
const findChange = (zone: Zone, fromMs: number, toMs: number): number => {
  const offset = zone.offsetMs(fromMs);
  let [before, after] = [Math.floor(fromMs / 1000), Math.ceil(toMs / 1000)];
  while (after - before > 1) {
    const middle = Math.floor((before + after) / 2);
    if (zone.offsetMs(middle * 1000) === offset) {
      before = middle;
    } else {
      after = middle;
    }
  }
  return after * 1000;
};

/** A change of the clocks: at this instant, from one offset to the other. */
interface Change {
  readonly atMs: number;
  readonly before: number;
  readonly after: number;
}

const changeBetween = (zone: Zone, fromMs: number, toMs: number): Change | undefined => {
  const [before, after] = [zone.offsetMs(fromMs), zone.offsetMs(toMs)];
  return before === after ? undefined : { atMs: findChange(zone, fromMs, toMs), before, after };
};

/** The next match of a pattern after a moment, both on the wall clock; undefined when there is none any more. */
export type NextOnWall = (wallMs: number) => number | undefined;

/** The instant at which a pattern of fixed hours fires for a time on the wall clock, and the change that has skipped this time, if one has. */
const instantOf = (zone: Zone, wallMs: number, offset: number): { instantMs: number; skipped?: Change } => {
  const about = wallMs - zone.offsetMs(wallMs - offset);
  const change = changeBetween(zone, about - NEAR_MS, about + NEAR_MS);
  if (!change) {
    return { instantMs: about };
  }
  const early = wallMs - change.before;
  if (early < change.atMs) {
    return { instantMs: early }; // before the change; of two, the first
  }
  const late = wallMs - change.after;
  return late >= change.atMs ? { instantMs: late } : { instantMs: early, skipped: change };
};

/**
 * The next instant after `refMs` for a pattern that names hours. A time that the clocks skip counts as the time that it would have been without the
 * change; of a time that comes twice, the first counts. So every time on the wall clock fires once, whenever it is asked.
 */
export const nextFixed = (zone: Zone, next: NextOnWall, refMs: number): number | undefined => {
  const offset = zone.offsetMs(refMs);
  const recent = changeBetween(zone, refMs - NEAR_MS, refMs);
  const found: number[] = [];
  let fromWall = refMs + offset;
  if (recent && recent.before > recent.after) {
    // the hour that comes again has been
    fromWall = Math.max(fromWall, recent.atMs + recent.before - 1);
  } else if (recent) {
    // times that were skipped may still be due, later by as much
    const skipped = next(refMs + recent.before);
    if (skipped !== undefined && skipped < recent.atMs + recent.after) {
      found.push(skipped - recent.before);
    }
  }
  const wall = next(fromWall);
  if (wall !== undefined) {
    const { instantMs, skipped } = instantOf(zone, wall, offset);
    found.push(instantMs);
    const beyond = skipped && next(skipped.atMs + skipped.after - 1);
    if (beyond !== undefined) {
      found.push(instantOf(zone, beyond, offset).instantMs);
    }
  }
  return found.length > 0 ? Math.min(...found) : undefined;
};

/** The next instant after `refMs` for a pattern of every hour: it goes by real time, so that no hour is left out and none counts less. */
export const nextEveryHour = (zone: Zone, next: NextOnWall, refMs: number): number | undefined => {
  let fromMs = refMs;
  for (;;) {
    const offset = zone.offsetMs(fromMs);
    const wall = next(fromMs + offset);
    if (wall === undefined) {
      return undefined;
    }
    const instantMs = wall - offset;
    const change = changeBetween(zone, fromMs, instantMs);
    if (!change) {
      return instantMs;
    }
    fromMs = change.atMs - 1;
    // the last millisecond before the change still has the old offset: look from the new one
    const first = next(fromMs + change.after);
    if (first === undefined) {
      return undefined;
    }
    const then = first - change.after;
    if (!changeBetween(zone, change.atMs, Math.max(then, change.atMs))) {
      return then;
    }
    fromMs = change.atMs;
  }
};
