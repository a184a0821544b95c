/** Small commands that need no installation: `version`, `slugid`, `from-now`. */
import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { slugid } from '@tscluster/client/clock.ts';
import { leaf, parseCount } from '../command.ts';
import { print, printJson, type Context } from '../context.ts';
import { fromNow } from '../durations.ts';
import { Problem } from '../problem.ts';

const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string };
export const VERSION = version;

export const versionCommand = (context: Context): Command =>
  leaf('version', 'print the version')
    .option('-s, --short', 'the number only')
    .action((options: { short?: boolean; json?: boolean }) =>
      options.json
        ? printJson(context, { version: VERSION, node: process.versions.node })
        : print(context, options.short ? VERSION : `taskcluster version ${VERSION}`),
    );

/** A slugid's UUID. @throws {Problem} when it is not a slugid */
export const decodeSlugid = (slug: string): string => {
  const bytes = Buffer.from(slug, 'base64url');
  if (!/^[A-Za-z0-9_-]{21}[AQgw]$/.test(slug) || bytes.length !== 16) {
    throw new Problem(`"${slug}" is not a slugid: 22 characters of URL-safe base64 that stand for a UUID.`);
  }
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
};

/** A UUID's slugid. @throws {Problem} when it is not a UUID */
export const encodeSlugid = (uuid: string): string => {
  if (!/^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$/i.test(uuid)) {
    throw new Problem(`"${uuid}" is not a UUID.`);
  }
  return Buffer.from(uuid.replaceAll('-', ''), 'hex').toString('base64url');
};

export const slugidCommand = (context: Context): Command => {
  const generate = leaf('generate', 'print new ids for tasks')
    .option('-n, --nice', 'ids that never begin with "-"; always so, kept for old scripts')
    .option('-c, --count <number>', 'how many', parseCount, 1)
    .action((options: { count: number; json?: boolean }) => {
      const ids = Array.from({ length: options.count }, () => slugid(context.random));
      return options.json ? printJson(context, ids) : print(context, ids.join('\n'));
    });
  const convert = (name: string, argument: string, description: string, change: (text: string) => string): Command =>
    leaf(name, description)
      .argument(`<${argument}>`)
      .action((text: string, options: { json?: boolean }) =>
        options.json ? printJson(context, change(text)) : print(context, change(text)),
      );
  return new Command('slugid')
    .description('make and convert ids')
    .addCommand(generate, { isDefault: true })
    .addCommand(convert('decode', 'slugid', 'print the UUID that a slugid stands for', decodeSlugid))
    .addCommand(convert('encode', 'uuid', 'print a UUID as a slugid', encodeSlugid));
};

export const fromNowCommand = (context: Context): Command =>
  leaf('from-now', 'print the time that lies a duration from now')
    .argument('<duration...>', 'such as "2 days 3 hours" or "-1mo"; a month is 30 days, a year 365')
    .allowUnknownOption()
    .action((words: string[], options: { json?: boolean }) => {
      const then = fromNow(words.join(' '), context.clock.now()).toISOString();
      return options.json ? printJson(context, then) : print(context, then);
    });
