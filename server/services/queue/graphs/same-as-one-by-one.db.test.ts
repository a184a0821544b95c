/**
 * A graph is the same as its tasks created one by one: the same statuses, definitions, events and order of claims. Random graphs, under two
 * sets of ids.
 */
import fc from 'fast-check';
import { beforeAll, expect, test } from 'vitest';
import type { BusEvent } from '../../../platform/events.ts';
import { type NewDefinition, type QueueServer, aTask, findBreaches, withQueue } from '../testing.ts';
import { schedulerOf } from './testing.ts';

let server: QueueServer;
beforeAll(async () => {
  server = await withQueue();
});

/** Tasks that are there before, and the states they are in. */
const EXISTING = ['unscheduled', 'pending', 'running', 'completed', 'failed', 'exception'] as const;

interface Node {
  /** Negative: itself. Below the number of existing tasks: one of them. Else a node before this one. */
  readonly needs: readonly number[];
  readonly requires: 'all-completed' | 'all-resolved' | undefined;
  readonly priority: 'low' | 'lowest' | undefined;
  readonly routes: readonly string[] | undefined;
  readonly expiresHours: number | undefined;
  readonly tags: Readonly<Record<string, string>> | undefined;
}

const nodes = fc.integer({ min: 1, max: 12 }).chain(size =>
  fc.tuple(
    ...Array.from({ length: size }, (_, i) =>
      fc.record({
        needs: fc.uniqueArray(fc.integer({ min: i % 5 === 4 ? -1 : 0, max: EXISTING.length + i - 1 }), { maxLength: 5 }),
        requires: fc.constantFrom('all-completed', 'all-resolved', undefined),
        priority: fc.constantFrom('low', 'lowest', undefined),
        routes: fc.constantFrom(undefined, [], ['a.b', 'ü "quoted" \\'], ['x'.repeat(249)]),
        expiresHours: fc.option(fc.integer({ min: 30, max: 40 }), { nil: undefined }),
        tags: fc.constantFrom(undefined, { kind: 'k', 'o"s': '\\u0000' }),
      }),
    ),
  ),
) as fc.Arbitrary<Node[]>;

interface World {
  readonly queueId: string;
  readonly existing: readonly string[];
  readonly ids: readonly string[];
  readonly taskGroupId: string;
}

let worlds = 0;

/** A task queue of its own, and the tasks that exist before. */
const makeWorld = async (size: number): Promise<World> => {
  const queueId = `prov/world-${worlds++}`;
  const existing: string[] = [];
  const expires = new Date(server.clock.nowMs() + 1_000 * 3_600_000).toISOString();
  for (const state of EXISTING) {
    const taskId = server.newId();
    await server.create({ taskQueueId: `${queueId}-b`, expires, ...(state === 'unscheduled' ? { dependencies: [taskId] } : {}) }, taskId);
    existing.push(taskId);
    if (state !== 'unscheduled' && state !== 'pending') {
      const run = { taskId, runId: '0' };
      await server.queue.claimTask(run, { workerGroup: 'wg', workerId: 'w' });
      await (state === 'completed'
        ? server.queue.reportCompleted(run)
        : state === 'failed'
          ? server.queue.reportFailed(run)
          : state === 'exception'
            ? server.queue.cancelTask({ taskId })
            : undefined);
    }
  }
  return { queueId, existing, ids: Array.from({ length: size }, () => server.newId()), taskGroupId: server.newId() };
};

const definitionOf = ({ queueId, existing, ids }: World, node: Node, index: number): NewDefinition => {
  const { requires, priority, routes, expiresHours, tags } = node;
  const given = {
    requires,
    priority,
    routes: routes && [...routes],
    tags: tags && { ...tags },
    expires: expiresHours === undefined ? undefined : new Date(server.clock.nowMs() + expiresHours * 3_600_000).toISOString(),
  };
  const fields = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const dependencies = node.needs.map(n => (n < 0 ? ids[index] : n < existing.length ? existing[n] : ids[n - existing.length]) as string);
  return aTask(server.clock, { taskQueueId: queueId, dependencies, payload: { index }, ...fields });
};

/** Text in which ids are replaced by what they stand for. */
const plainText = (world: World, value: unknown): string => {
  let text = JSON.stringify(value);
  world.ids.forEach((id, i) => (text = text.replaceAll(id, `<node ${i}>`)));
  world.existing.forEach((id, i) => (text = text.replaceAll(id, `<existing ${i}>`)));
  const [provisionerId, workerType] = world.queueId.split('/') as [string, string];
  return text
    .replaceAll(world.taskGroupId, '<group>')
    .replaceAll(world.queueId, '<queue>')
    .replaceAll(`${provisionerId}.${workerType}`, '<queue words>')
    .replaceAll(`"${workerType}"`, '"<worker type>"');
};

const eventTexts = (world: World, events: readonly BusEvent[]): string[] =>
  events.map(({ exchange, routingKey, cc, payload }) => plainText(world, { exchange, routingKey, cc, payload })).sort();

/** What can be seen of the group: itself, and every status and definition. */
const describeGroup = async (world: World): Promise<{ group: string; byNode: string[] }> => {
  const { tasks, ...group } = await server.queue.listTaskGroup({ taskGroupId: world.taskGroupId });
  return {
    group: plainText(world, group),
    byNode: world.ids.map(id =>
      plainText(
        world,
        tasks.find(({ status }) => status.taskId === id),
      ),
    ),
  };
};

/** Works everything off that can be; answers with the tasks in the order in which they were given to a worker. */
const workOff = async (world: World): Promise<string[]> => {
  const claimed: string[] = [];
  while ((await server.queue.pendingTasks({ taskQueueId: world.queueId })).pendingTasks > 0) {
    const { tasks } = await server.queue.claimWork({ taskQueueId: world.queueId }, { workerGroup: 'wg', workerId: 'w', tasks: 32 });
    for (const { status, runId } of tasks) {
      claimed.push(plainText(world, status.taskId));
      await server.queue.reportCompleted({ taskId: status.taskId, runId: String(runId) });
    }
  }
  return claimed;
};

test('random graphs', async () => {
  await fc.assert(
    fc.asyncProperty(nodes, fc.boolean(), async (graph, isReversed) => {
      const [whole, single] = [await makeWorld(graph.length), await makeWorld(graph.length)];
      await server.drain();

      const tasks = graph.map((node, i) => ({ taskId: whole.ids[i] as string, task: definitionOf(whole, node, i) }));
      const { created, pending } = await schedulerOf(server).submitGraph(
        { taskGroupId: whole.taskGroupId },
        { tasks: isReversed ? tasks.toReversed() : tasks },
      );
      const wholeEvents = eventTexts(whole, await server.drain());
      for (const [i, node] of graph.entries()) {
        const definition = { ...definitionOf(single, node, i), taskGroupId: single.taskGroupId };
        await server.queue.createTask({ taskId: single.ids[i] as string }, definition);
      }
      const singleEvents = eventTexts(single, await server.drain());
      expect(created).toBe(graph.length);
      expect(pending).toBe(wholeEvents.filter(text => text.includes('task-pending')).length);
      expect(wholeEvents).toEqual(singleEvents);

      const [wholeGroup, singleGroup] = [await describeGroup(whole), await describeGroup(single)];
      expect(wholeGroup.byNode).toEqual(singleGroup.byNode);
      const [wholeClaims, singleClaims] = [await workOff(whole), await workOff(single)];
      expect(wholeClaims.toSorted()).toEqual(singleClaims.toSorted());
      expect((await describeGroup(whole)).byNode).toEqual((await describeGroup(single)).byNode);
      if (!isReversed) {
        // what the order of creation decides; those that are released together have no order
        const waited = new Set(wholeGroup.byNode.flatMap((text, i) => (text.includes('"state":"pending"') ? [`"<node ${i}>"`] : [])));
        expect(wholeGroup.group).toBe(singleGroup.group);
        expect(wholeClaims.filter(node => waited.has(node))).toEqual(singleClaims.filter(node => waited.has(node)));
      }
    }),
    { numRuns: 40 },
  );
  expect(await findBreaches(server)).toEqual([]);
}, 120_000);
