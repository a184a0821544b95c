/** `keys …`: the encryption keys of an installation in a folder of this machine. */
import path from 'node:path';
import { Command } from 'commander';
import type * as KeysModule from '@tscluster/server/local/keys.ts';
import { leaf } from '../command.ts';
import { note, print, printJson, type Context } from '../context.ts';
import { Problem } from '../problem.ts';
import { renderTable } from '../render/table.ts';

interface Options {
  readonly dataDir: string;
  readonly json?: boolean;
}

type Keys = typeof KeysModule;

/** Calls the server's code, which only these commands need; what a person can correct is told as such. */
const onKeys = async <T>(use: (keys: Keys) => Promise<T>): Promise<T> => {
  try {
    return await use(await import('@tscluster/server/local/keys.ts'));
  } catch (error) {
    throw error instanceof Error && error.name === 'StartProblem' ? new Problem(error.message, undefined, error) : error;
  }
};

const onFolder = (name: string, description: string): Command =>
  leaf(name, description).option('-d, --data-dir <folder>', 'the folder of the installation', '.taskcluster');

const folderOf = (context: Context, { dataDir }: Options): string => path.resolve(context.cwd, dataDir);

const statusCommand = (context: Context): Command =>
  onFolder('status', 'tell how many values lie under which key').action(async (options: Options) => {
    const uses = await onKeys(keys => keys.listKeyUses(folderOf(context, options)));
    if (options.json) {
      await printJson(context, uses);
      return;
    }
    const what = (use: (typeof uses)[number]): string =>
      use.isNewest ? 'encrypts' : use.isKnown ? '' : 'lost: these values cannot be read';
    await print(context, renderTable(uses.map(use => [use.id, `${use.values} values`, what(use)])).join('\n'));
  });

const rotateCommand = (context: Context): Command =>
  onFolder('rotate', 'add a key that encrypts from now on; what lies under older ones is moved to it while the installation runs').action(
    async (options: Options) => {
      const id = await onKeys(keys => keys.rotateKeys(folderOf(context, options), context.random));
      await (options.json
        ? printJson(context, { id })
        : note(
            context,
            `From now on ${id} encrypts. \`taskcluster keys status\` tells when nothing is left under the others, \`prune\` takes them off.`,
          ));
    },
  );

const pruneCommand = (context: Context): Command =>
  onFolder('prune', 'take off the keys under which nothing lies; backups from before need them').action(async (options: Options) => {
    const ids = await onKeys(keys => keys.pruneKeys(folderOf(context, options), context.clock));
    await (options.json
      ? printJson(context, { removed: ids })
      : note(context, ids.length === 0 ? 'There is no key that can be taken off.' : `Taken off: ${ids.join(', ')}.`));
  });

export const keysCommand = (context: Context): Command =>
  new Command('keys')
    .description('look after the encryption keys of an installation on this machine')
    .addCommand(statusCommand(context))
    .addCommand(rotateCommand(context))
    .addCommand(pruneCommand(context));
