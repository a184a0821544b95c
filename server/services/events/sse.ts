/** Server-sent events (WHATWG HTML, "Server-sent events"): the body of a response that goes on for as long as the stream. */
import { Readable } from 'node:stream';
import type { Clock } from '../../platform/clock.ts';
import { showPosition } from './position.ts';
import type { Carrier } from './stream.ts';

export const SSE_HEADERS: Readonly<Record<string, string>> = {
  'content-type': 'text/event-stream; charset=utf-8',
  // proxies are not to collect it
  'x-accel-buffering': 'no',
};

const HIGH_WATER_BYTES = 64 * 1024;
/** After the end, what is queued may take so long; then the connection is cut. */
const LINGER_MS = 10_000;

export interface SseOptions {
  readonly clock: Clock;
  readonly maxQueuedBytes: number;
  /** Browsers wait so long before they connect again. */
  readonly retryMs: number;
  /** The response is over, for whatever reason. */
  readonly onClosed: () => void;
}

export const makeSseCarrier = ({ clock, maxQueuedBytes, retryMs, onClosed }: SseOptions): Carrier & { readonly body: Readable } => {
  let onDrained: (() => void) | undefined;
  let ended = false;
  const body = new Readable({
    highWaterMark: Math.min(HIGH_WATER_BYTES, Math.floor(maxQueuedBytes / 2)),
    read: () => {
      const callback = onDrained;
      onDrained = undefined;
      callback?.();
    },
    destroy: (error, callback) => {
      callback(error);
      onClosed();
    },
  });
  body.push(`retry: ${retryMs}\n`);
  const push = (chunk: Buffer | string): void => {
    if (!ended && !body.destroyed) {
      body.push(chunk);
    }
  };

  return {
    body,
    sendEvents: ({ events, shared }) => {
      if (events.length === 1) {
        push((events[0] as (typeof events)[0]).sse);
        return;
      }
      const key = events.map(({ position: { seq, index } }) => `${seq}-${index}`).join();
      let bytes = shared.get(key);
      if (!bytes) {
        bytes = Buffer.concat(events.map(({ sse }) => sse));
        shared.set(key, bytes);
      }
      push(bytes);
    },
    sendOther: (name, position, data) =>
      push(`${position ? `id: ${showPosition(position)}\n` : ''}event: ${name}\ndata: ${JSON.stringify(data)}\n\n`),
    get queuedBytes() {
      return body.readableLength;
    },
    onceDrained: callback => {
      onDrained = callback;
    },
    end: () => {
      if (!ended) {
        ended = true;
        body.push(null);
        const timer = clock.setTimer(LINGER_MS, () => body.destroy(new Error('The listener did not take the end of its stream')), {
          unref: true,
        });
        body.once('close', () => timer.cancel());
      }
    },
  };
};
