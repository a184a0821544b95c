import { describe, expect, it } from 'vitest';
import { testDatabase } from '../testing/template.ts';
import { type FakeClock, makeFakeClock, makeFastClock } from '../testing/clock.ts';
import type { Db } from '../db/sql.ts';
import type { Bus } from './bus/bus.ts';
import { openMemoryBus } from './bus/memory.ts';
import { openPostgresBus } from './bus/postgres.ts';
import { systemClock } from './clock.ts';
import { newestSeq, parseEvents, readEventLog, trimEventLog } from './event-log.ts';
import { type BusEvent, publishAll } from './events.ts';
import { silentLog } from './log.ts';
import { makeMetrics } from './metrics.ts';
import { type Relay, type RelayOptions, startRelay } from './relay.ts';

const event = (n: number, exchange = 'exchange/x') => ({ exchange, routingKey: `key.${n}`, cc: [], payload: { n } });
const numbers = (events: readonly BusEvent[]): number[] => events.map(each => (each.payload as { n: number }).n);
const KEEP = { keepSeconds: 3_600, keepRows: 1_000 };
/** A bus that also notes what it was told to be delivered. */
const recording = (bus: Bus): { bus: Bus; seen: BusEvent[] } => {
  const seen: BusEvent[] = [];
  const delivered = (events: readonly BusEvent[]): void => {
    bus.delivered(events);
    seen.push(...events);
  };
  return { bus: { ...bus, delivered }, seen };
};
const startOn = (
  db: Db,
  given: Bus = openMemoryBus(db),
  options: Partial<RelayOptions> = {},
): { relay: Relay; seen: BusEvent[]; clock: FakeClock } => {
  const { bus, seen } = recording(given);
  const clock = makeFakeClock();
  return { relay: startRelay({ db, bus, clock, log: silentLog, metrics: makeMetrics(), keep: KEEP, ...options }), seen, clock };
};

describe('the relay', () => {
  it('delivers what was committed, in order, once, with ids that tell events apart', async () => {
    const { db } = await testDatabase();
    const { relay, seen } = startOn(db);
    await db.tx(tx => publishAll(tx, [event(1), event(2)]));
    await db
      .tx(async tx => {
        await publishAll(tx, [event(99)]);
        throw new Error('rolled back');
      })
      .catch(() => undefined);
    await db.tx(tx => publishAll(tx, [event(3)]));
    await relay.drain();
    expect(numbers(seen)).toEqual([1, 2, 3]);
    expect(new Set(seen.map(each => each.id)).size).toBe(3);
    expect(await db`select * from platform.outbox`).toEqual([]);
    await relay.stop();
  });

  it('delivers a row that commits after a later one', async () => {
    const { db } = await testDatabase();
    const { relay, seen } = startOn(db);
    let finish = (): void => {};
    const held = new Promise<void>(resolve => (finish = resolve));
    let written = (): void => {};
    const hasWritten = new Promise<void>(resolve => (written = resolve));
    const late = db.tx(async tx => {
      await publishAll(tx, [event(1)]);
      written();
      await held;
    });
    await hasWritten;
    await db.tx(tx => publishAll(tx, [event(2)]));
    await relay.drain();
    expect(numbers(seen)).toEqual([2]);
    finish();
    await late;
    await relay.drain();
    expect(numbers(seen)).toEqual([2, 1]);
    await relay.stop();
  });

  it('loses its turn when it stands still, with what it had under way; the next one delivers all of it, in order', async () => {
    const { db } = await testDatabase();
    const stalled = Promise.withResolvers<void>();
    const going = openMemoryBus(db);
    const stalling: Bus = {
      ...going,
      deliver: () => {
        stalled.resolve();
        return new Promise(() => undefined);
      },
    };
    const first = startOn(db, stalling, { silenceMs: 300 });
    await db.tx(tx => publishAll(tx, [event(1)]));
    await db.tx(tx => publishAll(tx, [event(2)]));
    first.relay.wake();
    await stalled.promise;
    const second = startOn(db, going, { silenceMs: 60_000, clock: systemClock });
    const delivered = second.relay.drain();
    await db.tx(tx => publishAll(tx, [event(3)]));
    await delivered;
    expect(numbers(second.seen)).toEqual([1, 2, 3]);
    expect([first.seen, second.relay.isActive]).toEqual([[], true]);
    await second.relay.stop();
  });

  it('keeps its turn while the bus takes its time, and may go on as long as it has it', async () => {
    const { db } = await testDatabase();
    const going = openMemoryBus(db);
    const refusals: unknown[] = [];
    const slow: Bus = {
      ...going,
      deliver: async (_tx, _events, requireTurn) => {
        for (let i = 0; i < 4; i++) {
          await systemClock.sleep(900);
          try {
            requireTurn();
          } catch (error) {
            refusals.push(error);
          }
        }
      },
    };
    const first = startOn(db, slow, { silenceMs: 3_000, clock: systemClock });
    await first.relay.drain();
    const second = startOn(db, going, { clock: systemClock });
    await db.tx(tx => publishAll(tx, [event(1)]));
    await first.relay.drain();
    expect([numbers(first.seen), second.seen, refusals]).toEqual([[1], [], []]);
    await first.relay.stop();
    await second.relay.stop();
  });

  it('may not go on when it comes to itself after a pause', async () => {
    const { db } = await testDatabase();
    const clock = makeFakeClock();
    const outcome = Promise.withResolvers<unknown>();
    const going = openMemoryBus(db);
    let tries = 0;
    const paused: Bus = {
      ...going,
      deliver: async (_tx, _events, requireTurn) => {
        tries += 1;
        if (tries === 1) {
          requireTurn();
          clock.advance({ seconds: 20 }); // its timers have not fired meanwhile
          try {
            requireTurn();
          } catch (error) {
            outcome.resolve(error);
            throw error;
          }
        }
      },
    };
    const { relay, seen } = startOn(db, paused, { clock });
    await db.tx(tx => publishAll(tx, [event(1)]));
    const drained = relay.drain();
    expect(await outcome.promise).toMatchObject({ message: expect.stringMatching(/stood still/) as string });
    const ticking = (async () => {
      while (seen.length === 0) {
        await clock.tick({ ms: 200 });
      }
    })();
    await Promise.all([drained, ticking]);
    expect([numbers(seen), tries]).toEqual([[1], 2]);
    await relay.stop();
  });

  it('loses its turn also when it stands still with nothing to do', async () => {
    const { db } = await testDatabase();
    const first = startOn(db, undefined, { silenceMs: 200 }); // its clock stands still
    await first.relay.drain();
    expect(first.relay.isActive).toBe(true);
    const second = startOn(db, undefined, { silenceMs: 60_000, clock: systemClock });
    await second.relay.drain();
    expect(second.relay.isActive).toBe(true);
    await second.relay.stop();
  });

  it('tells when it has stopped, and one that waits takes its turn at once', async () => {
    const { db } = await testDatabase();
    const released = Promise.withResolvers<void>();
    const first = startOn(db, undefined, { onReleased: () => released.resolve() });
    await first.relay.drain();
    const second = startOn(db); // its clock stands still: it does not look by itself
    await first.relay.stop();
    await released.promise;
    expect(first.relay.isActive).toBe(false);
    second.relay.take();
    await second.relay.drain();
    expect(second.relay.isActive).toBe(true);
    await second.relay.stop();
  });

  it('keeps the events while the bus is down', async () => {
    const { db } = await testDatabase();
    const { bus, seen } = recording(openMemoryBus(db));
    let down = true;
    const flaky = { ...bus, deliver: () => (down ? Promise.reject(new Error('broker down')) : Promise.resolve()) };
    const clock = makeFakeClock();
    const relay = startRelay({ db, bus: flaky, clock, log: silentLog, metrics: makeMetrics(), keep: KEEP });
    await db.tx(tx => publishAll(tx, [event(1)]));
    const drained = relay.drain();
    await clock.tick({ seconds: 1 });
    expect(seen).toEqual([]);
    down = false;
    const ticking = (async () => {
      while (seen.length === 0) {
        await clock.tick({ seconds: 30 });
      }
    })();
    await Promise.all([drained, ticking]);
    expect(numbers(seen)).toEqual([1]);
    await relay.stop();
  });

  it('works once at a time: a second one takes over when the first stops', async () => {
    const { db } = await testDatabase();
    const first = startOn(db);
    await db.tx(tx => publishAll(tx, [event(1)]));
    await first.relay.drain();
    const second = startOn(db);
    await db.tx(tx => publishAll(tx, [event(2)]));
    await first.relay.drain();
    await first.relay.stop();
    await db.tx(tx => publishAll(tx, [event(3)]));
    await second.relay.drain();
    expect(numbers(first.seen)).toEqual([1, 2]);
    expect(numbers(second.seen)).toEqual([3]);
    await second.relay.stop();
  });
});

describe('the event log', () => {
  const read = async (db: Db): Promise<{ seqs: number[]; ids: string[]; numbers: number[] }> => {
    const rows = await readEventLog(db, 0, 10_000);
    const events = rows.flatMap(({ outboxId, msg }) => parseEvents(outboxId, msg));
    return { seqs: rows.map(({ seq }) => seq), ids: events.map(({ id }) => id), numbers: numbers(events) };
  };

  it('gets what the bus gets, in the order of the commits, without gaps, also where the bus wants nothing', async () => {
    const { db } = await testDatabase();
    expect(await newestSeq(db)).toBe(0);
    let appended = 0;
    const { relay } = startOn(db, { ...openMemoryBus(db), wants: () => false }, { onLogged: () => (appended += 1) });
    await db.tx(tx => publishAll(tx, [event(1), event(2)]));
    await db
      .tx(async tx => {
        await publishAll(tx, [event(99)]);
        throw new Error('rolled back');
      })
      .catch(() => undefined);
    await db.tx(tx => publishAll(tx, [event(3)]));
    await relay.drain();
    expect(await read(db)).toEqual({ seqs: [1, 2], ids: ['1-0', '1-1', '3-0'], numbers: [1, 2, 3] });
    expect(await newestSeq(db)).toBe(2);
    expect(appended).toBeGreaterThan(0);
    await relay.stop();
  });

  it('is not written when the bus did not take the events, and goes on where another relay stopped', async () => {
    const { db } = await testDatabase();
    let isDown = true;
    const bus = openMemoryBus(db);
    const flaky = { ...bus, deliver: () => (isDown ? Promise.reject(new Error('broker down')) : Promise.resolve()) };
    const first = startOn(db, flaky);
    await db.tx(tx => publishAll(tx, [event(1)]));
    first.relay.wake();
    await first.clock.tick({ seconds: 1 });
    expect((await read(db)).seqs).toEqual([]);
    isDown = false;
    let isDrained = false;
    const drained = first.relay.drain().then(() => (isDrained = true));
    while (!isDrained) {
      await first.clock.tick({ seconds: 30 });
    }
    await drained;
    await first.relay.stop();
    const second = startOn(db);
    await db.tx(tx => publishAll(tx, [event(2)]));
    await second.relay.drain();
    await second.relay.stop();
    expect(await read(db)).toMatchObject({ seqs: [1, 2], numbers: [1, 2] });
  });

  it('keeps what is young and not too much, and always the newest', async () => {
    const { db } = await testDatabase();
    const { relay, clock } = startOn(db, openMemoryBus(db), { keep: { keepSeconds: 60, keepRows: 3 } });
    for (let n = 1; n <= 5; n++) {
      await db.tx(tx => publishAll(tx, [event(n)]));
    }
    await relay.drain();
    clock.advance({ seconds: 30 });
    await db.tx(tx => publishAll(tx, [event(6)]));
    await relay.drain();
    clock.advance({ seconds: 15 });
    await relay.drain();
    expect((await read(db)).numbers).toEqual([4, 5, 6]);
    clock.advance({ seconds: 30 });
    await relay.drain();
    expect((await read(db)).numbers).toEqual([6]);
    clock.advance({ days: 1 });
    await relay.drain();
    await db.tx(tx => publishAll(tx, [event(7)]));
    await relay.drain();
    expect(await read(db)).toMatchObject({ seqs: [6, 7], numbers: [6, 7] });
    await relay.stop();
  });

  it('is trimmed in bounded steps', async () => {
    const { db } = await testDatabase();
    const { relay, clock } = startOn(db);
    for (let n = 1; n <= 5; n++) {
      await db.tx(tx => publishAll(tx, [event(n)]));
    }
    await relay.drain();
    await relay.stop();
    const trim = (upTo: number): Promise<number> =>
      trimEventLog(db, { before: new Date(clock.nowMs() - 1_000), upTo, newest: 5, limit: 2 });
    expect([await trim(3), await trim(3), await trim(3)]).toEqual([2, 1, 0]);
    expect((await read(db)).seqs).toEqual([4, 5]);
    expect(await trim(100)).toBe(1);
    expect((await read(db)).seqs).toEqual([5]);
  });
});

describe('the bus on Postgres', () => {
  it('hands each subscription what it wants, in order, and again after a failure', async () => {
    const { db } = await testDatabase();
    const bus = openPostgresBus({ db, clock: makeFastClock(20), log: silentLog, metrics: makeMetrics(), abandonedMs: 1e9 });
    const got: string[] = [];
    let failures = 1;
    let finish = (): void => {};
    const finished = new Promise<void>(resolve => (finish = resolve));
    await bus.subscribe({
      name: 'test/one',
      bindings: [{ exchange: 'exchange/x', pattern: 'key.*' }],
      handle: (each, tx) => {
        if (failures-- > 0) {
          throw new Error('the first time fails');
        }
        got.push(each.routingKey);
        void tx;
        if (got.length === 3) {
          finish();
        }
        return Promise.resolve();
      },
    });
    const { relay } = startOn(db, bus);
    await db.tx(tx => publishAll(tx, [event(1), event(2), event(9, 'exchange/other'), event(3)]));
    await relay.drain();
    await finished;
    expect(got).toEqual(['key.1', 'key.2', 'key.3']);
    await relay.stop();
    await bus.close();
    expect(await db`select * from platform.deliveries`).toEqual([]);
  });
});
