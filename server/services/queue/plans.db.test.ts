/** Plans of the hot statements: index look-ups only. */
import { expect, test } from 'vitest';
import { textArray } from '../../db/arrays.ts';
import type { Statement } from '../../db/sql.ts';
import { findScans } from '../../testing/plans.ts';
import { testDatabase } from '../../testing/template.ts';
import { answeredStatement, claimStatement, reclaimStatement, unansweredStatement } from './claim.db.ts';
import { createStatement } from './create.db.ts';
import { checkTimes, makeTask } from './definition.ts';
import {
  downstreamStatement,
  dropFanoutsStatement,
  holdStatement,
  leaveLineStatement,
  lockTasksStatement,
  returnToLineStatement,
} from './downstream.db.ts';
import { insertStatement, shareStatement } from './graphs/store.db.ts';
import {
  endRunsStatement,
  giveUpStatement,
  IS_REQUIRED,
  lockPendingStatement,
  satisfyPartStatement,
  satisfyStatement,
} from './resolve.db.ts';
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
const GROUP = { taskGroupId: ID, schedulerId: '-' };
const run = { taskId: ID, runId: 0 };

const STATEMENTS: Readonly<Record<string, Statement>> = {
  create: createStatement([task([])], NOW),
  'create with dependencies': createStatement([task([ID])], NOW),
  'end runs': endRunsStatement([{ ...run, outcome: 'completed', reason: 'completed' }], NOW),
  'end or retry runs': endRunsStatement([{ ...run, outcome: 'exception', reason: 'worker-shutdown' }], NOW),
  'give up': giveUpStatement([ID], 'canceled', NOW),
  'lock pending': lockPendingStatement([ID]),
  'is required': { text: IS_REQUIRED, values: [textArray([ID])] },
  satisfy: satisfyStatement([run], NOW),
  'satisfy a part': satisfyPartStatement(ID, true, NOW, 10),
  claim: claimStatement([worker], [{ taskQueueId: 'prov/wt', requests: [1] }], NOW, NOW),
  reclaim: reclaimStatement([run], NOW, NOW),
  answered: answeredStatement([{ taskId: ID, takenUntilMs: 0 }]),
  unanswered: unansweredStatement(worker, NOW, NOW),
  statuses: statusesStatement([ID]),
  definitions: definitionsStatement([ID]),
  'store a graph': insertStatement([{ task: task([ID]), edges: [{ required: ID, isSatisfied: false }], unmet: 1 }], GROUP, new Map(), NOW),
  'keep what a graph needs': shareStatement([ID]),
  downstream: downstreamStatement(ID, NOW, 10),
  'drop fan-outs': dropFanoutsStatement([ID]),
  'lock tasks': lockTasksStatement([ID]),
  'leave the line': leaveLineStatement([ID]),
  hold: holdStatement({ root: ID, required: [ID], dependents: [ID] }, NOW),
  'return to the line': returnToLineStatement(ID, NOW),
};

test.for(Object.entries(STATEMENTS))('%s looks things up by index only', async ([, statement]) => {
  const { db } = await testDatabase();
  expect(await findScans(db, statement)).toEqual([]);
});

test.for([
  'end runs',
  'end or retry runs',
  'give up',
  'lock pending',
  'claim',
  'reclaim',
  'answered',
  'leave the line',
  'return to the line',
])(
  '%s does so after a vacuum found none of the rows that only pass through, when Postgres believes that there never are any',
  async name => {
    const { db } = await testDatabase();
    for (const table of ['queue.pending', 'queue.claims', 'platform.outbox']) {
      await db.run({ text: `vacuum ${table}`, values: [] });
    }
    expect(await findScans(db, STATEMENTS[name] as Statement)).toEqual([]);
  },
);
