/** Who is being answered, and who waits: for the end of the server, and of connections. */
import type { IncomingMessage, Server } from 'node:http';
import type { Socket } from 'node:net';
import { SHUTTING_DOWN } from './service.ts';

/** Tells when no request is being answered. */
export const countInFlight = (server: Server): { none(): Promise<void> } => {
  let count = 0;
  let tellNone: (() => void) | undefined;
  server.on('request', (_request, response) => {
    count += 1;
    response.once('close', () => {
      count -= 1;
      if (count === 0) {
        tellNone?.();
      }
    });
  });
  return {
    none: () =>
      count === 0
        ? Promise.resolve()
        : new Promise(resolve => {
            tellNone = resolve;
          }),
  };
};

const CLOSED = new Error('The connection was closed');

/** Abort signals for requests that wait: one `close` listener per socket, however many requests it carries. */
export const makeConnections = (): { signal(request: IncomingMessage): AbortSignal; abortAll(): void } => {
  const bySocket = new WeakMap<Socket, Set<AbortController>>();
  const all = new Set<AbortController>();
  let closing = false;
  return {
    signal: request => {
      const controller = new AbortController();
      if (closing) {
        controller.abort(SHUTTING_DOWN);
        return controller.signal;
      }
      const socket = request.socket;
      if (socket.destroyed) {
        controller.abort(CLOSED);
        return controller.signal;
      }
      let waiting = bySocket.get(socket);
      if (!waiting) {
        const created = new Set<AbortController>();
        waiting = created;
        bySocket.set(socket, created);
        socket.once?.('close', () => {
          for (const each of created) {
            each.abort(CLOSED);
            all.delete(each);
          }
          created.clear();
        });
      }
      // a socket carries one request at a time: the signals of earlier ones are no longer needed
      for (const earlier of waiting) {
        all.delete(earlier);
      }
      waiting.clear();
      waiting.add(controller);
      all.add(controller);
      return controller.signal;
    },
    abortAll: () => {
      closing = true;
      for (const controller of all) {
        controller.abort(SHUTTING_DOWN);
      }
      all.clear();
    },
  };
};
