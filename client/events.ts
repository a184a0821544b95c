/**
 * Live events: `for await (const { message } of listen({ rootUrl, taskGroupId })) …`. The stream is connected again whenever it ends, and goes on after
 * the last event, so that none is missed or seen twice. Safe in a browser.
 */
import { eventsApi, type EventBinding, type EventMessage } from '@tscluster/api/events/api.ts';
import { ApiCallError, createClient, type ClientOptions } from './client.ts';
import { systemClock, systemRandom, type Clock } from './clock.ts';
import { isTransient, retryDelayMs } from './retry.ts';

export interface ListenOptions extends Pick<
  ClientOptions,
  'rootUrl' | 'credentials' | 'authorizedScopes' | 'signal' | 'fetch' | 'clock' | 'random'
> {
  readonly bindings?: readonly EventBinding[] | undefined;
  /** Everything about a task group and its tasks. */
  readonly taskGroupId?: string | undefined;
  /** Everything about a task. */
  readonly taskId?: string | undefined;
  /** Go on after this one. Default: from now on. */
  readonly lastEventId?: string | undefined;
  /** Told at each connection, the first included, once events from now on will arrive. */
  readonly onReady?: () => void;
  /** Told when the stream has ended, before it is connected again. */
  readonly onInterrupted?: (why: string) => void;
}

export interface ReceivedEvent {
  /** Where the stream goes on after this event: `lastEventId`. */
  readonly id: string;
  readonly message: EventMessage;
}

/** The server sends something every 15 seconds; a connection that is silent for three times as long is dead. */
const SILENCE_MS = 45_000;
const TOO_MANY_REQUESTS = 429;

interface StreamEvent {
  readonly event: string;
  readonly id: string | undefined;
  readonly data: string;
}

/** Splits server-sent events (WHATWG HTML) from text that arrives in pieces. */
export const makeEventParser = (): ((text: string) => StreamEvent[]) => {
  let rest = '';
  let fields: { event?: string; id?: string; data: string[] } = { data: [] };
  const line = (text: string): StreamEvent | undefined => {
    if (text === '') {
      const { event = 'message', id, data } = fields;
      fields = { data: [] };
      return data.length > 0 ? { event, id, data: data.join('\n') } : undefined;
    }
    const [, name = '', value = ''] = /^([^:]*)(?:: ?(.*))?$/s.exec(text) ?? [];
    if (name === 'data') {
      fields.data.push(value);
    } else if (name === 'event' || name === 'id') {
      fields[name] = value;
    }
    return undefined;
  };
  return text => {
    const lines = (rest + text).split(/\r\n|\n/);
    rest = lines.pop() ?? '';
    return lines.flatMap(each => line(each) ?? []);
  };
};

/** Events until the stream ends. Throws when it breaks or falls silent. */
async function* readStream(stream: ReadableStream<Uint8Array>, clock: Clock): AsyncGenerator<StreamEvent, void> {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  const parse = makeEventParser();
  let isSilent = false;
  try {
    for (;;) {
      const timer = clock.setTimer(
        SILENCE_MS,
        () => {
          isSilent = true;
          void reader.cancel().catch(() => undefined);
        },
        { unref: true },
      );
      const { done, value } = await reader.read().finally(() => timer.cancel());
      if (done) {
        if (isSilent) {
          throw new Error(`nothing was received for ${SILENCE_MS / 1000} seconds`);
        }
        return;
      }
      yield* parse(decoder.decode(value, { stream: true }));
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

/** Whether another attempt may succeed. */
const isPassing = (error: unknown): boolean =>
  !(error instanceof ApiCallError) || isTransient(error.statusCode) || error.statusCode === TOO_MANY_REQUESTS;

/**
 * Events for as long as the caller takes them.
 *
 * @throws {ApiCallError} where trying again would not help: missing scopes, bad bindings, or events that are no longer kept (410 `ResourceExpired`: read
 *   the present state and listen without an id); the signal's reason when it fires
 */
export async function* listen(options: ListenOptions): AsyncGenerator<ReceivedEvent, never> {
  const { clock = systemClock, random = systemRandom, signal, bindings, taskGroupId, taskId } = options;
  const client = createClient(eventsApi, { ...options, retries: 0 });
  const wanted = { taskGroupId, taskId, bindings: bindings && JSON.stringify({ bindings }) };
  let { lastEventId } = options;
  let failures = 0;
  for (;;) {
    let why = 'the connection was closed';
    try {
      const { stream } = await client.connect({ ...wanted, lastEventId });
      if (stream) {
        for await (const { event, id, data } of readStream(stream, clock)) {
          if (event === 'message' && id !== undefined) {
            lastEventId = id;
            yield { id, message: JSON.parse(data) as EventMessage };
          } else if (event === 'error') {
            why = (JSON.parse(data) as { message: string }).message;
          } else {
            lastEventId = id ?? lastEventId;
          }
          if (event === 'ready') {
            failures = 0;
            options.onReady?.();
          }
        }
      }
    } catch (error) {
      signal?.throwIfAborted();
      if (!isPassing(error)) {
        throw error;
      }
      why = error instanceof Error ? error.message : String(error);
    }
    signal?.throwIfAborted();
    failures += 1;
    options.onInterrupted?.(why);
    await clock.sleep(retryDelayMs(failures, random), signal);
  }
}
