/**
 * A typed client from any declaration: `createClient(queueApi, options).status({ taskId })`. Nothing is generated.
 * Arguments: URL parameters, then the body where the method has input, then the query where it has one.
 */
import type { Static, TSchema } from 'typebox';
import type { Api, Method, MethodOutput, MethodParams } from '@tscluster/api/define.ts';

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
}

type HasParams<M extends Method> = keyof MethodParams<M> extends never ? false : true;
type ParamArgs<M extends Method> = HasParams<M> extends true ? [params: MethodParams<M>] : [];
type InputArgs<M extends Method> = M extends { input: infer I extends TSchema } ? [body: Static<I>] : [];
type QueryArgs<M extends Method> = M extends { query: infer Q extends object } ? [query?: { [K in keyof Q]?: string }] : [];

export type ClientMethod<M extends Method> = (...args: [...ParamArgs<M>, ...InputArgs<M>, ...QueryArgs<M>]) => Promise<MethodOutput<M>>;

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

export declare function createClient<A extends Api>(api: A, options: ClientOptions): Client<A>;
