/**
 * Plans of the hot statements, made as the lane makes them: generic, on empty tables, right after the migrations. A plan made then may stay for long, so
 * it must not read a table from end to end, nor an index by anything but its leading columns.
 */
import { expect, test } from 'vitest';
import { HOT_OPTIONS } from '../../db/lane.ts';
import type { Statement } from '../../db/sql.ts';
import { testDatabase } from '../../testing/template.ts';
import { answeredStatement, claimStatement, reclaimStatement, unansweredStatement } from './claim.db.ts';
import { createStatement } from './create.db.ts';
import { checkTimes, makeTask } from './definition.ts';
import { endRunsStatement, giveUpStatement, lockPendingStatement, satisfyPartStatement, satisfyStatement } from './resolve.db.ts';
import { definitionsStatement, statusesStatement } from './tasks.db.ts';

const NOW = '2030-01-01T00:00:00.000Z';
const ID = 'AAAAAAAAQAiAAAAAAAAAAA';
const worker = { taskQueueId: 'prov/wt', workerGroup: 'wg', workerId: 'w' };
const task = (dependencies: string[]) => {
  const body = {
    taskQueueId: 'prov/wt',
    schedulerId: '-',
    projectId: 'none',
    dependencies,
    requires: 'all-completed' as const,
    routes: [],
    priority: 'lowest' as const,
    retries: 5,
    created: NOW,
    deadline: '2030-01-02T00:00:00.000Z',
    scopes: [],
    payload: {},
    metadata: { name: '', description: '', owner: '', source: 'https://a.example' },
    tags: {},
    extra: {},
  };
  return makeTask(ID, body, 'prov/wt', checkTimes(body, Date.parse(NOW), { maxDeadlineDays: 5 }));
};
const run = { taskId: ID, runId: 0 };

const STATEMENTS: Readonly<Record<string, Statement>> = {
  create: createStatement([task([])], NOW),
  'create with dependencies': createStatement([task([ID])], NOW),
  'end runs': endRunsStatement([{ ...run, outcome: 'completed', reason: 'completed' }], NOW),
  'give up': giveUpStatement([ID], 'canceled', NOW),
  'lock pending': lockPendingStatement([ID]),
  satisfy: satisfyStatement([run], NOW),
  'satisfy a part': satisfyPartStatement(ID, true, NOW, 10),
  claim: claimStatement([worker], [{ taskQueueId: 'prov/wt', slot: 1, request: 1 }], NOW, NOW),
  reclaim: reclaimStatement([run], NOW, NOW),
  answered: answeredStatement([{ ...run, takenUntilMs: 0 }]),
  unanswered: unansweredStatement(worker, NOW, NOW),
  statuses: statusesStatement([ID]),
  definitions: definitionsStatement([ID]),
};

test.for(Object.entries(STATEMENTS))('%s looks things up by index only', async ([, statement]) => {
  const { db } = await testDatabase();
  const client = await db.connect({ options: HOT_OPTIONS });
  try {
    await client.query(`prepare hot as ${statement.text}`);
    const nulls = statement.values.map(() => 'null').join(', ');
    const { rows } = await client.query<{ 'QUERY PLAN': string }>(`explain (costs off) execute hot(${nulls})`);
    const plan = rows.map(row => row['QUERY PLAN']);
    if (process.env['SHOW_PLANS']) {
      console.log(plan.join('\n'));
    }
    expect(plan.filter(line => /Seq Scan|Hash Join|Merge Join|Bitmap/.test(line))).toEqual([]);
    // an index scan without a condition reads all of it
    const scans = plan.flatMap((line, i) => (/Index (Only )?Scan/.test(line) ? [{ line, next: plan[i + 1] ?? '' }] : []));
    expect(scans.filter(({ next }) => !next.includes('Index Cond:'))).toEqual([]);
  } finally {
    await client.end();
  }
});
