/**
 * What is asked of git. Nothing is ever written to the person's repository: commits that only a push needs, and the refs that a bundle
 * names, live in a temporary repository that borrows the objects of the real one.
 */
import { execFile, type ExecFileException } from 'node:child_process';
import { mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Problem } from '../problem.ts';

export const ZERO_SHA = '0'.repeat(40);
// commit messages and file lists of a large push; beyond it something else is wrong
const MAX_OUTPUT_BYTES = 512 * 1024 * 1024;

export interface Git {
  /** Runs git and gives what it printed, without the final newline. @throws {Problem} with git's own words */
  run(args: readonly string[], options?: { input?: string; env?: Record<string, string> }): Promise<string>;
  /** The same, but undefined where git says no. */
  ask(args: readonly string[]): Promise<string | undefined>;
  readonly folder: string;
}

/** Git in one folder. */
export const gitIn = (folder: string): Git => {
  const execute = (args: readonly string[], options: { input?: string; env?: Record<string, string> } = {}): Promise<string> =>
    new Promise((resolve, reject) => {
      const child = execFile(
        'git',
        ['-C', folder, ...args],
        { encoding: 'utf8', maxBuffer: MAX_OUTPUT_BYTES, env: { ...process.env, LC_ALL: 'C', GIT_TERMINAL_PROMPT: '0', ...options.env } },
        (error, stdout, stderr) => (error ? reject(Object.assign(error, { said: stderr.trim() })) : resolve(stdout.replace(/\n$/, ''))),
      );
      child.stdin?.on('error', () => undefined);
      child.stdin?.end(options.input ?? '');
    });
  return {
    folder,
    run: async (args, options) => {
      try {
        return await execute(args, options);
      } catch (error) {
        throw gitProblem(args, error as ExecFileException & { said?: string });
      }
    },
    ask: async args => {
      try {
        return await execute(args);
      } catch (error) {
        // status 1 and 128 are git's "no"; not being able to start it is not
        if (typeof (error as { code?: unknown }).code !== 'number') {
          throw gitProblem(args, error as ExecFileException & { said?: string });
        }
        return undefined;
      }
    },
  };
};

const gitProblem = (args: readonly string[], error: ExecFileException & { said?: string }): Problem =>
  (error.code as unknown) === 'ENOENT'
    ? new Problem('git was not found on the PATH.', 'Install git, and try again.', error)
    : new Problem(`git ${args[0]} failed: ${error.said || error.message}`, undefined, error);

/** The top of the work tree that a folder lies in. @throws {Problem} when it does not lie in one */
export const findWorkTree = async (folder: string): Promise<string> => {
  if (!(await stat(folder).catch(() => undefined))?.isDirectory()) {
    throw new Problem(`There is no folder ${folder}.`);
  }
  try {
    return await gitIn(folder).run(['rev-parse', '--show-toplevel']);
  } catch (error) {
    if (error instanceof Problem && /not a git repository|must be run in a work tree/.test(error.message)) {
      throw new Problem(`${folder} is not inside a git work tree.`, 'Give the folder of a clone: `taskcluster push DIR`.', error);
    }
    throw error;
  }
};

export interface Change {
  /** Two letters, as `git status` shows them. */
  readonly status: string;
  readonly path: string;
}

/** What the work tree has that HEAD does not; ignored files are not counted. */
export const listUncommitted = async (git: Git): Promise<Change[]> => {
  const tokens = (await git.run(['status', '--porcelain=v1', '-z', '--untracked-files=all'])).split('\0');
  const changes: Change[] = [];
  for (let at = 0; at < tokens.length; at += 1) {
    const token = tokens[at] ?? '';
    if (token.length < 4) {
      continue;
    }
    const status = token.slice(0, 2);
    changes.push({ status, path: token.slice(3) });
    // a rename or copy names its origin in a token of its own
    if (/[RC]/.test(status)) {
      at += 1;
    }
  }
  return changes;
};

/** A temporary repository with the objects of another, and the environment in which git writes to it. */
export interface Borrowed extends AsyncDisposable {
  readonly git: Git;
  /** For git in the real work tree: new objects go to the temporary repository. */
  readonly env: Record<string, string>;
  readonly folder: string;
}

/** @throws {Problem} when the repository has only a part of its history, of which no bundle can be made */
export const borrowObjects = async (git: Git): Promise<Borrowed> => {
  if ((await git.run(['rev-parse', '--is-shallow-repository'])) === 'true') {
    throw new Problem(
      'This clone is shallow: it lacks the history that tasks need to clone it again.',
      'Complete it with `git fetch --unshallow`, and push again.',
    );
  }
  const objects = await git.run(['rev-parse', '--path-format=absolute', '--git-path', 'objects']);
  const folder = await mkdtemp(join(tmpdir(), 'taskcluster-push-'));
  const bare = join(folder, 'repository.git');
  await gitIn(folder).run(['init', '-q', '--bare', bare]);
  await mkdir(join(bare, 'objects', 'info'), { recursive: true });
  await writeFile(join(bare, 'objects', 'info', 'alternates'), `${objects}\n`);
  return {
    git: gitIn(bare),
    folder,
    env: {
      GIT_OBJECT_DIRECTORY: join(bare, 'objects'),
      GIT_ALTERNATE_OBJECT_DIRECTORIES: objects,
      GIT_INDEX_FILE: join(folder, 'index'),
    },
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
};

/** A commit on top of HEAD that holds the work tree as it is, ignored files excepted; only the temporary repository knows it. */
export const commitWorkTree = async (git: Git, borrowed: Borrowed, message: string): Promise<string> => {
  const { env } = borrowed;
  await git.run(['read-tree', 'HEAD'], { env });
  await git.run(['add', '--all', '--', '.'], { env });
  const tree = await git.run(['write-tree'], { env });
  return git.run(['commit-tree', tree, '-p', 'HEAD', '-m', message], { env: { ...env, ...(await identity(git)) } });
};

/** Who commits where git does not know the person (a fresh account, a container): the author of HEAD. Empty where it does. */
const identity = async (git: Git): Promise<Record<string, string>> => {
  const isKnown = await git.run(['var', 'GIT_COMMITTER_IDENT']).then(
    () => true,
    () => false,
  );
  if (isKnown) {
    return {};
  }
  const [name = '', email = ''] = (await git.run(['log', '-1', '--format=%an%n%ae'])).split('\n');
  return { GIT_AUTHOR_NAME: name, GIT_AUTHOR_EMAIL: email, GIT_COMMITTER_NAME: name, GIT_COMMITTER_EMAIL: email };
};

/** Writes a bundle of a commit's whole history, which can be cloned: HEAD and one branch point to the commit. */
export const writeBundle = async (borrowed: Borrowed, sha: string, branch: string): Promise<string> => {
  const { git, folder } = borrowed;
  const path = join(folder, 'source.bundle');
  await git.run(['update-ref', `refs/heads/${branch}`, sha]);
  await git.run(['symbolic-ref', 'HEAD', `refs/heads/${branch}`]);
  await git.run(['bundle', 'create', '--quiet', path, 'HEAD', `refs/heads/${branch}`]);
  return path;
};
