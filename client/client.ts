/**
 * A typed client from any declaration: `createClient(queueApi, options).status({ taskId })`. Nothing is generated.
 * Arguments: URL parameters, then the body where the method has input, then the query where it has one.
 *
 * Methods whose output is `blob` answer bytes or a redirect: their caller gets a `BlobReply` and chooses. Redirects are never followed
 * here (a followed one would carry neither a valid signature nor the caller's consent to leave the installation).
 */
import type { Api, Method, MethodInput, MethodOutput, MethodParams } from '@tscluster/api/define.ts';
import { systemClock, systemRandom, type Clock, type Random } from './clock.ts';
import { base64url } from './digest.ts';
import { signRequest, signUrl, type SignOptions } from './hawk.ts';
import { isTransient, MAX_RETRIES, retryDelayMs } from './retry.ts';

export interface Credentials {
  readonly clientId: string;
  readonly accessToken: string;
  /** JSON text, for temporary credentials. */
  readonly certificate?: string;
}

export interface ClientOptions {
  readonly rootUrl: string;
  readonly credentials?: Credentials | (() => Credentials | undefined) | undefined;
  /** Narrows the credentials to these scopes. */
  readonly authorizedScopes?: readonly string[] | undefined;
  /** Retries after the first attempt, on connection errors and 5xx only. Default 5. */
  readonly retries?: number;
  /** Per attempt. Default 30 000. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal | undefined;
  /** Default: the global `fetch`. In one process: a function that calls the server without a socket. */
  readonly fetch?: typeof fetch;
  /** Passed on as `x-taskcluster-trace-id`. */
  readonly traceId?: string | undefined;
  /** Sent with every call. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly clock?: Clock;
  readonly random?: Random;
}

/** What a `blob` method answers: bytes, or a redirect with `location`. */
export interface BlobReply {
  readonly statusCode: number;
  /** Where a redirect points, absolute; absent for bytes. */
  readonly location: string | undefined;
  readonly contentType: string | undefined;
  readonly headers: Headers;
  /** The JSON body that some redirects carry. */
  readonly body: unknown;
  /** The bytes, not yet read; null for a redirect. Whoever does not read them cancels it. */
  readonly stream: ReadableStream<Uint8Array> | null;
}

type HasParams<M extends Method> = keyof MethodParams<M> extends never ? false : true;
type ParamArgs<M extends Method> = HasParams<M> extends true ? [params: MethodParams<M>] : [];
type InputArgs<M extends Method> = M extends { input: object } ? [body: MethodInput<M>] : [];
type QueryArgs<M extends Method> = M extends { query: infer Q extends object } ? [query?: { [K in keyof Q]?: string | undefined }] : [];

export type ClientOutput<M extends Method> = M extends { output: 'blob' } ? BlobReply : MethodOutput<M>;
export type ClientMethod<M extends Method> = (...args: [...ParamArgs<M>, ...InputArgs<M>, ...QueryArgs<M>]) => Promise<ClientOutput<M>>;

export type Client<A extends Api> = { readonly [K in keyof A['methods']]: ClientMethod<A['methods'][K]> } & {
  /** The method's URL without a signature. */
  buildUrl<K extends keyof A['methods']>(method: K, params: MethodParams<A['methods'][K]>, query?: Record<string, string>): string;
  /** A bewit-signed URL of a GET method; lives 15 minutes unless said otherwise. */
  buildSignedUrl<K extends keyof A['methods']>(
    method: K,
    params: MethodParams<A['methods'][K]>,
    options?: { query?: Record<string, string>; expirySeconds?: number },
  ): Promise<string>;
};

/** What a refused call throws. `code` is the body's, or `UnknownError`. */
export class ApiCallError extends Error {
  readonly code: string;
  readonly statusCode: number;
  readonly body: unknown;
  constructor(message: string, code: string, statusCode: number, body: unknown) {
    super(message);
    this.name = 'ApiCallError';
    this.code = code;
    this.statusCode = statusCode;
    this.body = body;
  }
}

/** What a call throws that got no answer in any attempt. `cause` is the last attempt's error. */
export class ConnectionError extends Error {
  /** `TimeoutError`, or what the system said: `ECONNREFUSED`. */
  readonly code: string;
  constructor(message: string, code: string, cause: unknown) {
    super(message, { cause });
    this.name = 'ConnectionError';
    this.code = code;
  }
}

const DEFAULT_TIMEOUT_MS = 30_000;
const DEFAULT_SIGNED_URL_SECONDS = 900;
// an error body that is not ours (a proxy's page) is quoted to this length
const MAX_QUOTED_BODY = 300;

type Query = Readonly<Record<string, string | undefined>>;
type Params = Readonly<Record<string, string | undefined>>;

/** A client of one API. Options are read at each call where they are functions; the rest is fixed. */
export function createClient<A extends Api>(api: A, options: ClientOptions): Client<A> {
  const caller = makeCaller(api, options);
  const methods = Object.entries(api.methods).map(([name, method]) => {
    const hasParams = method.route.includes('<');
    const call = (...args: unknown[]): Promise<unknown> => {
      const rest = [...args];
      const params = hasParams ? rest.shift() : undefined;
      const body = method.input ? rest.shift() : undefined;
      const query = method.query ? rest.shift() : undefined;
      return caller.call(name, method, (params ?? {}) as Params, body, (query ?? {}) as Query);
    };
    return [name, call] as const;
  });
  const { buildUrl, buildSignedUrl } = caller;
  return { ...Object.fromEntries(methods), buildUrl, buildSignedUrl } as unknown as Client<A>;
}

// What a `.` or `..` segment means to every URL parser cannot be escaped, so such a value can never arrive.
const encodeSegment = (method: string, name: string, value: string): string => {
  if (value === '.' || value === '..') {
    throw new TypeError(`${method}: the parameter ${name} may not be "${value}", which a URL cannot carry.`);
  }
  return encodeURIComponent(value).replace(/[!'()*]/g, char => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
};

/** The path of a method, its parameters percent-encoded completely. */
const fillRoute = (name: string, method: Method, params: Params): string =>
  method.route.replace(/(\/?)<([^>]+)>/g, (_, slash: string, param: string) => {
    const value = params[param];
    if (value === undefined && method.optional?.includes(param)) {
      return '';
    }
    if (value === undefined || (value === '' && !method.splat?.includes(param))) {
      throw new TypeError(`${name}: the parameter ${param} is missing.`);
    }
    return slash + encodeSegment(name, param, value);
  });

const queryString = (name: string, method: Method, query: Query): string => {
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    if (value === undefined) {
      continue;
    }
    if (!method.query || !(key in method.query)) {
      throw new TypeError(`${name} has no query option "${key}"; it has: ${Object.keys(method.query ?? {}).join(', ') || 'none'}.`);
    }
    search.set(key, value);
  }
  const text = search.toString();
  return text === '' ? '' : `?${text}`;
};

const makeCaller = (api: Api, options: ClientOptions) => {
  const { clock = systemClock, random = systemRandom, retries = MAX_RETRIES, timeoutMs = DEFAULT_TIMEOUT_MS } = options;
  const base = `${options.rootUrl.replace(/\/+$/, '')}/api/${api.service}/${api.version}`;
  const requireMethod = (name: PropertyKey): Method => {
    const method = api.methods[String(name)];
    if (!method) {
      throw new TypeError(`The ${api.service} API has no method "${String(name)}".`);
    }
    return method;
  };
  const getCredentials = (): Credentials | undefined =>
    typeof options.credentials === 'function' ? options.credentials() : options.credentials;

  const signOptions = (): SignOptions | undefined => {
    const credentials = getCredentials();
    return credentials && { credentials, authorizedScopes: options.authorizedScopes, nowMs: clock.nowMs() };
  };

  const buildUrl = (name: PropertyKey, params: Params, query: Query = {}): string => {
    const method = requireMethod(name);
    return base + fillRoute(String(name), method, params) + queryString(String(name), method, query);
  };

  const buildSignedUrl = async (
    name: PropertyKey,
    params: Params,
    { query = {}, expirySeconds = DEFAULT_SIGNED_URL_SECONDS }: { query?: Query; expirySeconds?: number } = {},
  ): Promise<string> => {
    const { method } = requireMethod(name);
    if (method !== 'get') {
      throw new TypeError(`${String(name)} cannot have a signed URL: it is a ${method.toUpperCase()} method, and only GET can be signed.`);
    }
    const signing = signOptions();
    if (!signing) {
      throw new TypeError(`A signed URL of ${String(name)} needs credentials, and this client has none.`);
    }
    return signUrl({ ...signing, url: new URL(buildUrl(name, params, query)), expirySeconds });
  };

  const sign = (url: URL, method: string): Promise<string> | undefined => {
    const signing = signOptions();
    return signing && signRequest({ ...signing, method, url, nonce: base64url(random.bytes(6)).slice(0, 6) });
  };

  const call = async (name: string, method: Method, params: Params, body: unknown, query: Query): Promise<unknown> => {
    const url = new URL(base + fillRoute(name, method, params) + queryString(name, method, query));
    const payload = method.input ? JSON.stringify(body) : undefined;
    if (method.input && payload === undefined) {
      throw new TypeError(`${name} needs a body.`);
    }
    for (let attempt = 1; ; attempt += 1) {
      options.signal?.throwIfAborted();
      const last = attempt > retries;
      const outcome = await attemptOnce(name, method, url, payload);
      if ('value' in outcome) {
        return outcome.value;
      }
      if (last || !outcome.again) {
        throw outcome.error;
      }
      await clock.sleep(retryDelayMs(attempt, random), options.signal);
    }
  };

  type Outcome = { value: unknown } | { error: Error; again: boolean };

  const attemptOnce = async (name: string, method: Method, url: URL, payload: string | undefined): Promise<Outcome> => {
    const abort = new AbortController();
    const onAbort = (): void => abort.abort(options.signal?.reason);
    options.signal?.addEventListener('abort', onAbort, { once: true });
    const timer = clock.setTimer(timeoutMs, () => abort.abort(new DOMException(`no answer within ${timeoutMs} ms`, 'TimeoutError')), {
      unref: true,
    });
    // bytes are read long after this call has returned: the signal stays in force for them, the timeout does not
    let streaming = false;
    try {
      const authorization = await sign(url, method.method);
      const response = await (options.fetch ?? fetch)(url.href, {
        method: method.method.toUpperCase(),
        headers: {
          ...options.headers,
          ...(authorization ? { authorization } : {}),
          ...(payload === undefined ? {} : { 'content-type': 'application/json' }),
          ...(options.traceId ? { 'x-taskcluster-trace-id': options.traceId } : {}),
        },
        ...(payload === undefined ? {} : { body: payload }),
        redirect: 'manual',
        signal: abort.signal,
      });
      if (response.status >= 400 || (response.status >= 300 && method.output !== 'blob') || response.type === 'opaqueredirect') {
        return { error: await refusal(name, url, response), again: isTransient(response.status) };
      }
      if (method.output === 'blob') {
        const reply = await blobReply(url, response);
        streaming = reply.stream !== null;
        return { value: reply };
      }
      return { value: await readJson(response) };
    } catch (error) {
      if (options.signal?.aborted) {
        throw options.signal.reason;
      }
      return { error: noAnswer(name, url, error), again: true };
    } finally {
      timer.cancel();
      if (!streaming) {
        options.signal?.removeEventListener('abort', onAbort);
      }
    }
  };

  return { call, buildUrl, buildSignedUrl };
};

const isJson = (response: Response): boolean => response.headers.get('content-type')?.startsWith('application/json') ?? false;

const readJson = async (response: Response): Promise<unknown> => {
  const text = await response.text();
  return isJson(response) && text !== '' ? (JSON.parse(text) as unknown) : undefined;
};

const blobReply = async (url: URL, response: Response): Promise<BlobReply> => {
  const isRedirect = response.status >= 300;
  const location = isRedirect ? response.headers.get('location') : null;
  return {
    statusCode: response.status,
    location: location === null ? undefined : new URL(location, url).href,
    contentType: response.headers.get('content-type') ?? undefined,
    headers: response.headers,
    body: isRedirect ? await readJson(response).catch(() => undefined) : undefined,
    stream: isRedirect ? null : response.body,
  };
};

/** The error of an answer that is not the method's: ours in JSON, or whatever a proxy in between said. */
const refusal = async (name: string, url: URL, response: Response): Promise<ApiCallError> => {
  const text = await response.text().catch(() => '');
  let body: unknown = text;
  try {
    body = JSON.parse(text);
  } catch {
    // not JSON: the text itself is the body
  }
  const { code, message } = (typeof body === 'object' && body !== null ? body : {}) as Record<string, unknown>;
  if (response.status < 400) {
    const redirected = `${name} was redirected by ${url.origin} although it answers with JSON (status ${response.status}): check the root URL.`;
    return new ApiCallError(redirected, 'UnexpectedRedirect', response.status, body);
  }
  if (typeof message === 'string' && typeof code === 'string') {
    return new ApiCallError(message, code, response.status, body);
  }
  const quoted = text === '' ? '' : `: ${text.slice(0, MAX_QUOTED_BODY)}`;
  return new ApiCallError(
    `${name} was refused by ${url.origin} with status ${response.status}${quoted}`,
    'UnknownError',
    response.status,
    body,
  );
};

/** The innermost reason of a failed `fetch`, whose own message is only "fetch failed". */
const noAnswer = (name: string, url: URL, error: unknown): ConnectionError => {
  let inner = error;
  for (let depth = 0; depth < 5 && inner instanceof Error && inner.cause instanceof Error; depth += 1) {
    inner = inner.cause;
  }
  const { code, name: kind } = (typeof inner === 'object' && inner !== null ? inner : {}) as { code?: unknown; name?: unknown };
  const reason = inner instanceof Error && inner.message ? inner.message : String(code ?? inner);
  const word = typeof code === 'string' ? code : kind === 'TimeoutError' ? 'TimeoutError' : 'ConnectionError';
  return new ConnectionError(`${name}: no answer from ${url.origin}: ${reason}`, word, error);
};
