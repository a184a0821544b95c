/** `hooks …`: templates of tasks, and what makes tasks of them. */
import { Command, InvalidArgumentError } from 'commander';
import { dump } from 'js-yaml';
import type { MethodInput } from '@tscluster/api/define.ts';
import { hooksApi, type HookStatus, type LastFire } from '@tscluster/api/hooks/api.ts';
import { leaf, parseCount } from '../command.ts';
import { confirm } from '../confirm.ts';
import { connect, note, print, printJson, type Context } from '../context.ts';
import { readDocument } from '../document.ts';
import { pagesOf } from '../pages.ts';
import { plain, renderTable } from '../render/table.ts';
import { type Outcome, showOutcome, withOutcome } from '../watch/outcome.ts';

const MAX_PROBLEM_LENGTH = 200;

type HookRequest = MethodInput<(typeof hooksApi)['methods']['createHook']>;

interface HookKey {
  readonly hookGroupId: string;
  readonly hookId: string;
}

/** `GROUP/ID` or a link; the id may have slashes in it, the group none. */
export const parseHook = (text: string): HookKey => {
  const link = /^https?:\/\/[^/]+\/hooks\/([^/?#]+)\/([^?#]+)/.exec(text);
  // a slash of the id may be encoded; nothing else that may be encoded is part of one
  const name = link ? `${link[1]}/${link[2]?.replaceAll(/%2f/gi, '/')}` : text;
  const match = /^([a-zA-Z0-9-_]+)\/([a-zA-Z0-9-_/]+)$/.exec(name);
  if (!match) {
    throw new InvalidArgumentError('It must be GROUP/ID, such as project-x/nightly, or a link to the hook.');
  }
  return { hookGroupId: match[1] as string, hookId: match[2] as string };
};

const nameOf = ({ hookGroupId, hookId }: HookKey): string => `${hookGroupId}/${hookId}`;
const clientOf = (context: Context) => connect(context).client(hooksApi);

const onHook = (name: string, description: string): Command =>
  leaf(name, description).argument('<hook>', 'the hook as GROUP/ID, or a link to it', parseHook);

/** What went wrong, in a line. */
const problemOf = ({ code, message }: { readonly code?: unknown; readonly message?: unknown }): string => {
  const text = [code, message].filter(part => typeof part === 'string').join(': ');
  return plain(text.split('\n\n---\n\n')[0] ?? '').slice(0, MAX_PROBLEM_LENGTH);
};

/** An error as it is listed: JSON, or plain text. */
const parseError = (text: string): { readonly code?: unknown; readonly message?: unknown } => {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : { message: text };
  } catch {
    return { message: text };
  }
};

const lastOf = (lastFire: HookStatus['lastFire']): string[] => {
  switch (lastFire.result) {
    case 'success':
      return ['created', lastFire.time, lastFire.taskId];
    case 'error':
      return ['failed', lastFire.time, problemOf(lastFire.error)];
    case 'no-fire':
      return ['', '', ''];
  }
};

const listCommand = (context: Context): Command =>
  leaf('list', 'list the groups of hooks, or the hooks of a group with their next time and last attempt')
    .argument('[group]', 'default: the groups')
    .action(async (hookGroupId: string | undefined, options: { json?: boolean }) => {
      const hooks = clientOf(context);
      if (hookGroupId === undefined) {
        const { groups } = await hooks.listHookGroups();
        await (options.json ? printJson(context, groups) : groups.length > 0 ? print(context, groups.join('\n')) : undefined);
        return;
      }
      const statuses: HookStatus[] = [];
      for await (const page of pagesOf(query => hooks.listHookStatuses({ hookGroupId }, query))) {
        statuses.push(...page.statuses);
      }
      if (options.json) {
        await printJson(context, statuses);
      } else if (statuses.length > 0) {
        const rows = statuses.map(each => [
          each.hookId,
          each.nextScheduledDate === undefined ? '' : `next ${each.nextScheduledDate}`,
          ...lastOf(each.lastFire),
        ]);
        await print(context, renderTable(rows).join('\n'));
      }
    });

const showCommand = (context: Context): Command =>
  onHook('show', 'print the definition of a hook, as YAML').action(async (key: HookKey, options: { json?: boolean }) => {
    const hook = await clientOf(context).hook(key);
    await (options.json ? printJson(context, hook) : print(context, dump(hook, { lineWidth: -1, noRefs: true }).trimEnd()));
  });

const withDefinition = (command: Command): Command =>
  command.argument('[file]', 'the definition as JSON or YAML, as `show` prints it; default: standard input');

const readDefinition = async (context: Context, file: string | undefined): Promise<HookRequest> =>
  (await readDocument(context, file, 'definition', 'It needs at least metadata and task.')) as HookRequest;

const createCommand = (context: Context): Command =>
  withDefinition(onHook('create', 'create a hook; a repeat with the same definition changes nothing')).action(
    async (key: HookKey, file: string | undefined, options: { json?: boolean }) => {
      const hook = await clientOf(context).createHook(key, await readDefinition(context, file));
      await (options.json ? printJson(context, hook) : note(context, `Hook ${nameOf(key)} created.`));
    },
  );

const updateCommand = (context: Context): Command =>
  withDefinition(onHook('update', 'replace the definition of a hook; bindings that are left out stay')).action(
    async (key: HookKey, file: string | undefined, options: { json?: boolean }) => {
      const hook = await clientOf(context).updateHook(key, await readDefinition(context, file));
      await (options.json ? printJson(context, hook) : note(context, `Hook ${nameOf(key)} updated.`));
    },
  );

const deleteCommand = (context: Context): Command =>
  onHook('delete', 'remove a hook')
    .option('-f, --force', 'do not ask')
    .action(async (key: HookKey, options: { force?: boolean; json?: boolean }) => {
      const question = `Remove the hook ${nameOf(key)}?`;
      if (!options.force && !(await confirm(context, question, 'Use --force to remove it without being asked.'))) {
        await note(context, 'Nothing was removed.');
        return;
      }
      await clientOf(context).removeHook(key);
      await (options.json ? printJson(context, key) : note(context, `Hook ${nameOf(key)} removed.`));
    });

const fireCommand = (context: Context): Command =>
  withOutcome(
    onHook('fire', 'fire a hook, with or without a payload')
      .argument('[file]', 'the payload as JSON or YAML; - is standard input; default: an empty object')
      .option('--token <token>', 'use the token of the hook instead of credentials'),
  ).action(async (key: HookKey, file: string | undefined, options: Outcome & { token?: string }) => {
    const payload = file === undefined ? {} : await readDocument(context, file, 'payload');
    const installation = connect(context);
    const { token } = options;
    const { taskId } =
      token === undefined
        ? await installation.client(hooksApi).triggerHook(key, payload)
        : await installation.client(hooksApi, { credentials: undefined }).triggerHookWithToken({ ...key, token }, payload);
    if (taskId !== undefined) {
      await showOutcome(context, installation, taskId, options);
    } else {
      await (options.json ? printJson(context, {}) : note(context, `Hook ${nameOf(key)} made no task: its template declined.`));
    }
  });

const lastFiresCommand = (context: Context): Command =>
  onHook('last-fires', 'list the attempts to create tasks, the latest first')
    .option('-n, --number <count>', 'how many at most', parseCount, 20)
    .action(async (key: HookKey, options: { number: number; json?: boolean }) => {
      const hooks = clientOf(context);
      const fires: LastFire[] = [];
      for await (const page of pagesOf(query => hooks.listLastFires(key, { ...query, limit: String(Math.min(options.number, 1_000)) }))) {
        fires.push(...page.lastFires);
        if (fires.length >= options.number) {
          break;
        }
      }
      const listed = fires.slice(0, options.number);
      if (options.json) {
        await printJson(context, listed);
      } else if (listed.length > 0) {
        const rows = listed.map(each => {
          const how = each.result === 'success' ? each.taskState : 'not created';
          return [each.taskCreateTime, each.firedBy, each.taskId, how, problemOf(parseError(each.error))];
        });
        await print(context, renderTable(rows).join('\n'));
      }
    });

const tokenCommand = (context: Context): Command =>
  onHook('token', 'print the token with which anybody may fire a hook')
    .option('--reset', 'make a new one; the old one is worth nothing from then on')
    .action(async (key: HookKey, options: { reset?: boolean; json?: boolean }) => {
      const hooks = clientOf(context);
      const answer = options.reset ? await hooks.resetTriggerToken(key) : await hooks.getTriggerToken(key);
      await (options.json ? printJson(context, answer) : print(context, answer.token));
    });

export const hooksCommand = (context: Context): Command => {
  const command = new Command('hooks').description('tasks made from templates: at set times, on request, by messages');
  for (const make of [listCommand, showCommand, fireCommand, createCommand, updateCommand, deleteCommand, lastFiresCommand, tokenCommand]) {
    command.addCommand(make(context));
  }
  return command;
};
