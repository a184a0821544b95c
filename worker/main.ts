/**
 * Runs a worker: `node worker/main.ts [--config FILE]`. SIGTERM ends the tasks and gives them back; SIGINT lets them finish, and a second one does as
 * SIGTERM. With `--config -` the configuration is the first line of standard input, where no other process can read it.
 */
import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { systemClock } from '@tscluster/client/clock.ts';
import { readConfig } from './config.ts';
import { messageOf } from './errors.ts';
import { jsonMonitor } from './monitor.ts';
import { startWorker } from './worker.ts';

const readFirstLine = async (): Promise<string> => {
  const lines = createInterface({ input: process.stdin });
  for await (const line of lines) {
    return line;
  }
  throw new Error('Standard input ended before the configuration came.');
};

const readGiven = async (args: readonly string[]): Promise<unknown> => {
  const [option, file] = args;
  if (option === undefined) {
    return {};
  }
  if (option !== '--config' || file === undefined || args.length > 2) {
    throw new Error('usage: node worker/main.ts [--config FILE]');
  }
  const text = file === '-' ? await readFirstLine() : await readFile(file, 'utf8');
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`The worker configuration in ${file === '-' ? 'standard input' : file} is not JSON.`);
  }
};

const run = async (): Promise<void> => {
  const config = readConfig(await readGiven(process.argv.slice(2)), process.env);
  const monitor = jsonMonitor(systemClock, line => process.stdout.write(`${line}\n`));
  const worker = await startWorker({ config, monitor });
  let interrupts = 0;
  const stop = (reason: string, finishTasks: boolean): void => {
    monitor.info({ reason, finishTasks }, 'worker stops');
    worker.stop({ finishTasks }).then(
      () => process.exit(0),
      error => {
        monitor.error({}, 'worker did not stop cleanly', error);
        process.exit(1);
      },
    );
  };
  process.on('SIGTERM', () => stop('SIGTERM', false));
  process.on('SIGINT', () => stop('SIGINT', interrupts++ === 0));
  if (config.stopOnStdinEnd) {
    process.stdin.on('end', () => stop('standard input ended', false));
    process.stdin.on('error', () => {});
    process.stdin.resume();
  }
};

run().catch((error: unknown) => {
  process.stderr.write(`${messageOf(error)}\n`);
  process.exitCode = 64;
});
