/**
 * One listener's stream, from its start to its end, whatever carries it. States:
 *
 *   behind ──(has everything up to the hub's position)──> live
 *   live ──(more is queued than may be)──> behind
 *   either ──(closed by the client, or by us after an `error`)──> ended
 *
 * Behind, it reads the log page by page, and goes on only when what it queued was taken: so what it holds in memory is bounded, also while 10,000 tasks
 * are created at once. A client that takes too little for too long is cut off; everything sent has an id, so that it can go on where it was.
 */
import type { Binding } from '../../platform/bus/bus.ts';
import type { Clock, Timer } from '../../platform/clock.ts';
import type { Log } from '../../platform/log.ts';
import type { Batch, Hub, LiveListener } from './hub.ts';
import type { LiveEvent } from './live-event.ts';
import { TopicIndex } from './topic-index.ts';
import { type Position, WHOLE, showPosition } from './position.ts';

/** What carries a stream: a response or a socket. Nothing is sent after `end`. */
export interface Carrier {
  sendEvents(batch: Batch): void;
  sendOther(name: 'ready' | 'ping' | 'error', position: Position | undefined, data: unknown): void;
  /** Not yet taken by the network. */
  readonly queuedBytes: number;
  /** Calls once when `queuedBytes` has become at most half of what may be; called only while it is more. */
  onceDrained(callback: () => void): void;
  /** Ends after what is queued. A client that does not take it loses the connection after a while. */
  end(reason: EndReason): void;
}

/** Why a stream was ended from here: the code of its `error`. */
export type EndReason =
  | 'SlowReader'
  | 'ResourceExpired'
  | 'ConnectionTooOld'
  | 'AuthenticationFailed'
  | 'InsufficientScopes'
  | 'ServiceUnavailable'
  | 'InternalServerError'
  | 'InvalidRequestArguments';

const HEARTBEAT_MS = 15_000;

export interface StreamLimits {
  /** What may wait for a slow reader; besides an event that is larger by itself. */
  readonly maxQueuedBytes: number;
  /** A reader that took too little for so long is cut off. */
  readonly maxStallMs: number;
}

export interface StreamOptions {
  readonly hub: Hub;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: StreamLimits;
  readonly carrier: Carrier;
  readonly bindings: readonly Binding[];
  /** Where to go on; undefined: from now on. */
  readonly position: Position | undefined;
  /** When to end it at the latest, and why. */
  readonly lifeMs: number;
  readonly lifeReason: EndReason;
  /** Told once. Undefined: the client has closed it. */
  readonly onEnd: (reason: EndReason | undefined) => void;
}

export interface Stream {
  /** Replaces the bindings; what was published from this moment on follows the new ones. */
  rebind(bindings: readonly Binding[]): void;
  /** Says why and ends. */
  end(reason: EndReason, message: string): void;
  /** The client is gone. */
  closed(): void;
}

/** Begins to send. The caller has joined the hub; `onEnd` is the time to leave it. */
export const startStream = (options: StreamOptions): Stream => {
  const { hub, clock, carrier, limits } = options;
  let { bindings } = options;
  /** Everything up to here was queued; while live, everything up to the hub's position. */
  let cursor: Position = options.position ?? { seq: hub.position, index: WHOLE };
  let isLive = false;
  let hasEnded = false;
  let heartbeat: Timer | undefined;

  const place = (): Position => (isLive ? { seq: hub.position, index: WHOLE } : cursor);

  const finish = (reason: EndReason | undefined): void => {
    hasEnded = true;
    isLive = false;
    hub.stopLive(listener);
    heartbeat?.cancel();
    life.cancel();
    options.onEnd(reason);
  };

  const end = (reason: EndReason, message: string): void => {
    if (!hasEnded) {
      carrier.sendOther('error', undefined, { code: reason, message });
      finish(reason);
      carrier.end(reason);
    }
  };

  const lost = (): void =>
    end(
      'ResourceExpired',
      `Events after ${showPosition(cursor)} are no longer kept: some were missed. Read the present state, and connect without an id.`,
    );

  const listener: LiveListener = {
    get bindings() {
      return bindings;
    },
    deliver: (batch, from) => {
      const bytes = batch.events.reduce((sum, event) => sum + event.sse.length, 0);
      if (carrier.queuedBytes + bytes <= limits.maxQueuedBytes) {
        carrier.sendEvents(batch);
        return;
      }
      cursor = { seq: from, index: WHOLE };
      fallBehind();
    },
    lost,
  };

  const drained = (): Promise<boolean> => {
    if (carrier.queuedBytes <= limits.maxQueuedBytes / 2) {
      return Promise.resolve(true);
    }
    return new Promise(resolve => {
      const timer = clock.setTimer(limits.maxStallMs, () => resolve(false), { unref: true });
      carrier.onceDrained(() => {
        timer.cancel();
        resolve(true);
      });
    });
  };

  /** Queues events after the cursor, as many as there is room for. */
  const send = (events: readonly LiveEvent[], wanted: TopicIndex<true>): boolean => {
    const chosen: LiveEvent[] = [];
    let bytes = carrier.queuedBytes;
    let isFull = false;
    for (const each of events) {
      const { exchange, routingKey, cc } = each.event;
      const isAfter = each.position.seq > cursor.seq || each.position.index > cursor.index;
      if (isAfter && wanted.match(exchange, routingKey, cc).size > 0) {
        if (bytes > limits.maxQueuedBytes / 2 && bytes + each.sse.length > limits.maxQueuedBytes) {
          isFull = true;
          break;
        }
        bytes += each.sse.length;
        chosen.push(each);
      }
    }
    if (chosen.length > 0) {
      carrier.sendEvents({ events: chosen, shared: new Map() });
      cursor = (chosen.at(-1) as LiveEvent).position;
    }
    return !isFull;
  };

  const catchUp = async (): Promise<void> => {
    while (!hasEnded) {
      const before = bindings;
      const wanted = new TopicIndex<true>();
      before.forEach(binding => wanted.add(binding, true));
      if (!(await drained())) {
        end('SlowReader', 'The connection took too little for too long. Connect again with the last id, and nothing is missed.');
        return;
      }
      if (hasEnded) {
        return;
      }
      const isWhole = cursor.index === WHOLE;
      if (isWhole && cursor.seq >= hub.position) {
        isLive = true;
        hub.goLive(listener);
        return;
      }
      const rows = await hub.pages.after(isWhole ? cursor.seq : cursor.seq - 1);
      if (!rows) {
        lost();
        return;
      }
      if (bindings !== before) {
        continue;
      }
      for (const row of rows) {
        if (hasEnded || (row.mentions(wanted.exchanges) && !send(row.events, wanted))) {
          break;
        }
        cursor = { seq: row.seq, index: WHOLE };
      }
    }
  };

  const fallBehind = (): void => {
    isLive = false;
    hub.stopLive(listener);
    hub.pages.open();
    catchUp()
      .catch((error: unknown) => {
        options.log.error({ err: error }, 'an event stream could not go on');
        end('InternalServerError', 'The events could not be read. Connect again with the last id, and nothing is missed.');
      })
      .finally(() => hub.pages.close());
  };

  const beat = (): void => {
    heartbeat = clock.setTimer(HEARTBEAT_MS, beat);
    // who is behind and full gets enough to read
    if (isLive || carrier.queuedBytes === 0) {
      carrier.sendOther('ping', place(), { time: clock.now().toISOString() });
    }
  };

  const life = clock.setTimer(options.lifeMs, () =>
    end(
      options.lifeReason,
      options.lifeReason === 'AuthenticationFailed'
        ? 'The credentials of this connection have expired.'
        : 'This connection has lasted as long as one may. Connect again with the last id, and nothing is missed.',
    ),
  );

  carrier.sendOther('ready', cursor, true);
  heartbeat = clock.setTimer(HEARTBEAT_MS, beat);
  fallBehind();

  return {
    rebind: next => {
      if (hasEnded) {
        return;
      }
      const at = place();
      const wasLive = isLive;
      if (wasLive) {
        hub.stopLive(listener);
      }
      bindings = next;
      carrier.sendOther('ready', at, true);
      if (wasLive && carrier.queuedBytes <= limits.maxQueuedBytes) {
        hub.goLive(listener);
      } else if (wasLive) {
        cursor = at;
        fallBehind();
      }
    },
    end,
    closed: () => {
      if (!hasEnded) {
        finish(undefined);
      }
    },
  };
};
