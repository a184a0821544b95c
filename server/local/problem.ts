/** A condition of the machine that a person can correct: shown as it is, without a stack. */
export class StartProblem extends Error {
  override readonly name = 'StartProblem';
}

const WHAT: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk is full. Free some space, and start again',
  EDQUOT: 'the disk quota is used up. Free some space, and start again',
  EROFS: 'the file system is read-only. Choose another folder with --data-dir DIR',
  EACCES: 'this user may not write there. Correct its permissions, or choose another folder with --data-dir DIR',
  EPERM: 'this user may not write there. Correct its permissions, or choose another folder with --data-dir DIR',
  ENOTDIR: 'a part of that path is a file. Choose another folder with --data-dir DIR',
  EEXIST: 'a file of that name is in the way. Choose another folder with --data-dir DIR',
};

/** Runs `work`; where the file system refuses, throws a `StartProblem` that names `path` and what to do. */
export const explainFileErrors = async <T>(path: string, work: () => Promise<T>): Promise<T> => {
  try {
    return await work();
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? '';
    const what = WHAT[code];
    if (what === undefined) {
      throw error;
    }
    throw new StartProblem(`${path} cannot be written: ${what}. (${(error as Error).message})`, { cause: error });
  }
};
