/** `secret …`: reads and writes secrets. Values come from standard input or a file, never from the arguments, which other users of the machine can see. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { Command } from 'commander';
import { secretsApi } from '@tscluster/api/secrets/api.ts';
import { leaf, parseJson } from '../command.ts';
import { connect, note, print, printJson, type Context } from '../context.ts';
import { fromNow } from '../durations.ts';
import { pagesOf } from '../pages.ts';
import { Problem } from '../problem.ts';
import { plain } from '../render/table.ts';

/** A value from text. @throws {Problem} that does not repeat the text */
const parseValue = (text: string, where: string): Record<string, unknown> => {
  let value: unknown;
  try {
    value = parseJson(text, where);
  } catch {
    throw new Problem(`${where} is not JSON. A secret is a JSON object such as {"token": "..."}.`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new Problem(`${where} is JSON, but not an object such as {"token": "..."}.`);
  }
  return value as Record<string, unknown>;
};

const getCommand = (context: Context): Command =>
  leaf('get', 'print the value of a secret, as JSON')
    .argument('<name>', 'its name, such as project/my-app/token')
    .argument('[key]', 'only what is under this key; texts as they are')
    .action(async (name: string, key: string | undefined, options: { json?: boolean }) => {
      const { secret, expires } = await connect(context).client(secretsApi).get({ name });
      if (key === undefined) {
        await printJson(context, options.json ? { secret, expires } : secret);
        return;
      }
      if (!Object.hasOwn(secret, key)) {
        throw new Problem(`The secret ${name} has no ${key}; it has ${Object.keys(secret).join(', ') || 'nothing'}.`);
      }
      const value = secret[key];
      await (typeof value === 'string' && !options.json ? print(context, value) : printJson(context, value));
    });

const setCommand = (context: Context): Command =>
  leaf('set', 'store a secret, in place of what is there; its value is read from standard input')
    .argument('<name>', 'its name, such as project/my-app/token')
    .option('-f, --file <file>', 'read the value, a JSON object, from a file')
    .option('-e, --expires <duration>', 'from now, such as "1 year"', '1 year')
    .action(async (name: string, options: { file?: string; expires: string; json?: boolean }) => {
      const text = options.file === undefined ? await context.readInput() : await readFile(path.resolve(context.cwd, options.file), 'utf8');
      const secret = parseValue(text, options.file ?? 'What was given on standard input');
      const expires = fromNow(options.expires, context.clock.now()).toISOString();
      await connect(context).client(secretsApi).set({ name }, { secret, expires });
      await (options.json ? printJson(context, { name, expires }) : note(context, `Secret ${name} stored until ${expires}.`));
    });

const listCommand = (context: Context): Command =>
  leaf('list', 'list the names of secrets')
    .argument('[prefix]', 'of those that begin so')
    .action(async (prefix: string | undefined, options: { json?: boolean }) => {
      const secrets = connect(context).client(secretsApi);
      const names: string[] = [];
      for await (const page of pagesOf(query => secrets.list(query))) {
        names.push(...page.secrets.filter(name => name.startsWith(prefix ?? '')));
      }
      if (options.json) {
        await printJson(context, names);
      } else if (names.length > 0) {
        await print(context, names.map(plain).join('\n'));
      }
    });

const removeCommand = (context: Context): Command =>
  leaf('rm', 'delete a secret')
    .argument('<name>', 'its name')
    .action(async (name: string, options: { json?: boolean }) => {
      await connect(context).client(secretsApi).remove({ name });
      await (options.json ? printJson(context, { name }) : note(context, `There is no secret ${name} any more.`));
    });

export const secretCommand = (context: Context): Command =>
  new Command('secret')
    .description('read and write secrets')
    .addCommand(getCommand(context))
    .addCommand(setCommand(context))
    .addCommand(listCommand(context))
    .addCommand(removeCommand(context));
