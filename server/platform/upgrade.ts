/**
 * WebSockets. A request with `Upgrade: websocket` to an API goes the way of any other: routes, authorisation and refusals are the same. Only when the
 * handler answers with an `Upgrade` is the connection handed over. Other upgrades (`h2c`, which some clients offer) are ignored, as HTTP allows.
 */
import http, { type IncomingMessage, type ServerOptions } from 'node:http';
import type { Duplex } from 'node:stream';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Upgrade } from './service.ts';

const isWanted = ({ method, url = '', headers }: IncomingMessage): boolean =>
  method === 'GET' && url.startsWith('/api/') && headers.upgrade?.toLowerCase() === 'websocket';

/** Of the HTTP server. Node's types do not know the option yet. */
export const upgradeOptions = { shouldUpgradeCallback: isWanted } as ServerOptions;

interface Waiting {
  readonly socket: Duplex;
  readonly head: Buffer;
}

const waiting = new WeakMap<IncomingMessage, Waiting>();

/** Sends upgrade requests through the server's routes. */
export const serveUpgrades = (app: FastifyInstance): void => {
  app.server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    waiting.set(request, { socket, head });
    socket.on('error', () => undefined); // the connection is gone; its `close` follows
    const response = new http.ServerResponse(request);
    response.shouldKeepAlive = false;
    response.assignSocket(socket as never);
    response.once('finish', () => socket.end()); // refused
    app.routing(request, response);
  });
};

/** Hands the connection over; tells a request that is none for it what it lacks. */
export const takeUpgrade = async (request: FastifyRequest, reply: FastifyReply, answer: Upgrade): Promise<FastifyReply> => {
  const found = waiting.get(request.raw);
  if (!found || found.socket.destroyed) {
    answer.abandon();
    return reply.code(426).header('upgrade', 'websocket').send();
  }
  reply.hijack();
  reply.raw.detachSocket(found.socket as never);
  await answer.accept(request.raw, found.socket, found.head);
  return reply;
};
