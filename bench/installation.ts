/** An installation to measure: a process of its own with a data folder of its own. */
import { spawn } from 'node:child_process';
import fs from 'node:fs/promises';
import path from 'node:path';
import pg from 'pg';
import type { Target } from './suites.ts';

const ROOT = path.join(import.meta.dirname, '..');

export interface Installation {
  readonly target: Target;
  /** From its start until it was ready, in milliseconds. */
  readonly readyMs: number;
  /** A connection to its Postgres. The caller ends it. */
  connect(): Promise<pg.Client>;
  /** Where its Postgres is. */
  readonly postgres: { readonly host: string; readonly port: number; readonly user: string };
  stop(): Promise<void>;
}

/** Starts an installation. `flags` are for Node, `env` is added to the environment. */
export const startInstallation = async (
  dataDir: string,
  { flags = [], env = {} }: { readonly flags?: readonly string[]; readonly env?: Readonly<Record<string, string>> } = {},
): Promise<Installation> => {
  const startedMs = performance.now();
  const child = spawn(process.execPath, [...flags, path.join(ROOT, 'server/local/start.ts'), '--data-dir', dataDir, '--port', '0'], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...env },
  });
  await new Promise<void>((resolve, reject) => {
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString();
      if (output.includes('Taskcluster is ready')) {
        resolve();
      }
    });
    child.once('exit', code => reject(new Error(`The server ended with status ${code}:\n${output}`)));
  });
  const readyMs = performance.now() - startedMs;

  const exported = await fs.readFile(path.join(dataDir, 'env'), 'utf8');
  const value = (name: string): string => new RegExp(`${name}='?([^'\n]*)'?`).exec(exported)?.[1] ?? '';
  const [postmaster, , , port, host] = (await fs.readFile(path.join(dataDir, 'postgres', 'postmaster.pid'), 'utf8')).split('\n');
  const postgres = { host: host as string, port: Number(port), user: 'postgres' };
  return {
    readyMs,
    postgres,
    target: {
      rootUrl: value('TASKCLUSTER_ROOT_URL'),
      credentials: { clientId: value('TASKCLUSTER_CLIENT_ID'), accessToken: value('TASKCLUSTER_ACCESS_TOKEN') },
      pids: { server: child.pid as number, postgres: Number(postmaster) },
    },
    connect: async () => {
      const client = new pg.Client({ ...postgres, database: 'postgres' });
      client.on('error', () => undefined); // the statement under way reports it, and none may be when the installation stops
      await client.connect();
      return client;
    },
    stop: () =>
      new Promise(resolve => {
        child.removeAllListeners('exit');
        child.once('exit', () => resolve());
        child.kill('SIGTERM');
      }),
  };
};
