/** The command line as a value: all commands, help, and what becomes of errors. */
import { Command, CommanderError } from 'commander';
import { apiCommand } from './commands/api.ts';
import { fromNowCommand, slugidCommand, VERSION, versionCommand } from './commands/basics.ts';
import { graphCommand } from './commands/graph.ts';
import { eventsCommand } from './commands/events.ts';
import { groupCommand } from './commands/group.ts';
import { hooksCommand } from './commands/hooks.ts';
import { indexCommand } from './commands/index-tasks.ts';
import { keysCommand } from './commands/keys.ts';
import { notifyCommand } from './commands/notify.ts';
import { purgeCacheCommand } from './commands/purge-cache.ts';
import { pushCommand } from './commands/push.ts';
import { secretCommand } from './commands/secret.ts';
import { dbCommand, serveCommand } from './commands/serve.ts';
import { signinCommand } from './commands/signin.ts';
import { taskCommand } from './commands/task.ts';
import { upCommand } from './commands/up.ts';
import { note, type Context } from './context.ts';
import { EXIT_ERROR, explain } from './problem.ts';

/** The whole program; nothing is done before it parses arguments. */
export const makeProgram = (context: Context): Command => {
  const program = new Command('taskcluster')
    .description('Taskcluster: run an installation, and use one')
    .version(VERSION, '-V, --version', 'print the version')
    .enablePositionalOptions()
    .showHelpAfterError('(add --help for what can be given)')
    .showSuggestionAfterError()
    .addHelpText(
      'after',
      `
Which installation: TASKCLUSTER_ROOT_URL, TASKCLUSTER_CLIENT_ID, TASKCLUSTER_ACCESS_TOKEN (and TASKCLUSTER_CERTIFICATE),
else the .taskcluster/env that a local installation wrote into this folder or one above.
Set DEBUG=1 to see where an error comes from.
`,
    );
  const commands = [
    upCommand(),
    serveCommand(),
    dbCommand(),
    keysCommand(context),
    pushCommand(context),
    taskCommand(context),
    graphCommand(context),
    groupCommand(context),
    eventsCommand(context),
    hooksCommand(context),
    indexCommand(context),
    purgeCacheCommand(context),
    secretCommand(context),
    notifyCommand(context),
    apiCommand(context),
    signinCommand(context),
    slugidCommand(context),
    fromNowCommand(context),
    versionCommand(context),
  ];
  commands.forEach(command => program.addCommand(command));
  prepare(program, context);
  return program;
};

// commander would end the process itself, and with other statuses than ours
const prepare = (command: Command, context: Context): void => {
  command.exitOverride();
  command.configureOutput({
    writeOut: text => void context.out.write(text),
    writeErr: text => void context.err.write(text),
    getOutHelpWidth: () => context.out.columns,
    getErrHelpWidth: () => context.err.columns,
    getOutHasColors: () => false,
    getErrHasColors: () => false,
  });
  command.commands.forEach(part => prepare(part, context));
};

/** Runs the program with some arguments; the context learns the exit status. */
export const run = async (context: Context, args: readonly string[]): Promise<void> => {
  try {
    await makeProgram(context).parseAsync(args, { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) {
      // help that was asked for is a result; help that is shown for want of a command is not
      if (error.exitCode !== 0) {
        context.setExitStatus(EXIT_ERROR);
      }
      return;
    }
    if (context.signal.aborted) {
      await note(context, 'Interrupted.').catch(() => undefined);
      return;
    }
    context.setExitStatus(EXIT_ERROR);
    await note(context, explain(error, Boolean(context.env['DEBUG'])));
  }
};
