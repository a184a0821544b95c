/** `up`: a whole installation in this process, the same as `npm start`. */
import { Command } from 'commander';

export const upCommand = (): Command =>
  new Command('up')
    .description('start a whole installation: all services, Postgres and a local worker')
    .option('--port <number>', 'where it answers; 0: any free port', '8080')
    .option('--data-dir <folder>', 'where it keeps everything', '.taskcluster')
    .option('--metrics-port <number>', 'where Prometheus metrics are served; 0: any free port', '0')
    .action(async (options: { port: string; dataDir: string; metricsPort: string }) => {
      // the program of `npm start` reads its own arguments and ends the process itself
      process.argv = [
        ...process.argv.slice(0, 2),
        '--port',
        options.port,
        '--data-dir',
        options.dataDir,
        '--metrics-port',
        options.metricsPort,
      ];
      await import('@tscluster/server/local/start.ts');
    });
