/** Features that the payload's schema knows and this worker does not have. A task that wants one must not run as if it had it. */
import { malformedPayload } from '../errors.ts';
import { taskQueueIdOf } from '../config.ts';
import { definePlugin } from './plugin.ts';

const ABSENT = ['interactive', 'loopbackAudio', 'loopbackVideo'] as const;

export const absentFeatures = definePlugin({
  name: 'absent-features',
  payload: { features: Object.fromEntries(ABSENT.map(name => [name, { type: 'boolean' }])) },
  open: ({ config }) => ({
    newTask: (_, payload) => {
      const wanted = ABSENT.filter(name => payload.features?.[name]);
      return wanted.length === 0
        ? undefined
        : {
            prepare: async () => {
              throw malformedPayload(
                `The workers of ${taskQueueIdOf(config)} do not have ${wanted.map(name => `payload.features.${name}`).join(', ')}. Remove it, or choose another task queue.`,
              );
            },
          };
    },
  }),
});
