/** What goes wrong, told to a person: what, where, and how to put it right. Stack traces only when DEBUG is set. */
import { ApiCallError, ConnectionError } from '@tscluster/client/client.ts';
import { TransferError } from '@tscluster/client/transfer.ts';

/** The result of what was asked for is negative: tasks failed. */
export const EXIT_FAILED = 1;
/** It could not be done: wrong usage, refused, unreachable. */
export const EXIT_ERROR = 2;

/** A problem whose message is written for the person at the terminal; `hint` says what to do. */
export class Problem extends Error {
  readonly hint: string | undefined;
  constructor(message: string, hint?: string, cause?: unknown) {
    super(message, { cause });
    this.name = 'Problem';
    this.hint = hint;
  }
}

const hintFor = (error: unknown): string | undefined => {
  if (error instanceof Problem) {
    return error.hint;
  }
  if (error instanceof ConnectionError) {
    return error.code === 'ECONNREFUSED'
      ? 'Is the installation running? `taskcluster up` (or `npm start` in the clone) starts one; TASKCLUSTER_ROOT_URL says which one is asked.'
      : 'Check TASKCLUSTER_ROOT_URL and the network between here and there.';
  }
  if (error instanceof ApiCallError) {
    if (error.statusCode === 401) {
      return 'The credentials were not accepted. `taskcluster signin` says how to get others, `taskcluster signin --check` shows the present ones.';
    }
    if (error.statusCode === 403) {
      return '`taskcluster signin --check` shows what the present credentials may do.';
    }
  }
  return undefined;
};

// the server repeats method, code, status and time below this line; the code is shown in front instead
const withoutTrailer = (message: string): string => message.split('\n\n---\n\n', 1)[0]?.trim() ?? message;

/** An error as lines for the terminal. With `debug` the stack and its causes follow. */
export const explain = (error: unknown, debug: boolean): string => {
  const message =
    error instanceof ApiCallError
      ? `${error.code === 'UnknownError' ? '' : `${error.code}: `}${withoutTrailer(error.message)}`
      : error instanceof Error
        ? error.message || error.name
        : String(error);
  const lines = [`Error: ${message}`];
  const hint = hintFor(error);
  if (hint) {
    lines.push('', hint);
  }
  if (debug && error instanceof Error) {
    lines.push('', error.stack ?? '');
    for (let cause = error.cause; cause instanceof Error; cause = cause.cause) {
      lines.push(`Caused by: ${cause.stack ?? cause.message}`);
    }
  } else if (!isExpected(error)) {
    lines.push('', 'This should not have happened. Set DEBUG=1 to see where.');
  }
  return lines.join('\n');
};

const isExpected = (error: unknown): boolean =>
  error instanceof Problem || error instanceof ApiCallError || error instanceof ConnectionError || error instanceof TransferError;
