/** Completed runs that wait to be indexed until the queue says what their task is. */
import { intArray, textArray, timestampArray } from '../../db/arrays.ts';
import type { Tx } from '../../db/sql.ts';

export interface CompletedRun {
  readonly taskId: string;
  readonly runId: number;
  readonly resolved: Date;
  /** Where it is to be found. */
  readonly paths: readonly string[];
}

/** Notes runs for later. Repeating it changes nothing. */
export const postpone = async (tx: Tx, runs: readonly CompletedRun[]): Promise<void> => {
  await tx`
    insert into index.waiting (task_id, run_id, resolved, paths)
    select * from unnest(${textArray(runs.map(run => run.taskId))}::text[], ${intArray(runs.map(run => run.runId))}::int4[],
      ${timestampArray(runs.map(run => run.resolved.getTime()))}::timestamptz[], ${textArray(runs.map(run => JSON.stringify(run.paths)))}::text[])
    on conflict do nothing`;
};

/** Takes runs out of the waiting ones: they are back if the transaction fails. */
export const takeWaiting = async (tx: Tx, limit: number): Promise<CompletedRun[]> => {
  const rows = await tx<Omit<CompletedRun, 'paths'> & { paths: string }>`
    delete from index.waiting where (task_id, run_id) in (
      select task_id, run_id from index.waiting order by task_id, run_id limit ${limit} for update skip locked)
    returning task_id, run_id, resolved, paths`;
  return rows.map(row => ({ ...row, paths: JSON.parse(row.paths) as string[] }));
};
