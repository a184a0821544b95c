/**
 * The HTTP server: fastify in front, our own matcher behind it (the protocol has splats followed by a suffix, which no fastify route can say). Headers,
 * CORS, compression and raw routes are here; the life of an API request is in `pipeline.ts`.
 */
import crypto from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import { apis, exchanges, payloadSchemas } from '@tscluster/api/all.ts';
import { collectSchemas } from '@tscluster/api/references.ts';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { type Authenticator, hawkRequest } from './caller.ts';
import { type Clock, settlesWithin } from './clock.ts';
import { compressFor } from './compress.ts';
import { countInFlight, makeConnections } from './connections.ts';
import { serveDocuments, serveOperational } from './documents.ts';
import { JSON_REPLY, SECURITY_HEADERS } from './http-headers.ts';
import { makeLargeBodies } from './large-bodies.ts';
import type { Log } from './log.ts';
import type { Metrics } from './metrics.ts';
import { type Version, withOperationalMethods } from './operational.ts';
import { type Answer, JSON_TYPE, MAX_BODY_BYTES, makePipeline } from './pipeline.ts';
import { TOO_LARGE, readText } from './read-body.ts';
import { type Router, makeRouter } from './router.ts';
import { type RawRoute, type ServedApi, Upgrade } from './service.ts';
import { serveUpgrades, takeUpgrade, upgradeOptions } from './upgrade.ts';
import { makeValidator } from './validate.ts';

const DRAIN_MS = 10_000;
const HSTS = 'max-age=7776000; includeSubDomains'; // 90 days
const SECONDS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30];

const API_HEADERS = {
  ...SECURITY_HEADERS,
  'cache-control': 'no-store no-cache must-revalidate',
  'access-control-allow-origin': '*',
  'access-control-max-age': '900',
  'access-control-allow-methods': 'OPTIONS,GET,HEAD,POST,PUT,DELETE,TRACE,CONNECT',
  'access-control-request-method': '*',
  'access-control-allow-headers': 'X-Requested-With,Content-Type,Authorization,Accept,Origin,Cache-Control',
  vary: 'Accept-Encoding',
};

export interface Page {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

export interface HttpOptions {
  readonly apis: readonly ServedApi[];
  readonly routes: readonly RawRoute[];
  readonly authenticator: () => Authenticator;
  readonly rootUrl: string;
  readonly version: Version;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly validateOutput: boolean;
  /** Believe `X-Forwarded-*`. */
  readonly trustProxy: boolean;
  /** Requests that did not come over https (as the proxy says that is believed) are sent there, but for those of load balancers. */
  readonly forceTls: boolean;
  /** For so long an idle connection is kept; more than a proxy in front keeps it. */
  readonly keepAliveMs: number;
  /** Answers `GET /` and every path that nothing else takes. */
  readonly page?: (path: string) => Promise<Page | undefined>;
}

export interface HttpServer {
  readonly app: FastifyInstance;
  /** From now on load balancers are told to send requests elsewhere; those that come are answered. */
  leave(): void;
  /** Ends long polls and answers what is in flight, then closes. */
  close(): Promise<void>;
}

/** What of a URL may stand in a log: not its query, and not the end of a long path, which may be a token. */
const pathForLog = (url: string): string => (url.split('?')[0] ?? '').split('/').slice(0, 7).join('/');

/** Builds the server; the caller listens. */
export const makeHttpServer = (options: HttpOptions): HttpServer => {
  const { clock, log, metrics, rootUrl } = options;
  const requests = metrics.counter('http_requests_total', 'API requests', ['service', 'name', 'method', 'status']);
  const durations = metrics.histogram('http_request_duration_seconds', 'How long API requests took', ['service', 'name'], SECONDS);
  const connections = makeConnections();
  let leaving = false;

  const app = Fastify({
    logger: false,
    bodyLimit: MAX_BODY_BYTES,
    trustProxy: options.trustProxy,
    keepAliveTimeout: options.keepAliveMs,
    requestTimeout: 0,
    forceCloseConnections: 'idle',
    exposeHeadRoutes: false,
    http: upgradeOptions,
    routerOptions: { maxParamLength: 100_000, ignoreTrailingSlash: false, caseSensitive: true },
    frameworkErrors: (_error, request, reply) => {
      const answer = reply as FastifyReply; // its own type knows no schema
      const headers = (request.raw.url ?? '').startsWith('/api/') ? API_HEADERS : SECURITY_HEADERS;
      void answer.code(400).headers(headers).headers(traceHeaders(request.raw)).header('content-type', 'text/plain').send('Bad Request');
    },
  });
  app.addHook('onRequest', (request, reply, done) => {
    reply.headers(traceHeaders(request.raw));
    if (options.forceTls) {
      reply.header('strict-transport-security', HSTS);
      if (request.protocol !== 'https' && !/^\/__\w+__(?:\?|$)/.test(request.raw.url ?? '/')) {
        refusePlain(request, reply, rootUrl);
        return;
      }
    }
    done();
  });
  app.removeAllContentTypeParsers();
  const largeBodies = makeLargeBodies(clock);
  /** The limit of the method that a request is for, where it has one of its own. */
  const ownLimits: ((verb: string, url: string) => number | undefined)[] = [];
  app.addContentTypeParser('application/json', async ({ raw, ip, method }: FastifyRequest, payload: Readable) => {
    for (const ownLimit of ownLimits) {
      const maxBytes = ownLimit(method, originForm(raw.url ?? '/'));
      if (maxBytes !== undefined) {
        const { status } = await options.authenticator().authenticate(hawkRequest(raw, ip));
        return status === 'auth-success' ? largeBodies.read(raw, maxBytes) : readText(payload, MAX_BODY_BYTES);
      }
    }
    return readText(payload, MAX_BODY_BYTES);
  });
  app.addContentTypeParser('*', (_request, payload, done) => {
    payload.resume(); // no method takes another type; what is sent is ignored
    done(null, undefined);
  });

  const validator = makeValidator(collectSchemas(apis, exchanges, payloadSchemas).values());

  const answerError = (error: Error & { statusCode?: number }, request: FastifyRequest, reply: FastifyReply): FastifyReply => {
    const status = error.statusCode ?? 500;
    if (request.url.startsWith('/api/')) {
      reply.headers(API_HEADERS);
    }
    if (status >= 500) {
      log.error({ err: error, url: pathForLog(request.url) }, 'request failed');
    }
    return reply
      .code(status)
      .header('content-type', JSON_REPLY)
      .send(JSON.stringify({ error: status >= 500 ? 'Internal Server Error' : error.message }));
  };

  /** Handles requests whose content type fastify refuses, because it cannot be understood. */
  const despiteContentType =
    (handle: (request: FastifyRequest, reply: FastifyReply) => Promise<FastifyReply>) =>
    (error: Error & { code?: string }, request: FastifyRequest, reply: FastifyReply): void => {
      if (error.code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE') {
        handle(request, reply).catch((failure: Error) => answerError(failure, request, reply));
      } else {
        void answerError(error, request, reply);
      }
    };

  const serveApi = (bare: ServedApi): void => {
    const served = withOperationalMethods(bare, options.version, clock, () => leaving);
    const { service, version } = served.api;
    const prefix = `/api/${service}/${version}`;
    const router = makeRouter(served.api);
    if (Object.values(served.api.methods).some(method => method.maxBodyBytes !== undefined)) {
      ownLimits.push((verb, url) => (url.startsWith(`${prefix}/`) ? limitOf(router, verb, url.slice(prefix.length)) : undefined));
    }
    const pipeline = makePipeline({
      served,
      authenticator: options.authenticator,
      validator,
      clock,
      log,
      rootUrl,
      incidentId: () => crypto.randomUUID(),
      validateOutput: options.validateOutput,
    });

    const handle = async (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> => {
      const url = originForm(request.raw.url ?? '/');
      const at = url.indexOf('?');
      const path = url.slice(prefix.length, at === -1 ? undefined : at);
      const search = at === -1 ? '' : url.slice(at + 1);
      reply.headers(API_HEADERS);
      if (largeBodies.holds(request.raw)) {
        reply.raw.once('close', () => largeBodies.release(request.raw));
      }
      const verb = request.method;
      let match;
      try {
        match = router.match(verb, path);
      } catch {
        return reply.code(400).header('content-type', 'text/plain').send('Bad Request');
      }
      if (verb === 'OPTIONS' && match) {
        const allowed = ('allowed' in match ? match.allowed : []).flatMap(v => (v === 'GET' ? ['GET', 'HEAD'] : [v])).join(', ');
        return reply.code(200).header('allow', allowed).header('content-type', 'text/plain; charset=utf-8').send(allowed);
      }
      if (!match || !('route' in match)) {
        return reply.code(404).header('content-type', JSON_REPLY).send('{"error":"Not found"}');
      }
      const startedMs = clock.monotonicMs();
      // fastify reads no bodies of GET and HEAD
      const mayHaveMore =
        (verb === 'GET' || verb === 'HEAD') && hasBody(request.raw) && JSON_TYPE.test(request.headers['content-type'] ?? '');
      const body: unknown = mayHaveMore ? await readText(request.raw, MAX_BODY_BYTES) : request.body;
      const answer = await pipeline({
        route: match.route,
        params: match.params,
        search,
        headers: request.headers,
        bodyText: typeof body === 'string' ? body : undefined,
        isBodyTooLarge: body === TOO_LARGE,
        hawk: hawkRequest(request.raw, request.ip),
        sourceIp: request.ip,
        traceId: String(reply.getHeader('x-for-trace-id')),
        signal: () => connections.signal(request.raw),
        onSent: callback => void reply.raw.once('finish', callback),
      });
      const labels = { service, name: match.route.name };
      requests.inc({ ...labels, method: verb, status: answer.status });
      durations.observe(labels, (clock.monotonicMs() - startedMs) / 1000);
      if (answer instanceof Upgrade) {
        return takeUpgrade(request, reply, answer);
      }
      const compressed =
        typeof answer.body === 'string' && verb !== 'HEAD' ? await compressFor(request.headers['accept-encoding'], answer.body) : undefined;
      if (!compressed) {
        return send(reply, answer);
      }
      reply.header('content-encoding', compressed.encoding);
      return send(reply, { ...answer, body: compressed.bytes });
    };
    app.route({
      method: ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'OPTIONS'],
      url: `${prefix}/*`,
      handler: handle,
      // a content type that cannot be understood is none, and what the method makes of that is the pipeline's to say
      errorHandler: despiteContentType(handle),
    });
  };

  options.apis.forEach(serveApi);
  serveDocuments(app, rootUrl);

  for (const route of options.routes) {
    const handle = async (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> => {
      const { method, headers } = request;
      const body = (request.body as Readable | undefined) ?? request.raw;
      return send(reply, await route.handle({ method, url: request.raw.url ?? '/', headers, body }), false);
    };
    void app.register((scope, _options, done) => {
      scope.removeAllContentTypeParsers();
      scope.addContentTypeParser('*', (_request, payload, parsed) => parsed(null, payload));
      scope.route({
        method: ['GET', 'HEAD', 'PUT', 'POST', 'OPTIONS'],
        url: `${route.prefix}*`,
        bodyLimit: Number.MAX_SAFE_INTEGER,
        handler: handle,
        // bytes may be of any type
        errorHandler: despiteContentType(handle),
      });
      done();
    });
  }

  serveOperational(app, options.version, () => leaving);

  app.setErrorHandler(answerError);
  app.setNotFoundHandler(async (request, reply) => {
    const path = (request.raw.url ?? '/').split('?')[0] ?? '/';
    if (path.startsWith('/api/')) {
      return reply.headers(API_HEADERS).code(404).header('content-type', JSON_REPLY).send('{"error":"Not found"}');
    }
    const page = request.method === 'GET' || request.method === 'HEAD' ? await options.page?.(path) : undefined;
    if (page) {
      return reply.headers(page.headers).code(page.status).send(page.body);
    }
    return reply.headers(SECURITY_HEADERS).code(404).header('content-type', JSON_REPLY).send('{"error":"Not found"}');
  });

  serveUpgrades(app);
  const inFlight = countInFlight(app.server);
  return {
    app,
    leave: () => {
      leaving = true;
    },
    close: async () => {
      leaving = true;
      connections.abortAll();
      const closed = app.close();
      await settlesWithin(clock, inFlight.none(), DRAIN_MS);
      // also those on which no request has come yet: clients open some in advance
      app.server.closeAllConnections();
      await closed;
    },
  };
};

/** What was sent in the clear is not answered: who reads goes to the same path over https, who writes has to send again. */
const refusePlain = (request: FastifyRequest, reply: FastifyReply, rootUrl: string): void => {
  const isReading = request.method === 'GET' || request.method === 'HEAD';
  reply.headers(SECURITY_HEADERS).header('content-type', JSON_REPLY);
  void (isReading ? reply.code(301).header('location', `${rootUrl}${originForm(request.raw.url ?? '/')}`) : reply.code(403)).send(
    '{"error":"Use https"}',
  );
};

/** A target that names the whole URL (a request by way of a proxy) without scheme and host. */
const originForm = (target: string): string => (target.startsWith('/') ? target : target.replace(/^[a-z][a-z0-9+.-]*:\/\/[^/?#]*/i, ''));

/** The body limit of the method at a path, if it has its own. */
const limitOf = (router: Router, verb: string, pathAndQuery: string): number | undefined => {
  try {
    const match = router.match(verb, pathAndQuery.split('?')[0] as string);
    return match && 'route' in match ? match.route.method.maxBodyBytes : undefined;
  } catch {
    return undefined; // malformed encoding, which is refused later
  }
};

const hasBody = ({ headers }: IncomingMessage): boolean =>
  headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;

/** On every answer; the trace id is the caller's if it gave one. */
const traceHeaders = ({ headers }: IncomingMessage): Record<string, string> => ({
  'x-for-trace-id': singleHeader(headers['x-taskcluster-trace-id']) || crypto.randomUUID(),
  'x-for-request-id': crypto.randomUUID(),
});

const singleHeader = (value: string | string[] | undefined): string | undefined => (Array.isArray(value) ? value[0] : value);

const send = (reply: FastifyReply, answer: Answer, json = true): FastifyReply => {
  reply.code(answer.status);
  const { body } = answer;
  if (json && body !== undefined) {
    reply.header('content-type', JSON_REPLY);
  }
  reply.headers(answer.headers);
  if (body === undefined) {
    return reply.send();
  }
  const isPlain = typeof body === 'object' && !Buffer.isBuffer(body) && typeof (body as Readable).pipe !== 'function';
  return reply.send(isPlain ? JSON.stringify(body) : body);
};
