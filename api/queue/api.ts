import { defineApi } from '../define.ts';
import { heartbeatMethods, pingMethods } from '../operational.ts';
import { artifactMethods, objectCredentials } from './artifacts.ts';
import { claimMethods, pollTaskUrlsResponse, taskCredentials } from './claims.ts';
import { taskPulseDefinition } from './events.ts';
import { explainMethods } from './explain.ts';
import { groupMethods, groupPriorityMethods } from './groups.ts';
import { taskChangeMethods, taskDefinitionAndStatus, taskMetadata, taskReadMethods, taskRun, taskStatus } from './tasks.ts';
import { workerMethods } from './workers.ts';

export const queueApi = defineApi({
  service: 'queue',
  version: 'v1',
  title: 'Queue Service',
  description: [
    'The queue keeps tasks from their creation to their outcome. A task waits in a task queue until a worker claims it; the worker keeps the claim alive while it works, stores artifacts, and reports how it ended. Lost workers are noticed and the task is tried again.',
    '',
    'Tasks can depend on others, and form groups. What happens is announced on the exchanges of the queue as it happens.',
  ].join('\n'),
  methods: {
    ...pingMethods,
    ...taskReadMethods,
    ...groupMethods,
    ...taskChangeMethods,
    ...groupPriorityMethods,
    ...claimMethods,
    ...artifactMethods,
    ...workerMethods,
    ...explainMethods,
    ...heartbeatMethods,
  },
  schemas: [
    taskMetadata,
    taskStatus,
    taskDefinitionAndStatus,
    taskRun,
    taskCredentials,
    objectCredentials,
    taskPulseDefinition,
    pollTaskUrlsResponse,
  ],
});
