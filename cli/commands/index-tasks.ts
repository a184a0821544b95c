/** `index …`: tasks by the paths at which they are indexed. */
import { Command } from 'commander';
import { indexApi, type IndexedRun, type IndexedTask } from '@tscluster/api/index/api.ts';
import type { Client } from '@tscluster/client/client.ts';
import { leaf, parseCount, parseId, parseJson } from '../command.ts';
import { connect, note, print, printJson, type Context } from '../context.ts';
import { download } from '../download.ts';
import { formatDuration, fromNow } from '../durations.ts';
import { pagesOf } from '../pages.ts';
import { Problem } from '../problem.ts';
import { renderTable } from '../render/table.ts';

const indexOf = (context: Context): Client<typeof indexApi> => connect(context).client(indexApi);

const onPath = (name: string, description: string): Command =>
  leaf(name, description).argument('<path>', 'names joined by dots, such as project.branch.latest.build');

const findCommand = (context: Context): Command =>
  onPath('find', 'print the id of the task at a path').action(async (path: string, options: { json?: boolean }) => {
    const found = await indexOf(context).findTask({ indexPath: path });
    await (options.json ? printJson(context, found) : print(context, found.taskId));
  });

/** A time as given: a date, or a duration from now. */
const parseTime = (text: string, now: Date): string => {
  const date = /^\d{4}-/.test(text) ? new Date(text) : fromNow(text, now);
  if (Number.isNaN(date.getTime())) {
    throw new Problem(`"${text}" is neither a date nor a duration.`, 'Write "2040-01-31T12:00:00Z" or "30 days".');
  }
  return date.toISOString();
};

const insertCommand = (context: Context): Command =>
  onPath('insert', 'put a task at a path')
    .argument('<taskId>', 'the task, or a link to it', parseId)
    .option('--rank <number>', 'the task with the higher rank stays', text => {
      const rank = Number(text);
      if (text.trim() === '' || !Number.isInteger(rank)) {
        throw new Problem(`--rank ${text} is not a whole number.`);
      }
      return rank;
    })
    .option('--data <json>', 'an object to be kept with it')
    .option('--expires <time>', 'when the entry is forgotten: a date, or a duration from now; default: with the task')
    .action(async (path: string, taskId: string, options: { rank?: number; data?: string; expires?: string; json?: boolean }) => {
      const { queue } = connect(context);
      const data = parseJson(options.data ?? '{}', '--data') as Record<string, unknown>;
      const expires =
        options.expires === undefined ? (await queue.status({ taskId })).status.expires : parseTime(options.expires, context.clock.now());
      const stored = await indexOf(context).insertTask({ namespace: path }, { taskId, rank: options.rank ?? 0, data, expires });
      if (options.json) {
        await printJson(context, stored);
      } else if (stored.taskId === taskId) {
        await note(context, `${path} is task ${taskId} until ${stored.expires}.`);
      }
      if (stored.taskId !== taskId) {
        throw new Problem(
          `${path} stays task ${stored.taskId}, which has the higher rank ${stored.rank}.`,
          'Give a higher --rank, or delete that entry first.',
        );
      }
    });

const listCommand = (context: Context): Command =>
  leaf('list', 'list the namespaces and tasks directly in a namespace')
    .argument('[namespace]', 'default: the root', '')
    .action(async (given: string, options: { json?: boolean }) => {
      const index = indexOf(context);
      const namespace = given.replace(/\.$/, '');
      const params = namespace === '' ? {} : { namespace };
      const namespaces = [];
      const tasks: IndexedTask[] = [];
      for await (const page of pagesOf(query => index.listNamespaces(params, query))) {
        namespaces.push(...page.namespaces);
      }
      for await (const page of pagesOf(query => index.listTasks(params, query))) {
        tasks.push(...page.tasks);
      }
      if (options.json) {
        await printJson(context, { namespaces, tasks });
        return;
      }
      const rows = [
        ...namespaces.map(each => [`${each.namespace}.`, '', `until ${each.expires}`]),
        ...tasks.map(task => [task.namespace, task.taskId, `until ${task.expires}`]),
      ];
      if (rows.length > 0) {
        await print(context, renderTable(rows).join('\n'));
      }
    });

const tookText = ({ started, resolved }: IndexedRun): string =>
  started === undefined ? '–' : formatDuration(Date.parse(resolved) - Date.parse(started));

const historyCommand = (context: Context): Command =>
  onPath('history', 'list the runs that ended at a path, failed ones included, the newest first')
    .option('-n, --number <count>', 'how many at most', parseCount, 20)
    .action(async (path: string, options: { number: number; json?: boolean }) => {
      const index = indexOf(context);
      const runs: IndexedRun[] = [];
      for await (const page of pagesOf(query => index.listHistory({ indexPath: path }, { ...query, limit: String(options.number) }))) {
        runs.push(...page.runs);
        if (runs.length >= options.number) {
          break;
        }
      }
      const listed = runs.slice(0, options.number);
      if (options.json) {
        await printJson(context, listed);
      } else if (listed.length > 0) {
        const rows = listed.map(run => {
          const state = run.state === run.reasonResolved ? run.state : `${run.state} (${run.reasonResolved})`;
          return [run.resolved, state, tookText(run), `${run.taskId}/${run.runId}`];
        });
        await print(context, renderTable(rows).join('\n'));
      }
    });

const deleteCommand = (context: Context): Command =>
  onPath('delete', 'remove the entry at a path').action(async (path: string, options: { json?: boolean }) => {
    await indexOf(context).deleteTask({ namespace: path });
    await (options.json ? printJson(context, { deleted: path }) : note(context, `Nothing is indexed at ${path} now.`));
  });

const artifactCommand = (context: Context): Command =>
  new Command('artifact')
    .description('print an artifact of the task at a path')
    .argument('<path>', 'names joined by dots')
    .argument('<name>', 'of the artifact, such as public/build/target.zip')
    .option('-o, --output <file>', 'write the content into a file')
    .action(async (path: string, name: string, options: { output?: string }) => {
      const { taskId } = await indexOf(context).findTask({ indexPath: path });
      await download(context, { taskId, runId: undefined, name, file: options.output });
    });

export const indexCommand = (context: Context): Command => {
  const command = new Command('index').description('find tasks by the paths at which they are indexed');
  const parts = [findCommand, listCommand, historyCommand, artifactCommand, insertCommand, deleteCommand];
  parts.forEach(make => command.addCommand(make(context)));
  return command;
};
