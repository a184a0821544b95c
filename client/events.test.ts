import { describe, expect, it } from 'vitest';
import { type Clock, makeClock, systemRandom } from './clock.ts';
import { listen, makeEventParser } from './events.ts';

describe('the parser of server-sent events', () => {
  it('puts together what arrives in pieces', () => {
    const parse = makeEventParser();
    expect(parse('retry: 500\nid: 1\nevent: re')).toEqual([]);
    expect(parse('ady\ndata: true\n')).toEqual([]);
    expect(parse('\n: a comment\ndata: a\ndata: b\r\n\r\n')).toEqual([
      { event: 'ready', id: '1', data: 'true' },
      { event: 'message', id: undefined, data: 'a\nb' },
    ]);
    expect(parse('event: nothing\n\ndata:x:y\n\n')).toEqual([{ event: 'message', id: undefined, data: 'x:y' }]);
  });
});

const block = (event: string, id: string | undefined, data: unknown): string =>
  `${id === undefined ? '' : `id: ${id}\n`}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
const message = (id: string, n: number): string => block('message', id, { payload: { n } });

type Answer = { status?: number; body?: object; text?: string; breaks?: boolean; hangs?: boolean };

/** Answers one attempt after the other, and notes what was asked for. Waiting takes no time. */
const script = (...answers: Answer[]) => {
  const asked: (string | null)[] = [];
  const timers: (() => void)[] = [];
  const clock: Clock = makeClock(
    () => 0,
    (ms, callback) => {
      if (ms >= 45_000) {
        timers.push(callback);
      } else if (ms < 30_000) {
        queueMicrotask(callback);
      }
      return { cancel: () => undefined };
    },
  );
  const fetch = (async (url: string) => {
    asked.push(new URL(url).searchParams.get('lastEventId'));
    const { status = 200, body, text = '', breaks, hangs } = answers.shift() ?? expect.unreachable('asked too often');
    if (body) {
      return Response.json(body, { status });
    }
    const stream = new ReadableStream<Uint8Array>({
      start: controller => {
        controller.enqueue(new TextEncoder().encode(text));
        if (!breaks && !hangs) {
          controller.close();
        }
      },
      pull: controller => {
        if (breaks) {
          controller.error(new Error('reset'));
        }
        if (hangs) {
          timers.at(-1)?.();
        }
      },
    });
    return new Response(stream, { status });
  }) as typeof globalThis.fetch;
  const interruptions: string[] = [];
  let ready = 0;
  const events = listen({
    rootUrl: 'https://tc.example.com',
    taskGroupId: 'g',
    clock,
    random: systemRandom,
    fetch,
    onReady: () => (ready += 1),
    onInterrupted: why => interruptions.push(why),
  });
  return { events, asked, interruptions, ready: () => ready };
};

const take = async (events: AsyncGenerator<{ message: { payload: unknown } }>, count: number): Promise<unknown[]> => {
  const taken: unknown[] = [];
  for await (const { message: each } of events) {
    taken.push((each.payload as { n: number }).n);
    if (taken.length === count) {
      break;
    }
  }
  return taken;
};

describe('listening', () => {
  it('goes on after the last id, whatever ended the stream', async () => {
    const { events, asked, interruptions, ready } = script(
      { text: block('ready', '5', true) + message('6-0', 1) + block('ping', '9', { time: '' }) },
      { status: 503, body: { code: 'ServiceUnavailable', message: 'starting' } },
      { status: 429, body: { code: 'TooManyConnections', message: 'too many' } },
      { text: block('ready', '9', true) + message('10-3', 2), breaks: true },
      { text: block('ready', '10-3', true) + block('error', undefined, { code: 'SlowReader', message: 'too slow' }) },
      { text: block('ready', '10-3', true), hangs: true },
      { text: block('ready', '10-3', true) + message('11-0', 3) },
    );
    expect(await take(events, 3)).toEqual([1, 2, 3]);
    expect(asked).toEqual([null, '9', '9', '9', '10-3', '10-3', '10-3']);
    expect(interruptions.slice(0, 3)).toEqual(['the connection was closed', 'starting', 'too many']);
    expect(interruptions.slice(4)).toEqual(['too slow', 'nothing was received for 45 seconds']);
    expect(ready()).toBe(5);
  });

  it.each([
    [410, 'ResourceExpired'],
    [403, 'InsufficientScopes'],
    [400, 'InvalidRequestArguments'],
  ])('ends where trying again would not help: %s', async (status, code) => {
    const { events } = script({ text: block('ready', '1', true) }, { status, body: { code, message: 'no' } });
    await expect(events.next()).rejects.toMatchObject({ statusCode: status, code });
  });
});
