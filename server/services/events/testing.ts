/** Listening and publishing in tests: a reader of event streams that waits for what comes, and events with keys as the queue makes them. */
import { exchangeName } from '@tscluster/api/define.ts';
import { queueEvents } from '@tscluster/api/queue/events.ts';
import { buildRoutingKey } from '@tscluster/api/routing-key.ts';
import type { Db } from '../../db/sql.ts';
import { type OutboxEvent, publishAll } from '../../platform/events.ts';
import type { Service } from '../../platform/service.ts';
import { type TestServer, type WithServerOptions, withServer } from '../../testing/server.ts';
import { events } from './service.ts';

export interface Received {
  readonly event: string;
  readonly id: string | undefined;
  readonly data: unknown;
}

/** A stream that was answered with 200; reads only when asked. */
export interface Reader {
  /** The next event; undefined at the end. */
  next(): Promise<Received | undefined>;
  take(count: number): Promise<Received[]>;
  /** Everything up to the end. */
  rest(): Promise<Received[]>;
  close(): Promise<void>;
}

const parseBlock = (block: string): Received | undefined => {
  const fields = new Map(block.split('\n').map(line => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)]));
  const [event, data] = [fields.get('event'), fields.get('data')];
  return event === undefined || data === undefined ? undefined : { event, id: fields.get('id'), data: JSON.parse(data) as unknown };
};

export const readStream = (body: ReadableStream<Uint8Array>): Reader => {
  const source = body.getReader();
  const decoder = new TextDecoder();
  let text = '';
  const next = async (): Promise<Received | undefined> => {
    for (;;) {
      const end = text.indexOf('\n\n');
      if (end !== -1) {
        const received = parseBlock(text.slice(0, end));
        text = text.slice(end + 2);
        if (received) {
          return received;
        }
        continue;
      }
      const { done, value } = await source.read();
      if (done) {
        return undefined;
      }
      text += decoder.decode(value, { stream: true });
    }
  };
  return {
    next,
    take: async count => {
      const taken: Received[] = [];
      while (taken.length < count) {
        const received = await next();
        if (!received) {
          throw new Error(`The stream ended after ${JSON.stringify(taken.map(({ event, id }) => ({ event, id })))}`);
        }
        taken.push(received);
      }
      return taken;
    },
    rest: async () => {
      const taken: Received[] = [];
      for (let received = await next(); received; received = await next()) {
        taken.push(received);
      }
      return taken;
    },
    close: async () => source.cancel(),
  };
};

export const GROUP = 'fN1SbArXTPSVFNUvaOlinQ';
export const TASK = 'XqiD3Xv0TPyq4CIk4qHqyQ';

export interface Named {
  readonly exchange?: keyof typeof queueEvents.exchanges;
  readonly taskId?: string;
  readonly taskGroupId?: string;
  readonly cc?: readonly string[];
  readonly padding?: number;
}

/** A message of the queue about `n`. */
export const anEvent = (
  n: number,
  { exchange = 'taskDefined', taskId = TASK, taskGroupId = GROUP, cc = [], padding = 0 }: Named = {},
): OutboxEvent => ({
  exchange: exchangeName(queueEvents, queueEvents.exchanges[exchange].exchange),
  routingKey: buildRoutingKey(queueEvents.exchanges[exchange], {
    ...(exchange.startsWith('taskGroup')
      ? {}
      : { taskId, runId: n % 10, workerGroup: 'g', workerId: 'w', provisionerId: 'p', workerType: 't' }),
    schedulerId: '-',
    taskGroupId,
  }),
  cc,
  payload: { n, ...(padding > 0 && { padding: 'x'.repeat(padding) }) },
});

/** Commits events in one transaction. */
export const announce = (db: Db, events: readonly OutboxEvent[]): Promise<void> => db.tx(tx => publishAll(tx, events));

export const numbersOf = (received: readonly Received[]): number[] =>
  received.filter(({ event }) => event === 'message').map(({ data }) => (data as { payload: { n: number } }).payload.n);

/** The query that asks for every event of some exchanges. */
export const wanting = (...names: (keyof typeof queueEvents.exchanges)[]): string =>
  `bindings=${encodeURIComponent(
    JSON.stringify({
      bindings: names.map(name => ({ exchange: exchangeName(queueEvents, queueEvents.exchanges[name].exchange), routingKeyPattern: '#' })),
    }),
  )}`;

export const refusal = async (response: Response): Promise<{ status: number; code: string; message: string }> => {
  const { code, message } = (await response.json()) as { code: string; message: string };
  return { status: response.status, code, message: message.split('\n\n---')[0] as string };
};

export interface ServedEvents {
  readonly server: TestServer;
  /** `http://127.0.0.1:PORT`. */
  readonly origin: string;
  get(query: string, headers?: Readonly<Record<string, string>>): Promise<Response>;
  /** Throws unless the answer is 200. */
  listen(query: string, headers?: Readonly<Record<string, string>>): Promise<Reader>;
  /** In one transaction; returns when they are in the log. */
  publish(...given: readonly OutboxEvent[]): Promise<void>;
  /** Closes every stream that is open. */
  closeAll(): Promise<void>;
}

/** Serves events on a port, to anybody. */
export const serveEvents = async (options: WithServerOptions = {}, others: readonly Service[] = []): Promise<ServedEvents> => {
  const server = await withServer([...others, events], options);
  server.setAnonymousScopes(['web:read-pulse']);
  const origin = await server.server.app.listen({ host: '127.0.0.1', port: 0 });
  const open: Reader[] = [];
  const get: ServedEvents['get'] = (query, headers = {}) => fetch(`${origin}/api/events/v1/connect?${query}`, { headers });
  return {
    server,
    origin,
    get,
    listen: async (query, headers) => {
      const response = await get(query, headers);
      if (response.status !== 200 || !response.body) {
        throw new Error(`${response.status}: ${await response.text()}`);
      }
      const reader = readStream(response.body);
      open.push(reader);
      return reader;
    },
    publish: async (...given) => {
      await announce(server.db, given);
      await server.drain();
    },
    closeAll: async () => {
      await Promise.all(open.splice(0).map(reader => reader.close()));
    },
  };
};
