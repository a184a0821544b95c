import { expect, test } from 'vitest';
import { testDatabase } from '../testing/template.ts';
import { silentLog } from './log.ts';
import { makeVacuum } from './vacuum.ts';

const aTable = async () => {
  const { db } = await testDatabase();
  await db`create table public.passing (id int primary key) with (autovacuum_enabled = off)`;
  const look = async () =>
    await db<{ vacuumed: number; dead: number }>`
      select vacuum_count as vacuumed, n_dead_tup as dead from pg_stat_user_tables where relname = 'passing'`;
  return { db, look };
};

test('a table is vacuumed when enough rows were removed', async () => {
  const { db, look } = await aTable();
  await db`insert into public.passing select generate_series(1, 100)`;
  await db`delete from public.passing`;

  const idle = makeVacuum({ db, log: silentLog, afterRows: 100 });
  idle.removed('public.passing', 60);
  idle.removed('public.other', 60);
  await idle.stop();
  expect(await look()).toMatchObject([{ vacuumed: 0 }]);

  const vacuum = makeVacuum({ db, log: silentLog, afterRows: 100 });
  vacuum.removed('public.passing', 60);
  vacuum.removed('public.passing', 40);
  await vacuum.stop();
  expect(await look()).toEqual([{ vacuumed: 1, dead: 0 }]);
});

test('one that fails is told, and does not keep others from being vacuumed', async () => {
  const { db, look } = await aTable();
  const told: unknown[] = [];
  const log = { ...silentLog, warn: (fields: object) => told.push(fields) };
  const vacuum = makeVacuum({ db, log: log as never, afterRows: 10 });
  vacuum.removed('public.none', 10);
  vacuum.removed('public.passing', 10);
  await expect.poll(look, { interval: 20, timeout: 10_000 }).toMatchObject([{ vacuumed: 1 }]);
  await vacuum.stop();
  expect(told).toEqual([{ err: expect.objectContaining({ code: '42P01' }), table: 'public.none' }]);
});
