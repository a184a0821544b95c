/** The program of `taskcluster db migrate`: brings the database to the newest schema and ends. */
import { parseArgs } from 'node:util';
import { openDb } from '../db/sql.ts';
import { StartProblem } from '../local/problem.ts';
import { systemClock as clock } from '../platform/clock.ts';
import { SettingsError, readAllSettings } from '../platform/config.ts';
import { makeLog } from '../platform/log.ts';
import { prepareSchema, waitForDatabase } from './database.ts';
import { readEnvironment } from './environment.ts';
import { databaseSettings, requireDatabaseUrl } from './settings.ts';

const USAGE = `Brings the database of DATABASE_URL to the newest schema. Running servers of this and of the previous release go on working.

  taskcluster db migrate [--env-file FILE]
`;

const readFiles = (args: readonly string[]): readonly string[] | 'help' => {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: { 'env-file': { type: 'string', multiple: true, default: [] }, help: { type: 'boolean', short: 'h', default: false } },
    });
    return values.help ? 'help' : values['env-file'];
  } catch (error) {
    throw new StartProblem(`${(error as Error).message.split('. ')[0]}.\n\n${USAGE}`, { cause: error });
  }
};

const main = async (): Promise<void> => {
  const envFiles = readFiles(process.argv.slice(2));
  if (envFiles === 'help') {
    process.stdout.write(USAGE);
    return;
  }
  const environment = await readEnvironment({ envFiles, environment: {} }, process.env);
  const [settings] = readAllSettings([databaseSettings] as const, environment, ([found]) => requireDatabaseUrl(found));
  const log = makeLog({ toStdout: true });
  const connection = { connectionString: settings.databaseUrl ?? settings.writeDbUrl ?? '' };
  const db = openDb({ connection, poolSize: 1, onError: () => undefined });
  try {
    await waitForDatabase(db, clock, log);
    await prepareSchema(db, true, log);
    log.info({}, 'the database has the newest schema');
  } finally {
    await db.close();
  }
};

try {
  await main();
  process.exit(0);
} catch (error) {
  console.error(error instanceof StartProblem || error instanceof SettingsError ? error.message : error);
  process.exit(1);
}
