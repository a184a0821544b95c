/** Where an installation keeps its Unix sockets: their paths are limited to some hundred bytes, and only we may enter. */
import crypto from 'node:crypto';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { StartProblem, explainFileErrors } from './problem.ts';

const SOCKET_PATH_MAX_BYTES = 100; // 107 on Linux, 103 on macOS
const LONGEST_NAME = '.s.PGSQL.5432';

/**
 * Makes the folder `wanted`, or, where paths of sockets in it would be too long, one below the system's temporary folder that is named after it.
 *
 * @returns the folder, with mode 0700
 */
export const chooseRunFolder = async (wanted: string): Promise<string> => {
  if (Buffer.byteLength(path.join(wanted, LONGEST_NAME)) <= SOCKET_PATH_MAX_BYTES) {
    await explainFileErrors(wanted, () => fs.mkdir(wanted, { recursive: true, mode: 0o700 }));
    await fs.chmod(wanted, 0o700);
    return wanted;
  }
  const name = `taskcluster-${crypto.createHash('sha256').update(wanted).digest('hex').slice(0, 16)}`;
  const base = Buffer.byteLength(os.tmpdir()) < 60 ? os.tmpdir() : '/tmp';
  const short = path.join(base, name);
  await explainFileErrors(short, () => fs.mkdir(short, { recursive: true, mode: 0o700 }));
  const stat = await fs.lstat(short);
  const uid = process.getuid?.();
  // others may write the temporary folder too
  if (!stat.isDirectory() || (stat.uid !== uid && uid !== 0)) {
    throw new StartProblem(`${short}, which is needed for sockets, belongs to somebody else. Remove it, or choose a shorter --data-dir.`);
  }
  await fs.chmod(short, 0o700);
  return short;
};
