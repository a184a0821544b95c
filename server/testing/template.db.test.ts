import { expect, test } from 'vitest';
import { testDatabase } from './template.ts';

test('each database is migrated and its own', async () => {
  const [one, two] = [await testDatabase(), await testDatabase()];
  await one.db`create table only_here (n int)`;
  const names = await two.db<{
    name: string;
  }>`select table_name as name from information_schema.tables where table_name in ('only_here', 'migrations')`;
  expect(names.map(row => row.name)).toEqual(['migrations']);
  expect(one.connection.database).not.toBe(two.connection.database);
});
