/** The options of `npm start` and `taskcluster up`. */
import path from 'node:path';
import { parseArgs } from 'node:util';
import { StartProblem } from './problem.ts';

export interface UpOptions {
  /** 0: any free one. */
  readonly port: number;
  /** Where everything that lasts is kept; absolute. */
  readonly dataDir: string;
  /** 0: any free one. */
  readonly metricsPort: number;
}

export const DEFAULT_PORT = 8080;

export const USAGE = `Starts a whole Taskcluster installation: all services, Postgres and a local worker.

  npm start -- [options]

  --port N           where it answers, on 127.0.0.1 and ::1; 0: any free port (default: ${DEFAULT_PORT})
  --data-dir DIR     where it keeps everything (default: .taskcluster)
  --metrics-port N   where Prometheus metrics are served (default: any free port, printed)
  --help             shows this
`;

const readPort = (name: string, text: string): number => {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port > 65_535) {
    throw new StartProblem(`--${name} must be a port number from 0 to 65535, got '${text}'.`);
  }
  return port;
};

/**
 * Reads command line arguments.
 *
 * @param cwd what a relative data folder is relative to
 * @returns `help` when help was asked for; throws a `StartProblem` on anything else that is not an option
 */
export const readOptions = (args: readonly string[], cwd: string): UpOptions | 'help' => {
  let values;
  try {
    ({ values } = parseArgs({
      args: [...args],
      options: {
        port: { type: 'string', default: String(DEFAULT_PORT) },
        'data-dir': { type: 'string', default: '.taskcluster' },
        'metrics-port': { type: 'string', default: '0' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    }));
  } catch (error) {
    throw new StartProblem(`${(error as Error).message.split('. ')[0]}.\n\n${USAGE}`, { cause: error });
  }
  if (values.help) {
    return 'help';
  }
  if (values['data-dir'] === '') {
    throw new StartProblem('--data-dir must name a folder.');
  }
  return {
    port: readPort('port', values.port),
    dataDir: path.resolve(cwd, values['data-dir']),
    metricsPort: readPort('metrics-port', values['metrics-port']),
  };
};
