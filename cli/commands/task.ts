/** `task …`: what one asks of, and does to, a single task. */
import { Command, Option } from 'commander';
import type { TaskStatus } from '@tscluster/api/queue/tasks.ts';
import { leaf, parseCount, parseId } from '../command.ts';
import { confirm } from '../confirm.ts';
import { connect, note, print, printJson, type Context, type QueueClient } from '../context.ts';
import { download } from '../download.ts';
import { pagesOf } from '../pages.ts';
import { Problem } from '../problem.ts';
import { renderTable } from '../render/table.ts';
import { isResolved } from '../watch/group.ts';
import { followTask } from '../watch/follow.ts';
import { streamLog } from '../watch/log.ts';
import { createCommand, runCommand } from './task-create.ts';
import { explainCommand } from './task-explain.ts';

/** `failed 'deadline-exceeded'`: a state with the reason, as far as there is one. */
const stateText = (of: { state: string; reasonResolved?: string | undefined }): string =>
  of.reasonResolved === undefined ? of.state : `${of.state} '${of.reasonResolved}'`;

const requireRun = (status: TaskStatus, runId: number): TaskStatus['runs'][number] => {
  const run = status.runs[runId];
  if (!run) {
    throw new Problem(
      status.runs.length === 0 ? 'The task has no runs.' : `There is no run #${runId}: the task has runs 0 to ${status.runs.length - 1}.`,
    );
  }
  return run;
};

const onTask = (name: string, description: string): Command =>
  leaf(name, description).argument('<taskId>', 'the task, or a link to it', parseId);

const statusCommand = (context: Context): Command =>
  onTask('status', 'print the state of a task')
    .addOption(new Option('-a, --all-runs', 'of each run').conflicts('run'))
    .option('-r, --run <number>', 'of this run', parseCount)
    .action(async (taskId: string, options: { allRuns?: boolean; run?: number; json?: boolean }) => {
      const { status } = await connect(context).queue.status({ taskId });
      if (options.json) {
        await printJson(context, options.run === undefined ? status : requireRun(status, options.run));
      } else if (options.allRuns) {
        const runs = status.runs.map(run => `Run #${run.runId}: ${stateText(run)}`);
        await print(context, runs.length > 0 ? runs.join('\n') : `${status.state}: the task has no runs`);
      } else if (options.run !== undefined) {
        await print(context, stateText(requireRun(status, options.run)));
      } else {
        await print(context, stateText({ state: status.state, reasonResolved: status.runs.at(-1)?.reasonResolved }));
      }
    });

const defCommand = (context: Context): Command =>
  onTask('def', 'print the definition of a task as JSON').action(async (taskId: string) => {
    await printJson(context, await connect(context).queue.task({ taskId }));
  });

const fieldCommand = (
  context: Context,
  name: string,
  description: string,
  read: (task: Awaited<ReturnType<QueueClient['task']>>) => string,
): Command =>
  onTask(name, description).action(async (taskId: string, options: { json?: boolean }) => {
    const value = read(await connect(context).queue.task({ taskId }));
    await (options.json ? printJson(context, value) : print(context, value));
  });

const artifactsCommand = (context: Context): Command =>
  onTask('artifacts', 'list the artifacts of a task, or download one')
    .option('-r, --run <number>', 'of this run; default: the latest', parseCount)
    .option('-l, --long', 'with storage type, content type and expiry')
    .option('-d, --download <name>', 'print the content of this one')
    .option('-o, --output <file>', 'write the content into a file')
    .action(async (taskId: string, options: { run?: number; long?: boolean; download?: string; output?: string; json?: boolean }) => {
      const runId = options.run === undefined ? undefined : String(options.run);
      if (options.download !== undefined) {
        await download(context, { taskId, runId, name: options.download, file: options.output });
        return;
      }
      const { queue } = connect(context);
      const artifacts = [];
      for await (const page of pagesOf(query =>
        runId === undefined ? queue.listLatestArtifacts({ taskId }, query) : queue.listArtifacts({ taskId, runId }, query),
      )) {
        artifacts.push(...page.artifacts);
      }
      if (options.json) {
        await printJson(context, artifacts);
      } else if (options.long) {
        await print(
          context,
          renderTable(artifacts.map(({ name, storageType, contentType, expires }) => [name, storageType, contentType, expires])).join('\n'),
        );
      } else if (artifacts.length > 0) {
        await print(context, artifacts.map(({ name }) => name).join('\n'));
      }
    });

const logCommand = (context: Context): Command =>
  new Command('log')
    .description('print the log of a task')
    .argument('<taskId>', 'the task, or a link to it', parseId)
    .option('-r, --run <number>', 'of this run; default: the latest', parseCount)
    .option('-f, --follow', 'wait for it to start, and until it is resolved; the exit status tells how it ended')
    .action(async (taskId: string, options: { run?: number; follow?: boolean }) => {
      const installation = connect(context);
      if (options.follow && options.run === undefined) {
        await followTask(context, installation, taskId);
        return;
      }
      const write = (bytes: Uint8Array): Promise<void> => context.out.write(bytes);
      await streamLog(context, installation, { taskId, runId: options.run, follow: options.follow ?? false, write });
    });

interface ChangeOptions {
  readonly noop?: boolean;
  readonly confirm?: boolean;
  readonly force?: boolean;
  readonly downstream?: boolean;
  readonly json?: boolean;
}

/** A command that changes a task's state, after showing or asking if so wanted. */
const changeCommand = (
  context: Context,
  verb: 'cancel' | 'rerun',
  description: string,
  change: (queue: QueueClient, taskId: string, options: ChangeOptions) => Promise<{ status: TaskStatus; waiting?: number }>,
  refuse: (status: TaskStatus, options: ChangeOptions) => void,
): Command =>
  onTask(verb, description)
    .option('-n, --noop', 'only say what would be done')
    .option('-c, --confirm', 'ask first')
    .action(async (taskId: string, options: ChangeOptions) => {
      const { queue } = connect(context);
      const [{ status }, { metadata }] = await Promise.all([queue.status({ taskId }), queue.task({ taskId })]);
      const what = `${metadata.name} taskid: ${taskId} (state: ${status.state})`;
      refuse(status, options);
      if (options.noop) {
        await note(context, `Would ${verb} ${what}`);
        return;
      }
      if (options.confirm && !(await confirm(context, `${verb === 'cancel' ? 'Cancel' : 'Rerun'} ${what}?`, 'Leave --confirm out.'))) {
        await note(context, 'Nothing was changed.');
        return;
      }
      const { status: changed, waiting } = await change(queue, taskId, options);
      if (options.json) {
        await printJson(context, changed);
        return;
      }
      await print(context, stateText({ state: changed.state, reasonResolved: changed.runs.at(-1)?.reasonResolved }));
      if (waiting) {
        await note(context, `${waiting} tasks downstream wait for it again.`);
      }
    });

const cancelCommand = (context: Context): Command =>
  changeCommand(
    context,
    'cancel',
    'cancel a task that is not resolved',
    (queue, taskId) => queue.cancelTask({ taskId }),
    () => undefined,
  );

const rerunCommand = (context: Context): Command =>
  changeCommand(
    context,
    'rerun',
    'run a resolved task again',
    (queue, taskId, { downstream }) => (downstream ? queue.rerunDownstream({ taskId }) : queue.rerunTask({ taskId })),
    (status, options) => {
      if (!options.force && status.state === 'completed') {
        throw new Problem(
          `Task ${status.taskId} has completed; only failed and exceptional tasks are run again.`,
          'Use --force to run it again nevertheless.',
        );
      }
      if (!options.force && !isResolved(status.state)) {
        throw new Problem(`Task ${status.taskId} is ${status.state}: there is nothing to run again yet.`);
      }
    },
  )
    .option('-f, --force', 'also if it has completed')
    .option('--downstream', 'and everything that depends on it, each when its dependencies are done again');

export const taskCommand = (context: Context): Command => {
  const command = new Command('task').description('create, read and change single tasks').enablePositionalOptions();
  const parts = [
    createCommand(context),
    runCommand(context),
    statusCommand(context),
    explainCommand(context),
    defCommand(context),
    fieldCommand(context, 'name', 'print the name of a task', ({ metadata }) => metadata.name),
    fieldCommand(context, 'group', 'print the group of a task', ({ taskGroupId }) => taskGroupId),
    artifactsCommand(context),
    logCommand(context),
    cancelCommand(context),
    rerunCommand(context),
  ];
  parts.forEach(part => command.addCommand(part));
  return command;
};
