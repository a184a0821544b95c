/** Tasks that the local worker runs, made and looked at through a published client. */
import { waitFor } from '../processes.ts';
import { aScript, aTask, newId } from '../tasks.ts';
import { type Under, call } from './library.ts';

/** Runs a task; answers with its id once it is resolved. */
export const run = async ({ root }: Under, script: string, more: object = {}, payload: object = {}): Promise<string> => {
  const taskId = newId();
  await call(root.queue, 'createTask', taskId, { ...aTask(), payload: aScript(script, payload), ...more });
  await waitFor(`task ${taskId}`, 120_000, async () =>
    ['completed', 'failed', 'exception'].includes((await call(root.queue, 'status', taskId)).status.state),
  );
  return taskId;
};

export const logOf = async ({ nobody, library }: Under, taskId: string): Promise<string> =>
  (await library.downloadArtifact(nobody.queue, taskId, 'public/logs/live.log')).text;
