/** What a server answers beside its APIs: references, schemas, and what machines ask at the host's root. */
import { apis, exchanges, payloadSchemas } from '@tscluster/api/all.ts';
import { absolute, collectReferences } from '@tscluster/api/references.ts';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { compressFor } from './compress.ts';
import { JSON_REPLY, SECURITY_HEADERS } from './http-headers.ts';
import { LEAVING, type Version } from './operational.ts';

/** References and schemas: made once, served from memory. */
export const serveDocuments = (app: FastifyInstance, rootUrl: string): void => {
  let documents: Map<string, string> | undefined;
  const load = (): Map<string, string> => {
    if (!documents) {
      documents = new Map();
      for (const [path, document] of collectReferences(apis, exchanges, payloadSchemas)) {
        documents.set(path, JSON.stringify(absolute(document, rootUrl), null, 2));
      }
    }
    return documents;
  };
  const handler = async (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> => {
    const path = (request.raw.url ?? '/').split('?')[0] ?? '/';
    const text = load().get(path);
    reply.headers({ ...SECURITY_HEADERS, 'access-control-allow-origin': '*', 'content-type': JSON_REPLY, vary: 'Accept-Encoding' });
    if (text === undefined) {
      return reply.code(404).send('{"error":"Not found"}');
    }
    const compressed = request.method === 'GET' ? await compressFor(request.headers['accept-encoding'], text) : undefined;
    return compressed ? reply.header('content-encoding', compressed.encoding).send(compressed.bytes) : reply.send(text);
  };
  for (const prefix of ['/references/*', '/schemas/*']) {
    app.route({ method: ['GET', 'HEAD'], url: prefix, handler });
  }
};

/** Version, heartbeats, and a word for robots. */
export const serveOperational = (app: FastifyInstance, version: Version, isLeaving: () => boolean): void => {
  const answer = (url: string, reply: () => { status: number; body: object }): void => {
    app.all(url, (_request, response) => {
      const { status, body } = reply();
      return response.code(status).headers(SECURITY_HEADERS).header('content-type', JSON_REPLY).send(JSON.stringify(body));
    });
  };
  answer('/__version__', () => ({ status: 200, body: version }));
  answer('/__heartbeat__', () => ({ status: 200, body: {} }));
  answer('/__lbheartbeat__', () => (isLeaving() ? { status: 503, body: { message: LEAVING } } : { status: 200, body: {} }));
  app.all('/robots.txt', (_request, reply) =>
    reply.headers(SECURITY_HEADERS).header('content-type', 'text/plain; charset=utf-8').send('User-Agent: *\nDisallow: /\n'),
  );
};
