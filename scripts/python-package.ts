/** The published Python client, which tests call: installed into a folder of its own outside the tree, once for all. */
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

export const PYTHON_PACKAGE = 'taskcluster==113.2.0';

/** Whether a Python has it. */
export const hasPythonPackage = (python: string): boolean =>
  spawnSync(
    python,
    ['-c', 'import sys, importlib.metadata as m; sys.exit(m.version(sys.argv[1]) != sys.argv[2])', ...PYTHON_PACKAGE.split('==')],
    {
      stdio: 'ignore',
    },
  ).status === 0;

/**
 * Answers with a Python that has it, installing it if need be; undefined when that is not possible.
 *
 * @param installVenv installs what Python needs to make such a folder, where the system leaves that out
 */
export const installPythonPackage = (installVenv: () => boolean): string | undefined => {
  const folder = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'taskcluster-tests', PYTHON_PACKAGE);
  const python = join(folder, 'bin', 'python');
  if (hasPythonPackage(python)) {
    return python;
  }
  const run = (program: string, ...args: string[]): boolean =>
    spawnSync(program, args, { stdio: ['ignore', 'inherit', 'inherit'] }).status === 0;
  const makeFolder = (): boolean => run('python3', '-m', 'venv', '--clear', folder);
  if ((makeFolder() || (installVenv() && makeFolder())) && run(python, '-m', 'pip', 'install', '--quiet', PYTHON_PACKAGE)) {
    return python;
  }
  rmSync(folder, { recursive: true, force: true });
  return undefined;
};
