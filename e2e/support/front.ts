/**
 * What stands in front of several server processes: a small load balancer. It asks each process whether it wants requests, sends them round robin to
 * those that do, and to another one when a connection is refused. A request that was sent is never sent again.
 */
import http from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Backend {
  readonly port: number;
  /** Path prefixes that it answers; the front's other paths go elsewhere. */
  readonly paths: readonly string[];
}

export interface Front {
  readonly port: number;
  add(backend: Backend): void;
  remove(backend: Backend): void;
  /** Requests sent to each port. */
  readonly sent: ReadonlyMap<number, number>;
  close(): Promise<void>;
}

const CHECK_EVERY_MS = 250;
const CHECK_TIMEOUT_MS = 1_000;

const check = (port: number): Promise<boolean> =>
  new Promise(resolve => {
    const request = http.get({ host: '127.0.0.1', port, path: '/__lbheartbeat__', agent: false, timeout: CHECK_TIMEOUT_MS }, response => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    request.on('timeout', () => request.destroy(new Error('no answer')));
    request.on('error', () => resolve(false));
  });

export const startFront = async (): Promise<Front> => {
  const backends = new Map<Backend, { isWell: boolean; timer?: NodeJS.Timeout }>();
  const sent = new Map<number, number>();
  const agent = new http.Agent({ keepAlive: true });
  let turn = 0;

  const watch = async (backend: Backend): Promise<void> => {
    const isWell = await check(backend.port);
    const known = backends.get(backend);
    if (known) {
      known.isWell = isWell;
      known.timer = setTimeout(() => void watch(backend), CHECK_EVERY_MS);
    }
  };

  const choose = (path: string, except: ReadonlySet<Backend>): Backend | undefined => {
    const able = [...backends].filter(([backend]) => !except.has(backend) && backend.paths.some(prefix => path.startsWith(prefix)));
    const well = able.filter(([, { isWell }]) => isWell);
    const among = well.length > 0 ? well : able;
    turn++;
    return among[turn % among.length]?.[0];
  };

  const pass = (request: http.IncomingMessage, response: http.ServerResponse, tried = new Set<Backend>()): void => {
    const backend = choose(request.url ?? '/', tried);
    const fail = (status: number, message: string): void => {
      request.resume();
      if (response.headersSent) {
        response.destroy();
      } else {
        response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify({ code: 'BadGateway', message }));
      }
    };
    if (!backend) {
      fail(503, 'no process is there for this path');
      return;
    }
    tried.add(backend);
    let isConnected = false;
    const upstream = http.request({
      host: '127.0.0.1',
      port: backend.port,
      method: request.method,
      path: request.url,
      headers: request.headers,
      agent,
    });
    const send = (): void => {
      isConnected = true;
      sent.set(backend.port, (sent.get(backend.port) ?? 0) + 1);
      request.pipe(upstream);
    };
    upstream.once('socket', socket => {
      if (socket.connecting) {
        socket.once('connect', send);
      } else {
        send();
      }
    });
    upstream.on('response', answer => {
      response.writeHead(answer.statusCode ?? 502, answer.rawHeaders);
      answer.pipe(response);
      answer.on('error', () => response.destroy());
    });
    upstream.on('error', error => {
      if (isConnected) {
        fail(502, `the process on port ${backend.port}: ${error.message}`);
      } else {
        pass(request, response, tried);
      }
    });
    response.on('close', () => {
      if (!response.writableFinished) {
        upstream.destroy();
      }
    });
  };

  const server = http.createServer((request, response) => pass(request, response));
  server.keepAliveTimeout = 90_000;
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));

  return {
    port: (server.address() as AddressInfo).port,
    add: backend => {
      backends.set(backend, { isWell: true });
      void watch(backend);
    },
    remove: backend => {
      clearTimeout(backends.get(backend)?.timer);
      backends.delete(backend);
    },
    sent,
    close: async () => {
      for (const { timer } of backends.values()) {
        clearTimeout(timer);
      }
      backends.clear();
      agent.destroy();
      const closed = new Promise(resolve => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
};
