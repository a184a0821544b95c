/** Lists continue from a key: an opaque token holds the last row's key. Under concurrent inserts and deletes no page omits or repeats. */
import { inputError } from './errors.ts';
import { isWritableTime } from './validate.ts';

export const MAX_PAGE = 1000;

export interface PageQuery {
  readonly continuationToken?: string | undefined;
  readonly limit?: string | undefined;
}

export interface Page<Key> {
  /** Rows to return at most; 0 to `MAX_PAGE`. */
  readonly limit: number;
  /** The key after which to continue. */
  readonly after: Key | undefined;
}

/** A token may be forged: each part is only what the database can compare with. `int` has 32 bits; `time` is in milliseconds since the epoch. */
type KeyPart = 'string' | 'number' | 'int' | 'time';
type KeyOf<Shape extends readonly KeyPart[]> = { [I in keyof Shape]: Shape[I] extends 'string' ? string : number };

export interface PageOptions {
  readonly max?: number;
  /**
   * What a token does that we did not make. `letters` (most lists): one of only letters and digits starts from the beginning, any other is a 400
   * `InputError`. `refuse`: always that error. `restart`: never.
   */
  readonly foreignToken?: 'letters' | 'refuse' | 'restart';
}

/**
 * Reads `limit` and `continuationToken`. `shape` names the key's parts; a token of another shape is foreign. A limit above the maximum is clamped, as
 * the protocol has it.
 */
export const readPage = <const Shape extends readonly KeyPart[]>(
  query: PageQuery,
  shape: Shape,
  { max = MAX_PAGE, foreignToken = 'letters' }: PageOptions = {},
): Page<KeyOf<Shape>> => {
  const limit = Math.min(query.limit === undefined ? max : Number(query.limit), max);
  const token = query.continuationToken;
  const after = token === undefined ? undefined : readToken(token, shape);
  if (token !== undefined && !after && foreignToken !== 'restart' && !(foreignToken === 'letters' && /^[a-zA-Z0-9]+$/.test(token))) {
    const name = foreignToken === 'refuse' ? 'continuationToken' : 'continuation token';
    inputError(`Invalid ${name}: pass the value of a previous answer unchanged, or leave it out to start from the beginning.`);
  }
  return { limit, after };
};

const isPart = (value: unknown, type: KeyPart): boolean => {
  switch (type) {
    case 'string':
      return typeof value === 'string' && !value.includes('\0');
    case 'number':
      return Number.isSafeInteger(value);
    case 'int':
      return typeof value === 'number' && value === (value | 0);
    case 'time':
      return Number.isSafeInteger(value) && isWritableTime(value as number);
  }
};

const readToken = <const Shape extends readonly KeyPart[]>(token: string, shape: Shape): KeyOf<Shape> | undefined => {
  try {
    const key: unknown = JSON.parse(Buffer.from(token, 'base64url').toString('utf8'));
    if (Array.isArray(key) && key.length === shape.length && shape.every((type, i) => isPart(key[i], type))) {
      return key as KeyOf<Shape>;
    }
  } catch {
    // not one of ours
  }
  return undefined;
};

/** The token that continues after `key`. */
export const pageToken = (key: readonly (string | number)[]): string => Buffer.from(JSON.stringify(key)).toString('base64url');

/**
 * Splits rows fetched with `limit + 1` into the page and its token: `{ rows, continuationToken? }`. With `limit` 0 the page is empty and ends the walk.
 */
export const makePage = <R>(
  rows: R[],
  limit: number,
  key: (row: R) => readonly (string | number)[],
): { rows: R[]; continuationToken?: string } => {
  if (rows.length <= limit || limit === 0) {
    return { rows: rows.slice(0, limit) };
  }
  const page = rows.slice(0, limit);
  return { rows: page, continuationToken: pageToken(key(page.at(-1) as R)) };
};
