/** `graph submit`: many tasks in one call. */
import { Command } from 'commander';
import { slugid } from '@tscluster/client/clock.ts';
import { leaf, parseId } from '../command.ts';
import { connect, print, printJson, type Context } from '../context.ts';
import { readDocument } from '../document.ts';
import { type GraphTask, submitGraph } from '../graph.ts';
import { Problem } from '../problem.ts';
import { fillTimes } from './task-create.ts';

const submitCommand = (context: Context): Command =>
  leaf('submit', 'create all tasks of a graph, or none')
    .argument('[file]', 'JSON or YAML: {"tasks": [{"taskId": …, "task": {…}}, …]}; default: standard input')
    .option('--group <taskGroupId>', "the group's id; default: a new one", parseId)
    .option('--dry-run', 'only check, and tell everything that is wrong')
    .addHelpText('after', '\nTimes may be written as {"$fromNow": "1 day"}.\n')
    .action(async (file: string | undefined, options: { group?: string; dryRun?: boolean; json?: boolean }) => {
      const given = await readDocument(context, file, 'graph', 'It needs "tasks", a list of {"taskId": …, "task": {…}}.');
      const { tasks } = fillTimes(given, context.clock.now()) as { tasks?: unknown };
      if (!Array.isArray(tasks)) {
        throw new Problem('The graph has no list "tasks".', 'It needs "tasks", a list of {"taskId": …, "task": {…}}.');
      }
      const taskGroupId = options.group ?? slugid(context.random);
      const graph = await submitGraph(connect(context), taskGroupId, tasks as GraphTask[], { dryRun: options.dryRun ?? false });
      if (options.json) {
        await printJson(context, graph ?? { taskGroupId, created: tasks.length });
      } else if (options.dryRun) {
        await print(context, `Nothing is wrong with these ${tasks.length} tasks.`);
      } else {
        const existing = graph?.existing ? `, ${graph.existing} existed` : '';
        await print(context, `Task group ${taskGroupId}: ${graph?.created ?? tasks.length} tasks created${existing}.`);
      }
    });

export const graphCommand = (context: Context): Command => {
  const command = new Command('graph').description('many tasks in one call').enablePositionalOptions();
  command.addCommand(submitCommand(context));
  return command;
};
