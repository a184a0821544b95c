import { describe, expect, it } from 'vitest';
import { testDatabase } from '../testing/template.ts';
import { makeFakeClock } from '../testing/clock.ts';
import type { Db } from '../db/sql.ts';
import { openMemoryBus } from './bus/memory.ts';
import { openPostgresBus } from './bus/postgres.ts';
import { systemClock } from './clock.ts';
import { type BusEvent, publishAll } from './events.ts';
import { silentLog } from './log.ts';
import { makeMetrics } from './metrics.ts';
import { type Relay, startRelay } from './relay.ts';

const event = (n: number, exchange = 'exchange/x') => ({ exchange, routingKey: `key.${n}`, cc: [], payload: { n } });
const numbers = (events: readonly BusEvent[]): number[] => events.map(each => (each.payload as { n: number }).n);
const startOn = (db: Db, bus = openMemoryBus(db)): { relay: Relay; seen: BusEvent[] } => {
  const seen: BusEvent[] = [];
  bus.listen(each => seen.push(each));
  return { relay: startRelay({ db, bus, clock: makeFakeClock(), log: silentLog, metrics: makeMetrics() }), seen };
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

  it('keeps the events while the bus is down', async () => {
    const { db } = await testDatabase();
    const bus = openMemoryBus(db);
    let down = true;
    const seen: BusEvent[] = [];
    bus.listen(each => seen.push(each));
    const flaky = { ...bus, deliver: () => (down ? Promise.reject(new Error('broker down')) : Promise.resolve()) };
    const clock = makeFakeClock();
    const relay = startRelay({ db, bus: flaky, clock, log: silentLog, metrics: makeMetrics() });
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

describe('the bus on Postgres', () => {
  it('hands each subscription what it wants, in order, and again after a failure', async () => {
    const { db } = await testDatabase();
    const bus = openPostgresBus(db, { ...systemClock, sleep: (_ms, signal) => systemClock.sleep(1, signal) }, silentLog);
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
    const { relay } = startOn(db, bus as never);
    await db.tx(tx => publishAll(tx, [event(1), event(2), event(9, 'exchange/other'), event(3)]));
    await relay.drain();
    await finished;
    expect(got).toEqual(['key.1', 'key.2', 'key.3']);
    await relay.stop();
    await bus.close();
    expect(await db`select * from platform.deliveries`).toEqual([]);
  });
});
