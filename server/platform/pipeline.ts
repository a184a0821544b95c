/**
 * The life of an API request, in the protocol's order: parameters decoded, body parsed, authorisation where the URL alone decides, parameter patterns,
 * query, body schema, handler, answer. A refused request has changed nothing.
 */
import type { IncomingHttpHeaders } from 'node:http';
import type { Method } from '@tscluster/api/define.ts';
import { isAutomatic } from '@tscluster/api/scopes.ts';
import type { TSchema } from 'typebox';
import { type Authorization, makeAuthorization } from './authorize.ts';
import type { Authenticator, HawkRequest } from './caller.ts';
import type { Clock } from './clock.ts';
import { ApiError, COMMON_ERROR_CODES, errorBody } from './errors.ts';
import { MAX_JSON_DEPTH, isDeeperThan } from './json-depth.ts';
import type { Log } from './log.ts';
import type { Route } from './router.ts';
import { type Handler, HttpReply, RawJson, type ServedApi } from './service.ts';
import { type Validator, findNul } from './validate.ts';

export interface ApiRequest {
  readonly route: Route;
  readonly params: Readonly<Record<string, string>>;
  /** Without `?`. */
  readonly search: string;
  readonly headers: IncomingHttpHeaders;
  /** The body if its type is JSON, as text; undefined when there was none. */
  readonly bodyText: string | undefined;
  /** Too much was sent: it was read and thrown away. */
  readonly isBodyTooLarge: boolean;
  readonly hawk: HawkRequest;
  readonly sourceIp: string | undefined;
  readonly traceId: string;
  readonly signal: () => AbortSignal;
  readonly onSent: (callback: () => void) => void;
}

export interface PipelineOptions {
  readonly served: ServedApi;
  readonly authenticator: () => Authenticator;
  readonly validator: Validator;
  readonly clock: Clock;
  readonly log: Log;
  readonly rootUrl: string;
  readonly incidentId: () => string;
  /** Off in production: answers are spliced from stored text. */
  readonly validateOutput: boolean;
}

interface PreparedMethod {
  readonly method: Method;
  readonly handler: Handler<Method, unknown>;
  readonly automatic: boolean;
}

export const JSON_TYPE = /^application\/json\s*(?:;|$)/i;
export const MAX_BODY_BYTES = 10 * 1024 * 1024;

/** A message about a body whose text may be secret: the parser's own quotes a piece of it. */
const parserMessage = (request: ApiRequest, error: unknown): string =>
  request.route.method.redact ? 'not valid JSON' : (error as Error).message;

const tooLarge = ({ maxBodyBytes }: Method): ApiError =>
  new ApiError(
    'InputTooLarge',
    maxBodyBytes === undefined
      ? `The body is larger than ${MAX_BODY_BYTES} bytes (10 MiB). Send less, or put large data into an artifact.`
      : `The body is larger than ${maxBodyBytes} bytes (${maxBodyBytes / 2 ** 20} MiB), or than 10 MiB without valid credentials. Send less.`,
  );

const parseBody = (request: ApiRequest): unknown => {
  const text = request.bodyText;
  if (text === undefined || text.trim() === '') {
    return {};
  }
  if (isDeeperThan(text, MAX_JSON_DEPTH)) {
    throw new ApiError('MalformedPayload', `Failed to parse JSON: nested deeper than ${MAX_JSON_DEPTH} levels`);
  }
  let body: unknown;
  try {
    body = JSON.parse(text.startsWith('\ufeff') ? text.slice(1) : text);
  } catch (error) {
    throw new ApiError('MalformedPayload', `Failed to parse JSON: ${parserMessage(request, error)}`);
  }
  if (body === null || typeof body !== 'object') {
    throw new ApiError('MalformedPayload', 'Failed to parse JSON: Must be an object or array');
  }
  return body;
};

const checkParams = (method: Method, params: Readonly<Record<string, string>>): void => {
  const problems: string[] = [];
  for (const [name, pattern] of Object.entries(method.params ?? {})) {
    const value = params[name];
    if (value !== undefined && !pattern.test(value)) {
      problems.push(`URL parameter '${name}' given as '${value}' must match regular expression: '${String(pattern)}'`);
    }
  }
  for (const [name, value] of Object.entries(params)) {
    if (value.includes('\0')) {
      problems.push(`URL parameter '${name}' contains a NUL character`);
    }
  }
  if (problems.length > 0) {
    throw new ApiError('InvalidRequestArguments', ['Invalid URL patterns:', ...problems].join('\n'));
  }
};

const readQuery = (method: Method, search: string): Record<string, string> => {
  const query: Record<string, string> = {};
  if (search === '') {
    return query;
  }
  const problems: string[] = [];
  const seen = new Set<string>();
  for (const [key, value] of new URLSearchParams(search)) {
    const pattern = method.query && Object.hasOwn(method.query, key) ? method.query[key] : undefined;
    if (seen.has(key)) {
      problems.push(`Query-string parameter: ${key} must be a string!`);
    } else if (key === 'bewit') {
      // every endpoint takes it; authentication reads it
    } else if (!pattern) {
      problems.push(`Query-string parameter: ${key} is not supported!`);
    } else if (pattern instanceof RegExp && !pattern.test(value)) {
      problems.push(`Query-string parameter: ${key}=${JSON.stringify(value)} does not match expression: ${String(pattern)}`);
    } else if (typeof pattern === 'function' && pattern(value) !== undefined) {
      problems.push(`Query-string parameter: ${key}=${JSON.stringify(value)} is not valid, error: ${pattern(value)}`);
    } else if (value.includes('\0')) {
      problems.push(`Query-string parameter: ${key} contains a NUL character`);
    } else {
      query[key] = value;
    }
    seen.add(key);
  }
  if (problems.length > 0) {
    throw new ApiError('InvalidRequestArguments', problems.join('\n'));
  }
  return query;
};

const checkContentType = ({ 'content-type': contentType }: IncomingHttpHeaders): void => {
  if (!JSON_TYPE.test(contentType ?? '')) {
    throw new ApiError(
      'MalformedPayload',
      `Payload must be JSON with content-type: application/json got content-type: ${contentType ?? 'null'}`,
    );
  }
};

const checkBody = (method: Method, schema: TSchema, body: unknown, request: ApiRequest, options: PipelineOptions): void => {
  const problems = options.validator.validate(schema, body);
  if (problems) {
    const id = `${options.rootUrl}${(schema as { $id?: string }).$id ?? ''}`;
    throw new ApiError(
      'InputValidationError',
      ['\nSchema Validation Failed!', `Rejecting Schema: ${id}`, 'Errors:', ...problems.map(problem => `  * ${problem}`)].join('\n'),
    );
  }
  if (request.bodyText?.includes('\\u0000')) {
    const found = findNul(body);
    if (found !== undefined) {
      const place = method.redact ? found.split('/').slice(0, 2).join('/') : found;
      throw new ApiError('InputError', `${place} contains a NUL character (\\u0000), which cannot be stored. Remove it.`);
    }
  }
};

export type Answer = { readonly status: number; readonly headers: Readonly<Record<string, string>>; readonly body: HttpReply['body'] };

/** Makes the function that answers requests of one API. It never throws. */
export const makePipeline = (options: PipelineOptions): ((request: ApiRequest) => Promise<Answer>) => {
  const { served, clock } = options;
  const statuses: Readonly<Record<string, number>> = { ...COMMON_ERROR_CODES, ...served.api.errorCodes };
  const prepared = new Map<string, PreparedMethod>();
  for (const [name, method] of Object.entries(served.api.methods)) {
    const handler = served.handlers[name];
    if (!handler) {
      throw new Error(`${served.api.service}.${name} has no handler`);
    }
    prepared.set(name, { method, handler, automatic: method.scopes !== undefined && isAutomatic(method.scopes, requiredParams(method)) });
  }

  const answer = async (request: ApiRequest, state: { payload: unknown; authorization: Authorization | undefined }): Promise<Answer> => {
    const { method, handler, automatic } = prepared.get(request.route.name) as PreparedMethod;
    if (request.isBodyTooLarge) {
      throw tooLarge(method);
    }
    const isParsed = method.inputIsChecked === undefined;
    const body = isParsed ? parseBody(request) : {};
    state.payload = body;
    const authorization = makeAuthorization(
      options.authenticator(),
      request.hawk,
      { contentType: request.headers['content-type'] ?? '', text: request.bodyText ?? '' },
      clock,
    );
    state.authorization = authorization;
    if (automatic && method.scopes !== undefined) {
      await authorization.authorize(method.scopes, request.params);
    }
    checkParams(method, request.params);
    const query = readQuery(method, request.search);
    if (method.input) {
      checkContentType(request.headers);
      if (isParsed) {
        checkBody(method, method.input, body, request, options);
      }
    }
    const result: unknown = await handler({
      ctx: served.ctx,
      params: request.params,
      query,
      body: method.input ? body : undefined,
      authorize: async (params: Readonly<Record<string, unknown>>) => {
        if (method.scopes !== undefined) {
          await authorization.authorize(method.scopes, params);
        }
      },
      held: authorization.held,
      bodyText: isParsed ? '' : (request.bodyText ?? ''),
      check: options.validator.check,
      caller: authorization.caller,
      headers: request.headers,
      hawk: () => request.hawk,
      sourceIp: request.sourceIp,
      traceId: request.traceId,
      signal: request.signal,
      onSent: request.onSent,
      anyBody: body,
    } as never);
    if (method.scopes !== undefined && !authorization.done) {
      throw new Error(`${served.api.service}.${request.route.name} answered without having authorised the request`);
    }
    return toAnswer(method, result);
  };

  const toAnswer = (method: Method, result: unknown): Answer => {
    if (result instanceof HttpReply) {
      return result;
    }
    if (result === undefined) {
      return { status: 204, headers: {}, body: undefined };
    }
    if (options.validateOutput && method.output !== undefined && method.output !== 'blob') {
      const value: unknown = result instanceof RawJson ? JSON.parse(result.text) : JSON.parse(JSON.stringify(result));
      const problems = options.validator.validate(method.output, value);
      if (problems) {
        throw new Error(`The answer does not match its schema: ${problems.join('; ')}`);
      }
    }
    return { status: 200, headers: {}, body: result instanceof RawJson ? result.text : JSON.stringify(result) };
  };

  const refuse = (request: ApiRequest, error: unknown, payload: unknown): Answer => {
    const known = error instanceof ApiError && statuses[error.code] !== undefined ? error : undefined;
    let code = known?.code ?? 'InternalServerError';
    let text = known?.message ?? '';
    if (!known) {
      const incidentId = options.incidentId();
      code = 'InternalServerError';
      text = `Internal Server Error, incidentId ${incidentId}.`;
      options.log.error(
        { err: error, incidentId, method: request.route.name, service: served.api.service, traceId: request.traceId },
        'request failed',
      );
    }
    const status = statuses[code] ?? 500;
    const redact = request.route.method.redact;
    const context = {
      method: request.route.name,
      params: request.params,
      payload: redact && payload !== undefined ? redact(payload) : payload,
      time: clock.now(),
    };
    const body = errorBody(code, status, text, context, known?.shown);
    return { status, headers: status === 401 ? { 'www-authenticate': 'hawk' } : {}, body: JSON.stringify(body) };
  };

  return async request => {
    const state: { payload: unknown; authorization: Authorization | undefined } = {
      payload: request.isBodyTooLarge || request.route.method.inputIsChecked ? undefined : (request.bodyText ?? {}),
      authorization: undefined,
    };
    try {
      return await answer(request, state);
    } catch (error) {
      return refuse(request, error, state.payload);
    }
  };
};

const requiredParams = (method: Method): string[] =>
  [...method.route.matchAll(/<([a-zA-Z0-9_]+)>/g)].map(match => match[1] as string).filter(name => !method.optional?.includes(name));
