/** `onExitStatus.retry`: exit codes that mean bad luck, after which the queue tries the task again. `purgeCaches` is the mounts plugin's. */
import { TaskError } from '../errors.ts';
import { definePlugin } from './plugin.ts';

const codes = (minimum: number): Record<string, unknown> => ({ type: 'array', items: { type: 'integer', minimum }, uniqueItems: true });

export const exitStatus = definePlugin({
  name: 'exit-status',
  payload: {
    properties: {
      onExitStatus: { type: 'object', properties: { retry: codes(1), purgeCaches: codes(0) }, required: [], additionalProperties: false },
    },
  },
  open: () => ({
    newTask: (_, payload) => ({
      judge: ({ exitCode }) => {
        if (exitCode !== undefined && payload.onExitStatus?.retry?.includes(exitCode)) {
          throw new TaskError(
            'intermittent-task',
            `The exit code ${exitCode} is listed in payload.onExitStatus.retry: the task is tried again while it has retries left.`,
          );
        }
      },
    }),
  }),
});
