/**
 * JSON schema validation of bodies and messages (draft-06 as the protocol uses it): all errors are reported, defaults are written into the body,
 * nothing is coerced and nothing is dropped. Date-times are those that the protocol accepts, which is more than RFC 3339.
 */
import type { TSchema } from 'typebox';
import { Ajv, type ErrorObject, type SchemaValidateFunction, type ValidateFunction } from 'ajv';
import formatsPlugin from 'ajv-formats';

const DATE_TIME = /^(\d{4})-(\d\d)-(\d\d)[Tt\s](\d\d):(\d\d):(\d\d)(?:\.\d+)?(?:[Zz]|[+-](\d\d)(?::?(\d\d))?)?$/;
const DAYS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/** Whether a text is a date-time that the protocol accepts: real calendar date, zone optional (then UTC), an instant that can be written in UTC. */
export const isDateTime = (text: string): boolean => {
  if (recentDateTimes.has(text)) {
    return true;
  }
  const isOne = looksLikeDateTime(text);
  if (isOne) {
    if (recentDateTimes.size >= MAX_RECENT) {
      recentDateTimes.clear();
    }
    recentDateTimes.add(text);
  }
  return isOne;
};

/** The tasks of a graph have the same few dates. */
const recentDateTimes = new Set<string>();
const MAX_RECENT = 64;

const looksLikeDateTime = (text: string): boolean => {
  const match = DATE_TIME.exec(text);
  if (!match) {
    return false;
  }
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map(Number) as [number, number, number, number, number, number];
  const [zoneHour, zoneMinute] = [Number(match[7] ?? 0), Number(match[8] ?? 0)];
  const leap = (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0;
  const days = month === 2 && leap ? 29 : DAYS[month - 1];
  const isReal = days !== undefined && day >= 1 && day <= days && hour <= 23 && minute <= 59 && second <= 59;
  if (!isReal || zoneHour > 23 || zoneMinute > 59) {
    return false;
  }
  return (year > 0 && year < 9999) || isWritableTime(toMs(text));
};

/** Milliseconds since the epoch, truncated; NaN when it is not a date-time. A missing zone means UTC. */
export const parseDateTime = (text: string): number => (isDateTime(text) ? toMs(text) : Number.NaN);

const toMs = (text: string): number => {
  const normal = text
    .replace(/^(.{10})[t\s]/, '$1T')
    .replace(/z$/, 'Z')
    .replace(/(\.\d{3})\d+/, '$1')
    .replace(/([+-]\d\d)$/, '$1:00')
    .replace(/([+-]\d\d)(\d\d)$/, '$1:$2');
  return Date.parse(/(?:Z|[+-]\d\d:\d\d)$/.test(normal) ? normal : `${normal}Z`);
};

const FIRST_MS = Date.parse('0000-01-01T00:00:00.000Z');
/** The last instant that can be written as the protocol writes instants. */
export const LAST_TIME = '9999-12-31T23:59:59.999Z';
export const LAST_MS = Date.parse(LAST_TIME);
/** Whether an instant can be written as the protocol writes instants: with a year of four digits. False for NaN. */
export const isWritableTime = (timeMs: number): boolean => timeMs >= FIRST_MS && timeMs <= LAST_MS;

/** Milliseconds since the epoch of anything that browsers read as a date, for the few places where the protocol takes that; NaN when it is none. */
export const parseAnyDate = (text: string): number => {
  const timeMs = parseDateTime(text);
  return Number.isNaN(timeMs) ? Date.parse(text) : timeMs;
};
/** What is wrong with a value, and where (JSON pointer; empty for the value itself). */
export interface SchemaProblem {
  readonly at: string;
  readonly message: string;
}

export interface Validator {
  /** undefined when valid; else what is wrong. Writes defaults into `data`. */
  check(schema: TSchema, data: unknown): readonly SchemaProblem[] | undefined;
  /** undefined when valid; else the problems, one line each (Ajv's wording). Writes defaults into `data`. */
  validate(schema: TSchema, data: unknown): readonly string[] | undefined;
}

type Named = TSchema & { $id?: string };

const bare = (id: string): string => id.replace(/#$/, '');

const describe = (error: ErrorObject): SchemaProblem => {
  const extra = error.keyword === 'additionalProperties' ? `: ${JSON.stringify(error.params['additionalProperty'])}` : '';
  return { at: error.instancePath, message: `${error.message ?? 'is invalid'}${extra}` };
};

/** The same text for the same JSON value, whatever the order of its keys. */
const canonical = (value: unknown): string => {
  if (value === null || typeof value !== 'object') {
    return JSON.stringify(value);
  }
  if (Array.isArray(value)) {
    return `[${value.map(canonical).join()}]`;
  }
  const entries = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return `{${entries.map(([key, item]) => `${JSON.stringify(key)}:${canonical(item)}`).join()}}`;
};

/** Ajv's own compares each object of an array with each other, so that some ten thousand would hold the process up for many seconds. */
const checkUnique: SchemaValidateFunction = (isWanted: boolean, items: readonly unknown[]): boolean => {
  if (!isWanted || items.length < 2) {
    return true;
  }
  const [seen, seenObjects] = [new Map<unknown, number>(), new Map<string, number>()];
  for (const [i, item] of items.entries()) {
    const isObject = typeof item === 'object' && item !== null;
    const [known, key] = isObject ? [seenObjects, canonical(item)] : [seen, item];
    const j = known.get(key as string);
    if (j !== undefined) {
      checkUnique.errors = [{ message: `must NOT have duplicate items (items ## ${i} and ${j} are identical)`, params: { i, j } }];
      return false;
    }
    known.set(key as string, i);
  }
  return true;
};

/** Knows a set of named schemas (`$id` and relative `$ref`s); each is compiled at its first use. */
export const makeValidator = (schemas: Iterable<object>): Validator => {
  const ajv = new Ajv({
    allErrors: true,
    useDefaults: true,
    strict: false,
    validateSchema: false,
    meta: false,
    logger: false,
    unicodeRegExp: true,
  });
  ajv.removeKeyword('uniqueItems');
  ajv.addKeyword({ keyword: 'uniqueItems', type: 'array', schemaType: 'boolean', validate: checkUnique });
  formatsPlugin.default(ajv);
  ajv.addFormat('date-time', { type: 'string', validate: isDateTime });
  for (const schema of schemas) {
    const id = (schema as Named).$id;
    if (id !== undefined && !ajv.schemas[bare(id)]) {
      ajv.addSchema(schema, bare(id));
    }
  }
  const compiled = new Map<TSchema, ValidateFunction>();
  const compile = (schema: TSchema): ValidateFunction => {
    const id = (schema as Named).$id;
    const known = id === undefined ? undefined : ajv.getSchema(bare(id));
    return known ?? ajv.compile(schema);
  };
  const check: Validator['check'] = (schema, data) => {
    let validate = compiled.get(schema);
    if (!validate) {
      validate = compile(schema);
      compiled.set(schema, validate);
    }
    return validate(data) ? undefined : (validate.errors ?? []).map(describe);
  };
  return { check, validate: (schema, data) => check(schema, data)?.map(({ at, message }) => `data${at} ${message}`) };
};

/** The place of the first NUL character in a value's strings and keys (`data/payload/env`), which Postgres cannot store; undefined when there is none. */
export const findNul = (value: unknown, at = 'data'): string | undefined => {
  if (typeof value === 'string') {
    return value.includes('\0') ? at : undefined;
  }
  if (value === null || typeof value !== 'object') {
    return undefined;
  }
  for (const [key, item] of Object.entries(value)) {
    const found = key.includes('\0') ? at : findNul(item, `${at}/${key}`);
    if (found !== undefined) {
      return found;
    }
  }
  return undefined;
};
