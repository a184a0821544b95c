/** Structured logs: constant message, facts in fields, one line per change of state. Credentials never get there: known fields are cut out. */
import { type DestinationStream, type Logger, pino } from 'pino';

export type Log = Logger;

const SECRET_FIELDS = [
  'accessToken',
  'certificate',
  'credentials',
  'authorization',
  'password',
  'secret',
  'token',
  'ext',
  'putUrl',
  'headers.authorization',
  'req.headers.authorization',
];

const ERROR_FIELDS = ['code', 'detail', 'hint', 'constraint', 'schema', 'table', 'statusCode'] as const;

/** An error as facts: what it says and where, without the connections and requests that libraries hang on their errors. */
export const describeError = (error: unknown): object => {
  if (!(error instanceof Error)) {
    return { message: String(error) };
  }
  const fields = Object.fromEntries(ERROR_FIELDS.flatMap(name => (name in error ? [[name, (error as never)[name]]] : [])));
  return {
    type: error.name,
    message: error.message,
    ...fields,
    stack: error.stack,
    ...(error.cause ? { cause: describeError(error.cause) } : {}),
  };
};

/** A logger that writes JSON lines to `destination` (default: stderr, or stdout). */
export const makeLog = (
  options: { level?: string; destination?: DestinationStream; toStdout?: boolean; base?: Record<string, unknown> } = {},
): Log =>
  pino(
    {
      level: options.level ?? 'info',
      base: options.base ?? {},
      timestamp: pino.stdTimeFunctions.isoTime,
      serializers: { err: describeError },
      formatters: { level: label => ({ level: label }) },
      redact: { paths: [...SECRET_FIELDS, ...SECRET_FIELDS.filter(f => !f.includes('.')).map(f => `*.${f}`)], censor: '[redacted]' },
    },
    options.destination ?? pino.destination({ dest: options.toStdout ? 1 : 2, sync: true }),
  );

/** For tests: nothing is written. */
export const silentLog: Log = pino({ level: 'silent' });
