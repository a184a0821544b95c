/** What ran at each path. */
import type { IndexedRun } from '@tscluster/api/index/api.ts';
import { intArray, textArray, timestampArray } from '../../db/arrays.ts';
import type { Query, Statement, Tx } from '../../db/sql.ts';

export interface RunRow {
  readonly taskId: string;
  readonly runId: number;
  readonly taskGroupId: string;
  readonly state: IndexedRun['state'];
  readonly reason: string;
  readonly scheduled: Date;
  readonly started: Date | null;
  readonly resolved: Date;
  readonly workerGroup: string | null;
  readonly workerId: string | null;
  readonly expires: Date;
}

const ADD = `
insert into index.history (path, resolved, task_id, run_id, task_group_id, state, reason, scheduled, started, worker_group, worker_id, expires)
select * from unnest($1::text[], $2::timestamptz[], $3::text[], $4::int4[], $5::text[], $6::text[], $7::text[], $8::timestamptz[], $9::timestamptz[],
  $10::text[], $11::text[], $12::timestamptz[])
on conflict do nothing`;

/** Notes that a run has ended at a path. Repeating it changes nothing. */
export const addHistory = async (tx: Tx, entries: readonly { readonly path: string; readonly run: RunRow }[]): Promise<void> => {
  const texts = (pick: (run: RunRow) => string | null): Buffer => textArray(entries.map(({ run }) => pick(run)));
  const times = (pick: (run: RunRow) => Date | null): Buffer => timestampArray(entries.map(({ run }) => pick(run)?.getTime()));
  if (entries.length > 0) {
    await tx.run({
      text: ADD,
      values: [
        textArray(entries.map(({ path }) => path)),
        times(run => run.resolved),
        texts(run => run.taskId),
        intArray(entries.map(({ run }) => run.runId)),
        texts(run => run.taskGroupId),
        texts(run => run.state),
        texts(run => run.reason),
        times(run => run.scheduled),
        times(run => run.started),
        texts(run => run.workerGroup),
        texts(run => run.workerId),
        times(run => run.expires),
      ],
    });
  }
};

export type HistoryKey = readonly [resolvedMs: number, taskId: string, runId: number];
const NEWEST: HistoryKey = [Date.parse('9999-12-31T23:59:59.999Z'), '', 0];

const LIST = `
select task_id, run_id, task_group_id, state, reason, scheduled, started, resolved, worker_group, worker_id, expires from index.history
where path = $1 and (resolved, task_id, run_id) < ($2::timestamptz, $3::text, $4::int) and expires > $5
order by path desc, resolved desc, task_id desc, run_id desc limit $6`;

/** Runs that ended at a path and whose task has not expired, from the newest on, or from a key (`RunRow`s): the primary key backwards. */
export const historyStatement = (path: string, after: HistoryKey | undefined, now: Date, limit: number): Statement => {
  const [resolvedMs, taskId, runId] = after ?? NEWEST;
  return { text: LIST, values: [path, new Date(resolvedMs), taskId, runId, now, limit] };
};

/** Forgets runs of expired tasks; answers with how many. */
export const deleteExpiredHistory = async (db: Query, now: Date, limit: number): Promise<number> => {
  const rows = await db`
    delete from index.history where (path, resolved, task_id, run_id) in (
      select path, resolved, task_id, run_id from index.history where expires < ${now} order by expires limit ${limit} for update skip locked)
    returning run_id`;
  return rows.length;
};
