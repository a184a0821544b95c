/**
 * Watches tasks until they are over, and shows it: a table that is drawn in place on a terminal, one line per change elsewhere,
 * nothing with `--json`. The queue is asked again and again; the pause grows with what an answer costs.
 */
import { ApiCallError, ConnectionError } from '@tscluster/client/client.ts';
import { EXIT_FAILED } from '../problem.ts';
import type { Context, Installation, QueueClient } from '../context.ts';
import { countsLine, renderChanges, renderProgress } from '../render/progress.ts';
import { screenOn } from '../render/screen.ts';
import { logLine, plain } from '../render/table.ts';
import { lastRunTimes, reasonOf, summarize, toGroupTask, type GroupSummary, type GroupTask } from './group.ts';
import { readLogTail, streamLog } from './log.ts';

const MIN_PAUSE_MS = 300;
const MAX_PAUSE_MS = 10_000;
/** The pause is this many times what the last round took, so that watching never is the load. */
const PAUSE_FACTOR = 5;
/** A task that waits for so long may be waiting for nobody. */
const LONG_WAIT_MS = 10_000;
const TAIL_LINES = 20;
const MAX_TAILS = 5;

export interface WatchOptions {
  readonly installation: Installation;
  /** Reads the tasks that are watched; asked again and again, as there may be more each time. */
  readonly read: () => Promise<GroupTask[]>;
  readonly follow: boolean;
  readonly json: boolean;
}

/** Every task of a group, all pages. */
export const listGroup = async (queue: QueueClient, taskGroupId: string): Promise<GroupTask[]> => {
  const tasks: GroupTask[] = [];
  let continuationToken: string | undefined;
  do {
    const page = await queue.listTaskGroup({ taskGroupId }, continuationToken === undefined ? {} : { continuationToken });
    tasks.push(...page.tasks.map(toGroupTask));
    ({ continuationToken } = page);
  } while (continuationToken !== undefined);
  return tasks;
};

/** Every task of some groups. */
export const readGroups = async (queue: QueueClient, groupIds: readonly string[]): Promise<GroupTask[]> =>
  (await Promise.all([...new Set(groupIds)].map(id => listGroup(queue, id)))).flat();

/** How long an installation may be away, for an upgrade for instance, before watching it ends. */
const MAX_ABSENCE_MS = 10 * 60_000;
const ABSENCE_PAUSE_MS = 2_000;

/** Reads, and waits for an installation that is away for a while: its tasks go on meanwhile or when it is back. */
const readPatiently = async (
  context: Context,
  read: () => Promise<GroupTask[]>,
  say: (line: string) => Promise<void>,
): Promise<GroupTask[]> => {
  const sinceMs = context.clock.monotonicMs();
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await read();
    } catch (error) {
      const isAway = error instanceof ConnectionError || (error instanceof ApiCallError && error.statusCode >= 500);
      if (!isAway || context.clock.monotonicMs() - sinceMs > MAX_ABSENCE_MS) {
        throw error;
      }
      if (attempt === 1) {
        await say('The installation does not answer. Waiting for it to come back.');
      }
      await context.clock.sleep(ABSENCE_PAUSE_MS, context.signal);
    }
  }
};

/** Watches until all is over. Sets the exit status of a failure when not everything completed. */
export const watchTasks = async (context: Context, options: WatchOptions): Promise<GroupSummary> => {
  const { clock, err, signal } = context;
  const isLive = err.isTerminal && !options.json;
  const screen = screenOn(err);
  const above: string[] = [];
  const follower = options.follow && !options.json ? followLogs(context, options.installation, lines => above.push(...lines)) : undefined;
  let previous: GroupSummary | undefined;
  let shown: GroupSummary | undefined;
  const show = async (current: GroupSummary): Promise<void> => {
    const view = { columns: err.columns, rows: err.rows, nowMs: clock.nowMs(), style: err.style };
    const lines = above.splice(0);
    if (isLive) {
      await screen.draw(renderProgress(current, view), lines);
    } else if (!options.json) {
      await err.write([...renderChanges(shown, current, view), ...lines].map(line => `${line}\n`).join(''));
      shown = current;
    }
  };
  const say = async (line: string): Promise<void> => {
    above.push(err.style.yellow(line));
    await (previous ? show(previous) : err.write(options.json ? '' : `${above.splice(0).join('\n')}\n`));
  };
  const explainWaits = waitExplainer(context, options.installation.queue);
  for (;;) {
    const startedMs = clock.monotonicMs();
    const tasks = await readPatiently(context, options.read, say);
    const current = summarize(tasks);
    const tookMs = clock.monotonicMs() - startedMs;
    follower?.update(current);
    await show(current);
    // Pages of a long list are read one after the other: a task on an early page may have been created meanwhile by one on a late page.
    // So it is over when it was over before, with the same tasks.
    if (current.isOver && previous?.isOver && previous.tasks.length === current.tasks.length) {
      await follower?.finish();
      await show(current);
      screen.leave();
      return report(context, options, current);
    }
    previous = current;
    above.push(...(await explainWaits(current)));
    await clock.sleep(current.isOver ? MIN_PAUSE_MS : Math.min(MAX_PAUSE_MS, Math.max(MIN_PAUSE_MS, tookMs * PAUSE_FACTOR)), signal);
  }
};

/** Says, once per task queue, that tasks wait in it although it has no workers: the commonest reason why nothing happens. */
const waitExplainer = (context: Context, queue: QueueClient) => {
  const asked = new Set<string>();
  return async (summary: GroupSummary): Promise<string[]> => {
    const lines: string[] = [];
    for (const task of summary.tasks) {
      const { scheduled } = task.runs.at(-1) ?? {};
      const isLong = scheduled !== undefined && context.clock.nowMs() - Date.parse(scheduled) > LONG_WAIT_MS;
      if (task.state !== 'pending' || !isLong || asked.has(task.taskQueueId)) {
        continue;
      }
      asked.add(task.taskQueueId);
      const [provisionerId = '', workerType = ''] = task.taskQueueId.split('/');
      // who may not list the workers learns nothing, and goes on watching
      const page = await queue.listWorkers({ provisionerId, workerType }, { limit: '1' }).catch(() => undefined);
      if (page?.workers.length === 0) {
        lines.push(
          context.err.style.yellow(
            `No worker has been seen in the task queue ${task.taskQueueId}: "${plain(task.name)}" waits until one comes.`,
          ),
        );
      }
    }
    return lines;
  };
};

const report = async (context: Context, options: WatchOptions, summary: GroupSummary): Promise<GroupSummary> => {
  if (!summary.isGreen) {
    context.setExitStatus(EXIT_FAILED);
  }
  if (options.json) {
    return summary;
  }
  const { err } = context;
  // what failed first may be why the rest did
  const failed = summary.tasks
    .filter(task => task.state === 'failed' || task.state === 'exception')
    .sort((a, b) => (lastRunTimes(a).resolvedMs ?? 0) - (lastRunTimes(b).resolvedMs ?? 0));
  for (const [index, task] of failed.entries()) {
    const reason = reasonOf(task);
    await err.write(
      `\n${err.style.red(`✘ ${plain(task.name)}`)} ${task.state}${reason ? ` (${reason})` : ''}: ${options.installation.rootUrl}/tasks/${task.taskId}\n`,
    );
    const tail =
      !options.follow && index < MAX_TAILS
        ? await readLogTail(context, options.installation, task.taskId, TAIL_LINES).catch(() => undefined)
        : undefined;
    if (tail) {
      await err.write(`${tail.map(line => `    ${logLine(line, err.isTerminal)}`).join('\n')}\n`);
    }
  }
  const verdict = summary.isGreen ? err.style.green('Green') : err.style.red('Not green');
  await err.write(`\n${verdict}: ${countsLine(summary, err.style)}.\n`);
  return summary;
};

/** Streams the log of every task of a group from the moment it runs, each line with the task's name in front. */
const followLogs = (context: Context, installation: Installation, emit: (lines: string[]) => void) => {
  const streams = new Map<string, Promise<void>>();
  const start = async (task: GroupTask): Promise<void> => {
    const decoder = new TextDecoder();
    const prefix = context.err.style.dim(`[${plain(task.name)}] `);
    let rest = '';
    const flush = (text: string): void => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      emit(lines.map(line => prefix + logLine(line, context.err.isTerminal)));
    };
    const write = async (bytes: Uint8Array): Promise<void> => flush(decoder.decode(bytes, { stream: true }));
    try {
      await streamLog(context, installation, { taskId: task.taskId, follow: true, write });
    } catch (error) {
      if (!context.signal.aborted) {
        emit([`${prefix}(the log cannot be shown: ${error instanceof Error ? error.message : String(error)})`]);
      }
    }
    if (rest !== '') {
      flush('\n');
    }
  };
  return {
    update: (summary: GroupSummary): void => {
      for (const task of summary.tasks) {
        if (!streams.has(task.taskId) && task.runs.some(run => run.started !== undefined)) {
          streams.set(task.taskId, start(task));
        }
      }
    },
    finish: async (): Promise<void> => {
      await Promise.all(streams.values());
    },
  };
};

/** One task, as a list of groups shows it. */
export const readTask = async (queue: QueueClient, taskId: string): Promise<GroupTask> => {
  const [{ status }, task] = await Promise.all([queue.status({ taskId }), queue.task({ taskId })]);
  return toGroupTask({ status, task });
};
