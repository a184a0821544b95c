/** The program of `npm start`: starts an installation and keeps it until it is told to stop. */
import fs from 'node:fs';
import net from 'node:net';
import { systemClock as clock } from '@tscluster/client/clock.ts';
import { USAGE, readOptions } from './options.ts';
import { StartProblem } from './problem.ts';

const tell = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

// Whoever read our output may have gone; the installation goes on.
process.stdout.on('error', () => undefined);
process.stderr.on('error', () => undefined);

const SIGNAL_STATUS: Readonly<Record<string, number>> = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 };

/** Calls `stop` once, at the first reason to; a signal more than a second later ends the process at once. */
const onEnd = (stop: (reason: string) => void): void => {
  let firstMs: number | undefined;
  const handle = (reason: string): void => {
    if (firstMs === undefined) {
      firstMs = clock.monotonicMs();
      stop(reason);
    } else if (clock.monotonicMs() - firstMs > 1_000) {
      // a terminal's Ctrl-C arrives twice within a moment: from the terminal, and passed on by the program that started this one
      tell('Stopping at once. Nothing that was confirmed is lost; the next start recovers.');
      process.exit(SIGNAL_STATUS[reason] ?? 1);
    }
  };
  for (const signal of Object.keys(SIGNAL_STATUS)) {
    process.on(signal, () => handle(signal));
  }
  const parent = process.env['TASKCLUSTER_PARENT_FD'];
  if (parent !== undefined) {
    delete process.env['TASKCLUSTER_PARENT_FD'];
    // the program that started this one holds the other end
    const stat = fs.fstatSync(Number(parent));
    if (stat.isSocket() || stat.isFIFO()) {
      const pipe = new net.Socket({ fd: Number(parent), readable: true, writable: false });
      pipe.on('error', () => undefined);
      pipe.on('close', () => handle('the program that started this one has ended'));
      pipe.resume();
      pipe.unref();
    }
  }
};

const main = async (): Promise<number> => {
  const options = readOptions(process.argv.slice(2), process.cwd());
  if (options === 'help') {
    tell(USAGE.trimEnd());
    return 0;
  }
  const ended = new Promise<string>(resolve => onEnd(resolve));
  const { up } = await import('./up.ts');
  const installation = await up(options, tell);
  tell(`Taskcluster is ready at ${installation.rootUrl}`);
  tell(`Metrics: ${installation.metricsUrl}`);
  tell(`To use it from a shell: . ${installation.envFile}`);
  if (process.stdout.isTTY) {
    // only for whoever sits there: what is written to a file is read by others
    tell(`To sign in, once, within ten minutes: ${await installation.createSignInLink()}`);
  }
  const reason = await ended;
  tell(`Stopping (${reason}) ...`);
  await installation.stop();
  tell('Stopped.');
  return 0;
};

try {
  process.exit(await main());
} catch (error) {
  console.error(error instanceof StartProblem ? error.message : error);
  process.exit(1);
}
