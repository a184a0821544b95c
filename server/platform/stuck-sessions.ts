/**
 * Sessions of processes that stand still in the middle of a transaction: paused while Postgres sends them an answer, or while they send it a batch. Such
 * a session keeps its locks, and none of Postgres's own time limits sees it, because to Postgres it is at work. Another process ends it; what it had not
 * committed is undone, and its owner finds the connection gone.
 */
import type { Db } from '../db/sql.ts';
import type { Log } from './log.ts';
import { type Loop, loop } from './loop.ts';

const STUCK_SECONDS = 10;

/** Ends the stuck sessions of this installation; answers with what they were. Every time in it is the database's own. */
export const endStuckSessions = (db: Db, stuckSeconds = STUCK_SECONDS): Promise<{ pid: number; applicationName: string }[]> =>
  db<{ pid: number; applicationName: string }>`
    select stuck.pid, stuck.application_name, pg_terminate_backend(stuck.pid)
    from pg_stat_activity me join pg_stat_activity stuck on stuck.datid = me.datid and stuck.usesysid = me.usesysid
    where me.pid = pg_backend_pid() and stuck.application_name like 'taskcluster%' and stuck.state = 'active'
      and stuck.wait_event in ('ClientWrite', 'ClientRead') and stuck.query_start < me.query_start - make_interval(secs => ${stuckSeconds})`;

export const stuckSessions: Loop<{ readonly db: Db; readonly log: Log }> = loop({
  name: 'platform/stuck-sessions',
  everyMs: 5_000,
  batch: 1,
  run: async ({ db, log }) => {
    const ended = await endStuckSessions(db);
    if (ended.length > 0) {
      log.warn(
        { sessions: ended.map(({ pid, applicationName }) => ({ pid, applicationName })) },
        'ended sessions of processes that stand still',
      );
    }
    return 0;
  },
});
