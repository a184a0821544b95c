/**
 * A service: an API declaration with its handlers, loops and subscriptions, made from the platform and its own settings. `ctx` is a plain object that
 * the service makes in one place; that is all the dependency injection there is.
 */
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import type { Duplex, Readable } from 'node:stream';
import type { Api, Method, MethodBody, MethodOutput, MethodParams, MethodQuery, MethodScopes, ScopeParams } from '@tscluster/api/define.ts';
import type { Client, ClientOptions } from '@tscluster/client/client.ts';
import type { Lane } from '../db/lane.ts';
import type { Db } from '../db/sql.ts';
import type { Held } from './authorize.ts';
import type { Bus, Subscription } from './bus/bus.ts';
import type { Authenticator, Caller, HawkRequest } from './caller.ts';
import type { Clock, Random } from './clock.ts';
import type { Settings, SettingValues } from './config.ts';
import type { EncryptedColumn } from './encrypted-columns.ts';
import type { Keyring } from './keyring.ts';
import type { Log } from './log.ts';
import type { BoundLoop } from './loop.ts';
import type { Metrics } from './metrics.ts';
import type { Vacuum } from './vacuum.ts';
import type { Validator } from './validate.ts';

/** What every service may use. */
export interface Platform {
  readonly db: Db;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly keyring: Keyring;
  readonly bus: Bus;
  readonly vacuum: Vacuum;
  /** No other process works on this database. */
  readonly alone: boolean;
  readonly rootUrl: string;
  /** A hot connection (several statements, one commit); one per name, closed with the platform. `setup` is run once on each connection. */
  openLane(name: string, setup?: string): Lane;
  /** Another service's client, with the credentials of `static/taskcluster/<service>`; without a socket when it is served by this process. */
  client<A extends Api>(
    api: A,
    service: string,
    options?: Pick<ClientOptions, 'authorizedScopes' | 'credentials' | 'traceId' | 'retries' | 'headers'>,
  ): Client<A>;
  /** The credentials of `static/taskcluster/<service>`. */
  serviceCredentials(service: string): { clientId: string; accessToken: string };
  /** The key for signing URLs that this installation hands out. */
  readonly signingSecret: Uint8Array;
  /** Wakes whatever waits for `name` in other processes: one coalesced notification per process and interval. */
  notify(name: string): void;
  /** Told when another process (or this one) notifies `name`. Returns how to stop. */
  onNotify(name: string, callback: () => void): () => void;
}

/** JSON text that is sent as it is, without parsing or validation. */
export class RawJson {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

/** An answer other than 200 with JSON: redirects, bytes, bare bodies. */
export class HttpReply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: object | string | Buffer | Readable | undefined;
  constructor(status: number, headers: Readonly<Record<string, string>> = {}, body?: object | string | Buffer | Readable) {
    this.status = status;
    this.headers = headers;
    this.body = body;
  }
}

/** An answer that takes the connection over (WebSocket). Only for a request with `Upgrade: websocket`; any other is told that it needs one (426). */
export class Upgrade extends HttpReply {
  readonly accept: (request: IncomingMessage, socket: Duplex, head: Buffer) => Promise<void>;
  /** Called in place of `accept` when there is no connection to take: it was not offered, or is closed already. */
  readonly abandon: () => void;
  constructor({ accept, abandon }: Pick<Upgrade, 'accept' | 'abandon'>) {
    super(101);
    this.accept = accept;
    this.abandon = abandon;
  }
}

/** Why `HandlerRequest.signal` was aborted, when it is not that the connection was closed. */
export const SHUTTING_DOWN = new Error('The server is shutting down');

export interface HandlerRequest<M extends Method, Ctx> {
  readonly ctx: Ctx;
  readonly params: MethodParams<M>;
  readonly query: MethodQuery<M>;
  readonly body: MethodBody<M>;
  /** Checks the declared scopes; throws 401 or 403. */
  readonly authorize: (params: MethodScopes<M> extends undefined ? never : ScopeParams<MethodScopes<M>>) => Promise<void>;
  /** What the caller holds; throws 401. For handlers that look at many things at once, and say themselves what is missing for which. */
  readonly held: () => Promise<Held>;
  /** The body as it was sent, of methods that read it themselves. */
  readonly bodyText: string;
  /** Looks at a part of such a body; writes defaults into it. Undefined when it is valid. */
  readonly check: Validator['check'];
  /** Who calls; authenticates if nobody has yet. */
  readonly caller: () => Promise<Caller>;
  readonly headers: IncomingHttpHeaders;
  readonly hawk: () => HawkRequest;
  readonly sourceIp: string | undefined;
  readonly traceId: string;
  /** Aborted when the connection closes before the answer's end, or when the server shuts down. */
  readonly signal: () => AbortSignal;
  /** Calls back once the whole answer was given to the network. Never, when the connection closed before. */
  readonly onSent: (callback: () => void) => void;
  /** The parsed body whether or not the method declares one; not validated. */
  readonly anyBody: unknown;
}

export type Handler<M extends Method, Ctx> = (
  request: HandlerRequest<M, Ctx>,
) => Promise<MethodOutput<M> | RawJson | HttpReply | (MethodOutput<M> extends undefined ? void : never)>;

export type Handlers<A extends Api, Ctx> = {
  readonly [K in Exclude<keyof A['methods'], OperationalMethod>]: Handler<A['methods'][K], Ctx>;
};

/** Answered by the platform for every service. */
export type OperationalMethod = 'ping' | 'version' | 'heartbeat' | 'lbheartbeat';

/** An API with handlers and their context, ready to be mounted. */
export interface ServedApi {
  readonly api: Api;
  readonly handlers: Readonly<Record<string, Handler<Method, unknown>>>;
  readonly ctx: unknown;
}

/** Puts an API and its handlers together; a missing handler, a wrong body or reply is a type error. */
export const serve = <A extends Api, Ctx>(api: A, handlers: Handlers<A, Ctx>, ctx: Ctx): ServedApi => ({
  api,
  handlers: handlers as unknown as ServedApi['handlers'],
  ctx,
});

/** A path outside the APIs (bytes of objects): matched by prefix, streams in and out. */
export interface RawRoute {
  readonly prefix: string;
  readonly handle: (request: RawRequest) => Promise<HttpReply>;
}

export interface RawRequest {
  readonly method: string;
  /** As received, query included. */
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Readable;
}

export interface RunningService {
  readonly apis?: readonly ServedApi[];
  readonly routes?: readonly RawRoute[];
  readonly loops?: readonly BoundLoop[];
  readonly subscriptions?: readonly Subscription[];
  /** Set by the service that checks credentials. */
  readonly authenticator?: Authenticator;
  /** Called once everything listens. */
  readonly ready?: () => Promise<void>;
  /** Finishes what is in flight; no requests arrive any more. */
  readonly close?: () => Promise<void>;
}

export interface Service<S extends Settings = Settings> {
  readonly name: string;
  readonly settings: S;
  /** Its columns whose values are encrypted; the platform keeps them under the newest key. */
  readonly encrypted?: readonly EncryptedColumn[];
  start(platform: Platform, config: SettingValues<S>): Promise<RunningService> | RunningService;
}

export const defineService = <const S extends Settings>(service: Service<S>): Service<S> => service;
