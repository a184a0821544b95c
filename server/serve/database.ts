/** A database that others look after: waiting for it, and making sure that it fits. */
import { findMissingMigrations, migrate } from '../db/migrate.ts';
import { type Db, isConnectionError } from '../db/sql.ts';
import { StartProblem } from '../local/problem.ts';
import type { Clock } from '../platform/clock.ts';
import type { Log } from '../platform/log.ts';

const WAIT_MS = 60_000;
const PAUSE_MS = 500;
const OLDEST_POSTGRES = 15;

const isAbsent = (error: unknown): boolean =>
  isConnectionError(error) || ['ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', '53300'].includes((error as { code?: string }).code ?? '');

/** Waits until the database answers: it may start at the same time as we do. Throws a `StartProblem` when it does not, is too old, or lets us do too little. */
export const waitForDatabase = async (db: Db, clock: Clock, log: Log): Promise<void> => {
  const untilMs = clock.monotonicMs() + WAIT_MS;
  let told = false;
  for (;;) {
    try {
      const [row] = await db<{ version: string; database: string; user: string; mayMakeTemporary: boolean }>`
        select current_setting('server_version_num') as version, current_database() as database, current_user as user,
          has_database_privilege(current_database(), 'temporary') as may_make_temporary`;
      const major = Math.floor(Number(row?.version) / 10_000);
      if (major < OLDEST_POSTGRES) {
        throw new StartProblem(`The database is Postgres ${major}; ${OLDEST_POSTGRES} or later is needed.`);
      }
      if (!row?.mayMakeTemporary) {
        throw new StartProblem(
          `${row?.user} may not make temporary functions in the database ${row?.database}: GRANT TEMPORARY ON DATABASE "${row?.database}" TO "${row?.user}".`,
        );
      }
      return;
    } catch (error) {
      if (error instanceof StartProblem) {
        throw error;
      }
      if (!isAbsent(error) || clock.monotonicMs() > untilMs) {
        throw new StartProblem(`The database of DATABASE_URL cannot be used: ${(error as Error).message || String(error)}`, {
          cause: error,
        });
      }
      if (!told) {
        told = true;
        log.warn({ err: error }, 'waiting for the database');
      }
      await clock.sleep(PAUSE_MS);
    }
  }
};

/** Brings the database to the newest schema, or throws a `StartProblem` when that is somebody else's work and not done. */
export const prepareSchema = async (db: Db, mayMigrate: boolean, log: Log): Promise<void> => {
  if (mayMigrate) {
    const applied = await migrate(db);
    if (applied.length > 0) {
      log.info({ migrations: applied }, 'database migrated');
    }
    return;
  }
  const missing = await findMissingMigrations(db);
  if (missing.length > 0) {
    throw new StartProblem(
      `The database lacks the migrations ${missing.join(', ')}, and DB_MIGRATE=false. Run \`taskcluster db migrate\` with a user that may.`,
    );
  }
};
