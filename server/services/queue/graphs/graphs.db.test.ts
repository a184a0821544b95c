import { MAX_GRAPH_TASKS } from '@tscluster/api/scheduler/api.ts';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type QueueServer, findBreaches, withQueue } from '../testing.ts';
import { type GraphItem, type SchedulerClient, aGraph, refusedGraph, schedulerOf, summaryOf } from './testing.ts';

let server: QueueServer;
let scheduler: SchedulerClient;
beforeAll(async () => {
  server = await withQueue();
  scheduler = schedulerOf(server);
});

const stateOf = async (taskId: string): Promise<string> => (await server.queue.status({ taskId })).status.state;
const submit = async (tasks: GraphItem[], taskGroupId = server.newId()) => ({
  taskGroupId,
  answer: await scheduler.submitGraph({ taskGroupId }, { tasks }),
});
const refuse = (tasks: unknown, taskGroupId = server.newId()) =>
  refusedGraph(scheduler.submitGraph({ taskGroupId }, { tasks } as { tasks: GraphItem[] }));
/** Whether a task exists. */
const exists = async (taskId: string): Promise<boolean> => (await server.queue.statuses({ taskIds: [taskId] })).statuses.length === 1;

beforeEach(() => server.drain());

describe('a graph', () => {
  test('is created with its edges, and runs in their order', async () => {
    const tasks = aGraph(server, [[], [0], [0, 1], []], () => ({ schedulerId: 'sched' }));
    const [a, b, c, d] = tasks.map(({ taskId }) => taskId) as [string, string, string, string];
    const { taskGroupId, answer } = await submit(tasks);
    expect(answer).toEqual({
      taskGroupId,
      schedulerId: 'sched',
      expires: (await server.queue.getTaskGroup({ taskGroupId })).expires,
      tasks: 4,
      dependencies: 3,
      created: 4,
      existing: 0,
      pending: 2,
      isDryRun: false,
    });
    expect(await Promise.all([a, b, c, d].map(stateOf))).toEqual(['pending', 'unscheduled', 'unscheduled', 'pending']);
    expect((await server.queue.task({ taskId: b })).taskGroupId).toBe(taskGroupId);
    expect(await server.claim(2)).toEqual([a, d]);
    await server.queue.reportCompleted({ taskId: a, runId: '0' });
    expect(await Promise.all([b, c].map(stateOf))).toEqual(['pending', 'unscheduled']);
    expect(await server.claim()).toEqual([b]);
    await server.queue.reportCompleted({ taskId: b, runId: '0' });
    expect(await stateOf(c)).toBe('pending');
    expect(await findBreaches(server)).toEqual([]);
  });

  test('may need tasks that exist, in whatever state they are', async () => {
    const queue = { taskQueueId: 'prov/existing' };
    const [done, failed, waiting] = [await server.create(queue), await server.create(queue), await server.create(queue)];
    await server.claim(2, 'prov/existing');
    await server.queue.reportCompleted({ taskId: done, runId: '0' });
    await server.queue.reportFailed({ taskId: failed, runId: '0' });
    const needs: Partial<GraphItem['task']>[] = [
      { dependencies: [done] },
      { dependencies: [failed] },
      { dependencies: [failed, done], requires: 'all-resolved' },
      { dependencies: [done, waiting] },
    ];
    const tasks = aGraph(server, [[], [], [], []], index => needs[index] as object);
    const { answer } = await submit(tasks);
    expect(answer).toMatchObject({ created: 4, pending: 2, dependencies: 6 });
    expect(await Promise.all(tasks.map(({ taskId }) => stateOf(taskId)))).toEqual(['pending', 'unscheduled', 'pending', 'unscheduled']);
    await server.claim(1, 'prov/existing');
    await server.queue.reportCompleted({ taskId: waiting, runId: '0' });
    expect(await stateOf(tasks[3]?.taskId as string)).toBe('pending');
    expect(await findBreaches(server)).toEqual([]);
  });

  test('may have tasks that wait for themselves', async () => {
    const tasks = aGraph(server, [[0], [0]]);
    const [gate, behind] = tasks.map(({ taskId }) => taskId) as [string, string];
    await submit(tasks);
    expect(await Promise.all([gate, behind].map(stateOf))).toEqual(['unscheduled', 'unscheduled']);
    await server.queue.scheduleTask({ taskId: gate });
    expect(await stateOf(gate)).toBe('pending');
    expect(await findBreaches(server)).toEqual([]);
  });

  test('is repeated without effect, also when it is old, sealed, or half done', async () => {
    const tasks = aGraph(server, [[], [0], [1]], () => ({ taskQueueId: 'prov/repeated' }));
    const { taskGroupId } = await submit(tasks);
    await server.claim(1, 'prov/repeated');
    await server.queue.reportCompleted({ taskId: tasks[0]?.taskId as string, runId: '0' });
    await server.queue.sealTaskGroup({ taskGroupId });
    const before = await server.queue.listTaskGroup({ taskGroupId });
    await server.drain();
    server.clock.advance({ hours: 5 });
    const { answer } = await submit(tasks.toReversed(), taskGroupId);
    expect(answer).toMatchObject({ created: 0, existing: 3, pending: 0, sealed: before.sealed, expires: before.expires });
    expect(await server.drain()).toEqual([]);
    expect(await server.queue.listTaskGroup({ taskGroupId })).toEqual(before);
  });

  test('is completed when a part of it exists', async () => {
    const tasks = aGraph(server, [[], [0], [1], [1, 2]], () => ({ taskQueueId: 'prov/part' }));
    const taskGroupId = server.newId();
    const [first, second] = tasks as [GraphItem, GraphItem];
    await server.queue.createTask({ taskId: first.taskId }, { ...first.task, taskGroupId });
    await server.queue.createTask({ taskId: second.taskId }, { ...second.task, taskGroupId });
    await server.claim(1, 'prov/part');
    await server.queue.reportCompleted({ taskId: first.taskId, runId: '0' });
    await server.claim(1, 'prov/part');
    await server.queue.reportCompleted({ taskId: second.taskId, runId: '0' });
    await server.drain();
    const { answer } = await submit(tasks, taskGroupId);
    expect(answer).toMatchObject({ created: 2, existing: 2, pending: 1 });
    expect(await Promise.all(tasks.map(({ taskId }) => stateOf(taskId)))).toEqual(['completed', 'completed', 'pending', 'unscheduled']);
    expect((await server.drain()).map(({ exchange }) => exchange.split('/').at(-1) as string).sort()).toEqual([
      'task-defined',
      'task-defined',
      'task-pending',
    ]);
    expect((await server.queue.listTaskGroup({ taskGroupId })).tasks.length).toBe(4);
    expect(await findBreaches(server)).toEqual([]);
  });

  test('wakes workers that wait', async () => {
    const claim = server.queue.claimWork({ taskQueueId: 'prov/idle' }, { workerGroup: 'wg', workerId: 'w', tasks: 4 });
    while (server.ctx.waiters.size === 0) {
      await new Promise<void>(resolve => {
        setImmediate(resolve);
      });
    }
    const tasks = aGraph(server, [[], []], () => ({ taskQueueId: 'prov/idle' }));
    await submit(tasks);
    expect((await claim).tasks.map(({ status }) => status.taskId)).toEqual(tasks.map(({ taskId }) => taskId));
  });

  test('of 2,000 tasks is served in the order of the request', async () => {
    const tasks = aGraph(
      server,
      Array.from({ length: 2_000 }, () => []),
      () => ({ taskQueueId: 'prov/many' }),
    );
    await submit(tasks);
    const claimed: string[] = [];
    for (let i = 0; i < 4; i++) {
      claimed.push(...(await server.claim(32, 'prov/many')));
    }
    expect(claimed).toEqual(tasks.slice(0, 128).map(({ taskId }) => taskId));
  });
});

describe('a check', () => {
  test('answers the same and stores nothing', async () => {
    const tasks = aGraph(server, [[], [0]]);
    const taskGroupId = server.newId();
    const checked = await scheduler.checkGraph({ taskGroupId }, { tasks });
    expect(await exists(tasks[0]?.taskId as string)).toBe(false);
    await expect(server.queue.getTaskGroup({ taskGroupId })).rejects.toMatchObject({ statusCode: 404 });
    expect(await server.drain()).toEqual([]);
    const { answer } = await submit(tasks, taskGroupId);
    expect(checked).toEqual({ ...answer, isDryRun: true });
    const later = await scheduler.checkGraph({ taskGroupId }, { tasks });
    expect(later).toMatchObject({ created: 0, existing: 2, isDryRun: true });
    const wrong = await refusedGraph(scheduler.checkGraph({ taskGroupId }, { tasks: aGraph(server, [[1], [0]]) }));
    expect(wrong).toMatchObject({ statusCode: 400, code: 'InputError', problemCount: 1 });
  });
});

describe('a graph is refused', () => {
  test('with everything that is wrong with it, and nothing is stored', async () => {
    const other = await server.create({ schedulerId: 'other' });
    const taken = await server.create({ payload: { a: 1 } });
    const short = await server.create({ expires: new Date(server.clock.nowMs() + 3_600_000).toISOString() });
    const missing = server.newId();
    const tasks = aGraph(server, [[], [0], [3], [2], [], [], [], [], [], []]);
    const edit = (index: number, fields: object): void => void Object.assign((tasks[index] as GraphItem).task, fields);
    edit(1, { priority: 'normal', extra: [], created: undefined });
    edit(4, { created: '2020-01-01T00:00:00Z' });
    edit(5, { taskGroupId: other });
    edit(6, { schedulerId: 'elsewhere' });
    edit(7, { dependencies: [missing, short], deadline: new Date(server.clock.nowMs() + 7_200_000).toISOString() });
    (tasks[8] as GraphItem).taskId = taken;
    (tasks[9] as GraphItem).taskId = tasks[0]?.taskId as string;
    edit(9, { taskQueueId: 'a/b', provisionerId: 'c', scopes: ['fine*', 'not**'] });
    await server.drain();
    const refused = await refuse(tasks);
    expect(refused).toMatchObject({ statusCode: 400, code: 'InputValidationError', problemCount: 13 });
    expect(summaryOf(refused)).toEqual([
      'InputValidationError /tasks/1/task',
      'InputValidationError /tasks/1/task/extra',
      'InputValidationError /tasks/1/task/priority',
      'InputError /tasks/2/task/dependencies',
      'InputError /tasks/4/task/created',
      'InputError /tasks/5/task/taskGroupId',
      'RequestConflict /tasks/6/task/schedulerId',
      'InputError /tasks/7/task/dependencies/0',
      'InputError /tasks/7/task/dependencies/1',
      'RequestConflict /tasks/8/task/taskGroupId',
      'InputError /tasks/9/task/taskQueueId',
      'InputError /tasks/9/task/scopes/1',
      'InputError /tasks/9/taskId',
    ]);
    const messages = refused.problems.map(({ message }) => message);
    expect(messages[0]).toBe("must have required property 'created'");
    expect(messages[3]).toContain(`${tasks[2]?.taskId} → ${tasks[3]?.taskId} → ${tasks[2]?.taskId}`);
    expect(messages[7]).toBe(`${missing} is neither a task of the graph nor one that exists.`);
    expect(messages[8]).toMatch(new RegExp(`^${short} expires .* before the deadline`));
    expect(messages[9]).toMatch(/^The task exists with another definition: taskGroupId, payload differ\./);
    expect(refused.problems[6]).toMatchObject({ taskId: tasks[6]?.taskId });
    expect(refused.requestInfo).toMatchObject({ method: 'submitGraph', payload: {} });
    expect(refused.message).toContain('was not created: 13 problems.');
    expect(refused.message).toContain('… and 3 more; `problems` lists all.');
    expect(await exists(tasks[0]?.taskId as string)).toBe(false);
    expect(await server.drain()).toEqual([]);
    expect(await findBreaches(server)).toEqual([]);
  });

  test('with all tasks that exist otherwise', async () => {
    const tasks = aGraph(server, [[], [0], [1]]);
    const { taskGroupId } = await submit(tasks);
    const changed = tasks.map(({ taskId, task }, i) => ({ taskId, task: i === 1 ? task : { ...task, retries: 1, tags: { a: 'b' } } }));
    const refused = await refuse([...changed, ...aGraph(server, [[]])], taskGroupId);
    expect(refused).toMatchObject({ statusCode: 409, code: 'RequestConflict', problemCount: 2 });
    expect(refused.problems.map(({ taskId, field }) => [taskId, field])).toEqual([
      [tasks[0]?.taskId, '/tasks/0/task/retries'],
      [tasks[2]?.taskId, '/tasks/2/task/retries'],
    ]);
    expect(refused.problems[0]?.message).toContain('retries, tags differ');
    expect((await server.queue.listTaskGroup({ taskGroupId })).tasks.length).toBe(3);
  });

  test('when its group is sealed or belongs to another scheduler', async () => {
    const { taskGroupId } = await submit(aGraph(server, [[]]));
    expect(
      await refuse(
        aGraph(server, [[]], () => ({ schedulerId: 'other' })),
        taskGroupId,
      ),
    ).toMatchObject({
      statusCode: 409,
      problems: [{ code: 'RequestConflict', field: '/tasks', message: expect.stringContaining('belongs to schedulerId -') as string }],
    });
    await server.queue.sealTaskGroup({ taskGroupId });
    expect(await refuse(aGraph(server, [[], []]), taskGroupId)).toMatchObject({
      statusCode: 409,
      problems: [
        {
          code: 'RequestConflict',
          field: '/tasks',
          message: expect.stringContaining('it takes no more tasks, and 2 of these are new') as string,
        },
      ],
    });
  });

  test('when tasks wait for each other in a circle of any size', async () => {
    const size = 1_000;
    const tasks = aGraph(
      server,
      Array.from({ length: size }, (_, i) => [(i + 1) % size]),
    );
    const refused = await refuse(tasks);
    expect(refused).toMatchObject({ statusCode: 400, code: 'InputError', problemCount: 1 });
    expect(refused.problems[0]?.message).toContain('… 980 more …');
    const two = await refuse(aGraph(server, [[1], [0], [3], [4], [2], [0, 2]]));
    expect(summaryOf(two)).toEqual(['InputError /tasks/0/task/dependencies', 'InputError /tasks/2/task/dependencies']);
  });

  test('when a task of it expires too early for another', async () => {
    const soon = new Date(server.clock.nowMs() + 3_600_000).toISOString();
    const late = new Date(server.clock.nowMs() + 7_200_000).toISOString();
    const refused = await refuse(aGraph(server, [[], [0]], index => (index === 0 ? { expires: soon } : { deadline: late })));
    expect(summaryOf(refused)).toEqual(['InputError /tasks/1/task/dependencies/0']);
  });

  test('with a list that ends, and a count that does not', async () => {
    const tasks = aGraph(
      server,
      Array.from({ length: 1_500 }, () => []),
      () => ({ retries: 50 }),
    );
    const refused = await refuse(tasks);
    expect(refused).toMatchObject({ statusCode: 400, problemCount: 1_500 });
    expect(refused.problems.length).toBe(1_000);
    expect(refused.message).toContain('… and 1490 more; `problems` lists the first 1000.');
    const wordy = aGraph(
      server,
      Array.from({ length: 100 }, () => []),
      () => ({ priority: 'x' as 'low', requires: 'y' as 'all-completed', extra: { ['z'.repeat(10)]: 1 } }),
    );
    wordy.forEach(({ task }) => Object.assign(task, { ['k'.repeat(20_000)]: 1 }));
    const long = await refuse(wordy);
    expect(long.problemCount).toBe(300);
    expect(JSON.stringify(long.problems).length).toBeLessThan(1_100_000);
  });

  test('when it is no graph', async () => {
    const { taskId, task } = aGraph(server, [[]])[0] as GraphItem;
    const cases: [unknown, string[]][] = [
      [[], ['InputValidationError /tasks']],
      [5, ['InputValidationError /tasks']],
      [[{}], ['InputValidationError /tasks/0/taskId', 'InputValidationError /tasks/0/task']],
      [
        [null, []],
        ['InputValidationError /tasks/0', 'InputValidationError /tasks/1'],
      ],
      [[{ taskId: 'x', task }], ['InputValidationError /tasks/0/taskId']],
      [[{ taskId, task: [] }], ['InputValidationError /tasks/0/task']],
      [[{ taskId, task, more: 1 }], ['InputValidationError /tasks/0']],
      [
        [
          { taskId: 5, task },
          { taskId: 5, task },
        ],
        ['InputValidationError /tasks/0/taskId', 'InputValidationError /tasks/1/taskId'],
      ],
    ];
    for (const [tasks, expected] of cases) {
      const refused = await refuse(tasks);
      expect(summaryOf(refused)).toEqual(expected);
      expect(refused).toMatchObject({ statusCode: 400, code: 'InputValidationError' });
    }
    const tooMany = await refuse(Array.from({ length: MAX_GRAPH_TASKS + 1 }, () => ({})));
    expect(tooMany.problems).toEqual([
      { code: 'InputValidationError', field: '/tasks', message: `must have 1 to ${MAX_GRAPH_TASKS} items, and has ${MAX_GRAPH_TASKS + 1}` },
    ]);
  });

  test('when a definition holds a NUL character', async () => {
    const tasks = aGraph(
      server,
      [[], [], []],
      index => [{ payload: { a: ['\\u0000'] } }, { payload: { b: ['a\0b'] } }, { routes: ['r\0'] }][index] as object,
    );
    expect(summaryOf(await refuse(tasks))).toEqual(['InputError /tasks/1/task/payload/b/0', 'InputError /tasks/2/task/routes/0']);
  });

  test('when it has too many dependencies', async () => {
    const ids = Array.from({ length: 2_500 }, () => server.newId());
    const tasks = aGraph(
      server,
      Array.from({ length: 81 }, () => []),
      () => ({ dependencies: ids }),
    );
    expect(await refuse(tasks)).toMatchObject({
      statusCode: 400,
      problems: [{ field: '/tasks', message: expect.stringContaining('have 202500 dependencies; at most 200000') as string }],
    });
  });
});

describe('scopes', () => {
  const basic = ['queue:create-task:project:none', 'queue:scheduler-id:-', 'queue:create-task:lowest:prov/wt'];

  test('are those of createTask, for every task; what misses is said', async () => {
    const tasks = aGraph(
      server,
      [[], [], [], []],
      index => [{}, { scopes: ['secret:a', 'secret:b'] }, { routes: ['r.x'] }, { priority: 'high' }][index] as object,
    );
    const refused = await refusedGraph(schedulerOf(server, [...basic, 'secret:b']).submitGraph({ taskGroupId: server.newId() }, { tasks }));
    expect(refused).toMatchObject({ statusCode: 403, code: 'InsufficientScopes', problemCount: 3 });
    expect(refused.problems.map(({ field, missingScopes }) => [field, missingScopes])).toEqual([
      ['/tasks/1/task', 'secret:a'],
      ['/tasks/2/task', 'queue:route:r.x'],
      ['/tasks/3/task', { AnyOf: ['high', 'very-high', 'highest'].map(priority => `queue:create-task:${priority}:prov/wt`) }],
    ]);
    expect(refused.missingScopes).toEqual(['queue:create-task:high:prov/wt', 'queue:route:r.x', 'secret:a']);
    expect(refused.message).toContain('The least that would do is `queue:create-task:high:prov/wt`, `queue:route:r.x`, `secret:a`.');
    const all = [...basic, 'secret:*', 'queue:route:r.*', 'queue:create-task:highest:prov/*'];
    expect(await schedulerOf(server, all).submitGraph({ taskGroupId: server.newId() }, { tasks })).toMatchObject({ created: 4 });
  });

  test('are needed for a repeat, too', async () => {
    const tasks = aGraph(server, [[]]);
    const { taskGroupId } = await submit(tasks);
    expect(await refusedGraph(schedulerOf(server, []).submitGraph({ taskGroupId }, { tasks }))).toMatchObject({ statusCode: 403 });
    expect(await schedulerOf(server, basic).submitGraph({ taskGroupId }, { tasks })).toMatchObject({ existing: 1 });
  });

  test('decide what is told of other tasks and groups', async () => {
    const taken = await server.create({ payload: { a: 1 } });
    const missing = server.newId();
    const tasks = aGraph(server, [[], [], []], () => ({ dependencies: [missing], projectId: 'mine' }));
    (tasks[0] as GraphItem).taskId = taken;
    (tasks[2] as GraphItem).task.projectId = 'none';
    const { taskGroupId } = await submit(aGraph(server, [[]], () => ({ schedulerId: 'other' })));
    const partly = await refusedGraph(schedulerOf(server, basic).submitGraph({ taskGroupId }, { tasks }));
    expect(summaryOf(partly)).toEqual([
      'RequestConflict /tasks',
      'InsufficientScopes /tasks/0/task',
      'InsufficientScopes /tasks/1/task',
      'InputError /tasks/2/task/dependencies/0',
    ]);
    const stranger = await refusedGraph(schedulerOf(server, []).submitGraph({ taskGroupId }, { tasks }));
    expect(summaryOf(stranger)).toEqual([0, 1, 2].map(index => `InsufficientScopes /tasks/${index}/task`));
  });

  test('of nobody are not enough; wrong credentials are 401', async () => {
    const tasks = aGraph(server, [[]]);
    expect(await refusedGraph(schedulerOf(server, null).submitGraph({ taskGroupId: server.newId() }, { tasks }))).toMatchObject({
      statusCode: 403,
      problemCount: 1,
    });
    const url = `${server.rootUrl}/api/scheduler/v1/graph/${server.newId()}`;
    const headers = { 'content-type': 'application/json', authorization: 'Hawk id="nobody", ts="1", nonce="n", mac="m"' };
    const reply = await server.fetch(url, { method: 'PUT', headers, body: JSON.stringify({ tasks }) });
    expect([reply.status, ((await reply.json()) as { code: string }).code]).toEqual([401, 'AuthenticationFailed']);
  });
});

describe('a body', () => {
  const send = async (client: SchedulerClient, body: string, type = 'application/json'): Promise<[number, string]> => {
    const url = client.buildUrl('submitGraph', { taskGroupId: server.newId() });
    const reply = await server.fetch(url, { method: 'PUT', headers: { 'content-type': type }, body });
    return [reply.status, ((await reply.json()) as { code: string }).code];
  };

  test('has to be JSON', async () => {
    expect(await send(scheduler, '{"tasks":[{]}')).toEqual([400, 'MalformedPayload']);
    expect(await send(scheduler, '{"tasks":')).toEqual([400, 'MalformedPayload']);
    expect(await send(scheduler, '{}', 'text/plain')).toEqual([400, 'MalformedPayload']);
    expect(await send(scheduler, '')).toEqual([400, 'InputValidationError']);
  });

  test('beyond 10 MiB is taken from callers with credentials only, and beyond 64 MiB from nobody', async () => {
    const large = (mebibytes: number): { tasks: GraphItem[] } => ({
      tasks: aGraph(server, [[]], () => ({ payload: { text: 'x'.repeat(mebibytes * 2 ** 20) } })),
    });
    const strangers = schedulerOf(server, null);
    expect(await refusedGraph(strangers.submitGraph({ taskGroupId: server.newId() }, large(11)))).toMatchObject({
      statusCode: 413,
      code: 'InputTooLarge',
    });
    expect(await scheduler.checkGraph({ taskGroupId: server.newId() }, large(11))).toMatchObject({ created: 1 });
    expect(await refusedGraph(scheduler.submitGraph({ taskGroupId: server.newId() }, large(64)))).toMatchObject({
      statusCode: 413,
      code: 'InputTooLarge',
    });
  });
});
