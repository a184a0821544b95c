/**
 * The decision task: creates the project's task graph in its own task group, through the proxy that signs for it. Run by `.taskcluster.yml`
 * for a push; what it decided is left in the folder given as argument.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { queueApi } from '@tscluster/api/queue/api.ts';
import { createClient } from '@tscluster/client/client.ts';
import { slugid, systemClock, systemRandom } from '@tscluster/client/clock.ts';
import { makeGraph } from './graph.ts';

const require = (name: string): string => {
  const value = process.env[name];
  if (!value) {
    throw new Error(`${name} is not set: this program runs as a task, with the feature taskclusterProxy.`);
  }
  return value;
};

const [folder = 'decision'] = process.argv.slice(2);
const taskId = require('TASK_ID');
const queue = createClient(queueApi, { rootUrl: require('TASKCLUSTER_PROXY_URL') });
const own = await queue.task({ taskId });

const graph = makeGraph({
  taskQueueId: own.taskQueueId,
  schedulerId: own.schedulerId,
  taskGroupId: own.taskGroupId,
  decisionTaskId: taskId,
  owner: own.metadata.owner,
  htmlUrl: require('REPOSITORY_URL'),
  sourceUrl: require('SOURCE_URL'),
  isBundle: require('SOURCE_KIND') === 'bundle',
  revision: require('REVISION'),
  branch: require('BRANCH'),
  priority: own.priority,
  now: systemClock.now(),
  newTaskId: () => slugid(systemRandom),
});

mkdirSync(folder, { recursive: true });
const save = (name: string, value: unknown): void => writeFileSync(join(folder, name), `${JSON.stringify(value, null, 2)}\n`);
save('task-graph.json', Object.fromEntries(graph.map(({ taskId: id, label, definition }) => [id, { label, task: definition }])));
save('label-to-taskid.json', Object.fromEntries(graph.map(({ taskId: id, label }) => [label, id])));

for (const task of graph) {
  await queue.createTask({ taskId: task.taskId }, task.definition as unknown as Parameters<typeof queue.createTask>[1]);
  console.log(`${task.taskId} ${task.label}`);
}
console.log(`${graph.length} tasks created in group ${own.taskGroupId}.`);
