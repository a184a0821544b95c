/** Commands in tests: run in this process, on a server without a socket. */
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { Ansis } from 'ansis';
import { systemRandom } from '@tscluster/client/clock.ts';
import { atEnd } from '@tscluster/server/testing/at-end.ts';
import type { TestServer } from '@tscluster/server/testing/server.ts';
import type { Context, Output } from '../context.ts';
import { run } from '../program.ts';

export interface Printed {
  readonly out: string;
  readonly err: string;
  readonly status: number;
}

export interface TestCli {
  /** The working folder of the commands. */
  readonly folder: string;
  /** Runs `taskcluster ...args`. */
  run(args: readonly string[], input?: string, env?: Record<string, string>): Promise<Printed>;
}

/** @param env the environment of every command, besides the root URL */
export const openCli = async (server: TestServer, env: Readonly<Record<string, string>> = {}): Promise<TestCli> => {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'taskcluster-cli-'));
  atEnd(() => rm(folder, { recursive: true, force: true }));
  return {
    folder,
    run: async (args, input = '', more = {}) => {
      let [out, err, status] = ['', '', 0];
      const output = (take: (text: string) => void): Output => ({
        write: async text => take(String(text)),
        isTerminal: false,
        columns: 300,
        rows: 40,
        style: new Ansis(0),
      });
      const context: Context = {
        env: { TASKCLUSTER_ROOT_URL: server.rootUrl, ...env, ...more },
        cwd: folder,
        out: output(text => (out += text)),
        err: output(text => (err += text)),
        readInput: async () => input,
        clock: server.clock,
        random: systemRandom,
        signal: new AbortController().signal,
        fetch: server.fetch,
        setExitStatus: code => {
          status = code;
        },
      };
      await run(context, args);
      return { out, err, status };
    },
  };
};
