/** What a definition says of how its task is to be indexed: `extra.index`, without I/O (protocol: "Indexing by route"). */
import { isWritableTime, parseAnyDate } from '../../platform/validate.ts';

export interface IndexOptions {
  readonly rank: number;
  /** A JSON object. */
  readonly data: string;
  readonly expires: Date;
}

const MAX_RANK = 2 ** 31 - 1;

/** Whether a rank can be stored: a whole number of 32 bits. */
export const isRank = (value: unknown): value is number => Number.isInteger(value) && Math.abs(value as number) <= MAX_RANK;

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);

/** The part of a definition that the index looks at. */
export interface IndexedDefinition {
  readonly expires?: string | undefined;
  readonly extra?: unknown;
}

/** Rank, data and expiry, with their defaults; undefined when the definition asks for something that cannot be: then the task is not indexed. */
export const readOptions = ({ extra, expires: taskExpires }: IndexedDefinition): IndexOptions | undefined => {
  const given = isObject(extra) && isObject(extra['index']) ? extra['index'] : {};
  const { rank = 0, data = {}, expires = taskExpires } = given;
  const expiresMs = typeof expires === 'string' ? parseAnyDate(expires) : Number.NaN;
  return isRank(rank) && isObject(data) && isWritableTime(expiresMs)
    ? { rank, data: JSON.stringify(data), expires: new Date(expiresMs) }
    : undefined;
};
