/** Starts whole installations as people do, with `npm start`'s program, for scenarios. Everything a scenario started is gone after it. */
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach } from 'vitest';
import { systemClock } from '@tscluster/client/clock.ts';
import type { Credentials } from '@tscluster/client/client.ts';

export const ROOT = path.join(import.meta.dirname, '..');

export interface Installation {
  readonly rootUrl: string;
  readonly dataDir: string;
  readonly credentials: Credentials;
  /** The program that was started, and the server that it runs. */
  readonly child: ChildProcess;
  serverPid(): Promise<number>;
  postgresPid(): Promise<number>;
  /** What it has printed so far. */
  output(): string;
  /** Resolves when the output contains the text, from `from` characters on. */
  says(text: string, from?: number): Promise<void>;
  /** Sends a signal to the program and waits for its end; answers with its exit status. */
  end(signal?: NodeJS.Signals): Promise<number | null>;
}

export interface Attempt {
  readonly child: ChildProcess;
  output(): string;
  readonly exited: Promise<number | null>;
}

const folders: string[] = [];
const children: ChildProcess[] = [];

/** A folder that goes with the test. */
export const makeFolder = async (): Promise<string> => {
  const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'taskcluster-e2e-'));
  folders.push(folder);
  return folder;
};

afterEach(async () => {
  await Promise.all(
    children.splice(0).map(async child => {
      if (child.exitCode === null && child.signalCode === null) {
        const exited = new Promise(resolve => child.once('exit', resolve));
        child.kill('SIGTERM');
        await exited;
      }
    }),
  );
  for (const folder of folders.splice(0)) {
    // a Postgres whose server was killed may be writing its last
    await fs.rm(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  }
});

/** Waits for something that happens by itself. The test's time limit ends the wait. */
export const until = async (what: () => boolean | Promise<boolean>): Promise<void> => {
  while (!(await what())) {
    await systemClock.sleep(20);
  }
};

export const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

/** Runs `npm start`'s program with arguments, in a process group of its own. `wrap` goes before the command. */
export const tryStart = (args: readonly string[], wrap: readonly string[] = []): Attempt => {
  const [program, ...rest] = [...wrap, process.execPath, path.join(ROOT, 'scripts', 'start.mjs'), ...args] as [string, ...string[]];
  const child = spawn(program, rest, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  children.push(child);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  }
  const exited = new Promise<number | null>(resolve => child.once('close', code => resolve(code)));
  return { child, output: () => output, exited };
};

/** What `DIR/env` gives a shell. */
export const readEnv = async (dataDir: string): Promise<{ rootUrl: string; credentials: Credentials }> => {
  const text = await fs.readFile(path.join(dataDir, 'env'), 'utf8');
  const values = Object.fromEntries([...text.matchAll(/^export (\w+)=(.*)$/gm)].map(([, name, value]) => [name, value])) as Record<
    string,
    string
  >;
  return {
    rootUrl: values['TASKCLUSTER_ROOT_URL'] as string,
    credentials: { clientId: values['TASKCLUSTER_CLIENT_ID'] as string, accessToken: values['TASKCLUSTER_ACCESS_TOKEN'] as string },
  };
};

/** Starts an installation and waits until it is ready. */
export const startInstallation = async (dataDir: string, port = 0): Promise<Installation> => {
  const attempt = tryStart(['--data-dir', dataDir, '--port', String(port)]);
  const { child, exited } = attempt;
  const output = (): string => attempt.output();
  let status: number | null | undefined;
  void exited.then(code => (status = code));
  const says = (text: string, from = 0): Promise<void> =>
    until(() => {
      if (output().slice(from).includes(text)) {
        return true;
      }
      if (status !== undefined) {
        throw new Error(`The server ended with status ${status} before it said '${text}':\n${output()}`);
      }
      return false;
    });
  await says('Taskcluster is ready at ');
  const { rootUrl, credentials } = await readEnv(dataDir);
  return {
    rootUrl,
    dataDir,
    credentials,
    child,
    output,
    says,
    serverPid: async () => {
      const text = await fs.readFile(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8');
      return Number(text.trim().split(' ')[0]);
    },
    postgresPid: async () => Number((await fs.readFile(path.join(dataDir, 'postgres', 'postmaster.pid'), 'utf8')).split('\n')[0]),
    end: signal => {
      child.kill(signal ?? 'SIGTERM');
      return exited;
    },
  };
};
