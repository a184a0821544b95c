/** Errors that end a request, with the protocol's codes and statuses in one registry. */

export const COMMON_ERROR_CODES = {
  MalformedPayload: 400,
  InvalidRequestArguments: 400,
  InputValidationError: 400,
  InputError: 400,
  AuthenticationFailed: 401,
  InsufficientScopes: 403,
  ResourceNotFound: 404,
  RequestConflict: 409,
  ResourceExpired: 410,
  InputTooLarge: 413,
  InternalServerError: 500,
  ServiceUnavailable: 503,
} as const;

export type CommonErrorCode = keyof typeof COMMON_ERROR_CODES;

/**
 * Ends a request. `{{key}}` in the message is filled from the details; the details themselves are not sent. What is `shown` is: programs find it as
 * `details` in the body.
 */
export class ApiError extends Error {
  readonly code: string;
  readonly details: Readonly<Record<string, unknown>>;
  readonly shown: object | undefined;
  constructor(code: string, message: string, details: Readonly<Record<string, unknown>> = {}, shown?: object) {
    super(fillMessage(message, details));
    this.name = 'ApiError';
    this.code = code;
    this.details = details;
    this.shown = shown;
  }
}

/** Replaces `{{key}}`: text as it is, anything else as JSON indented by 2; unknown keys stay. */
export const fillMessage = (template: string, details: Readonly<Record<string, unknown>>): string =>
  template.replace(/{{([a-zA-Z0-9_-]+)}}/g, (text, key: string) => {
    if (!Object.hasOwn(details, key)) {
      return text;
    }
    const value = details[key];
    return typeof value === 'string' ? value : (JSON.stringify(value, null, 2) ?? 'undefined');
  });

type Fail = (message: string, details?: Readonly<Record<string, unknown>>) => never;
const fail =
  (code: string): Fail =>
  (message, details) => {
    throw new ApiError(code, message, details);
  };

export const notFound: Fail = fail('ResourceNotFound');
export const conflict: Fail = fail('RequestConflict');
export const inputError: Fail = fail('InputError');
export const expired: Fail = fail('ResourceExpired');
export const tooLarge: Fail = fail('InputTooLarge');
/** For a service's own codes (declared in its API's `errorCodes`). */
export const apiError = (code: string, message: string, details?: Readonly<Record<string, unknown>>): never => {
  throw new ApiError(code, message, details);
};

export interface ErrorContext {
  readonly method: string;
  readonly params: Readonly<Record<string, string>>;
  readonly payload: unknown;
  readonly time: Date;
}

/** The body of an error reply, laid out as the protocol has it (four padded lines below the text), with `details` where there are some. */
export const errorBody = (code: string, status: number, text: string, context: ErrorContext, details?: object): object => {
  const time = context.time.toISOString();
  const footer = [`* method:     ${context.method}`, `* errorCode:  ${code}`, `* statusCode: ${status}`, `* time:       ${time}`].join(
    '\n',
  );
  return {
    code,
    message: `${text}\n\n---\n\n${footer}`,
    ...(details ? { details } : {}),
    requestInfo: { method: context.method, params: context.params, payload: context.payload, time },
  };
};
