/**
 * Code blocks of the documentation. What follows the language says what a test does with a block:
 *
 *  - a name with a dot: the block is that file;
 *  - `run`: it is run as it stands; `eventually`: again and again until it succeeds and prints what is said, because it reads what needs a moment;
 *  - `output` (of a `text`): what the block before it prints. `…` stands for anything within a line, and on a line of its own for any lines.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';

const ROOT = path.join(import.meta.dirname, '..', '..');
const MARKS = ['run', 'eventually', 'output'] as const;
type Mark = (typeof MARKS)[number];

export interface CodeBlock {
  readonly language: string;
  readonly file: string | undefined;
  readonly mark: Mark | undefined;
  readonly text: string;
  /** In the page. */
  readonly line: number;
}

/** The blocks of a page, such as `docs/users/index.md`, that have a language. */
export const readCodeBlocks = (page: string): CodeBlock[] => {
  const content = readFileSync(path.join(ROOT, page), 'utf8');
  return [...content.matchAll(/^```(\w+)(.*)\n([^]*?)^```$/gm)].map(match => {
    const [, language = '', info = '', text = ''] = match;
    const line = content.slice(0, match.index).split('\n').length;
    const words = info.split(' ').filter(Boolean);
    const file = words.find(word => word.includes('.'));
    const marks = words.filter(word => word !== file);
    const mark = MARKS.find(each => each === marks[0]);
    if (marks.length > 1 || (marks.length === 1 && mark === undefined)) {
      throw new Error(`${page}:${line}: nobody knows what "${marks.join(' ')}" means`);
    }
    return { language, file, mark, text, line };
  });
};

/** What a text must match to be what `output` says. */
export const outputPattern = (stated: string): RegExp =>
  new RegExp(
    `^${stated
      .split('\n')
      .map(line =>
        line === '…'
          ? '[^]*?'
          : `${line
              .split('…')
              .map(part => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
              .join('.*')}\n`,
      )
      .join('')
      .replace(/\n$/, '')}$`,
  );
