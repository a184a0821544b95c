/**
 * Plans of hot statements, made as a lane makes them: generic, on empty tables, right after the migrations. A plan made then may stay for long, so it must
 * not read a table from end to end, nor an index by anything but its leading columns.
 */
import pg from 'pg';
import { HOT_OPTIONS } from '../db/lane.ts';
import type { Db, Statement } from '../db/sql.ts';

const withHotConnection = async <T>(db: Db, use: (client: pg.Client) => Promise<T>): Promise<T> => {
  const client = await db.connect({ options: HOT_OPTIONS });
  try {
    return await use(client);
  } finally {
    await client.end();
  }
};

const explain = async (client: pg.Client, statement: Statement, values: readonly string[], options: string): Promise<string[]> => {
  await client.query(`prepare hot as ${statement.text}`);
  const { rows } = await client.query<{ 'QUERY PLAN': string }>(`explain (${options}) execute hot(${values.join(', ')})`);
  const plan = rows.map(row => row['QUERY PLAN']);
  if (process.env['SHOW_PLANS']) {
    console.log(plan.join('\n'));
  }
  return plan;
};

/** What is wrong with the plan of a statement, line by line; nothing when it only looks things up by index. With SHOW_PLANS=1 plans are printed. */
export const findScans = (db: Db, statement: Statement): Promise<string[]> =>
  withHotConnection(db, async client => {
    const nulls = statement.values.map(() => 'null');
    const plan = await explain(client, statement, nulls, 'costs off');
    const scans = plan.filter(line => /Seq Scan|Hash Join|Merge Join|Bitmap/.test(line));
    // an index scan without a condition reads all of it
    const unconditional = plan.filter((line, i) => /Index (Only )?Scan/.test(line) && !plan[i + 1]?.includes('Index Cond:'));
    return [...scans, ...unconditional];
  });

/** How many rows a statement reads from tables, those included that it then leaves out. It is executed. */
export const countRowsRead = (db: Db, statement: Statement): Promise<number> =>
  withHotConnection(db, async client => {
    const values = statement.values.map(value => pg.escapeLiteral(value instanceof Date ? value.toISOString() : String(value)));
    const plan = await explain(client, statement, values, 'analyze, costs off, timing off, buffers off');
    const numbers = plan.flatMap(
      line => /Rows Removed by Filter: (\d+)/.exec(line)?.[1] ?? (/Scan using/.test(line) ? (/rows=(\d+)/.exec(line)?.[1] ?? []) : []),
    );
    return numbers.reduce((sum, text) => sum + Number(text), 0);
  });
