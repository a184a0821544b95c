import { createClient } from '@tscluster/client/client.ts';
import { eventsApi } from '@tscluster/api/events/api.ts';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { EVENT_LOG } from '../../platform/event-log.ts';
import { GROUP, type Received, type ServedEvents, TASK, anEvent, announce, numbersOf, refusal, serveEvents, wanting } from './testing.ts';

const OTHER = 'JZ1SbArXTPSVFNUvaOlinQ';

describe('a stream of events', () => {
  let served: ServedEvents;
  beforeAll(async () => {
    served = await serveEvents();
  });
  afterAll(() => served.closeAll());
  beforeEach(() => served.closeAll());

  it('says when it is ready, then has each event once, as the old service sent it, with ids', async () => {
    const stream = await served.listen(wanting('taskDefined', 'taskPending'));
    expect(await stream.next()).toEqual({ event: 'ready', id: '0', data: true });
    await served.publish(
      anEvent(1, { cc: ['route.a.b'] }),
      anEvent(2, { exchange: 'taskRunning' }),
      anEvent(3, { exchange: 'taskPending' }),
    );
    expect(await stream.take(2)).toEqual([
      {
        event: 'message',
        id: '1-0',
        data: {
          payload: { n: 1 },
          exchange: 'exchange/taskcluster-queue/v1/task-defined',
          routingKey: `primary.${TASK}.1.g.w.p.t.-.${GROUP}._`,
          redelivered: false,
          cc: ['route.a.b'],
          id: '1-0',
        },
      },
      expect.objectContaining({ id: '1-2', data: expect.objectContaining({ payload: { n: 3 }, id: '1-2' }) }),
    ]);
  });

  it('has the headers of an event stream and of every API', async () => {
    const response = await served.get(wanting('taskDefined'), { 'accept-encoding': 'gzip, br' });
    expect(Object.fromEntries(response.headers)).toMatchObject({
      'content-type': 'text/event-stream; charset=utf-8',
      'access-control-allow-origin': '*',
      'cache-control': 'no-store no-cache must-revalidate',
      'x-accel-buffering': 'no',
    });
    expect(response.headers.get('content-encoding')).toBeNull();
    await response.body?.cancel();
    const head = await fetch(`${served.origin}/api/events/v1/connect?${wanting('taskDefined')}`, { method: 'HEAD' });
    expect([head.status, head.headers.get('content-type')]).toEqual([200, 'text/event-stream; charset=utf-8']);
  });

  it.each([
    ['a pattern', { bindings: `[{"exchange":"exchange/taskcluster-queue/v1/task-defined","routingKeyPattern":"primary.${TASK}.#"}]` }, [1]],
    ['its old name', { bindings: `[{"exchange":"exchange/taskcluster-queue/v1/task-defined","routingKey":"*.*.*.g.#"}]` }, [1, 2]],
    ['a further key', { bindings: '[{"exchange":"exchange/taskcluster-queue/v1/task-defined","routingKeyPattern":"route.#"}]' }, [2]],
    [
      'two that match',
      {
        bindings: `[${'{"exchange":"exchange/taskcluster-queue/v1/task-defined","routingKey":"#"},'.repeat(2)}{"exchange":"exchange/taskcluster-queue/v1/task-defined","routingKey":"primary.#"}]`,
      },
      [1, 2],
    ],
    ['a task', { taskId: TASK }, [1, 3]],
    ['a group', { taskGroupId: OTHER }, [2, 4]],
    ['a task and a group', { taskId: TASK, taskGroupId: OTHER }, [1, 2, 3, 4]],
  ])(
    'is of what was asked for: %s',
    async (_what, { bindings, ...others }: { bindings?: string; taskId?: string; taskGroupId?: string }, wanted) => {
      const query = new URLSearchParams({ ...others, ...(bindings && { bindings: `{"bindings":${bindings}}` }) });
      const stream = await served.listen(query.toString());
      await stream.next();
      await served.publish(
        anEvent(1),
        anEvent(2, { taskId: OTHER, taskGroupId: OTHER, cc: ['route.x', 'route.y'] }),
        anEvent(3, { exchange: 'taskCompleted' }),
        anEvent(4, { exchange: 'taskGroupResolved', taskGroupId: OTHER }),
        anEvent(9, { taskGroupId: OTHER, cc: ['route.end'] }),
      );
      const received: Received[] = [];
      while (numbersOf(received).at(-1) !== 9) {
        received.push(...(await stream.take(1)));
      }
      expect(numbersOf(received)).toEqual([...wanted, 9]);
    },
  );

  it('goes on after an id, in the header or in the query, without a gap or a repetition', async () => {
    const stream = await served.listen(wanting('taskDefined'));
    await stream.next();
    await served.publish(anEvent(1), anEvent(2), anEvent(3));
    const [, second] = await stream.take(2);
    await stream.close();
    await served.publish(anEvent(4), anEvent(5, { exchange: 'taskPending' }));
    await served.publish(anEvent(6));
    const id = second?.id as string;
    for (const [query, headers] of [
      [`&lastEventId=${id}`, {}],
      ['', { 'last-event-id': id }],
      ['&lastEventId=0', { 'last-event-id': id }],
    ] as const) {
      const resumed = await served.listen(`${wanting('taskDefined')}${query}`, headers);
      expect(await resumed.next()).toEqual({ event: 'ready', id, data: true });
      expect(numbersOf(await resumed.take(3))).toEqual([3, 4, 6]);
    }
    const live = await served.listen(`${wanting('taskDefined')}&lastEventId=${id}`);
    await live.take(4);
    await served.publish(anEvent(7));
    expect(numbersOf(await live.take(1))).toEqual([7]);
  });

  it('goes on after the id of a ready or a ping, also when nothing came for long', async () => {
    const stream = await served.listen(wanting('taskFailed'));
    const ready = await stream.next();
    for (let n = 1; n <= 200; n++) {
      await announce(served.server.db, [anEvent(n)]);
    }
    await served.server.drain();
    const newest = String(Number(ready?.id) + 200);
    let ping: Received | undefined;
    while (ping?.id !== newest) {
      await served.server.clock.tick({ seconds: 15 });
      ping = await stream.next();
      expect(ping).toMatchObject({ event: 'ping', data: { time: served.server.clock.now().toISOString() } });
    }
    await stream.close();
    await served.publish(anEvent(8, { exchange: 'taskFailed' }));
    const after = async (id: string | undefined): Promise<number[]> =>
      numbersOf(await (await served.listen(`${wanting('taskFailed')}&lastEventId=${id}`)).take(2));
    expect([await after(ready?.id), await after(ping?.id)]).toEqual([[8], [8]]);
  });

  it('beats every 15 seconds', async () => {
    const stream = await served.listen(wanting('taskFailed'));
    await stream.next();
    const startedMs = served.server.clock.nowMs();
    await served.server.clock.tick({ seconds: 45 });
    const times = (await stream.take(3)).map(({ event, data }) => [event, Date.parse((data as { time: string }).time) - startedMs]);
    expect(times).toEqual([
      ['ping', 15_000],
      ['ping', 30_000],
      ['ping', 45_000],
    ]);
  });

  it.each([
    ['nothing', '', /^Say which events are wanted/],
    ['no JSON', 'bindings=%7Bx', /^Query-string parameter: bindings="{x" is not valid, error: /],
    ['an empty one', 'bindings=', /bindings="" does not match expression/],
    ['no object', 'bindings=5', /it must be {"bindings": \[...\]}/],
    ['null', 'bindings=null', /it must be {"bindings": \[...\]}/],
    ['a list', 'bindings=[]', /it must be {"bindings": \[...\]}/],
    ['an empty list', 'bindings={"bindings":[]}', /^Say which events are wanted/],
    ['a binding that is none', 'bindings={"bindings":[7]}', /^bindings\[0\] must be an object/],
    ['no exchange', 'bindings={"bindings":[{"routingKeyPattern":"%23"}]}', /^bindings\[0\].exchange must be/],
    [
      'an unknown exchange',
      'bindings={"bindings":[{"exchange":"exchange/x","routingKey":"%23"}]}',
      /there is no exchange 'exchange\/x'; there are /,
    ],
    [
      'no pattern',
      'bindings={"bindings":[{"exchange":"exchange/taskcluster-queue/v1/task-defined"}]}',
      /^bindings\[0\].routingKeyPattern must be a pattern/,
    ],
    [
      'a pattern that is none',
      'bindings={"bindings":[{"exchange":"exchange/taskcluster-queue/v1/task-defined","routingKey":["a"]}]}',
      /must be a pattern/,
    ],
    [
      'two patterns',
      'bindings={"bindings":[{"exchange":"exchange/taskcluster-queue/v1/task-defined","routingKey":"a","routingKeyPattern":"b"}]}',
      /give one of them/,
    ],
    [
      'a long pattern',
      `bindings={"bindings":[{"exchange":"exchange/taskcluster-queue/v1/task-defined","routingKey":"${'a'.repeat(256)}"}]}`,
      /has 256 bytes and may have 255/,
    ],
    [
      'too many',
      `bindings={"bindings":[${Array.from({ length: 101 }, () => '1').join()}]}`,
      /^There are 101 bindings, and a connection may have 100$/,
    ],
    ['no task', 'taskId=x', /taskId="x" does not match expression/],
    ['another key', `taskId=${TASK}&since=3`, /^Query-string parameter: since is not supported!$/],
    ['an id that is none', `taskId=${TASK}&lastEventId=x`, /lastEventId="x" does not match expression/],
  ])('is refused when it asks for %s', async (_what, query, message) => {
    const refused = await refusal(await served.get(query));
    expect(refused).toMatchObject({ status: 400, code: 'InvalidRequestArguments' });
    expect(refused.message).toMatch(message);
  });

  it('is refused after an id that is none', async () => {
    expect(await refusal(await served.get(wanting('taskDefined'), { 'last-event-id': 'abc' }))).toMatchObject({
      status: 400,
      code: 'InvalidRequestArguments',
      message: expect.stringContaining("Last-Event-ID: 'abc' is not an id of this stream") as string,
    });
  });

  it('needs the scope, of whoever asks', async () => {
    const call = (scopes: readonly string[] | null): Promise<unknown> =>
      createClient(eventsApi, {
        rootUrl: served.server.rootUrl,
        retries: 0,
        credentials: scopes ? { clientId: 'someone', accessToken: 'x' } : undefined,
        authorizedScopes: scopes ?? undefined,
        fetch: (url, init) => fetch(String(url).replace(served.server.rootUrl, served.origin), init),
      }).connect({ taskId: TASK });
    served.server.setAnonymousScopes([]);
    await expect(call(null)).rejects.toMatchObject({ code: 'InsufficientScopes', statusCode: 403 });
    await expect(call(['queue:*'])).rejects.toMatchObject({ code: 'InsufficientScopes', statusCode: 403 });
    // the query is not even looked at
    expect((await served.get('bindings=7')).status).toBe(403);
    const { stream } = (await call(['web:read-*'])) as { stream: ReadableStream };
    await stream.cancel();
    served.server.setAnonymousScopes(['web:read-pulse']);
    const anonymous = (await call(null)) as { stream: ReadableStream };
    await anonymous.stream.cancel();
  });
});

describe('what was kept', () => {
  it('is refused when it is too old, or of another installation', async () => {
    const served = await serveEvents();
    for (let n = 1; n <= 5; n++) {
      await served.publish(anEvent(n));
    }
    await served.server.db`delete from platform.event_log where seq <= 3`;
    const connect = (id: string): Promise<Response> => served.get(`${wanting('taskDefined')}&lastEventId=${id}`);
    for (const id of ['0', '2', '3-0']) {
      expect(await refusal(await connect(id))).toEqual({
        status: 410,
        code: 'ResourceExpired',
        message: `Events after ${id} are no longer kept: some were missed. Read the present state, and connect without an id.`,
      });
    }
    expect(await refusal(await connect('6'))).toMatchObject({
      status: 410,
      message: expect.stringContaining('another installation') as string,
    });
    for (const [id, numbers] of [
      ['3', [4, 5]],
      ['4-0', [5]],
      ['5', []],
    ] as const) {
      const stream = await served.listen(`${wanting('taskDefined')}&lastEventId=${id}`);
      expect(numbersOf(await stream.take(1 + numbers.length))).toEqual(numbers);
    }
    await served.closeAll();
  });

  it('is said to be lost when it is removed before it was read', async () => {
    const served = await serveEvents();
    const stream = await served.listen(wanting('taskDefined'));
    await stream.next();
    const msg = JSON.stringify(anEvent(1));
    await served.server.db`insert into platform.event_log values (3, 3, ${served.server.clock.now()}, ${msg})`;
    served.server.platform.notify(EVENT_LOG);
    expect(await stream.rest()).toEqual([
      { event: 'error', id: undefined, data: { code: 'ResourceExpired', message: expect.stringContaining('Events after 0 ') as string } },
    ]);
    const next = await served.listen(wanting('taskDefined'));
    expect(await next.next()).toMatchObject({ event: 'ready', id: '3' });
    await served.closeAll();
  });
});
