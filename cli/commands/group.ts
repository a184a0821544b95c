/** `group …`: the tasks that belong together. */
import { Command } from 'commander';
import { leaf, parseId } from '../command.ts';
import { confirm } from '../confirm.ts';
import { connect, note, print, printJson, type Context } from '../context.ts';
import { renderTable, plain } from '../render/table.ts';
import { isResolved, reasonOf, summarize, type GroupTask } from '../watch/group.ts';
import { readGroups, watchTasks } from '../watch/watch.ts';

const onGroup = (name: string, description: string): Command =>
  leaf(name, description).argument('<taskGroupId>', 'the group, or a link to it', parseId);

const statusCommand = (context: Context): Command =>
  onGroup('status', 'count the tasks of a group by state')
    .option('-w, --watch', 'show the progress until all is over; the exit status tells how')
    .option('--follow', 'show the logs, too')
    .action(async (taskGroupId: string, options: { watch?: boolean; follow?: boolean; json?: boolean }) => {
      const installation = connect(context);
      const read = (): Promise<GroupTask[]> => readGroups(installation.queue, [taskGroupId]);
      const isWatched = options.watch ?? options.follow ?? false;
      const summary = isWatched
        ? await watchTasks(context, { installation, read, follow: options.follow ?? false, json: options.json ?? false })
        : summarize(await read());
      const counts = Object.entries(summary.counts).filter(([, count]) => count > 0);
      if (options.json) {
        await printJson(context, { taskGroupId, isOver: summary.isOver, isGreen: summary.isGreen, counts: summary.counts });
      } else if (!isWatched) {
        await print(context, counts.map(([state, count]) => `${state}: ${count}`).join('\n'));
      }
    });

const STATES = ['running', 'failed', 'exception', 'completed', 'unscheduled', 'pending'] as const;

const listCommand = (context: Context): Command => {
  const command = onGroup('list', 'list the tasks of a group').option('-a, --all', 'of every state, as without any of these');
  for (const state of STATES) {
    command.option(`-${state.charAt(0)}, --${state}`, `${state} ones`);
  }
  return command.action(async (taskGroupId: string, options: Record<string, boolean | undefined>) => {
    const wanted = STATES.filter(state => options[state]);
    const { tasks } = summarize(await readGroups(connect(context).queue, [taskGroupId]));
    const listed = options['all'] || wanted.length === 0 ? tasks : tasks.filter(task => wanted.includes(task.state));
    if (options['json']) {
      await printJson(context, listed);
    } else if (listed.length > 0) {
      await print(
        context,
        renderTable(listed.map(task => [task.taskId, plain(task.name), task.state, plain(reasonOf(task) ?? '')])).join('\n'),
      );
    }
  });
};

const CONCURRENCY = 10;

const cancelCommand = (context: Context): Command =>
  onGroup('cancel', 'cancel the tasks of a group that are not resolved')
    .option('-w, --worker-type <type>', 'only those for this worker type')
    .option('-f, --force', 'do not ask')
    .action(async (taskGroupId: string, options: { workerType?: string; force?: boolean; json?: boolean }) => {
      const { queue } = connect(context);
      const tasks = (await readGroups(queue, [taskGroupId])).filter(
        task => !isResolved(task.state) && (options.workerType === undefined || task.taskQueueId.split('/')[1] === options.workerType),
      );
      if (tasks.length === 0) {
        await note(context, 'No suitable tasks found for cancellation.');
      } else {
        await note(
          context,
          ['The following tasks will be cancelled:', ...tasks.map(task => `\tTask ${task.taskId}: ${plain(task.name)}`)].join('\n'),
        );
        if (!options.force && !(await confirm(context, 'Cancel them?', 'Use --force to cancel without being asked.'))) {
          await note(context, 'Cancellation of tasks aborted.');
          return;
        }
      }
      const waiting = [...tasks];
      const work = async (): Promise<void> => {
        for (let task = waiting.shift(); task; task = waiting.shift()) {
          await note(context, `cancelling task ${task.taskId}`);
          await queue.cancelTask({ taskId: task.taskId });
        }
      };
      await Promise.all(Array.from({ length: CONCURRENCY }, work));
      if (options.json) {
        await printJson(context, { cancelled: tasks.map(task => task.taskId) });
      }
    });

export const groupCommand = (context: Context): Command =>
  new Command('group')
    .description('read and change groups of tasks')
    .addCommand(statusCommand(context))
    .addCommand(listCommand(context))
    .addCommand(cancelCommand(context));
