/** Definitions that a person gives: JSON or YAML, from a file or from standard input. */
import { readFile } from 'node:fs/promises';
import { load } from 'js-yaml';
import type { Context } from './context.ts';
import { Problem } from './problem.ts';

const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

const readText = async (context: Context, file: string | undefined, what: string): Promise<string> => {
  if (file === undefined || file === '-') {
    return context.readInput();
  }
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new Problem(`The ${what} ${file} cannot be read: ${reasonOf(error)}`, undefined, error);
  }
};

/**
 * Reads an object from a file, or from standard input when none is named.
 *
 * @param what for messages: `definition`
 * @throws {Problem} when it cannot be read, is neither JSON nor YAML, or is no object; `hint` says what it should be
 */
export const readDocument = async (
  context: Context,
  file: string | undefined,
  what: string,
  hint?: string,
): Promise<Record<string, unknown>> => {
  const text = await readText(context, file, what);
  const from = file ?? 'standard input';
  let value: unknown;
  try {
    value = load(text, { filename: from });
  } catch (error) {
    throw new Problem(`The ${what} in ${from} is neither JSON nor YAML: ${reasonOf(error)}`, undefined, error);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new Problem(`The ${what} in ${from} must be an object.`, hint);
  }
  return value as Record<string, unknown>;
};
