/** One task's log on standard output until the task is resolved; the exit status tells how it ended. */
import { note, type Context, type Installation } from '../context.ts';
import { EXIT_FAILED, Problem } from '../problem.ts';
import { isResolved } from './group.ts';
import { streamLog } from './log.ts';

const POLL_MS = 300;

export const followTask = async (context: Context, installation: Installation, taskId: string): Promise<void> => {
  const { queue } = installation;
  const write = (bytes: Uint8Array): Promise<void> => context.out.write(bytes);
  const onRun = (runId: number): Promise<void> => (runId > 0 ? note(context, `--- run ${runId} ---`) : Promise.resolve());
  try {
    await streamLog(context, installation, { taskId, follow: true, write, onRun });
  } catch (error) {
    // a task may end without a log; its state still tells the result
    if (!(error instanceof Problem)) {
      throw error;
    }
    await note(context, error.message);
  }
  for (;;) {
    const { status } = await queue.status({ taskId });
    if (isResolved(status.state)) {
      const reason = status.runs.at(-1)?.reasonResolved;
      const why = reason === undefined || reason === status.state ? '' : ` (${reason})`;
      await note(context, `Task ${taskId} is ${status.state}${why}.`);
      if (status.state !== 'completed') {
        context.setExitStatus(EXIT_FAILED);
      }
      return;
    }
    await context.clock.sleep(POLL_MS, context.signal);
  }
};
