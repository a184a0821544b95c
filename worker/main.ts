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
  // listened to before anything is read: configuration and end may arrive together
  const stdinEnd = new Promise<void>(resolve => process.stdin.once('end', resolve).once('close', resolve).once('error', resolve));
  const config = readConfig(await readGiven(process.argv.slice(2)), process.env);
  const monitor = jsonMonitor(systemClock, line => process.stdout.write(`${line}\n`));
  let isStarted = false;
  if (config.stopOnStdinEnd) {
    void stdinEnd.then(() => (isStarted ? undefined : process.exit(0))); // it has no task yet
    process.stdin.resume();
  }
  const worker = await startWorker({ config, monitor });
  isStarted = true;
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
    void stdinEnd.then(() => stop('standard input ended', false));
  }
};

run().catch((error: unknown) => {
  // standard input may be open still, and would keep the process alive
  process.stderr.write(`${messageOf(error)}\n`, () => process.exit(64));
});
