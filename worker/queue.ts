/** The calls a worker makes to the queue. */
import { queueApi } from '@tscluster/api/queue/api.ts';
import { createClient, type Client, type ClientOptions } from '@tscluster/client/client.ts';

export type QueueCalls = Pick<
  Client<typeof queueApi>,
  | 'claimWork'
  | 'reclaimTask'
  | 'reportCompleted'
  | 'reportFailed'
  | 'reportException'
  | 'createArtifact'
  | 'finishArtifact'
  | 'latestArtifact'
  | 'latestArtifactInfo'
>;

export type ClaimedTask = Awaited<ReturnType<QueueCalls['claimWork']>>['tasks'][number];

export const createQueueClient = (options: ClientOptions): QueueCalls => createClient(queueApi, options);
