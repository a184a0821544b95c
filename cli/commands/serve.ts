/** `serve` and `db`: parts of a distributed installation. */
import { Command } from 'commander';

/** Hands the arguments after the command's name to a server program, which reads them and ends the process itself. */
const passOn = (name: string, description: string, program: () => Promise<unknown>): Command =>
  new Command(name)
    .description(description)
    .helpOption(false)
    .allowUnknownOption()
    .allowExcessArguments()
    .argument('[options...]', 'its own, shown by --help')
    .action(async (given: readonly string[]) => {
      process.argv = [...process.argv.slice(0, 2), ...given];
      await program();
    });

export const serveCommand = (): Command =>
  passOn(
    'serve',
    'start a server process: all services or some, with a database of yours',
    () => import('@tscluster/server/serve/start.ts'),
  );

export const dbCommand = (): Command =>
  new Command('db')
    .description('look after the database of a distributed installation')
    .addCommand(
      passOn('migrate', 'bring the database to the newest schema', () => import('@tscluster/server/serve/migrate.ts')).allowUnknownOption(),
    );
