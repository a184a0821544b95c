/** The ceiling beside the figures: `pgbench -N` on the same Postgres, where the program is installed. */
import { spawn } from 'node:child_process';

/** Transactions per second, or why there is no figure. */
export const pgbench = async (connection: { host: string; port: number; user: string }): Promise<number | string> => {
  const base = ['-h', connection.host, '-p', String(connection.port), '-U', connection.user];
  const run = (args: readonly string[]): Promise<string> =>
    new Promise((resolve, reject) => {
      const child = spawn('pgbench', [...base, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
      let output = '';
      child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
      child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
      child.once('error', reject);
      child.once('close', code => (code === 0 ? resolve(output) : reject(new Error(output))));
    });
  try {
    await run(['-i', '-q', '-s', '10', 'bench']);
    const output = await run(['-N', '-c', '16', '-j', '2', '-T', '10', '-n', 'bench']);
    return Number(/tps = ([\d.]+)/.exec(output)?.[1] ?? Number.NaN);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT'
      ? 'pgbench is not installed'
      : ((error as Error).message.split('\n')[0] ?? 'failed');
  }
};
