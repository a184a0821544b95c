import type { GroupCounts, GroupStreamEvents } from '@tscluster/api/scheduler/api.ts';
import { schedulerApi } from '@tscluster/api/scheduler/api.ts';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type Reader, readStream } from '../../events/testing.ts';
import { type QueueServer, aWorker, withQueue } from '../testing.ts';
import { aGraph, schedulerOf } from './testing.ts';

let server: QueueServer;
let origin: string;
beforeAll(async () => {
  server = await withQueue();
  origin = await server.server.app.listen({ host: '127.0.0.1', port: 0 });
  server.setAnonymousScopes(['queue:list-task-group:*']);
});

type Event = { [K in keyof GroupStreamEvents]: { event: K; id: string | undefined; data: GroupStreamEvents[K] } }[keyof GroupStreamEvents];

interface Follower {
  next(stepMs?: number): Promise<Event | undefined>;
  /** Everything up to an event of that name. */
  until(name: Event['event'], stepMs?: number): Promise<Event[]>;
  close(): Promise<void>;
}

const open: Follower[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map(follower => follower.close()));
});

const get = (taskGroupId: string, query = '', headers: Record<string, string> = {}): Promise<Response> =>
  fetch(`${origin}/api/scheduler/v1/graph/${taskGroupId}/status${query}`, { headers });

/** What waits for the clock goes on, until the promise is settled. */
const ticking = async <T>(promise: Promise<T>, stepMs = 50): Promise<T> => {
  let isSettled = false;
  const done = promise.finally(() => {
    isSettled = true;
  });
  done.catch(() => undefined);
  while (!isSettled) {
    await server.clock.tick({ ms: stepMs });
    await new Promise<void>(resolve => {
      setTimeout(resolve, 1);
    });
  }
  return done;
};

const follow = async (taskGroupId: string, query = '', headers: Record<string, string> = {}): Promise<Follower> => {
  const response = await get(taskGroupId, query, headers);
  expect([response.status, response.headers.get('content-type')]).toEqual([200, 'text/event-stream; charset=utf-8']);
  const reader: Reader = readStream(response.body as ReadableStream<Uint8Array>);
  const next: Follower['next'] = stepMs => ticking(reader.next(), stepMs) as Promise<Event | undefined>;
  const follower: Follower = {
    next,
    until: async (name, stepMs) => {
      const events: Event[] = [];
      for (;;) {
        const event = await next(stepMs);
        if (!event) {
          throw new Error(`The stream ended before ${name}: ${JSON.stringify(events)}`);
        }
        events.push(event);
        if (event.event === name) {
          return events;
        }
      }
    },
    close: () => reader.close(),
  };
  open.push(follower);
  return follower;
};

const counts = (some: Partial<GroupCounts>): GroupCounts => ({
  unscheduled: 0,
  pending: 0,
  running: 0,
  completed: 0,
  failed: 0,
  exception: 0,
  held: 0,
  tasks: 0,
  ...some,
});
/** Task and state of every status that was told, in order. */
const told = (events: readonly Event[], ids: readonly string[]): string[] =>
  events.flatMap(event =>
    event.event === 'tasks' ? event.data.statuses.map(({ taskId, state }) => `${ids.indexOf(taskId)} ${state}`) : [],
  );

const submit = async (edges: number[][]): Promise<{ taskGroupId: string; ids: string[] }> => {
  const taskGroupId = server.newId();
  const deadline = new Date(server.clock.nowMs() + 4 * 86_400_000).toISOString();
  const tasks = aGraph(server, edges, () => ({ deadline }));
  await schedulerOf(server).submitGraph({ taskGroupId }, { tasks });
  return { taskGroupId, ids: tasks.map(({ taskId }) => taskId) };
};
const complete = async (taskId: string, runId = '0'): Promise<void> => {
  await server.queue.claimTask({ taskId, runId }, aWorker());
  await server.queue.reportCompleted({ taskId, runId });
  await server.drain();
};

describe('a stream of a group', () => {
  test('has counts, then what changes, then an end', async () => {
    const { taskGroupId, ids } = await submit([[], [0], [0]]);
    await server.drain();
    const follower = await follow(taskGroupId);
    const first = await follower.next();
    const { expires } = await server.queue.getTaskGroup({ taskGroupId });
    expect(first).toMatchObject({
      event: 'group',
      id: expect.stringMatching(/^\d+$/) as string,
      data: { taskGroupId, schedulerId: '-', expires, counts: counts({ tasks: 3, pending: 1, unscheduled: 2 }) },
    });
    await server.queue.claimTask({ taskId: ids[0] as string, runId: '0' }, aWorker());
    await server.drain();
    const second = await follower.next();
    expect(second).toMatchObject({
      event: 'tasks',
      data: {
        counts: counts({ tasks: 3, running: 1, unscheduled: 2 }),
        statuses: [(await server.queue.status({ taskId: ids[0] as string })).status],
      },
    });
    await server.queue.reportFailed({ taskId: ids[0] as string, runId: '0' });
    await server.queue.rerunTask({ taskId: ids[0] as string });
    await complete(ids[0] as string, '1');
    for (const id of ids.slice(1)) {
      await complete(id);
    }
    const rest = await follower.until('resolved');
    expect(rest.at(-1)).toMatchObject({
      id: expect.stringMatching(/^\d+-end$/) as string,
      data: { counts: counts({ tasks: 3, completed: 3 }) },
    });
    expect(told(rest, ids).slice(-3).toSorted()).toEqual(['0 completed', '1 completed', '2 completed']);
    expect(await follower.next()).toBeUndefined();
  });

  test('has all tasks first when that is asked for, a part at a time', async () => {
    const { taskGroupId, ids } = await submit(Array.from({ length: 450 }, () => []));
    await server.drain();
    const follower = await follow(taskGroupId, '?tasks=true');
    const events = [await follower.next(), await follower.next(), await follower.next(), await follower.next()] as Event[];
    expect(events.map(({ event }) => event)).toEqual(['group', 'tasks', 'tasks', 'tasks']);
    expect(new Set(told(events, ids)).size).toBe(450);
  });

  test('tells of tasks that are added to the group', async () => {
    const { taskGroupId } = await submit([[]]);
    await server.drain();
    const follower = await follow(taskGroupId);
    await follower.next();
    const added = await server.create({ taskGroupId });
    await server.drain();
    expect(await follower.next()).toMatchObject({
      event: 'tasks',
      data: { counts: { tasks: 2, pending: 2 }, statuses: [{ taskId: added, state: 'pending' }] },
    });
  });

  test('of a resolved group ends at once, and who comes back has nothing more to read', async () => {
    const { taskGroupId, ids } = await submit([[]]);
    await complete(ids[0] as string);
    const follower = await follow(taskGroupId, '?tasks=true');
    const events = await follower.until('resolved');
    expect(told(events, ids)).toEqual(['0 completed']);
    const lastId = events.at(-1)?.id as string;
    expect((await get(taskGroupId, '', { 'last-event-id': lastId })).status).toBe(204);
    expect((await get(taskGroupId, `?lastEventId=${lastId}`)).status).toBe(204);
    await server.queue.rerunTask({ taskId: ids[0] as string });
    await server.drain();
    const again = await follow(taskGroupId, '', { 'last-event-id': lastId });
    expect(told([(await again.next()) as Event, (await again.next()) as Event], ids)).toEqual(['0 pending']);
  });

  test('goes on where it was: what changed meanwhile comes first', async () => {
    const { taskGroupId, ids } = await submit([[], [], []]);
    await server.drain();
    const follower = await follow(taskGroupId);
    const { id } = (await follower.next()) as Event;
    await follower.close();
    await complete(ids[1] as string);
    const again = await follow(taskGroupId, '', { 'last-event-id': id as string });
    expect(await again.next()).toMatchObject({ event: 'group', id: undefined, data: { counts: { completed: 1, pending: 2 } } });
    expect(told([(await again.next()) as Event], ids)).toEqual(['1 completed']);
    await complete(ids[2] as string);
    const ping = (await again.until('ping', 1_000)).at(-1) as Event;
    await again.close();
    const third = await follow(taskGroupId, `?lastEventId=${ping.id}`);
    expect(await third.next()).toMatchObject({ event: 'group', id: ping.id, data: { counts: { completed: 2 } } });
    await complete(ids[0] as string);
    const rest = told(await third.until('resolved'), ids);
    expect([new Set(rest.map(text => text.split(' ')[0])), rest.at(-1)]).toEqual([new Set(['0']), '0 completed']);
  });

  test('starts anew when its place is not known, and refuses what is no place', async () => {
    const { taskGroupId, ids } = await submit([[], []]);
    await server.drain();
    const follower = await follow(taskGroupId, '', { 'last-event-id': '999999999' });
    await follower.next();
    expect(told([(await follower.next()) as Event], ids).toSorted()).toEqual(['0 pending', '1 pending']);
    await server.db`delete from platform.event_log where seq < (select max(seq) from platform.event_log)`;
    const late = await follow(taskGroupId, '', { 'last-event-id': '1' });
    await late.next();
    expect(told([(await late.next()) as Event], ids).length).toBe(2);
    for (const [query, headers] of [
      ['', { 'last-event-id': 'x' }],
      ['?lastEventId=x', {}],
      ['?tasks=maybe', {}],
      ['?other=1', {}],
    ] as const) {
      expect((await get(taskGroupId, query, headers as Record<string, string>)).status).toBe(400);
    }
  });

  test('has a heartbeat, and an end after ten minutes', async () => {
    const { taskGroupId } = await submit([[]]);
    await server.drain();
    const follower = await follow(taskGroupId);
    const events = await follower.until('error', 5_000);
    expect(events.filter(({ event }) => event === 'ping').length).toBeGreaterThan(30);
    expect(events.at(-1)?.data).toMatchObject({ code: 'ConnectionTooOld' });
    expect(await follower.next()).toBeUndefined();
  });

  test('counts tasks that are to run again, and ends after they have', async () => {
    const { taskGroupId, ids } = await submit([[], [0]]);
    const [a, b] = ids as [string, string];
    await complete(a);
    await complete(b);
    await server.queue.rerunDownstream({ taskId: a });
    await server.drain();
    const follower = await follow(taskGroupId);
    expect(await follower.next()).toMatchObject({ data: { counts: counts({ tasks: 2, pending: 1, completed: 1, held: 1 }) } });
    await complete(a, '1');
    await complete(b, '1');
    const events = await follower.until('resolved');
    expect(events.at(-1)?.data).toEqual({ counts: counts({ tasks: 2, completed: 2 }) });
  });

  test('is for those who may list the group, and for groups that exist', async () => {
    const { taskGroupId } = await submit([[]]);
    const stranger = server.client(schedulerApi, { scopes: ['queue:list-task-group:other'] });
    await expect(stranger.followGroup({ taskGroupId })).rejects.toMatchObject({ statusCode: 403 });
    expect((await get(server.newId())).status).toBe(404);
    const head = await fetch(`${origin}/api/scheduler/v1/graph/${taskGroupId}/status`, { method: 'HEAD' });
    expect([head.status, head.headers.get('content-type')]).toEqual([200, 'text/event-stream; charset=utf-8']);
  });

  test('is one of a hundred at most for one caller', async () => {
    const { taskGroupId } = await submit([[]]);
    await server.drain();
    for (let i = 0; i < 100; i++) {
      await follow(taskGroupId);
    }
    const refused = await get(taskGroupId);
    expect([refused.status, ((await refused.json()) as { code: string }).code]).toEqual([429, 'TooManyConnections']);
    await open.pop()?.close();
    await ticking(
      (async () => {
        while ((await get(taskGroupId)).status !== 200) {
          // the server has not noticed yet
        }
      })(),
    );
  });

  test('of a slow reader has the latest of each task only', async () => {
    const { taskGroupId, ids } = await submit(Array.from({ length: 300 }, () => []));
    await server.drain();
    const response = await get(taskGroupId);
    const source = (response.body as ReadableStream<Uint8Array>).getReader();
    // three changes of every task, while nothing is read
    for (const id of ids) {
      await server.queue.claimTask({ taskId: id, runId: '0' }, aWorker());
    }
    await server.drain();
    await server.clock.tick({ seconds: 1 });
    for (const id of ids) {
      await server.queue.reportCompleted({ taskId: id, runId: '0' });
    }
    await server.drain();
    let text = '';
    await ticking(
      (async () => {
        const decoder = new TextDecoder();
        for (let part = await source.read(); !part.done; part = await source.read()) {
          text += decoder.decode(part.value, { stream: true });
        }
      })(),
    );
    expect(text).toContain('event: resolved');
    const last = new Map<string, string>();
    for (const [, data] of text.matchAll(/event: tasks\ndata: (.*)\n/g)) {
      for (const { taskId, state } of (JSON.parse(data as string) as GroupStreamEvents['tasks']).statuses) {
        last.set(taskId, state);
      }
    }
    expect(last.size).toBe(300);
    expect(new Set(last.values())).toEqual(new Set(['completed']));
  });
});

test('when the server shuts down it says so, and ends', async () => {
  const own = await withQueue();
  const address = await own.server.app.listen({ host: '127.0.0.1', port: 0 });
  own.setAnonymousScopes(['queue:list-task-group:*']);
  const taskGroupId = own.newId();
  await own.create({ taskGroupId });
  await own.drain();
  const response = await fetch(`${address}/api/scheduler/v1/graph/${taskGroupId}/status`);
  const reader = readStream(response.body as ReadableStream<Uint8Array>);
  expect(await reader.next()).toMatchObject({ event: 'group' });
  const closing = own.close();
  expect(await reader.next()).toMatchObject({ event: 'error', data: { code: 'ServiceUnavailable' } });
  expect(await reader.next()).toBeUndefined();
  await closing;
});
