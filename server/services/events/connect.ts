/** The handler of `connect`: checks the request, then begins a stream on whatever carries it. */
import type { eventsApi } from '@tscluster/api/events/api.ts';
import type { Binding } from '../../platform/bus/bus.ts';
import type { Caller } from '../../platform/caller.ts';
import type { Clock, Random } from '../../platform/clock.ts';
import { oldestAndNewest } from '../../platform/event-log.ts';
import { ApiError, expired } from '../../platform/errors.ts';
import type { Log } from '../../platform/log.ts';
import type { Metrics } from '../../platform/metrics.ts';
import { type Handlers, HttpReply, SHUTTING_DOWN, Upgrade } from '../../platform/service.ts';
import type { Db } from '../../db/sql.ts';
import { granteeOf } from './access.ts';
import { bindingsOfMessage, bindingsOfQuery, requireSome } from './bindings.ts';
import type { Hub } from './hub.ts';
import type { Listener, Listeners } from './listeners.ts';
import { type Position, WHOLE, readPosition, showPosition } from './position.ts';
import { SSE_HEADERS, makeSseCarrier } from './sse.ts';
import { type Carrier, type EndReason, type Stream, startStream } from './stream.ts';
import { type Accept, makeWebSocketCarrier } from './websocket.ts';

export interface ConnectCtx {
  readonly db: Db;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly hub: Hub;
  readonly listeners: Listeners;
  readonly accept: Accept;
  readonly ended: ReturnType<Metrics['counter']>;
  readonly limits: {
    readonly maxBindings: number;
    readonly maxQueuedBytes: number;
    readonly maxStallMs: number;
    readonly maxLifeMs: number;
  };
}

/** Certificates are accepted for some minutes past their end; whoever comes then stays for this long. */
const MIN_LIFE_MS = 60_000;

/** Throws `ResourceExpired` when events after the place were removed, or when there was no such place. */
const requireKept = async (db: Db, position: Position): Promise<void> => {
  const { oldest, newest } = await oldestAndNewest(db);
  const next = position.index === WHOLE ? position.seq + 1 : position.seq;
  if (next < oldest) {
    expired('Events after {{id}} are no longer kept: some were missed. Read the present state, and connect without an id.', {
      id: showPosition(position),
    });
  }
  if (position.seq > newest) {
    expired('There was no event {{id}} yet: the id is of another installation. Read the present state, and connect without an id.', {
      id: showPosition(position),
    });
  }
};

const lifeOf = (caller: Caller, { clock, limits }: ConnectCtx): { lifeMs: number; lifeReason: EndReason } => {
  const credentialsMs = caller.hasCredentials ? Math.max(caller.expires.getTime() - clock.nowMs(), MIN_LIFE_MS) : Number.POSITIVE_INFINITY;
  return credentialsMs < limits.maxLifeMs
    ? { lifeMs: credentialsMs, lifeReason: 'AuthenticationFailed' }
    : { lifeMs: limits.maxLifeMs, lifeReason: 'ConnectionTooOld' };
};

interface Begin {
  readonly ctx: ConnectCtx;
  readonly caller: Caller;
  readonly listener: Listener;
  readonly bindings: readonly Binding[];
  readonly position: Position | undefined;
  readonly signal: AbortSignal;
  readonly leave: () => void;
}

const begin = (carrier: Carrier, { ctx, caller, listener, bindings, position, signal, leave }: Begin): Stream => {
  const { hub, clock, log, limits } = ctx;
  const onAbort = (): void => {
    if (signal.reason === SHUTTING_DOWN) {
      stream.end('ServiceUnavailable', 'This process is shutting down. Connect again with the last id, and nothing is missed.');
    } else {
      stream.closed();
    }
  };
  const stream = startStream({
    hub,
    clock,
    log,
    limits,
    carrier,
    bindings,
    position,
    ...lifeOf(caller, ctx),
    onEnd: reason => {
      ctx.ended.inc({ reason: reason ?? 'closed' });
      signal.removeEventListener('abort', onAbort);
      leave();
    },
  });
  listener.stream = stream;
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) {
    onAbort();
  }
  return stream;
};

export const connectHandlers: Handlers<typeof eventsApi, ConnectCtx> = {
  async connect({ ctx, query, headers, caller: authenticate, hawk, sourceIp, signal: getSignal }) {
    const { hub, clock, limits, listeners } = ctx;
    const isWebSocket = headers.upgrade?.toLowerCase() === 'websocket';
    const bindings = bindingsOfQuery(query, limits.maxBindings);
    if (!isWebSocket) {
      requireSome(bindings); // over a WebSocket it may be said later
    }
    const position = readPosition(headers['last-event-id'], query.lastEventId);
    if (position) {
      await requireKept(ctx.db, position);
    }
    const caller = await authenticate();
    if (hawk().method === 'head') {
      return new HttpReply(200, SSE_HEADERS);
    }
    const listener: Listener = {
      grantee: granteeOf(hawk()),
      caller: caller.hasCredentials ? `client ${caller.clientId}` : `address ${sourceIp ?? 'unknown'}`,
      stream: undefined,
    };
    const exit = listeners.enter(listener);
    const leave = (): void => {
      exit();
      hub.leave();
    };
    try {
      await hub.join();
    } catch (error) {
      exit();
      throw error;
    }
    const signal = getSignal();
    const start = { ctx, caller, listener, bindings, position, signal, leave };
    if (!isWebSocket) {
      const carrier = makeSseCarrier({
        clock,
        maxQueuedBytes: limits.maxQueuedBytes,
        // not all at once after a restart
        retryMs: 500 + Math.floor(ctx.random.float() * 1_000),
        onClosed: () => stream.closed(),
      });
      const stream = begin(carrier, start);
      return new HttpReply(200, SSE_HEADERS, carrier.body);
    }
    return new Upgrade({
      abandon: leave,
      accept: async (request, socket, head) => {
        let stream: Stream | undefined;
        socket.once('close', () => {
          if (!stream) {
            leave(); // the handshake failed
          }
        });
        const webSocket = await ctx.accept(request, socket, head);
        const carrier = makeWebSocketCarrier(webSocket, {
          clock,
          maxQueuedBytes: limits.maxQueuedBytes,
          onClosed: () => stream?.closed(),
          onMessage: text => {
            try {
              stream?.rebind(bindingsOfMessage(text, limits.maxBindings));
            } catch (error) {
              if (!(error instanceof ApiError)) {
                throw error;
              }
              stream?.end('InvalidRequestArguments', error.message);
            }
          },
        });
        stream = begin(carrier, start);
      },
    });
  },
};
