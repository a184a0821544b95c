/**
 * How a service reaches another one: without a socket where this process serves it, else at an address inside the installation where one is
 * configured, else at the root URL. The signature is the public host's in each case, which is therefore passed on.
 */
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import { Readable } from 'node:stream';

/** Base URL by service; `*` stands for all others. */
export type InternalUrls = Readonly<Record<string, string>>;

export interface ServiceFetchOptions {
  /** Calls a service that this process serves. */
  readonly local: typeof fetch;
  readonly isLocal: (service: string) => boolean;
  readonly internalUrls: InternalUrls;
}

const portOf = ({ port, protocol }: URL): string => port || (protocol === 'https:' ? '443' : '80');

export const makeServiceFetch =
  ({ local, isLocal, internalUrls }: ServiceFetchOptions): typeof fetch =>
  async (input: string | URL | Request, init?: RequestInit) => {
    const url = new URL(input instanceof Request ? input.url : input);
    const service = /^\/api\/([^/]+)\//.exec(url.pathname)?.[1] ?? '';
    if (isLocal(service)) {
      return local(url, init);
    }
    const base = internalUrls[service] ?? internalUrls['*'];
    return base === undefined ? fetch(url, init) : fetchBy(new URL(base), url, init);
  };

const agents = { 'http:': new http.Agent({ keepAlive: true }), 'https:': new https.Agent({ keepAlive: true }) };

/** Sends a request for `url` to another address, as a proxy would: `fetch` lets nobody choose the `Host` header. */
const fetchBy = (base: URL, url: URL, init: RequestInit = {}): Promise<Response> => {
  const protocol = base.protocol === 'https:' ? 'https:' : 'http:';
  const { body } = init;
  if (body !== undefined && body !== null && typeof body !== 'string') {
    throw new TypeError('A call of a service takes its body as text');
  }
  const headers: Record<string, string | number> = {
    ...Object.fromEntries(new Headers(init.headers).entries()),
    host: url.host,
    'x-forwarded-port': portOf(url),
    'x-forwarded-proto': url.protocol.slice(0, -1),
    ...(body ? { 'content-length': Buffer.byteLength(body) } : {}),
  };
  const target = new URL(base.href.replace(/\/+$/, '') + url.pathname + url.search);
  return new Promise((resolve, reject) => {
    const request = (protocol === 'https:' ? https : http).request(target, {
      method: init.method ?? 'GET',
      headers,
      agent: agents[protocol],
      ...(init.signal ? { signal: init.signal } : {}),
      // else it would be taken from the Host header
      ...(net.isIP(target.hostname) === 0 ? { servername: target.hostname } : {}),
    });
    request.on('error', error => reject(init.signal?.aborted ? (init.signal.reason as Error) : error));
    request.once('response', response => resolve(toResponse(response)));
    request.end(body ?? undefined);
  });
};

const toResponse = (message: http.IncomingMessage): Response => {
  const headers = new Headers();
  for (let i = 0; i + 1 < message.rawHeaders.length; i += 2) {
    headers.append(message.rawHeaders[i] as string, message.rawHeaders[i + 1] as string);
  }
  const status = message.statusCode ?? 502;
  if (status === 204 || status === 205 || status === 304) {
    message.resume();
    return new Response(null, { status, headers });
  }
  return new Response(Readable.toWeb(message) as ReadableStream<Uint8Array>, { status, headers });
};
