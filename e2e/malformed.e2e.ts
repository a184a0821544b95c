/** A hundred definitions, each wrong in another way: each is refused with a 400 that says what is wrong where, and none leaves a trace. */
import { queueApi } from '@tscluster/api/queue/api.ts';
import { createClient } from '@tscluster/client/client.ts';
import { signRequest } from '@tscluster/client/hawk.ts';
import type { Client as Database } from 'pg';
import { beforeAll, expect, test } from 'vitest';
import { subscribeToEverything } from './support/events.ts';
import { type Installation, startInstallation } from './support/installation.ts';
import { MALFORMED_TASKS, type World } from './support/malformed-tasks.ts';
import { aTask, newId } from './support/tasks.ts';

let installation: Installation;
let database: Database;

beforeAll(async () => {
  installation = await startInstallation();
  await subscribeToEverything(installation);
  await installation.restart();
  database = await installation.connectDatabase();
});

interface Refusal {
  readonly code: string;
  readonly message: string;
  readonly requestInfo: { readonly method: string; readonly params: { readonly taskId: string } };
}

const putTask = async (taskId: string, body: string, contentType: string): Promise<{ status: number; answer: Refusal }> => {
  const url = new URL(`/api/queue/v1/task/${taskId}`, installation.rootUrl);
  const authorization = await signRequest({
    credentials: installation.credentials,
    nowMs: Date.now(),
    nonce: taskId.slice(0, 6),
    method: 'PUT',
    url,
  });
  const response = await fetch(url, { method: 'PUT', headers: { authorization, 'content-type': contentType }, body });
  return { status: response.status, answer: (await response.json()) as Refusal };
};

/** How many rows each table has in which a task or its events could leave something. */
const countRows = async (): Promise<Record<string, number>> => {
  const { rows: tables } = await database.query<{ name: string }>(
    `select table_schema || '.' || table_name as name from information_schema.tables
     where table_type = 'BASE TABLE' and ((table_schema = 'queue' and table_name not in ('workers', 'task_queues', 'progress', 'polls')) or (table_schema = 'platform' and table_name in ('outbox', 'deliveries', 'audit'))) order by 1`,
  );
  expect(tables.map(({ name }) => name)).toEqual(expect.arrayContaining(['platform.deliveries', 'queue.tasks', 'queue.groups']));
  const counts: Record<string, number> = {};
  for (const { name } of tables) {
    const { rows } = await database.query<{ count: string }>(`select count(*) from ${name}`);
    counts[name] = Number(rows[0]?.count);
  }
  return counts;
};

test('a hundred malformed definitions are refused, each for its reason, and nothing is stored', async () => {
  const queue = createClient(queueApi, { rootUrl: installation.rootUrl, credentials: installation.credentials });
  const shortLivedTaskId = newId();
  const good = aTask({ taskQueueId: 'e2e/malformed' });
  await queue.createTask({ taskId: shortLivedTaskId }, { ...good, expires: new Date(Date.now() + 2 * 3_600_000).toISOString() });
  const world: World = { nowMs: Date.now(), shortLivedTaskId, unknownTaskId: newId() };
  await expect.poll(async () => (await countRows())['platform.outbox']).toBe(0);
  const before = await countRows();
  expect(before).toMatchObject({ 'queue.tasks': 1, 'queue.groups': 1, 'platform.deliveries': 2 }); // defined, pending

  expect(MALFORMED_TASKS.length).toBeGreaterThanOrEqual(100);
  const bodies = new Set<string>();
  const made: { taskId: string; taskGroupId: string }[] = [];
  for (const { what, body, contentType = 'application/json', code, says } of MALFORMED_TASKS) {
    const [taskId, taskGroupId] = [newId(), newId()];
    bodies.add(body({ ...good, taskGroupId: 'the same' }, world));
    const { status, answer } = await putTask(taskId, body({ ...good, taskGroupId }, world), contentType);
    expect.soft({ status, code: answer.code }, `${what}: ${answer.message}`).toEqual({ status: 400, code });
    const text = answer.message?.split('\n---\n')[0] ?? '';
    for (const words of says) {
      const { unknownTaskId } = world;
      expect.soft(text, what).toContain(words.replace('<unknownTaskId>', unknownTaskId).replace('<shortLivedTaskId>', shortLivedTaskId));
    }
    expect.soft(answer.requestInfo, what).toMatchObject({ method: 'createTask', params: { taskId } });
    expect.soft(answer.message, what).toContain(`\n* errorCode:  ${code}\n* statusCode: 400\n`);
    made.push({ taskId, taskGroupId });
  }
  expect(bodies.size).toBe(MALFORMED_TASKS.length);

  for (const { taskId, taskGroupId } of made) {
    await expect(queue.task({ taskId })).rejects.toMatchObject({ statusCode: 404, code: 'ResourceNotFound' });
    await expect(queue.status({ taskId })).rejects.toMatchObject({ statusCode: 404, code: 'ResourceNotFound' });
    await expect(queue.getTaskGroup({ taskGroupId })).rejects.toMatchObject({ statusCode: 404, code: 'ResourceNotFound' });
  }
  // a good one after them all, so that the events of anything before it would have been delivered, too
  const lastTaskId = newId();
  await queue.createTask({ taskId: lastTaskId }, good);
  await expect.poll(async () => (await countRows())['platform.outbox']).toBe(0);
  await expect.poll(countRows).toEqual({
    ...before,
    'queue.tasks': 2,
    'queue.groups': 2,
    'queue.pending': 2,
    'platform.deliveries': 4,
  });
});
