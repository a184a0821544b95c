/** The program of `npm start`: starts an installation and keeps it until it is told to stop. */
import { SettingsError } from '../platform/config.ts';
import { onEnd } from './end.ts';
import { USAGE, readOptions } from './options.ts';
import { StartProblem } from './problem.ts';

const tell = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

// Whoever read our output may have gone; the installation goes on.
process.stdout.on('error', () => undefined);
process.stderr.on('error', () => undefined);

const main = async (): Promise<number> => {
  const options = readOptions(process.argv.slice(2), process.cwd());
  if (options === 'help') {
    tell(USAGE.trimEnd());
    return 0;
  }
  const ended = new Promise<string>(resolve => onEnd(resolve, tell));
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
  console.error(error instanceof StartProblem || error instanceof SettingsError ? error.message : error);
  process.exit(1);
}
