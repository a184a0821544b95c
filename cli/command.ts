/** What commands have in common: how one is declared, and `--json`. */
import { Command, InvalidArgumentError } from 'commander';
import { Problem } from './problem.ts';

/** A command that prints results, and JSON for scripts with `--json`. */
export const leaf = (name: string, description: string): Command =>
  new Command(name).description(description).option('--json', 'print JSON, for scripts');

const SLUGID = /^[A-Za-z0-9_-]{8}[Q-T][A-Za-z0-9_-][CGKOSWaeimquy26-][A-Za-z0-9_-]{10}[AQgw]$/;

/** An id on the command line; a link to the task or group is taken, too. */
export const parseId = (text: string): string => {
  const id = text.replace(/^https?:\/\/.*\/tasks\/(?:groups\/)?([^/?#]+).*$/, '$1');
  if (!SLUGID.test(id)) {
    throw new InvalidArgumentError(`It must be an id of 22 characters such as ${EXAMPLE_ID}, or a link to it.`);
  }
  return id;
};

export const EXAMPLE_ID = 'fN1SbArXTPSVFNUvaOlinQ';

/** A whole number from 0 on. */
export const parseCount = (text: string): number => {
  if (!/^[0-9]{1,9}$/.test(text)) {
    throw new InvalidArgumentError('It must be a whole number.');
  }
  return Number(text);
};

/** Adds a value to those of an option that may be repeated. */
export const collect = (text: string, before: readonly string[] | undefined): string[] => [...(before ?? []), text];

/** `NAME=value` pairs. @throws {Problem} when there is no `=` */
export const parsePairs = (pairs: readonly string[], option: string): Record<string, string> =>
  Object.fromEntries(
    pairs.map(pair => {
      const at = pair.indexOf('=');
      if (at < 1) {
        throw new Problem(`${option} ${pair} is not NAME=value.`);
      }
      return [pair.slice(0, at), pair.slice(at + 1)];
    }),
  );

/** JSON text that a person gave. @throws {Problem} when it is not JSON */
export const parseJson = (text: string, where: string): unknown => {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Problem(`${where} is not JSON: ${error instanceof Error ? error.message : String(error)}`, undefined, error);
  }
};
