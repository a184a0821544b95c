/** Why a task is in its state now. */
import { beforeEach, describe, expect, test } from 'vitest';
import { type QueueClient, type QueueServer, TASK_QUEUE, aWorker, refusal, withQueue } from '../testing.ts';
import { queueApi } from '@tscluster/api/queue/api.ts';
import { claimExpiry, deadlines } from '../loops.ts';

let server: QueueServer;
let queue: QueueClient;
beforeEach(async () => {
  server = await withQueue();
  ({ queue } = server);
});

const named = (name: string) => ({ metadata: { name, description: 'd', owner: 'o@example.com', source: 'https://src.example' } });
const iso = (ms: number): string => new Date(ms).toISOString();
const explain = (taskId: string, as = queue) => as.explainTask({ taskId });
const withScopes = (...scopes: string[]): QueueClient => server.client(queueApi, { scopes });
const poll = async (taskQueueId = TASK_QUEUE): Promise<string[]> => server.claim(1, taskQueueId);

describe('a task that waits for others', () => {
  test('is told the cause first, however far away, and what would help', async () => {
    const build = await server.create(named('build'));
    const pack = await server.create({ ...named('pack'), dependencies: [build] });
    const ship = await server.create({ ...named('ship'), dependencies: [pack], deadline: iso(server.clock.nowMs() + 7_200_000) });
    await poll();
    await queue.reportFailed({ taskId: build, runId: '0' });
    await server.clock.tick({ minutes: 12 });

    expect(await explain(ship)).toMatchObject({
      state: 'unscheduled',
      isPast: false,
      summary:
        `Unscheduled for 12 minutes: it waits for \`pack\` (${pack}) and, through it, for \`build\` (${build}), which failed 12 minutes ago (run 0 on wg1/worker-a). ` +
        'It stays unscheduled until that task completes in another run, somebody schedules it, or its deadline passes.',
      reasons: [{ reason: 'waits-for-tasks' }],
      task: { name: 'ship', runs: 0, retriesLeft: 5, priority: 'lowest' },
      waitsFor: {
        tasks: 1,
        causes: 1,
        hidden: 0,
        isComplete: true,
        blockers: [
          {
            taskId: build,
            name: 'build',
            state: 'failed',
            isCause: true,
            path: [pack, build],
            reasonResolved: 'failed',
            workerId: 'worker-a',
          },
          { taskId: pack, name: 'pack', state: 'unscheduled', isCause: false, path: [pack] },
        ],
      },
      actions: [
        { action: 'rerunTask', taskId: build, isAllowed: true },
        { action: 'scheduleTask', taskId: ship, isAllowed: true },
        { action: 'cancelTask', taskId: ship, isAllowed: true },
      ],
      notShown: [],
      unknown: [],
    });
  });

  test('is told in which task queue nobody works', async () => {
    await poll('prov/idle');
    const build = await server.create({ ...named('build'), taskQueueId: 'prov/idle' });
    const test = await server.create({ dependencies: [build], deadline: iso(server.clock.nowMs() + 5 * 3_600_000) });
    await server.clock.tick({ hours: 3 });
    const told = await explain(test);
    expect(told.summary).toBe(
      `Unscheduled for 3 hours: it waits for \`build\` (${build}), which has been pending for 3 hours in prov/idle, where no worker has asked for work for 3 hours.`,
    );
    expect(told).toMatchObject({
      taskQueues: [{ taskQueueId: 'prov/idle', polls: { isPolled: false }, claims: { runs: 0 }, workers: { known: 1, active: 0 } }],
      actions: [{ action: 'worker', taskQueueId: 'prov/idle' }, { action: 'scheduleTask' }, { action: 'cancelTask' }],
    });
  });

  test('is told those first that end only when somebody acts', async () => {
    const ids = { running: await server.create({ priority: 'high' }), failed: await server.create({ priority: 'medium' }) };
    await server.claim(2);
    await queue.reportFailed({ taskId: ids.failed, runId: '0' });
    const pending = await server.create();
    const gone = await server.create();
    const test = await server.create({ dependencies: [ids.running, pending, ids.failed, gone] });
    await server.db`delete from queue.tasks where task_id = ${gone}`;
    const { waitsFor, summary } = await explain(test);
    expect(waitsFor).toMatchObject({ tasks: 4, causes: 4 });
    expect(waitsFor?.blockers.map(({ state }) => state)).toEqual(['missing', 'failed', 'pending', 'running']);
    expect(summary).toContain(`task ${gone}`.replace('task ', ''));
    expect(summary).toContain('3 other tasks keep it waiting, too');
  });

  test('does not mention what is satisfied already, not even in a long list', async () => {
    const done = await server.create();
    await server.claim();
    await queue.reportCompleted({ taskId: done, runId: '0' });
    const open = await server.create();
    const test = await server.create({ dependencies: [done, open] });
    expect((await explain(test)).waitsFor).toMatchObject({ tasks: 1, blockers: [{ taskId: open }] });
  });

  test('may wait for itself', async () => {
    const taskId = server.newId();
    await server.create({ dependencies: [taskId] }, taskId);
    expect(await explain(taskId)).toMatchObject({
      summary: `Task ${taskId} depends on itself: only scheduling or running it by hand starts it.`,
      reasons: [{ reason: 'waits-for-itself' }],
      waitsFor: { tasks: 1, causes: 0, blockers: [] },
    });
    const after = await server.create({ dependencies: [taskId] });
    expect((await explain(after)).waitsFor?.blockers).toMatchObject([
      { taskId, isCause: true, message: expect.stringMatching(/depends on itself\.$/) as string },
    ]);
  });

  test('may be about to be released', async () => {
    const build = await server.create();
    const test = await server.create({ dependencies: [build] });
    await server.db`update queue.tasks set state = 'completed', run = run || ',"reasonResolved":"completed","resolved":"2026-01-01T00:00:00.000Z"' where task_id = ${build}`;
    expect((await explain(test)).summary).toMatch(/, which completed \d+ days ago \(run 0\); what waits for it is about to be released\.$/);
    await server.db`update queue.deps set satisfied = true`;
    expect(await explain(test)).toMatchObject({ reasons: [{ reason: 'waits-for-release' }] });
  });

  test('with more than is looked through says so', async () => {
    const many = await Promise.all(Array.from({ length: 1_010 }, () => server.create()));
    const test = await server.create({ dependencies: many });
    const { waitsFor } = await explain(test);
    expect(waitsFor).toMatchObject({ tasks: 1_010, causes: 1_000, isComplete: false });
    expect(waitsFor?.blockers).toHaveLength(50);
  });

  test('is followed along a chain longer than the steps of one call', async () => {
    let last = await server.create(named('first'));
    const first = last;
    for (let i = 0; i < 99; i++) {
      last = await server.create({ dependencies: [last] });
    }
    const { waitsFor: all } = await explain(last);
    expect(all).toMatchObject({ causes: 1, isComplete: true });
    expect(all?.blockers[0]).toMatchObject({ taskId: first, name: 'first' });
    last = await server.create({ dependencies: [last] });
    last = await server.create({ dependencies: [last] });
    const { waitsFor } = await explain(last);
    expect(waitsFor).toMatchObject({ causes: 1, isComplete: false });
    expect(waitsFor?.blockers[0]?.message).toMatch(/waits for tasks that were not looked at\.$/);
  });

  test('is looked at once on every way', async () => {
    let layer = [await server.create()];
    for (let i = 0; i < 6; i++) {
      layer = await Promise.all([1, 2, 3].map(() => server.create({ dependencies: layer })));
    }
    const test = await server.create({ dependencies: layer });
    expect((await explain(test)).waitsFor).toMatchObject({ causes: 1, isComplete: true });
    expect((await explain(test)).waitsFor?.blockers).toHaveLength(19);
  });

  test('is read whatever its definition holds', async () => {
    const build = await server.create();
    const test = await server.create({
      dependencies: [build],
      routes: ['"dependencies":["x"]', '"created":"2001-01-01T00:00:00.000Z"'],
      payload: { '"dependencies":[': '\ud800 ]', b: ['"dependencies":[]'] },
      metadata: { name: 'a ] "dependencies":[] \ud800', description: '', owner: '', source: 'https://src.example' },
      projectId: 'dependencies',
    });
    const told = await explain(await server.create({ dependencies: [test] }));
    expect(told.waitsFor?.blockers.map(({ taskId }) => taskId)).toEqual([build, test]);
  });
});

describe('a pending task', () => {
  test('is told its place in line, by priority', async () => {
    for (const priority of ['high', 'high', 'low', 'lowest', 'lowest', 'lowest'] as const) {
      await server.create({ priority });
    }
    const taskId = await server.create({ priority: 'low' });
    await server.create({ priority: 'low' });
    await server.create({ taskQueueId: 'prov/other', priority: 'highest' });
    expect(await explain(taskId)).toMatchObject({
      state: 'pending',
      line: {
        ahead: 3,
        isMore: false,
        byPriority: [
          { priority: 'high', ahead: 2, isMore: false },
          { priority: 'low', ahead: 1, isMore: false },
        ],
      },
      reasons: [{ reason: 'no-worker-asks' }, { reason: 'waits-in-line', message: '3 tasks are ahead of it (2 high, 1 low).' }],
      actions: [{ action: 'worker' }, { action: 'changeTaskPriority' }, { action: 'cancelTask' }],
    });
  });

  test('is not counted behind more than ten thousand', async () => {
    const taskId = await server.create();
    await server.db`
      insert into queue.pending (task_queue_id, priority, seq, task_id, run_id, deadline, inserted)
      select ${TASK_QUEUE}, 3 + i % 2, -i, 'x', 0, ${new Date(server.clock.nowMs() + 60_000)}, ${server.clock.now()} from generate_series(1, 15000) i`;
    expect(await explain(taskId)).toMatchObject({
      line: {
        ahead: 10_000,
        isMore: true,
        byPriority: [
          { priority: 'high', ahead: 7_500, isMore: false },
          { priority: 'medium', ahead: 2_500, isMore: true },
        ],
      },
    });
    expect((await explain(taskId)).summary).toContain('10,000+ tasks are ahead of it (7,500 high, 2,500+ medium).');
  });

  test('waits its turn where workers ask, and behind busy ones', async () => {
    const held = await server.create();
    expect(await poll()).toEqual([held]);
    const taskId = await server.create();
    expect(await explain(taskId)).toMatchObject({
      reasons: [{ reason: 'waits-in-line' }, { reason: 'waits-in-line', message: 'It is the next in line.' }],
      taskQueues: [
        { polls: { isPolled: true }, claims: { runs: 1, workers: 1 }, workers: { known: 1, active: 1, some: [{ workerId: 'worker-a' }] } },
      ],
    });
    await server.clock.tick({ minutes: 10 });
    expect(await explain(taskId)).toMatchObject({
      summary:
        'Pending for 10 minutes in prov/wt: the workers there are busy (1 worker holds 1 run), and none has asked for more for 10 minutes. It is the next in line.',
      reasons: [{ reason: 'workers-busy' }, {}],
      actions: [{ action: 'cancelTask' }],
    });
  });

  test('waits in vain for quarantined workers', async () => {
    await poll();
    const worker = { provisionerId: 'prov', workerType: 'wt', ...aWorker() };
    await queue.quarantineWorker(worker, { quarantineUntil: iso(server.clock.nowMs() + 86_400_000) });
    await server.clock.tick({ minutes: 4 });
    const taskId = await server.create();
    await poll(); // a quarantined worker asks in vain
    expect(await explain(taskId)).toMatchObject({
      reasons: [{ reason: 'workers-quarantined' }, {}],
      taskQueues: [
        {
          polls: { isPolled: false },
          workers: {
            known: 1,
            quarantined: 1,
            some: [{ workerId: 'worker-a', quarantineUntil: iso(server.clock.nowMs() + 86_400_000 - 260_000) }],
          },
        },
      ],
      actions: [{ action: 'worker' }, { action: 'quarantineWorker', taskQueueId: TASK_QUEUE, isAllowed: true }, { action: 'cancelTask' }],
    });
  });

  test('waits in vain from the moment on at which all workers are quarantined', async () => {
    await poll();
    const worker = { provisionerId: 'prov', workerType: 'wt', ...aWorker() };
    await queue.quarantineWorker(worker, { quarantineUntil: iso(server.clock.nowMs() + 86_400_000) });
    expect(await explain(await server.create())).toMatchObject({
      reasons: [{ reason: 'workers-quarantined', message: expect.stringContaining('all 1 worker there is quarantined') }, {}],
      taskQueues: [{ polls: { isPolled: true }, workers: { known: 1, quarantined: 1 } }],
    });
  });

  test('tells why it runs again', async () => {
    const taskId = await server.create();
    await poll();
    await queue.reportException({ taskId, runId: '0' }, { reason: 'worker-shutdown' });
    const told = await explain(taskId);
    expect(told).toMatchObject({ task: { retriesLeft: 4, runs: 2 }, run: { runId: 1 } });
    expect(told.reasons.at(-1)).toEqual({
      reason: 'run-again',
      message:
        'It is tried again because the run before was lost a moment ago: its worker was shut down (run 0 on wg1/worker-a); 4 retries are left.',
    });
  });
});

test('a running task tells who has it, and until when', async () => {
  const taskId = await server.create();
  await poll();
  expect(await explain(taskId)).toMatchObject({
    state: 'running',
    summary: 'Running for a moment on wg1/worker-a (run 0); its claim lasts for 20 minutes more unless it is renewed.',
    run: { runId: 0, workerGroup: 'wg1', workerId: 'worker-a', takenUntil: iso(server.clock.nowMs() + 1_200_000) },
    taskQueues: [],
    actions: [{ action: 'cancelTask' }],
  });
  await server.clock.tick({ minutes: 20, seconds: 30 });
  expect(await explain(taskId)).toMatchObject({
    reasons: [
      { reason: 'claimed' },
      { reason: 'claim-ran-out', message: 'Its claim ran out 30 seconds ago: the run is about to be given up and tried again.' },
    ],
  });
});

describe('a resolved task', () => {
  test('tells how it ended', async () => {
    const taskId = await server.create({ retries: 0 });
    await poll();
    await queue.reportCompleted({ taskId, runId: '0' });
    await server.clock.tick({ minutes: 5 });
    expect(await explain(taskId)).toMatchObject({
      summary: 'It completed 5 minutes ago (run 0 on wg1/worker-a).',
      reasons: [{ reason: 'completed' }],
      actions: [{ action: 'rerunTask', taskId, isAllowed: true }],
    });
    await queue.rerunTask({ taskId });
    await poll();
    await queue.reportException({ taskId, runId: '1' }, { reason: 'malformed-payload' });
    expect(await explain(taskId)).toMatchObject({ reasons: [{ reason: 'task-refused' }], changes: [{ change: 'rerun', ofGroup: false }] });
    await queue.rerunTask({ taskId });
    await poll();
    await server.clock.tick({ minutes: 20 });
    await server.runLoop(claimExpiry);
    expect(await explain(taskId)).toMatchObject({
      reasons: [{ reason: 'worker-lost', message: expect.stringContaining('and no retries were left') as string }],
    });
  });

  test('that was cancelled tells by whom, to whoever may know', async () => {
    const [single, ofGroup] = [await server.create(), await server.create()];
    const admin = server.client(queueApi, { clientId: 'admin@example.com' });
    await admin.cancelTask({ taskId: single });
    await admin.sealTaskGroup({ taskGroupId: ofGroup });
    await admin.cancelTaskGroup({ taskGroupId: ofGroup });
    const change = { change: 'cancel', ofGroup: true, clientId: 'admin@example.com' };
    expect(await explain(single)).toMatchObject({
      summary: 'It was cancelled a moment ago by admin@example.com.',
      reasons: [{ reason: 'canceled' }],
    });
    expect(await explain(ofGroup)).toMatchObject({
      summary: 'It was cancelled a moment ago by admin@example.com, with its group.',
      changes: [change],
      group: { sealed: server.clock.now().toISOString() },
    });
    const stranger = withScopes(`queue:status:${single}`);
    const told = await explain(single, stranger);
    expect(JSON.stringify(told)).not.toContain('admin@');
    expect(told).toMatchObject({
      summary: 'It was cancelled a moment ago.',
      changes: [{ change: 'cancel', at: server.clock.now().toISOString() }],
    });
    expect(told.notShown).toContainEqual({ what: 'who changed the task', missingScopes: ['auth:client-audit-history:<clientId>'] });
    await expect(explain(single, withScopes(`queue:status:${single}`, 'auth:client-audit-history:admin@*'))).resolves.toMatchObject({
      changes: [{ clientId: 'admin@example.com' }],
    });
  });

  test('that missed its deadline tells whether it ever ran', async () => {
    const never = await server.create();
    const waited = await server.create({ dependencies: [never] });
    const ran = await server.create({ priority: 'high' });
    await poll();
    await server.clock.tick({ minutes: 60, seconds: 30 });
    expect((await explain(never)).reasons[0]).toMatchObject({
      reason: 'deadline-passed',
      message: 'Its deadline passed 30 seconds ago: it is given up 60 seconds after it, and nothing changes that.',
    });
    expect((await explain(never)).actions).toEqual([]);
    await server.clock.tick({ seconds: 31 });
    await server.runLoop(deadlines);
    const deadline = (await queue.status({ taskId: ran })).status.deadline;
    expect((await explain(never)).summary).toBe(`It missed its deadline a moment ago, before a worker had it (deadline ${deadline}).`);
    expect((await explain(waited)).summary).toBe(
      `It missed its deadline a moment ago, before a worker had it; it had never been scheduled, because it waited for other tasks (deadline ${deadline}).`,
    );
    expect((await explain(ran)).summary).toBe(
      `It missed its deadline a moment ago while it was running on wg1/worker-a (deadline ${deadline}).`,
    );
  });
});

describe('what the caller may not read', () => {
  test('of other tasks is left out, with the scopes that would show it', async () => {
    const build = await server.create(named('secret-build'));
    const pack = await server.create({ ...named('secret-pack'), dependencies: [build] });
    const ship = await server.create({ ...named('ship'), dependencies: [pack] });
    const own = `queue:status:${ship}`;

    const bare = await explain(ship, withScopes(own));
    expect(JSON.stringify(bare)).not.toMatch(new RegExp(`${build}|${pack}|secret`));
    expect(bare).toMatchObject({ summary: 'Unscheduled for a moment: it waits for 1 task that is not shown.', task: { runs: 0 } });
    expect(bare.task.name).toBeUndefined();
    expect(bare.waitsFor).toBeUndefined();
    expect(bare.group).toBeUndefined();
    expect(bare.notShown).toEqual([
      { what: 'the definition of the task, and with it what it depends on', missingScopes: [`queue:get-task:${ship}`] },
      { what: 'whether the task group is sealed', missingScopes: [`queue:list-task-group:${ship}`] },
    ]);
    expect(bare.actions).toMatchObject([
      { action: 'scheduleTask', isAllowed: false, missingScopes: [`queue:schedule-task:-/${ship}/${ship}`] },
      { action: 'cancelTask', isAllowed: false, missingScopes: [`queue:cancel-task:-/${ship}/${ship}`] },
    ]);

    const definition = await explain(ship, withScopes(own, `queue:get-task:${ship}`));
    expect(JSON.stringify(definition)).not.toMatch(new RegExp(`${build}|${pack}|secret`));
    expect(definition).toMatchObject({ task: { name: 'ship' }, waitsFor: { tasks: 1, hidden: 1, causes: 0, blockers: [] } });
    expect(definition.notShown).toContainEqual({ what: 'tasks that it waits for', missingScopes: ['queue:status:<taskId>'] });

    const direct = await explain(ship, withScopes(own, `queue:get-task:${ship}`, `queue:status:${pack}`));
    expect(JSON.stringify(direct)).not.toMatch(new RegExp(`${build}|secret`));
    expect(direct.waitsFor?.blockers).toMatchObject([
      { taskId: pack, isCause: true, message: `Task ${pack} waits for tasks that are not shown.` },
    ]);
    expect(direct.notShown).toContainEqual({
      what: 'what the tasks that it waits for wait for themselves',
      missingScopes: ['queue:get-task:<taskId>'],
    });

    const further = await explain(ship, withScopes(own, `queue:get-task:${ship}`, `queue:status:${pack}`, `queue:get-task:${pack}`));
    expect(JSON.stringify(further)).not.toContain(build);
    expect(further.waitsFor).toMatchObject({ hidden: 1, blockers: [{ taskId: pack, name: 'secret-pack', isCause: true }] });

    const states = await explain(ship, withScopes('queue:status:*', `queue:get-task:${ship}`, `queue:get-task:${pack}`));
    expect(states.waitsFor?.blockers).toMatchObject([{ taskId: build, state: 'pending' }, { taskId: pack }]);
    expect(JSON.stringify(states)).not.toContain('secret-build');
    expect(states.notShown).toContainEqual({
      what: 'whether workers ask for work in prov/wt',
      missingScopes: ['queue:get-task-queue:prov/wt'],
    });
  });

  test('of task queues and workers is left out, each by its own scope', async () => {
    const held = await server.create();
    expect(await poll()).toEqual([held]);
    const taskId = await server.create();
    const see = (...scopes: string[]) => explain(taskId, withScopes(`queue:status:${taskId}`, ...scopes));
    const bare = await see();
    expect(bare).toMatchObject({
      summary: 'Pending for a moment in prov/wt: it waits for a worker.',
      taskQueues: [{ taskQueueId: TASK_QUEUE }],
    });
    expect(bare.line).toBeUndefined();
    expect(Object.keys(bare.taskQueues[0] as object)).toEqual(['taskQueueId', 'message']);
    expect(JSON.stringify(bare)).not.toContain('worker-a');
    expect(bare.notShown.map(({ missingScopes }) => missingScopes)).toEqual(
      expect.arrayContaining([
        ['queue:pending-count:prov/wt'],
        ['queue:get-task-queue:prov/wt'],
        ['queue:list-workers:prov/wt'],
        ['queue:claimed-list:prov/wt'],
      ]),
    );
    expect((await see('queue:pending-count:prov/wt')).line).toMatchObject({ ahead: 0 });
    for (const scope of ['queue:get-task-queue:prov/wt', 'queue:list-task-queues', 'queue:get-worker-type:prov/wt']) {
      expect((await see(scope)).taskQueues).toMatchObject([{ polls: { isPolled: true } }]);
      expect((await see(scope)).taskQueues[0]?.workers).toBeUndefined();
    }
    expect((await see('queue:list-workers:prov/wt')).taskQueues).toMatchObject([
      { workers: { known: 1, some: [{ workerId: 'worker-a' }] } },
    ]);
    expect((await see('queue:pending-count:prov/wt', 'queue:claimed-count:prov/wt')).taskQueues).toMatchObject([{ claims: { runs: 1 } }]);
  });

  test('is nothing without the scope of status, and a task has to exist', async () => {
    const taskId = await server.create();
    expect(await refusal(explain(taskId, withScopes(`queue:get-task:${taskId}`)))).toMatchObject({
      statusCode: 403,
      code: 'InsufficientScopes',
    });
    expect(await refusal(explain(server.newId()))).toMatchObject({ statusCode: 404, code: 'ResourceNotFound' });
    expect(await refusal(explain('not-an-id'))).toMatchObject({ statusCode: 400, code: 'InvalidRequestArguments' });
  });
});
