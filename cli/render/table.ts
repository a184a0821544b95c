/** Plain tables: columns as wide as their content, the last one as wide as there is room. */
import { stripVTControlCharacters } from 'node:util';

/** How many cells a text takes; control sequences take none. */
export const widthOf = (text: string): number => {
  let width = 0;
  for (const char of stripVTControlCharacters(text)) {
    const code = char.codePointAt(0) ?? 0;
    // East Asian wide characters and emoji take two cells, combining marks none
    width += /\p{Mn}/u.test(char)
      ? 0
      : code >= 0x1100 && /[\p{Script=Han}\p{Script=Hangul}\p{Script=Hiragana}\p{Script=Katakana}\p{Emoji_Presentation}]/u.test(char)
        ? 2
        : 1;
  }
  return width;
};

/** Cuts a text without control sequences to a width; what is cut off shows as `…`. */
export const fit = (text: string, width: number): string => {
  if (widthOf(text) <= width) {
    return text;
  }
  let fitted = '';
  for (const char of text) {
    if (widthOf(fitted + char) > width - 1) {
      break;
    }
    fitted += char;
  }
  return width > 0 ? `${fitted}…` : '';
};

/** What others wrote, made safe for a terminal: no control sequence of theirs is obeyed, and one line stays one line. */
export const plain = (text: string): string =>
  stripVTControlCharacters(text)
    .replace(/\s+/g, ' ')
    .replace(/\p{Cc}/gu, '');

const COLOR = /\x1b\[[0-9;]*m/;

/**
 * A line of a log as a terminal may show it: colours stay where they can be shown, anything that moves the cursor does not. Of a line that
 * was written over again and again, as progress bars do, the last state.
 */
export const logLine = (text: string, showsColor: boolean): string => {
  const last = text.replace(/\r+$/, '').split('\r').at(-1) ?? '';
  const parts = showsColor ? last.split(new RegExp(`(${COLOR.source})`)) : [last];
  const safe = parts.map(part => (showsColor && COLOR.test(part) ? part : stripVTControlCharacters(part).replace(/[^\P{Cc}\t]/gu, '')));
  // a colour that the line leaves on must not run into the next
  return safe.join('') + (safe.length > 1 ? '\x1b[0m' : '');
};

/** Lines of a table; trailing blanks are dropped. */
export const renderTable = (rows: readonly (readonly string[])[]): string[] => {
  const widths: number[] = [];
  for (const row of rows) {
    row.forEach((cell, index) => {
      widths[index] = Math.max(widths[index] ?? 0, widthOf(cell));
    });
  }
  return rows.map(row =>
    row
      .map((cell, index) => cell + ' '.repeat((widths[index] ?? 0) - widthOf(cell)))
      .join('  ')
      .trimEnd(),
  );
};
