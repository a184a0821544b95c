/**
 * What the in-task proxy does with a request: it signs it with the task's credentials, limited to the task's scopes, and passes it on byte for byte, in
 * streams. Redirects are the task's to follow (protocol: worker, "taskcluster-proxy").
 */
import { request as httpRequest, Agent as HttpAgent, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import { request as httpsRequest, Agent as HttpsAgent } from 'node:https';
import type { Credentials } from '@tscluster/client/client.ts';
import { plainSlugid, type Clock, type Random } from '@tscluster/client/clock.ts';
import { base64, hmacSha256 } from '@tscluster/client/digest.ts';
import { makeExt, signedText, signUrl } from '@tscluster/client/hawk.ts';
import { MAX_RETRIES, isTransient, retryDelayMs } from '@tscluster/client/retry.ts';
import { messageOf } from '../errors.ts';

const VERSION = '1.0.0';
const BEWIT_SECONDS = 3600;
const MAX_BEWIT_URL_BYTES = 16_384;
const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

export interface ProxyOptions {
  readonly rootUrl: string;
  readonly allowsOtherHosts: boolean;
  readonly authorizedScopes: readonly string[];
  /** The newest ones at the time of each request. */
  readonly credentials: () => Credentials;
  readonly clock: Clock;
  readonly random: Random;
  /** Ends the requests under way. */
  readonly signal: AbortSignal;
}

/** Connections that are used again, for all tasks of a worker. */
export interface Agents {
  readonly http: HttpAgent;
  readonly https: HttpsAgent;
}

export const makeAgents = (): Agents => ({ http: new HttpAgent({ keepAlive: true }), https: new HttpsAgent({ keepAlive: true }) });

type Refusal = { readonly status: number; readonly message: string };

/** Where a request is to go: the server, and what stands on the request line there. */
interface Destination {
  readonly origin: URL;
  readonly resource: string;
}

const refuse = (response: ServerResponse, { status, message }: Refusal): void => {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ message }));
};

/** The destination of a path as it stands on the request line, without decoding any of it. */
export const destinationOf = (url: string, options: Pick<ProxyOptions, 'rootUrl' | 'allowsOtherHosts'>): Destination | Refusal => {
  const root = new URL(options.rootUrl);
  const [path = '', query] = url.split(/\?(.*)/s, 2);
  const suffix = query === undefined ? '' : `?${query}`;
  const [, first = '', second, ...rest] = path.split('/');
  if (first === 'api') {
    return second !== undefined && second !== '' && /^v\d+$/.test(rest[0] ?? '') && rest.length > 1
      ? { origin: root, resource: url }
      : { status: 404, message: 'The path of an API request is /api/<service>/<version>/<path>.' };
  }
  if (/^[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)+(:\d+)?$/.test(first)) {
    const resource = `/${[second ?? '', ...rest].join('/')}${suffix}`;
    if (first === root.host || first === root.hostname) {
      return { origin: root, resource };
    }
    return options.allowsOtherHosts
      ? { origin: new URL(`https://${first}`), resource }
      : { status: 403, message: `This proxy signs requests for ${root.host} only, not for ${first}.` };
  }
  if (/^[a-z][a-z0-9-]*$/.test(first) && /^v\d+$/.test(second ?? '') && rest.length > 0) {
    return { origin: root, resource: `/api${path}${suffix}` };
  }
  return { status: 404, message: 'The path is /api/<service>/<version>/<path>, or /bewit for a signed URL.' };
};

/** Browsers name the page's origin, and send the name they looked up as the host: neither happens to the task's own programs. */
const checkCaller = (request: IncomingMessage): Refusal | undefined => {
  if (request.headers.origin !== undefined) {
    return { status: 403, message: 'Requests with an Origin header come from a web page and are refused.' };
  }
  const port = request.socket.localPort;
  if (![`127.0.0.1:${port}`, `localhost:${port}`].includes(request.headers.host ?? '')) {
    return { status: 403, message: 'The Host header must be the one of TASKCLUSTER_PROXY_URL.' };
  }
  return undefined;
};

export const proxyHandler = (options: ProxyOptions, agents: Agents): RequestListener => {
  const ext = memoizeExt(options.authorizedScopes);
  return (request, response) => {
    void (async () => {
      const refusal = checkCaller(request);
      if (refusal) {
        refuse(response, refusal);
        return;
      }
      const url = request.url ?? '';
      if (url === '/credentials' || url.startsWith('/credentials?')) {
        refuse(response, { status: 403, message: 'The worker alone gives this proxy its credentials.' });
        return;
      }
      if (url === '/bewit') {
        await answerBewit(options, request, response);
        return;
      }
      const destination = destinationOf(url, options);
      if ('status' in destination) {
        refuse(response, destination);
        return;
      }
      await forward(options, agents, ext, destination, request, response);
    })().catch((error: unknown) => {
      if (response.headersSent) {
        response.destroy();
      } else {
        refuse(response, { status: 502, message: `The proxy could not pass on the request: ${messageOf(error)}` });
      }
    });
  };
};

// a certificate is parsed once, not once per request
const memoizeExt = (authorizedScopes: readonly string[]): ((credentials: Credentials) => string | undefined) => {
  let of: string | undefined;
  let ext: string | undefined;
  return ({ certificate }) => {
    if (ext === undefined || of !== certificate) {
      ext = makeExt(certificate, authorizedScopes);
      of = certificate;
    }
    return ext;
  };
};

const answerBewit = async (options: ProxyOptions, request: IncomingMessage, response: ServerResponse): Promise<void> => {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += (chunk as Buffer).length;
    if (bytes > MAX_BEWIT_URL_BYTES) {
      refuse(response, { status: 413, message: 'The URL to sign is too long.' });
      return;
    }
    chunks.push(chunk as Buffer);
  }
  const text = Buffer.concat(chunks).toString();
  const url = URL.parse(text);
  if (!url || !['http:', 'https:'].includes(url.protocol)) {
    refuse(response, { status: 500, message: 'The body of a bewit request must be the URL to sign.' });
    return;
  }
  const { authorizedScopes, clock } = options;
  const signed = await signUrl({
    credentials: options.credentials(),
    authorizedScopes,
    nowMs: clock.nowMs(),
    url,
    expirySeconds: BEWIT_SECONDS,
  });
  response.writeHead(303, { location: signed, 'content-type': 'text/plain' });
  response.end(signed);
};

const forward = async (
  options: ProxyOptions,
  agents: Agents,
  ext: (credentials: Credentials) => string | undefined,
  destination: Destination,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> => {
  const { clock, random, signal } = options;
  const hasBody = request.headers['content-length'] !== undefined || request.headers['transfer-encoding'] !== undefined;
  // a body that has been sent cannot be sent again, and what is not idempotent must not be
  const retries = !hasBody && ['GET', 'HEAD'].includes(request.method ?? '') ? MAX_RETRIES : 0;
  for (let attempt = 0; ; attempt++) {
    const isLast = attempt >= retries;
    let answer: IncomingMessage;
    try {
      answer = await send(options, agents, ext, destination, request, response);
    } catch (error) {
      if (isLast || signal.aborted || response.destroyed) {
        throw error;
      }
      await clock.sleep(retryDelayMs(attempt + 1, random), signal);
      continue;
    }
    if (isTransient(answer.statusCode ?? 500) && !isLast) {
      answer.resume();
      await clock.sleep(retryDelayMs(attempt + 1, random), signal);
      continue;
    }
    pass(options, destination, answer, response);
    return;
  }
};

/** Headers as they came, repeated ones included, without those that belong to a single connection. */
const endToEnd = (rawHeaders: readonly string[], without: readonly string[]): string[] => {
  const kept: string[] = [];
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    const name = rawHeaders[at] ?? '';
    if (!HOP_BY_HOP.has(name.toLowerCase()) && !without.includes(name.toLowerCase())) {
      kept.push(name, rawHeaders[at + 1] ?? '');
    }
  }
  return kept;
};

/** The `Authorization` header for exactly what will stand on the request line, which a parsed URL need not be. */
const sign = (
  { clock, random }: ProxyOptions,
  { clientId, accessToken }: Credentials,
  ext: string | undefined,
  target: { method: string; resource: string; host: string; port: string },
): string => {
  const ts = String(Math.floor(clock.nowMs() / 1000));
  const nonce = plainSlugid(random).slice(0, 8);
  const mac = base64(hmacSha256(accessToken, signedText({ kind: 'header', ts, nonce, ...target, ext })));
  return `Hawk id="${clientId}", ts="${ts}", nonce="${nonce}", ${ext ? `ext="${ext}", ` : ''}mac="${mac}"`;
};

const send = (
  options: ProxyOptions,
  agents: Agents,
  ext: (credentials: Credentials) => string | undefined,
  { origin, resource }: Destination,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<IncomingMessage> => {
  const credentials = options.credentials();
  const method = request.method ?? 'GET';
  const port = origin.port || (origin.protocol === 'https:' ? '443' : '80');
  const authorization = sign(options, credentials, ext(credentials), { method, resource, host: origin.hostname, port });
  const isHttps = origin.protocol === 'https:';
  return new Promise((resolve, reject) => {
    const outgoing = (isHttps ? httpsRequest : httpRequest)({
      agent: isHttps ? agents.https : agents.http,
      hostname: origin.hostname.replace(/^\[|\]$/g, ''),
      port,
      method,
      path: resource,
      headers: [...endToEnd(request.rawHeaders, ['host', 'authorization', 'expect']), 'host', origin.host, 'authorization', authorization],
      signal: options.signal,
    });
    outgoing.on('response', resolve);
    outgoing.on('error', reject);
    // the task gave up
    response.once('close', () => outgoing.destroy());
    request.once('error', error => outgoing.destroy(error));
    if (request.readableEnded) {
      outgoing.end();
    } else {
      request.pipe(outgoing);
    }
  });
};

const pass = (options: ProxyOptions, { origin, resource }: Destination, answer: IncomingMessage, response: ServerResponse): void => {
  const { clientId, certificate } = options.credentials();
  const headers = endToEnd(answer.rawHeaders, []);
  headers.push(
    'X-Taskcluster-Endpoint',
    new URL(resource, origin).href,
    'X-Taskcluster-Proxy-Version',
    VERSION,
    'X-Taskcluster-Proxy-Revision',
    VERSION,
    `X-Taskcluster-Proxy-${certificate === undefined ? 'Perm' : 'Temp'}-ClientId`,
    clientId,
  );
  if (certificate !== undefined) {
    headers.push('X-Taskcluster-Proxy-Temp-Scopes', asHeader((JSON.parse(certificate) as { scopes: unknown }).scopes));
  }
  headers.push('X-Taskcluster-Authorized-Scopes', asHeader(options.authorizedScopes));
  response.writeHead(answer.statusCode ?? 502, headers);
  answer.pipe(response);
  answer.once('error', () => response.destroy());
  answer.once('aborted', () => response.destroy());
};

const MAX_HEADER_BYTES = 8192;
const asHeader = (value: unknown): string => {
  const text = JSON.stringify(value) ?? '';
  return text.length > MAX_HEADER_BYTES ? `${text.slice(0, MAX_HEADER_BYTES)}...` : text;
};
