/**
 * Serves HTTP on the loopback interface to one task. Every process of the machine can connect there, other tasks and web pages included, so each
 * connection is traced to the process at its other end, and refused unless that belongs to the task.
 */
import { createServer, type RequestListener, type Server } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo, Socket } from 'node:net';
import { ownsConnection } from './processes.ts';

export interface LocalProxy {
  readonly url: string;
  close(): Promise<void>;
}

/** Listens on a free port. `listOwners` gives the processes that may connect. */
export const openLocalProxy = async (handler: RequestListener, listOwners: () => Promise<readonly number[]>): Promise<LocalProxy> => {
  const verdicts = new WeakMap<Socket, Promise<boolean>>();
  const server: Server = createServer({ requestTimeout: 0, keepAliveTimeout: 60_000 }, (request, response) => {
    void (async () => {
      if (await verdicts.get(request.socket)) {
        handler(request, response);
        return;
      }
      response.writeHead(403, { 'content-type': 'text/plain', connection: 'close' });
      response.end('This proxy belongs to a task: only the processes of that task may use it.\n');
    })();
  });
  server.on('connection', (socket: Socket) => {
    const { remotePort, localPort } = socket;
    verdicts.set(
      socket,
      remotePort === undefined || localPort === undefined
        ? Promise.resolve(false)
        : ownsConnection({ clientPort: remotePort, serverPort: localPort }, listOwners).catch(() => false),
    );
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    close: async () => {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
};
