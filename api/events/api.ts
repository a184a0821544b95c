/** Live events for browsers, scripts and the command line: the exchanges' messages as they happen, over plain HTTP. */
import { defineApi } from '../define.ts';
import { heartbeatMethods, pingMethods } from '../operational.ts';
import { param } from '../types.ts';

/** A place in the stream of all events: `<transaction>-<event in it>`, or a whole transaction. */
export const POSITION_PATTERN = /^[0-9]{1,15}(-[0-9]{1,9})?$/;

/** One binding of `?bindings={"bindings":[…]}`. */
export interface EventBinding {
  /** Full name: `exchange/taskcluster-queue/v1/task-completed`. */
  readonly exchange: string;
  /** `*` stands for one word, `#` for any number of words. The same as `routingKey`; one of them is needed. */
  readonly routingKeyPattern?: string;
  readonly routingKey?: string;
}

/** The data of a `message`. */
export interface EventMessage {
  readonly payload: unknown;
  readonly exchange: string;
  readonly routingKey: string;
  readonly redelivered: boolean;
  /** Further routing keys. */
  readonly cc: readonly string[];
  /** The event's own id: an event that arrives again, here or over AMQP, has the same. */
  readonly id: string;
}

/** The data of an `error`, after which the stream ends. */
export interface EventStreamError {
  readonly code: string;
  readonly message: string;
}

export const eventsApi = defineApi({
  service: 'events',
  version: 'v1',
  title: 'Events Service',
  description:
    'The messages of this installation’s exchanges as they happen, as server-sent events or over a WebSocket. A listener that was disconnected goes on where it stopped, without a gap.',
  errorCodes: { TooManyConnections: 429 },
  methods: {
    ...pingMethods,
    connect: {
      method: 'get',
      route: '/connect',
      query: { bindings: /./, taskGroupId: param.slugid, taskId: param.slugid, lastEventId: POSITION_PATTERN },
      title: 'Listen to Events',
      description: [
        'A stream of events (`text/event-stream`; with `Upgrade: websocket`, the same as JSON messages). What is wanted is said in the query, by one or several of these:',
        '',
        ' * `bindings`: JSON, `{"bindings": [{"exchange": "exchange/…", "routingKeyPattern": "primary.#"}, …]}`; `routingKey` is another name of the pattern;',
        ' * `taskGroupId`: everything about a task group and its tasks;',
        ' * `taskId`: everything about a task.',
        '',
        'The stream has `ready` once it listens; a `message` for each event, `{payload, exchange, routingKey, redelivered, cc, id}`; a `ping` every 15 seconds, `{time}`; and before it is ended from here an `error`, `{code, message}`.',
        '',
        'Each has an id. Give the last one back in the header `Last-Event-ID`, as browsers do by themselves, or in the query as `lastEventId`, and the stream goes on right after it. An id older than what is kept is refused as `ResourceExpired` (410): events were missed, so read the present state and connect without an id.',
        '',
        'Browsers’ `EventSource` and `WebSocket` cannot send credentials in a header: sign the URL (bewit).',
      ].join('\n'),
      category: 'Events',
      stability: 'experimental',
      scopes: 'web:read-pulse',
      output: 'blob',
    },
    ...heartbeatMethods,
  },
});
