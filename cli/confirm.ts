/** A yes or no from the person at the terminal. */
import { createInterface } from 'node:readline/promises';
import type { Context } from './context.ts';
import { Problem } from './problem.ts';

/** @throws {Problem} when nobody can be asked */
export const confirm = async (context: Context, question: string, unattended: string): Promise<boolean> => {
  if (!process.stdin.isTTY) {
    throw new Problem('This needs to be confirmed, and standard input is not a terminal.', unattended);
  }
  const prompt = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await prompt.question(`${question} [y/N] `, { signal: context.signal });
    return /^y(es)?$/i.test(answer.trim());
  } finally {
    prompt.close();
  }
};
