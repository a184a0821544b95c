/**
 * Reading the text of a graph task by task. Parsed as a whole, twenty megabytes hold up everybody else for as long as it takes, and the objects are kept
 * alive until the last task was looked at; a task at a time, they are forgotten before anybody has to move them. What is not laid out as expected is
 * parsed as a whole, and refused where that is due.
 */
import { ApiError } from '../../../platform/errors.ts';
import { MAX_JSON_DEPTH, isDeeperThan } from '../../../platform/json-depth.ts';

/** The items of a graph. */
export interface GraphItems {
  readonly count: number;
  /** Parses one. Throws `MalformedPayload`. */
  parse(index: number): unknown;
}

const QUOTE = 34;
const BACKSLASH = 92;
const OPENING = 123; // {
const CLOSING = 125;
const OPENING_LIST = 91; // [
const CLOSING_LIST = 93;
/** An item is two levels down. */
const MAX_ITEM_DEPTH = MAX_JSON_DEPTH - 2;

/** Where the string that begins at `at` ends: its closing quote. -1 when it does not. */
const endOfString = (text: string, at: number): number => {
  for (let end = text.indexOf('"', at + 1); end !== -1; end = text.indexOf('"', end + 1)) {
    let backslashes = 0;
    while (text.charCodeAt(end - 1 - backslashes) === BACKSLASH) {
      backslashes++;
    }
    if (backslashes % 2 === 0) {
      return end;
    }
  }
  return -1;
};

/** Where the object that begins at `at` ends, if it is one: just behind its brace. -1 when it does not end, or is nested too deeply. */
const endOfObject = (text: string, at: number): number => {
  let depth = 0;
  for (let i = at; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === QUOTE) {
      i = endOfString(text, i);
      if (i === -1) {
        return -1;
      }
    } else if (code === OPENING || code === OPENING_LIST) {
      if (++depth > MAX_ITEM_DEPTH) {
        return -1;
      }
    } else if ((code === CLOSING || code === CLOSING_LIST) && --depth === 0) {
      return i + 1;
    }
  }
  return -1;
};

const START = /^[ \t\r\n]*\{[ \t\r\n]*"tasks"[ \t\r\n]*:[ \t\r\n]*\[[ \t\r\n]*/;
const BETWEEN = /[ \t\r\n]*,[ \t\r\n]*(?=\{)/y;
const END = /[ \t\r\n]*\][ \t\r\n]*\}[ \t\r\n]*$/y;

/** Places of the items in `{"tasks": [{…}, {…}]}`: where each begins and ends, in turn. Undefined for any other layout. */
export const splitGraph = (text: string): number[] | undefined => {
  let at = START.exec(text)?.[0].length ?? -1;
  const places: number[] = [];
  while (at !== -1 && text.charCodeAt(at) === OPENING) {
    const end = endOfObject(text, at);
    if (end === -1) {
      return undefined;
    }
    places.push(at, end);
    BETWEEN.lastIndex = end;
    if (BETWEEN.test(text)) {
      at = BETWEEN.lastIndex;
    } else {
      END.lastIndex = end;
      return END.test(text) ? places : undefined;
    }
  }
  return undefined;
};

const parse = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ApiError('MalformedPayload', `Failed to parse JSON: ${(error as Error).message}`);
  }
};

/** Reads a body: either the items of its `tasks`, or, when it has another layout, what it is. Throws `MalformedPayload`. */
export const readGraph = (bodyText: string): GraphItems | { readonly body: unknown } => {
  const text = bodyText.startsWith('\ufeff') ? bodyText.slice(1) : bodyText;
  const places = splitGraph(text);
  if (places) {
    return { count: places.length / 2, parse: index => parse(text.slice(places[2 * index], places[2 * index + 1])) };
  }
  if (isDeeperThan(text, MAX_JSON_DEPTH)) {
    throw new ApiError('MalformedPayload', `Failed to parse JSON: nested deeper than ${MAX_JSON_DEPTH} levels`);
  }
  return { body: text.trim() === '' ? {} : parse(text) };
};
