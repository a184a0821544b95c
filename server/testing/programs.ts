/**
 * Programs of the system that some tests need: RabbitMQ, an IRC server, … Where one is missing its tests are not run, and say what to install;
 * in CI (`TASKCLUSTER_TEST_REQUIRE=1`) they fail instead.
 */
import { accessSync, constants } from 'node:fs';
import path from 'node:path';
import { describe } from 'vitest';

const FOLDERS = [...(process.env['PATH'] ?? '').split(path.delimiter), '/usr/local/sbin', '/usr/sbin', '/sbin'];

/** The path of a program, or undefined. */
export const findProgram = (name: string): string | undefined =>
  FOLDERS.filter(folder => folder !== '')
    .map(folder => path.join(folder, name))
    .find(file => {
      try {
        accessSync(file, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });

/**
 * Like `describe`, for tests that need something that may be missing.
 *
 * @param what names it and says how to get it
 * @param isRequired missing, it is a failure in CI; else the run names what was not run
 */
export const describeWhere = (isThere: boolean, what: string, name: string, tests: () => void, isRequired = true): void => {
  if (!isThere && isRequired && process.env['TASKCLUSTER_TEST_REQUIRE'] === '1') {
    describe(name, () => {
      throw new Error(`missing: ${what}`);
    });
    return;
  }
  // a developer without it runs everything else, and reads what was not run
  describe.runIf(isThere)(isThere ? name : `${name} (not run: needs ${what})`, tests);
};

/** The same for a program; `debianPackage` is what brings it. */
export const describeWith = (program: string, debianPackage: string, name: string, tests: () => void): void =>
  describeWhere(findProgram(program) !== undefined, `${program}: apt-get install ${debianPackage}`, name, tests);
