/**
 * The stream over a WebSocket (RFC 6455): the same events as JSON texts, `{"event", "id", "data"}`. The client may say what it wants at any time, with the
 * fields of the query: `{"bindings": […], "taskGroupId", "taskId"}` replaces what it wanted before, and is answered with another `ready`.
 */
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import type { Clock } from '../../platform/clock.ts';
import { showPosition } from './position.ts';
import type { Carrier, EndReason } from './stream.ts';

const MAX_MESSAGE_BYTES = 64 * 1024;
/** After the end, what is queued may take so long; then the connection is cut. */
const LINGER_MS = 10_000;

/** Close codes (RFC 6455 §7.4.1); clients read the `error` before. */
const CLOSE_CODES: Readonly<Partial<Record<EndReason, number>>> = {
  ServiceUnavailable: 1001,
  AuthenticationFailed: 1008,
  InsufficientScopes: 1008,
  InvalidRequestArguments: 1008,
  InternalServerError: 1011,
};
const NORMAL = 1000;

export type Accept = (request: IncomingMessage, socket: Duplex, head: Buffer) => Promise<WebSocket>;

/** Finishes handshakes. Compression is off: it would cost memory per connection. */
export const makeAccept = (): Accept => {
  const server = new WebSocketServer({ noServer: true, clientTracking: false, perMessageDeflate: false, maxPayload: MAX_MESSAGE_BYTES });
  return (request, socket, head) => new Promise(resolve => server.handleUpgrade(request, socket, head, resolve));
};

export interface WebSocketOptions {
  readonly clock: Clock;
  readonly maxQueuedBytes: number;
  readonly onClosed: () => void;
  readonly onMessage: (text: string) => void;
}

export const makeWebSocketCarrier = (webSocket: WebSocket, { clock, maxQueuedBytes, onClosed, onMessage }: WebSocketOptions): Carrier => {
  let onDrained: (() => void) | undefined;
  const sent = (): void => {
    if (webSocket.bufferedAmount <= maxQueuedBytes / 2) {
      webSocket.resume();
      const callback = onDrained;
      onDrained = undefined;
      callback?.();
    }
  };
  const send = (text: Buffer | string): void => {
    if (webSocket.readyState === webSocket.OPEN) {
      webSocket.send(text, { binary: false }, sent);
    }
  };
  webSocket.on('message', (data: Buffer, isBinary) => {
    if (!isBinary && webSocket.readyState === webSocket.OPEN) {
      onMessage(data.toString('utf8'));
      // each message is answered: whoever does not read is not read from
      if (webSocket.bufferedAmount > maxQueuedBytes) {
        webSocket.pause();
      }
    }
  });
  webSocket.on('error', () => undefined); // what the peer did wrong; it is closed right after
  webSocket.on('close', onClosed);

  return {
    sendEvents: ({ events }) => {
      for (const event of events) {
        send(event.json);
      }
    },
    sendOther: (name, position, data) => send(JSON.stringify({ event: name, ...(position && { id: showPosition(position) }), data })),
    get queuedBytes() {
      return webSocket.bufferedAmount;
    },
    onceDrained: callback => {
      onDrained = callback;
    },
    end: reason => {
      webSocket.close(CLOSE_CODES[reason] ?? NORMAL, reason);
      webSocket.resume(); // the peer's answer to that is to come through
      const timer = clock.setTimer(LINGER_MS, () => webSocket.terminate(), { unref: true });
      webSocket.once('close', () => timer.cancel());
    },
  };
};
