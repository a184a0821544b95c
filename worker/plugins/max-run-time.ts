/** `maxRunTime`: how long the commands may run; fetching and uploading are not counted. Reaching it is the task's failure, not an exception. */
import type { Timer } from '@tscluster/client/clock.ts';
import { taskFailed, malformedPayload } from '../errors.ts';
import { definePlugin } from './plugin.ts';

export const maxRunTime = definePlugin({
  name: 'max-run-time',
  payload: { properties: { maxRunTime: { type: 'integer', minimum: 1, multipleOf: 1 } }, required: ['maxRunTime'] },
  open: ({ config, clock }) => ({
    newTask: (task, payload) => {
      let timer: Timer | undefined;
      return {
        prepare: async () => {
          if (payload.maxRunTime > config.maxTaskRunTimeSeconds) {
            throw malformedPayload(
              `payload.maxRunTime is ${payload.maxRunTime} seconds; this worker allows at most ${config.maxTaskRunTimeSeconds}.`,
            );
          }
        },
        started: sandbox => {
          timer = clock.setTimer(payload.maxRunTime * 1000, () => {
            task.fail(taskFailed(`The task exceeded its maxRunTime of ${payload.maxRunTime} seconds and was ended.`));
            // whoever waits for the result sees the end
            void sandbox.kill();
          });
          void sandbox.result().then(
            () => timer?.cancel(),
            () => timer?.cancel(),
          );
        },
        dispose: async () => timer?.cancel(),
      };
    },
  }),
});
