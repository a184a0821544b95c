/**
 * How deeply JSON text is nested, without parsing it: what walks a value by recursion (validation, serialising) ends in a stack overflow some thousand
 * levels down, and nobody means a body that deep.
 */

export const MAX_JSON_DEPTH = 256;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** The index of the quote that ends the string that begins at `start`; the text's end where there is none. */
const endOfString = (text: string, start: number): number => {
  for (let at = text.indexOf('"', start + 1); at !== -1; at = text.indexOf('"', at + 1)) {
    let backslashes = 0;
    while (text.charCodeAt(at - 1 - backslashes) === BACKSLASH) {
      backslashes += 1;
    }
    if (backslashes % 2 === 0) {
      return at;
    }
  }
  return text.length;
};

/** Whether JSON text is nested deeper than that. Some 2 µs for the 2 KB of a usual task definition. */
export const isDeeperThan = (text: string, depth: number): boolean => {
  let open = 0;
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case QUOTE:
        at = endOfString(text, at);
        break;
      case 0x5b: // [
      case 0x7b: // {
        open += 1;
        if (open > depth) {
          return true;
        }
        break;
      case 0x5d: // ]
      case 0x7d: // }
        open -= 1;
        break;
      default:
    }
  }
  return false;
};
