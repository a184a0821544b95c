/** Graphs in company: two processes on one database, and what may happen at the same time does. */
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type QueueServer, findBreaches, forgetTasks, late, withTwoQueues } from '../testing.ts';
import { type GraphItem, aGraph, refusedGraph, schedulerOf } from './testing.ts';

let one: QueueServer;
let two: QueueServer;
beforeAll(async () => {
  [one, two] = await withTwoQueues();
});
beforeEach(() => forgetTasks(one));

const submit = (server: QueueServer, tasks: GraphItem[], taskGroupId: string) =>
  schedulerOf(server).submitGraph({ taskGroupId }, { tasks });
const names = async (): Promise<string[]> => (await one.drain()).map(({ exchange }) => exchange.split('/').at(-1) as string).sort();
const ROUNDS = 25;

describe('a graph, and at the same time', () => {
  test('itself: its tasks are created once', async () => {
    for (let round = 0; round < ROUNDS; round++) {
      const taskGroupId = one.newId();
      const tasks = aGraph(one, [[], [0], [0], [1, 2], []]);
      const answers = await Promise.all([
        late(round % 5).then(() => submit(one, tasks, taskGroupId)),
        late(Math.floor(round / 5)).then(() => submit(two, tasks.toReversed(), taskGroupId)),
      ]);
      expect(answers.map(({ created, existing }) => created + existing)).toEqual([5, 5]);
      expect(answers.map(({ created }) => created).sort((a, b) => a - b)).toEqual([0, 5]);
      expect(await names()).toEqual([...Array<string>(5).fill('task-defined'), 'task-pending', 'task-pending']);
    }
    expect(await findBreaches(one)).toEqual([]);
  });

  test('its tasks one by one: all end as they should', async () => {
    for (let round = 0; round < ROUNDS; round++) {
      const taskGroupId = one.newId();
      const tasks = aGraph(one, [[], [0], [0], [1, 2], []]);
      const [answer] = await Promise.all([
        late(round).then(() => submit(one, tasks, taskGroupId)),
        (async () => {
          for (const { taskId, task } of tasks) {
            await two.queue.createTask({ taskId }, { ...task, taskGroupId });
          }
        })(),
      ]);
      expect(answer.created + answer.existing).toBe(5);
      const states = await Promise.all(tasks.map(async ({ taskId }) => (await one.queue.status({ taskId })).status.state));
      expect(states).toEqual(['pending', 'unscheduled', 'unscheduled', 'unscheduled', 'pending']);
    }
    expect(await findBreaches(one)).toEqual([]);
  });

  test('one of its tasks with another definition: one of the two is refused', async () => {
    const firsts = ['the graph', 'the task', ...Array.from({ length: ROUNDS }, () => 'either')];
    const refused = { graph: 0, task: 0 };
    for (const [round, first] of firsts.entries()) {
      const taskGroupId = one.newId();
      const tasks = aGraph(one, [[], [0], []]);
      const { taskId, task } = tasks[2] as GraphItem;
      const submitGraph = () => submit(one, tasks, taskGroupId);
      const createTask = () => two.queue.createTask({ taskId }, { ...task, taskGroupId, retries: 2 });
      const winner = first === 'the graph' ? await submitGraph() : first === 'the task' ? await createTask() : undefined;
      const [graph, single] = await Promise.allSettled([
        first === 'the graph' ? winner : late(round % 9).then(submitGraph),
        first === 'the task' ? winner : late(Math.floor(round / 3)).then(createTask),
      ]);
      expect([graph.status, single.status].sort()).toEqual(['fulfilled', 'rejected']);
      refused[graph.status === 'rejected' ? 'graph' : 'task'] += 1;
      expect((await one.queue.listTaskGroup({ taskGroupId })).tasks.length).toBe(graph.status === 'rejected' ? 1 : 3);
    }
    expect(Math.min(refused.graph, refused.task)).toBeGreaterThan(0);
    expect(await findBreaches(one)).toEqual([]);
  });

  test('the end of a task that it needs: whoever waits for it is released once', async () => {
    for (let round = 0; round < 40; round++) {
      const required = await one.create({ taskQueueId: 'prov/needed' });
      await one.claim(1, 'prov/needed');
      await one.drain();
      const tasks = aGraph(one, [[], [], [0]], index => (index === 1 ? { dependencies: [required] } : {}));
      await Promise.all([
        late(round % 8).then(() => one.queue.reportCompleted({ taskId: required, runId: '0' })),
        late(Math.floor(round / 8) * 2).then(() => submit(two, tasks, one.newId())),
      ]);
      const { status } = await one.queue.status({ taskId: tasks[1]?.taskId as string });
      expect(status).toMatchObject({ state: 'pending', runs: [{ runId: 0, state: 'pending' }] });
      expect(await names()).toEqual([
        'task-completed',
        ...Array<string>(3).fill('task-defined'),
        'task-group-resolved',
        'task-pending',
        'task-pending',
      ]);
    }
    expect(await findBreaches(one)).toEqual([]);
  });

  test('the sealing of its group: all of it is in, or none', async () => {
    for (let round = 0; round < ROUNDS; round++) {
      const taskGroupId = one.newId();
      await one.create({ taskGroupId });
      const tasks = aGraph(one, [[], [0], [1]]);
      const [graph] = await Promise.allSettled([
        late(round % 5).then(() => submit(one, tasks, taskGroupId)),
        late(Math.floor(round / 2)).then(() => two.queue.sealTaskGroup({ taskGroupId })),
      ]);
      expect((await one.queue.listTaskGroup({ taskGroupId })).tasks.length).toBe(graph.status === 'fulfilled' ? 4 : 1);
      expect(await refusedGraph(submit(two, aGraph(one, [[]]), taskGroupId))).toMatchObject({ statusCode: 409 });
    }
    expect(await findBreaches(one)).toEqual([]);
  });

  test('a graph of another scheduler in the same group: one of the two is refused', async () => {
    for (let round = 0; round < ROUNDS; round++) {
      const taskGroupId = one.newId();
      const graphs = ['s1', 's2'].map(schedulerId => aGraph(one, [[], [0]], () => ({ schedulerId })));
      const results = await Promise.allSettled([
        late(round % 5).then(() => submit(one, graphs[0] as GraphItem[], taskGroupId)),
        late(Math.floor(round / 5)).then(() => submit(two, graphs[1] as GraphItem[], taskGroupId)),
      ]);
      expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
      const rejected = results.find(result => result.status === 'rejected');
      expect(rejected?.reason).toMatchObject({ statusCode: 409 });
      expect((await one.queue.listTaskGroup({ taskGroupId })).tasks.length).toBe(2);
    }
    expect(await findBreaches(one)).toEqual([]);
  });

  test('graphs that share tasks, in other orders: the shared ones are created once', async () => {
    for (let round = 0; round < ROUNDS; round++) {
      const taskGroupId = one.newId();
      const tasks = aGraph(
        one,
        Array.from({ length: 40 }, (_, i) => (i === 0 ? [] : [i - 1])),
      );
      const answers = await Promise.all([
        late(round % 5).then(() => submit(one, tasks.slice(0, 30), taskGroupId)),
        late(Math.floor(round / 5)).then(() => submit(two, tasks.toReversed(), taskGroupId)),
        late(round % 3).then(() => submit(two, tasks.slice(0, 20), taskGroupId)),
      ]);
      expect(answers.reduce((sum, { created }) => sum + created, 0)).toBe(40);
      expect((await names()).filter(name => name === 'task-defined').length).toBe(40);
    }
    expect(await findBreaches(one)).toEqual([]);
  });
});
