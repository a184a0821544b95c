/** `env`: the task's variables, and those that every task is given (protocol: worker, "Commands and environment"). */
import { definePlugin } from './plugin.ts';

export const env = definePlugin({
  name: 'env',
  payload: { properties: { env: { type: 'object', additionalProperties: { type: 'string' } } } },
  open: ({ config }) => ({
    newTask: (task, payload) => ({
      build: async builder => {
        for (const [name, value] of Object.entries(payload.env ?? {})) {
          builder.setEnv(name, value);
        }
        // after the task's own: it may not say who it is
        builder.setEnv('TASK_ID', task.taskId);
        builder.setEnv('RUN_ID', String(task.runId));
        builder.setEnv('TASK_GROUP_ID', task.definition.taskGroupId);
        builder.setEnv('TASKCLUSTER_ROOT_URL', config.rootUrl);
        if (Object.keys(config.workerLocation).length > 0) {
          builder.setEnv('TASKCLUSTER_WORKER_LOCATION', JSON.stringify(config.workerLocation));
        }
        if (config.instanceType !== '') {
          builder.setEnv('TASKCLUSTER_INSTANCE_TYPE', config.instanceType);
        }
      },
    }),
  }),
});
