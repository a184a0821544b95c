/** The options of `taskcluster serve`: which part of an installation a process is. Everything else is settings. */
import { parseArgs } from 'node:util';
import { StartProblem } from '../local/problem.ts';

export interface ServeOptions {
  /** Names of services; undefined: all of them. */
  readonly services: readonly string[] | undefined;
  /** Names of loops, or of services for all of theirs. */
  readonly loops: 'all' | 'none' | readonly string[];
  readonly relay: boolean;
  /** As given; settings are read from here where they are not in the environment. */
  readonly envFiles: readonly string[];
  /** Settings that were given as options, by their variable. */
  readonly environment: Readonly<Record<string, string>>;
  readonly printProcesses: boolean;
}

export const SERVE_USAGE = `Starts a server process: all of an installation's services, or some, with a database and settings from the environment.

  taskcluster serve [options]

  --services LIST    services, separated by commas (default: all)
  --loops LIST       background loops: all (of these services), none, or names separated by commas; a service's name stands for all of its loops (default: all)
  --relay, --no-relay
                     whether this process may deliver events (default: yes; one of those that may does)
  --port N           where it answers; 0: any free port (default: PORT, else 8080)
  --metrics-port N   where Prometheus metrics are served; 0: any free port (default: METRICS_PORT, else nowhere)
  --env-file FILE    more environment variables, NAME=value a line; may be repeated; those of the environment win
  --print-processes  prints the services and their loops as JSON, and ends
  --help             shows this
`;

const list = (text: string): string[] => [
  ...new Set(
    text
      .split(',')
      .map(each => each.trim())
      .filter(each => each !== ''),
  ),
];

/** Reads command line arguments; `help` when help was asked for. Throws a `StartProblem` on anything that is not an option. */
export const readServeOptions = (args: readonly string[]): ServeOptions | 'help' => {
  let values;
  try {
    ({ values } = parseArgs({
      args: [...args],
      allowNegative: true,
      options: {
        services: { type: 'string' },
        loops: { type: 'string', default: 'all' },
        relay: { type: 'boolean', default: true },
        port: { type: 'string' },
        'metrics-port': { type: 'string' },
        'env-file': { type: 'string', multiple: true, default: [] },
        'print-processes': { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    }));
  } catch (error) {
    throw new StartProblem(`${(error as Error).message.split('. ')[0]}.\n\n${SERVE_USAGE}`, { cause: error });
  }
  if (values.help) {
    return 'help';
  }
  const services = values.services === undefined ? undefined : list(values.services);
  if (services?.length === 0) {
    throw new StartProblem('--services must name at least one service.');
  }
  const loops = values.loops.trim();
  const { port, 'metrics-port': metricsPort } = values;
  return {
    services,
    loops: loops === 'all' || loops === 'none' ? loops : list(loops),
    relay: values.relay,
    envFiles: values['env-file'],
    environment: { ...(port !== undefined && { PORT: port }), ...(metricsPort !== undefined && { METRICS_PORT: metricsPort }) },
    printProcesses: values['print-processes'],
  };
};

/** The services that were asked for, in the order in which they start. */
export const chooseServices = <S extends { readonly name: string }>(all: readonly S[], names: ServeOptions['services']): readonly S[] => {
  const unknown = names?.filter(name => !all.some(service => service.name === name)) ?? [];
  if (unknown.length > 0) {
    throw new StartProblem(
      `There is no service ${unknown.join(', ')}. --services takes some of: ${all.map(service => service.name).join(', ')}.`,
    );
  }
  return names === undefined ? all : all.filter(service => names.includes(service.name));
};

/** Which loops run, and the names given that mean none of those that the services have. */
export const chooseLoops = (
  wanted: ServeOptions['loops'],
  services: readonly { readonly service: string; readonly loops: readonly string[] }[],
): { readonly isWanted: (loop: string) => boolean; readonly unknown: readonly string[] } => {
  if (wanted === 'all' || wanted === 'none') {
    return { isWanted: () => wanted === 'all', unknown: [] };
  }
  const chosen = new Set(services.flatMap(({ service, loops }) => loops.filter(loop => wanted.includes(loop) || wanted.includes(service))));
  return {
    isWanted: loop => chosen.has(loop),
    unknown: wanted.filter(name => !services.some(({ service, loops }) => service === name || loops.includes(name))),
  };
};
