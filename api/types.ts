/** Values that occur all over the protocol: their patterns, and the fields and parameters made of them. */
import { dateTime, integer, set, array, string, stringEnum, type ArrayWords, type Schema, type StringWords, type Words } from './schema.ts';

/** 22 characters: a version 4 UUID in URL-safe base64. */
export const SLUGID_PATTERN = '^[A-Za-z0-9_-]{8}[Q-T][A-Za-z0-9_-][CGKOSWaeimquy26-][A-Za-z0-9_-]{10}[AQgw]$';
/** A parameter that names one thing: provisioner, worker group, worker. */
export const IDENTIFIER_PATTERN = '^[a-zA-Z0-9-_]{1,38}$';
/** The same without its length, which the schemas bound separately. */
export const IDENTIFIER_CHARACTERS_PATTERN = '^([a-zA-Z0-9-_]*)$';
export const WORKER_TYPE_PATTERN = '^[a-z]([-a-z0-9]{0,36}[a-z0-9])?$';
/** `<provisionerId>/<workerType>`, which is also a worker pool's id. */
export const TASK_QUEUE_ID_PATTERN = '^[a-zA-Z0-9-_]{1,38}/[a-z]([-a-z0-9]{0,36}[a-z0-9])?$';
export const PROJECT_ID_PATTERN = '^([a-zA-Z0-9._/-]*)$';
export const RUN_ID_PATTERN = '^[1-9]*[0-9]+$';
export const CLIENT_ID_PATTERN = '^[A-Za-z0-9!@/:.+|_-]+$';
export const ACCESS_TOKEN_PATTERN = '^[a-zA-Z0-9_-]{22,66}$';
/** One or more printable ASCII characters: role ids, artifact names, object names. */
export const PRINTABLE_PATTERN = '^[\\x20-\\x7e]+$';
export const SCOPE_PATTERN = '^[ -~]*$';

/** URL parameters. */
export const param = {
  slugid: new RegExp(SLUGID_PATTERN),
  identifier: new RegExp(IDENTIFIER_PATTERN),
  taskQueueId: new RegExp(TASK_QUEUE_ID_PATTERN),
  runId: new RegExp(RUN_ID_PATTERN),
  clientId: new RegExp(CLIENT_ID_PATTERN),
  printable: new RegExp(PRINTABLE_PATTERN),
} as const;

/** The query of every paged list. Patterns without anchors are the protocol's: `.` means "not empty". */
export const paging = { continuationToken: /./, limit: /^[0-9]+$/ } as const;

export const slugid = (words: Words = {}): Schema<string> => string({ pattern: SLUGID_PATTERN, ...words });
/** Worker group, worker id, scheduler id. */
export const identifier = (words: StringWords = {}): Schema<string> =>
  string({ minLength: 1, maxLength: 38, pattern: IDENTIFIER_CHARACTERS_PATTERN, ...words });
export const projectId = (words: Words = {}): Schema<string> =>
  string({ minLength: 1, maxLength: 500, pattern: PROJECT_ID_PATTERN, ...words });
export const runId = (words: Words = {}): Schema<number> =>
  integer({ minimum: 0, maximum: 1000, description: 'Number of the run, counted from 0.', ...words });
export const scope = (words: Words = {}): Schema<string> => string({ pattern: SCOPE_PATTERN, ...words });
export const scopeSet = (words: ArrayWords = {}): Schema<string[]> => set(scope(), words);
export const scopeList = (words: ArrayWords = {}): Schema<string[]> => array(scope(), { uniqueItems: false, ...words });

export const PRIORITIES = ['highest', 'very-high', 'high', 'medium', 'low', 'very-low', 'lowest'] as const;
/** From the most to the least urgent. */
export type Priority = (typeof PRIORITIES)[number];
export const priority = (words: Words = {}): Schema<Priority> => stringEnum(PRIORITIES, words);

export const STABILITIES = ['experimental', 'stable', 'deprecated'] as const;
export const stability = (words: Words = {}) => stringEnum(STABILITIES, words);

/** The token of the next page; absent on the last one. */
export const continuationToken = (): Schema<string> =>
  string({ description: 'Give it back as the query parameter of the same name to get the next page. Absent when there is none.' });
export const expires = (description: string) => dateTime({ description });

/** Every verb of HTTP, which a request to a service may have. */
export const HTTP_VERBS = [
  'get',
  'post',
  'put',
  'head',
  'delete',
  'options',
  'trace',
  'copy',
  'lock',
  'mkcol',
  'move',
  'purge',
  'propfind',
  'proppatch',
  'unlock',
  'report',
  'mkactivity',
  'checkout',
  'merge',
  'm-search',
  'notify',
  'subscribe',
  'unsubscribe',
  'patch',
  'search',
] as const;
