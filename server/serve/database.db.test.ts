/** What the database must let us do. */
import { expect, onTestFinished, test } from 'vitest';
import { openDb } from '../db/sql.ts';
import { StartProblem } from '../local/problem.ts';
import { systemClock } from '../platform/clock.ts';
import { openLog } from '../testing/log.ts';
import { testDatabase } from '../testing/template.ts';
import { waitForDatabase } from './database.ts';

test('a user who may not make temporary functions is told which grant is missing', async () => {
  const { db, connection } = await testDatabase();
  const { database } = connection;
  const user = `${database}_user`;
  await db.run({ text: `create role ${user} login`, values: [] });
  await db.run({ text: `revoke temporary on database ${database} from public`, values: [] });
  const limited = openDb({ connection: { ...connection, user }, poolSize: 1 });
  onTestFinished(async () => {
    await limited.close();
    await db.run({ text: `drop owned by ${user}`, values: [] });
    await db.run({ text: `drop role ${user}`, values: [] });
  });
  await expect(waitForDatabase(limited, systemClock, openLog().log)).rejects.toEqual(
    new StartProblem(
      `${user} may not make temporary functions in the database ${database}: GRANT TEMPORARY ON DATABASE "${database}" TO "${user}".`,
    ),
  );
  await db.run({ text: `grant temporary on database ${database} to ${user}`, values: [] });
  expect(await waitForDatabase(limited, systemClock, openLog().log)).toBeUndefined();
});
