/** Where a process has its settings from. */
import fs from 'node:fs/promises';
import { parseEnv } from 'node:util';
import { StartProblem } from '../local/problem.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Settings from options, the environment, and files, in this order.
 *
 * @throws {StartProblem} when a file cannot be read
 */
export const readEnvironment = async (
  given: { readonly envFiles: readonly string[]; readonly environment: Environment },
  own: Environment,
): Promise<Environment> => {
  const files = await Promise.all(
    given.envFiles.map(async file => {
      try {
        return parseEnv(await fs.readFile(file, 'utf8'));
      } catch (error) {
        throw new StartProblem(`${file}, given as --env-file, cannot be read: ${(error as Error).message}`, { cause: error });
      }
    }),
  );
  return { ...Object.assign({}, ...files), ...own, ...given.environment };
};
