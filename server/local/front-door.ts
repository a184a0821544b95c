/**
 * The installation's port. It is taken before anything else starts, so that a taken port is told at once and the root URL is known; until the server
 * behind it is ready, requests get 503 and a small page. Connections are handed to the server as if it had accepted them itself.
 */
import fs from 'node:fs/promises';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { StartProblem } from './problem.ts';

export interface FrontDoor {
  readonly port: number;
  /** From now on `server` answers, also on connections that are open. */
  open(server: http.Server): void;
  /** Takes no more connections. */
  stopAccepting(): Promise<void>;
  /** Ends connections that are still open. */
  closeConnections(): void;
}

const HOSTS = ['127.0.0.1', '::1'] as const;

const listen = (server: net.Server, host: string, port: number): Promise<number> =>
  new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port, exclusive: true }, () => {
      server.off('error', reject);
      resolve((server.address() as net.AddressInfo).port);
    });
  });

const close = (server: net.Server): Promise<void> => new Promise(resolve => server.close(() => resolve()));

/** Processes that listen on a TCP port, as far as this user may see (Linux). */
const findListeners = async (port: number): Promise<string | undefined> => {
  const hexPort = port.toString(16).toUpperCase().padStart(4, '0');
  const inodes = new Set<string>();
  for (const table of ['/proc/net/tcp', '/proc/net/tcp6']) {
    const text = await fs.readFile(table, 'utf8').catch(() => '');
    for (const line of text.split('\n')) {
      const fields = line.trim().split(/\s+/);
      if (fields[3] === '0A' && fields[1]?.endsWith(`:${hexPort}`) && fields[9]) {
        inodes.add(`socket:[${fields[9]}]`);
      }
    }
  }
  const pids = (await fs.readdir('/proc').catch(() => [])).filter(name => /^\d+$/.test(name));
  for (const pid of inodes.size > 0 ? pids : []) {
    const folder = path.join('/proc', pid, 'fd');
    for (const fd of await fs.readdir(folder).catch(() => [])) {
      const target = await fs.readlink(path.join(folder, fd)).catch(() => '');
      if (inodes.has(target)) {
        const command = await fs.readFile(path.join('/proc', pid, 'cmdline'), 'utf8').catch(() => '');
        return `process ${pid} (${command.split('\0').join(' ').trim().slice(0, 100)})`;
      }
    }
  }
  return undefined;
};

/** Why a port cannot be had, in words. `option`: how another one is chosen, `npm start -- --port`. */
export const explainPortProblem = async (error: NodeJS.ErrnoException, port: number, option: string): Promise<StartProblem> => {
  if (error.code === 'EADDRINUSE') {
    const who = await findListeners(port);
    return new StartProblem(
      `Port ${port} is taken${who ? ` by ${who}` : ''}. Stop what uses it, or choose another one: ${option} ${port === 8080 ? 8081 : port + 1}`,
      { cause: error },
    );
  }
  if (error.code === 'EACCES') {
    return new StartProblem(`This user may not listen on port ${port}. Choose one above 1023: ${option} 8080`, {
      cause: error,
    });
  }
  return new StartProblem(`Port ${port} cannot be used: ${error.message}`, { cause: error });
};

const STARTING = `<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="1"><title>Taskcluster is starting</title>
<style>:root{color-scheme:light dark}body{font:16px system-ui;margin:3rem auto;max-width:40rem;padding:0 1rem}</style><h1>Taskcluster is starting</h1><p>This page reloads by itself.</p></html>
`;

const answerStarting = (request: http.IncomingMessage, response: http.ServerResponse): void => {
  const isApi = request.url?.startsWith('/api/');
  request.resume();
  response.writeHead(503, {
    'content-type': isApi ? 'application/json; charset=utf-8' : 'text/html; charset=utf-8',
    'retry-after': '1',
    'cache-control': 'no-store',
    connection: 'close', // the next request shall meet the server
  });
  response.end(
    isApi ? JSON.stringify({ code: 'ServiceUnavailable', message: 'Taskcluster is starting; try again in a second.' }) : STARTING,
  );
};

/** Takes a port on the loopback addresses; `::1` may be missing on the machine. Throws a `StartProblem` when the port is taken on either. */
export const openFrontDoor = async (wantedPort: number): Promise<FrontDoor> => {
  const starting = http.createServer(answerStarting);
  let current: http.Server = starting;
  const sockets = new Set<net.Socket>();
  const accept = (socket: net.Socket): void => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    current.emit('connection', socket);
  };
  const takeBoth = async (): Promise<{ servers: net.Server[]; port: number }> => {
    const servers: net.Server[] = [];
    let port = wantedPort;
    for (const host of HOSTS) {
      // as http.Server sets them itself
      const server = net.createServer({ allowHalfOpen: true, noDelay: true }, accept);
      try {
        port = await listen(server, host, port);
        servers.push(server);
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (host === '::1' && (code === 'EADDRNOTAVAIL' || code === 'EAFNOSUPPORT' || code === 'EINVAL')) {
          continue;
        }
        await Promise.all(servers.map(close));
        throw error;
      }
    }
    return { servers, port };
  };

  let taken;
  for (let tries = 1; !taken; tries++) {
    try {
      taken = await takeBoth();
    } catch (error) {
      // a port that was free on the first address only
      if (wantedPort !== 0 || tries === 20) {
        throw await explainPortProblem(error as NodeJS.ErrnoException, wantedPort, 'npm start -- --port');
      }
    }
  }
  const { servers, port } = taken;
  for (const server of servers) {
    server.on('error', () => undefined); // too many open files at accept: the connection fails, the server does not
  }
  return {
    port,
    open: server => {
      current = server;
      starting.closeIdleConnections();
    },
    stopAccepting: async () => {
      const closed = Promise.all(servers.map(close));
      // `close` waits for connections, which are not its business
      await Promise.race([closed, new Promise<void>(resolve => setImmediate(resolve))]);
    },
    closeConnections: () => {
      for (const socket of sockets) {
        socket.destroy();
      }
    },
  };
};
