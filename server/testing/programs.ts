/**
 * Programs of the system that some tests need: RabbitMQ, an IRC server, … Where one is missing its tests are skipped, and say what to install;
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

/** Like `describe`, for tests that need a program; `debianPackage` is what brings it. */
export const describeWith = (program: string, debianPackage: string, name: string, tests: () => void): void => {
  if (findProgram(program) !== undefined) {
    describe(name, tests);
  } else if (process.env['TASKCLUSTER_TEST_REQUIRE'] === '1') {
    describe(name, () => {
      throw new Error(`${program} is not installed: apt-get install ${debianPackage}`);
    });
  } else {
    // on purpose: a developer without that server runs everything else; in CI the branch above fails
    describe.skip(`${name} (skipped: needs ${program}, Debian package ${debianPackage})`, tests);
  }
};
