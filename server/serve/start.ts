/** The program of `taskcluster serve`. */
import { isConnectionError } from '../db/sql.ts';
import { onEnd } from '../local/end.ts';
import { StartProblem } from '../local/problem.ts';
import { SettingsError } from '../platform/config.ts';
import { SERVE_USAGE, readServeOptions } from './options.ts';
import { readProcesses } from './processes.ts';

const tell = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

// Whoever reads our log may have gone; the process goes on.
process.stdout.on('error', () => undefined);
process.stderr.on('error', () => undefined);

const main = async (): Promise<void> => {
  const options = readServeOptions(process.argv.slice(2));
  if (options === 'help') {
    tell(SERVE_USAGE.trimEnd());
    return;
  }
  if (options.printProcesses) {
    tell(JSON.stringify(await readProcesses(), null, 2));
    return;
  }
  const ended = new Promise<string>(resolve => onEnd(resolve, line => console.error(line)));
  const { startServing } = await import('./serve.ts');
  const serving = await startServing(options, process.env);
  await ended;
  await serving.stop();
};

try {
  await main();
  process.exit(0);
} catch (error) {
  if (isConnectionError(error)) {
    console.error(`The database went away while this process was starting (${(error as Error).message}). Start it again.`);
  } else {
    console.error(error instanceof StartProblem || error instanceof SettingsError ? error.message : error);
  }
  process.exit(1);
}
