/**
 * Bodies beyond the common limit, for the few methods that take them: only from callers with valid credentials, a few at once, and within a time, so
 * that what they take of a process stays bounded. Who comes while all places are taken waits; what it sends is not read meanwhile.
 */
import type { IncomingMessage } from 'node:http';
import type { Clock } from './clock.ts';
import { MAX_BODY_BYTES } from './pipeline.ts';
import { type TOO_LARGE, readText } from './read-body.ts';

const PLACES = 2;
const MAX_SECONDS = 120;

export interface LargeBodies {
  /** Reads a body of at most `maxBytes`. Its place, if it took one, is free again after `release`. */
  read(request: IncomingMessage, maxBytes: number): Promise<string | typeof TOO_LARGE>;
  /** Whether a request has a place. */
  holds(request: IncomingMessage): boolean;
  /** The request was answered. */
  release(request: IncomingMessage): void;
}

const isSmall = ({ headers }: IncomingMessage): boolean => Number(headers['content-length'] ?? Number.POSITIVE_INFINITY) <= MAX_BODY_BYTES;

export const makeLargeBodies = (clock: Clock): LargeBodies => {
  const holders = new WeakSet<IncomingMessage>();
  const line: (() => void)[] = [];
  let free = PLACES;

  const enter = async (request: IncomingMessage): Promise<void> => {
    if (free > 0) {
      free--;
    } else {
      await new Promise<void>(resolve => line.push(resolve)); // the place is passed on
    }
    holders.add(request);
  };

  const release = (request: IncomingMessage): void => {
    if (holders.delete(request)) {
      const next = line.shift();
      if (next) {
        next();
      } else {
        free++;
      }
    }
  };

  return {
    read: async (request, maxBytes) => {
      if (isSmall(request)) {
        return readText(request, maxBytes);
      }
      await enter(request);
      const timer = clock.setTimer(MAX_SECONDS * 1000, () => request.destroy(new Error(`The body took longer than ${MAX_SECONDS} s`)), {
        unref: true,
      });
      try {
        return await readText(request, maxBytes);
      } catch (error) {
        release(request);
        throw error;
      } finally {
        timer.cancel();
      }
    },
    holds: request => holders.has(request),
    release,
  };
};
