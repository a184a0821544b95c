/** The bus on Postgres with several processes: each bus here has what a process has, its own relay and notifications included. */
import { describe, expect, it, onTestFinished } from 'vitest';
import { type Db, openDb } from '../../db/sql.ts';
import { type FakeClock, makeFakeClock, makeFastClock } from '../../testing/clock.ts';
import { testDatabase } from '../../testing/template.ts';
import { type Clock, systemClock, systemRandom } from '../clock.ts';
import { type BusEvent, type OutboxEvent, publishAll } from '../events.ts';
import { silentLog } from '../log.ts';
import { makeMetrics } from '../metrics.ts';
import { openNotifier } from '../notify.ts';
import { type Relay, startRelay } from '../relay.ts';
import type { Bus, Subscription } from './bus.ts';
import { noteHandled } from './handled.db.ts';
import { openPostgresBus } from './postgres.ts';

const EXCHANGE = 'exchange/taskcluster-queue/v1/task-pending';
const DAY_MS = 24 * 3_600_000;
const event = (n: number, routingKey = `key.${n}`): OutboxEvent => ({ exchange: EXCHANGE, routingKey, cc: [], payload: { n } });
const numberOf = (each: BusEvent): number => (each.payload as { n: number }).n;
const write = (db: Db, ...events: OutboxEvent[]): Promise<void> => db.tx(tx => publishAll(tx, events));

/** A process: its bus, closed with the test. */
const openBus = (db: Db, clock: Clock = systemClock): Bus => {
  const bus = openPostgresBus({ db, clock, log: silentLog, metrics: makeMetrics(), abandonedMs: 7 * DAY_MS });
  const notifier = openNotifier({ db, clock: systemClock, random: systemRandom, log: silentLog });
  bus.attach(notifier);
  onTestFinished(async () => {
    await bus.close();
    await notifier.close();
  });
  return bus;
};
const relayOn = (db: Db, bus: Bus, clock: Clock = systemClock): Relay => {
  const relay = startRelay({ db, bus, clock, log: silentLog, metrics: makeMetrics(), keep: { keepSeconds: 60, keepRows: 10 } });
  onTestFinished(() => relay.stop());
  return relay;
};

const recorder = (name: string, more: Partial<Subscription> = {}): Subscription & { got: number[] } => {
  const got: number[] = [];
  const handle = (each: BusEvent): Promise<void> => {
    got.push(numberOf(each));
    return Promise.resolve();
  };
  return { name, bindings: [{ exchange: EXCHANGE, pattern: '#' }], handle, ...more, got };
};

describe('subscriptions of other processes', () => {
  it('get every event committed after they began, whichever process relays', async () => {
    const { db } = await testDatabase();
    const [relaying, other] = [openBus(db), openBus(db)];
    await relaying.subscribe(recorder('test/first', { bindings: [] }));
    const relay = relayOn(db, relaying);
    await write(db, event(1));
    await relay.drain();
    const late = recorder('test/late');
    await other.subscribe(late);
    await write(db, event(2), event(3));
    await relay.drain();
    await expect.poll(() => late.got).toEqual([2, 3]);
  });

  it('follow new bindings from the commit on, and not before', async () => {
    const { db } = await testDatabase();
    const [relaying, other] = [openBus(db), openBus(db)];
    const subscription = recorder('test/changing', { bindings: 'stored' });
    await other.subscribe(subscription);
    const relay = relayOn(db, relaying);
    await write(db, event(1));
    await relay.drain();
    await db.tx(tx => other.rebind(tx, 'test/changing', [{ exchange: EXCHANGE, pattern: 'key.2' }]));
    await write(db, event(1), event(2));
    await db
      .tx(async tx => {
        await other.rebind(tx, 'test/changing', []);
        throw new Error('not committed');
      })
      .catch(() => undefined);
    await write(db, event(2), event(3));
    await relay.drain();
    await expect.poll(() => subscription.got).toEqual([2, 2]);
  });

  it('keep stored bindings when a process begins to serve them again', async () => {
    const { db } = await testDatabase();
    const [first, second] = [openBus(db), openBus(db)];
    await db.tx(tx => first.rebind(tx, 'test/stored', [{ exchange: EXCHANGE, pattern: '#' }]));
    const subscription = recorder('test/stored', { bindings: 'stored' });
    await second.subscribe(subscription);
    const relay = relayOn(db, first);
    await write(db, event(1));
    await relay.drain();
    await expect.poll(() => subscription.got).toEqual([1]);
  });

  it('may all change at once, each with the others', async () => {
    const { db } = await testDatabase();
    const buses = [openBus(db), openBus(db), openBus(db)];
    const names = ['test/a', 'test/b', 'test/c'];
    await Promise.all(
      Array.from({ length: 12 }, (_, i) =>
        db.tx(async tx => {
          for (const name of i % 2 === 0 ? names : names.toReversed()) {
            await buses[i % 3]?.rebind(tx, name, [{ exchange: EXCHANGE, pattern: `key.${i}` }]);
          }
        }),
      ),
    );
    const rows = await db<{ bindings: string }>`select bindings from platform.subscriptions order by name`;
    expect(new Set(rows.map(row => row.bindings)).size).toBe(1);
    expect(await db`select version from platform.versions where name = 'subscriptions'`).toEqual([{ version: 36 }]);
  });
});

describe('several processes that serve one subscription', () => {
  const COUNT = 120;
  const all = Array.from({ length: COUNT }, (_, n) => n);

  it('keep its order and handle each event once, also when one loses its connections', async () => {
    const { db, connection } = await testDatabase();
    await db`create table effects (seq bigint generated always as identity, n int not null, process text not null)`;
    const lost = new Set<number>();
    for (const name of ['one', 'two', 'three']) {
      const own = openDb({ connection });
      onTestFinished(() => own.close());
      await openBus(own, makeFastClock(20)).subscribe({
        ...recorder('test/shared'),
        handle: async (each, tx) => {
          const n = numberOf(each);
          await tx`insert into effects (n, process) values (${n}, ${name})`;
          if (n % 10 === 3 && !lost.has(n)) {
            lost.add(n);
            await tx`select pg_terminate_backend(pg_backend_pid())`;
          }
        },
      });
    }
    const relay = relayOn(db, openBus(db));
    for (const n of all) {
      await write(db, event(n));
    }
    await relay.drain();
    const effects = async (): Promise<number[]> => (await db<{ n: number }>`select n from effects order by seq`).map(row => row.n);
    await expect.poll(async () => (await effects()).length).toBe(COUNT);
    expect(await effects()).toEqual(all);
    expect(lost.size).toBe(COUNT / 10);
    expect(await db`select * from platform.deliveries`).toEqual([]);
  });

  it('wait together for another try of an event that failed, and put it aside after the fifth', async () => {
    const { db } = await testDatabase();
    const clock = makeFastClock(20);
    const tries: { n: number; ms: number }[] = [];
    const handle = (each: BusEvent): Promise<void> => {
      tries.push({ n: numberOf(each), ms: clock.nowMs() });
      return numberOf(each) === 1 ? Promise.reject(new Error('never')) : Promise.resolve();
    };
    for (const bus of [openBus(db, clock), openBus(db, clock)]) {
      await bus.subscribe({ ...recorder('test/failing'), handle });
    }
    const relay = relayOn(db, openBus(db));
    await write(db, event(1), event(2));
    await relay.drain();
    await expect.poll(() => tries.map(({ n }) => n)).toEqual([1, 1, 1, 1, 1, 2]);
    const pauses = tries.slice(1, 5).map(({ ms }, i) => ms - (tries[i]?.ms ?? 0));
    pauses.forEach((ms, i) => expect(ms).toBeGreaterThanOrEqual(1_000 * 2 ** i));
    const dead = await db<{
      subscription: string;
      event: string;
      error: string;
    }>`select subscription, event, error from platform.dead_letters`;
    expect(dead).toEqual([{ subscription: 'test/failing', event: expect.any(String), error: expect.stringContaining('Error: never') }]);
    expect(JSON.parse(dead[0]?.event ?? '')).toMatchObject({ exchange: EXCHANGE, payload: { n: 1 } });
  });

  it('take several events together, and find the one that fails', async () => {
    const { db } = await testDatabase();
    const bus = openBus(db, makeFastClock(20));
    await bus.subscribe(recorder('test/many'));
    const relay = relayOn(db, bus);
    await bus.close();
    await write(db, ...all.map(n => event(n)));
    await relay.drain();
    const done: number[] = [];
    const sizes: number[] = [];
    await openBus(db, makeFastClock(20)).subscribe({
      ...recorder('test/many'),
      handleMany: async (events, tx) => {
        sizes.push(events.length);
        if (events.some(each => numberOf(each) === 50)) {
          throw new Error('not this one');
        }
        tx.afterCommit(() => done.push(...events.map(numberOf)));
        await Promise.resolve();
      },
    });
    await expect.poll(() => done).toEqual(all.filter(n => n !== 50));
    expect(sizes[0]).toBe(100);
    expect(await db`select event_id from platform.dead_letters`).toHaveLength(1);
  });
});

describe('what nobody needs any more', () => {
  const countDeliveries = async (db: Db, name: string): Promise<number> =>
    (await db`select 1 from platform.deliveries where subscription = ${name}`).length;
  const names = async (db: Db): Promise<string[]> =>
    (await db<{ name: string }>`select name from platform.subscriptions order by name`).map(row => row.name);
  /** Lets loops of the bus run that are due within the span. */
  const pass = async (clock: FakeClock, until: () => Promise<boolean>): Promise<void> => {
    await expect
      .poll(
        async () => {
          await clock.tick({ minutes: 10 });
          return until();
        },
        { interval: 20 },
      )
      .toBe(true);
  };

  it('goes: a subscription without a process for a week, with what waits for it, in bounded steps', async () => {
    const { db } = await testDatabase();
    const gone = openBus(db);
    await gone.subscribe({ ...recorder('test/gone'), handle: () => Promise.reject(new Error('down')) });
    await gone.close();
    const clock = makeFakeClock();
    const bus = openBus(db, clock);
    const alive = recorder('test/alive');
    await bus.subscribe({
      ...alive,
      handleMany: (events, tx) => {
        tx.afterCommit(() => void alive.got.push(...events.map(numberOf)));
        return Promise.resolve();
      },
    });
    const relay = relayOn(db, bus);
    for (let i = 0; i < 7; i++) {
      await write(db, ...Array.from({ length: 1_000 }, (_, n) => event(n)));
    }
    await relay.drain();
    expect(await countDeliveries(db, 'test/gone')).toBe(7_000);
    await expect.poll(() => alive.got.length).toBe(7_000);
    clock.advance({ days: 6 });
    await clock.tick({ minutes: 30 });
    expect(await names(db)).toEqual(['test/alive', 'test/gone']);
    clock.advance({ days: 2 });
    await pass(clock, async () => (await names(db)).length === 1);
    expect(await names(db)).toEqual(['test/alive']);
    expect(await countDeliveries(db, 'test/gone')).toBe(0);
    await write(db, event(8_000));
    await relay.drain();
    await expect.poll(() => alive.got.length).toBe(7_001);
    // when its service comes back it begins anew
    const back = recorder('test/gone');
    await openBus(db).subscribe(back);
    await write(db, event(8_001));
    await relay.drain();
    await expect.poll(() => back.got).toEqual([8_001]);
  });

  it('stays, after a stop of everything for longer than that, until the other processes had time to come back', async () => {
    const { db } = await testDatabase();
    const other = openBus(db);
    const subscription = recorder('test/other');
    await other.subscribe(subscription);
    await other.close();
    const clock = makeFakeClock(systemClock.nowMs() + 30 * DAY_MS);
    openBus(db, clock);
    await clock.tick({ minutes: 50 });
    expect(await names(db)).toEqual(['test/other']);
    await pass(clock, async () => (await names(db)).length === 0);
  });

  it('goes: notes of handled events after a day, events that were given up after a month', async () => {
    const { db } = await testDatabase();
    const clock = makeFakeClock();
    const old = { ...event(1), id: '1-0' };
    const young = { ...event(2), id: '2-0' };
    await db.tx(tx => noteHandled(tx, 'test/x', [old], new Date(clock.nowMs() - 25 * 3_600_000)));
    await db.tx(tx => noteHandled(tx, 'test/x', [young], new Date(clock.nowMs() - 20 * 3_600_000)));
    await db`insert into platform.dead_letters (subscription, event_id, event, error, at) values
      ('test/x', '1-0', '{}', '', ${new Date(clock.nowMs() - 31 * DAY_MS)}), ('test/x', '2-0', '{}', '', ${new Date(clock.nowMs() - 29 * DAY_MS)})`;
    openBus(db, clock);
    const left = async (): Promise<unknown> => [
      await db`select event_id from platform.handled`,
      await db`select event_id from platform.dead_letters`,
    ];
    await expect.poll(left).toEqual([[{ eventId: '2-0' }], [{ eventId: '2-0' }]]);
  });
});

describe('notes of handled events', () => {
  it('let one of two transactions handle an event, and a repeat none', async () => {
    const { db } = await testDatabase();
    const [one, two] = [event(1), event(2)].map((each, i) => ({ ...each, id: `${i}-0` })) as [BusEvent, BusEvent];
    const note = (events: readonly BusEvent[]): Promise<number[]> =>
      db.tx(async tx => (await noteHandled(tx, 'test/x', events, systemClock.now())).map(numberOf));
    const both = await Promise.all([note([one, two]), note([one, two])]);
    expect(both.flat().toSorted((a, b) => a - b)).toEqual([1, 2]);
    expect(await note([one, two, two])).toEqual([]);
    await db
      .tx(async tx => {
        await noteHandled(tx, 'test/y', [one], systemClock.now());
        throw new Error('rolled back');
      })
      .catch(() => undefined);
    expect(await db.tx(async tx => (await noteHandled(tx, 'test/y', [one, one], systemClock.now())).map(numberOf))).toEqual([1]);
  });
});

describe('a long backlog', () => {
  it('goes to the bus in batches of bounded size, and in order', async () => {
    const { db } = await testDatabase();
    const padding = 'x'.repeat(1_000_000);
    for (let n = 0; n < 30; n++) {
      await write(db, { ...event(n), payload: { n, padding: n === 20 ? padding.repeat(20) : padding } });
    }
    const bus = openBus(db);
    const batches: number[][] = [];
    const seen: Bus = {
      ...bus,
      wants: () => true,
      deliver: (_, events) => {
        batches.push(events.map(numberOf));
        return Promise.resolve();
      },
    };
    await relayOn(db, seen).drain();
    expect(batches.flat()).toEqual(Array.from({ length: 30 }, (_, n) => n));
    // 8 MiB begin with the row that follows: nine rows of this size, and the large one ends its batch
    expect(Math.max(...batches.map(batch => batch.length))).toBeLessThanOrEqual(9);
    expect(batches.find(batch => batch.includes(20))?.at(-1)).toBe(20);
  });
});
