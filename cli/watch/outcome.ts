/** What becomes of a task that was just created: waited for, followed, or only named, as the options of the command say. */
import type { Command } from 'commander';
import { note, print, printJson, type Context, type Installation } from '../context.ts';
import { followTask } from './follow.ts';
import { readTask, watchTasks } from './watch.ts';

export interface Outcome {
  readonly wait?: boolean;
  readonly follow?: boolean;
  readonly json?: boolean;
}

export const withOutcome = (command: Command): Command =>
  command
    .option('-w, --wait', 'wait until it is resolved; the exit status tells how')
    .option('--follow', 'show its log until it is resolved; the exit status tells how');

/** Tells of a new task. `extra` is added to what `--json` prints. */
export const showOutcome = async (
  context: Context,
  installation: Installation,
  taskId: string,
  options: Outcome,
  extra: object = {},
): Promise<void> => {
  const { queue, rootUrl } = installation;
  const url = `${rootUrl}/tasks/${taskId}`;
  if (options.wait || options.follow) {
    await note(context, `Task ${taskId} created: ${url}`);
    if (options.follow && !options.json) {
      await followTask(context, installation, taskId);
    } else {
      await watchTasks(context, {
        installation,
        read: async () => [await readTask(queue, taskId)],
        follow: false,
        json: options.json ?? false,
      });
    }
    if (options.json) {
      await printJson(context, { taskId, url, status: (await queue.status({ taskId })).status });
    }
    return;
  }
  await (options.json ? printJson(context, { taskId, url, ...extra }) : print(context, `Task ${taskId} created: ${url}`));
};
