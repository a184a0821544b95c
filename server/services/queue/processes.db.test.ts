/** Two servers on one database, as two processes: what one does wakes the other. */
import { beforeAll, expect, test } from 'vitest';
import { testDatabase } from '../../testing/template.ts';
import { type QueueServer, aWorker, findBreaches, withQueue } from './testing.ts';

let one: QueueServer;
let two: QueueServer;
beforeAll(async () => {
  const { db } = await testDatabase();
  one = await withQueue({ db, relay: true, alone: false });
  two = await withQueue({ db, clock: one.clock, alone: false });
});

/** Moves the clock by what notifications rest, and far less than the looks that are there for lost ones. */
const turn = async (): Promise<void> => {
  await new Promise<void>(resolve => {
    setTimeout(resolve, 5);
  });
  await one.clock.tick({ ms: 1 });
};

const until = async (isSo: () => boolean | Promise<boolean>): Promise<void> => {
  while (!(await isSo())) {
    await turn();
  }
};

const soon = async <T>(promise: Promise<T>): Promise<T> => {
  let settled = false;
  const noted = promise.finally(() => {
    settled = true;
  });
  noted.catch(() => undefined);
  await until(() => settled);
  return noted;
};

/** A worker that waits at a server; resolves once it stands in line and has found nothing. */
const wait = async (
  at: QueueServer,
  taskQueueId: string,
  workerId: string,
): Promise<{ reply: ReturnType<QueueServer['queue']['claimWork']> }> => {
  const before = at.ctx.waiters.size;
  const reply = at.queue.claimWork({ taskQueueId }, { ...aWorker(workerId), tasks: 1 });
  await until(() => at.ctx.waiters.size > before && at.ctx.waiters.asking === 0);
  return { reply };
};

test('a worker that waits at one gets what is created at the other', async () => {
  for (let round = 0; round < 5; round++) {
    const { reply } = await wait(one, 'prov/created', 'w');
    const taskId = await two.create({ taskQueueId: 'prov/created' });
    expect((await soon(reply)).tasks.map(task => task.status.taskId)).toEqual([taskId]);
  }
  expect(await findBreaches(one)).toEqual([]);
});

test('and what the other releases, retries, reruns and schedules', async () => {
  const parent = await two.create({ taskQueueId: 'prov/parents' });
  expect(await two.claim(1, 'prov/parents')).toEqual([parent]);
  const child = await two.create({ taskQueueId: 'prov/children', dependencies: [parent] });
  const waiting = await wait(one, 'prov/children', 'w');
  await two.queue.reportCompleted({ taskId: parent, runId: '0' });
  expect((await soon(waiting.reply)).tasks.map(task => task.status.taskId)).toEqual([child]);

  const again = await wait(one, 'prov/children', 'w');
  await two.queue.reportException({ taskId: child, runId: '0' }, { reason: 'worker-shutdown' });
  expect((await soon(again.reply)).tasks.map(task => [task.status.taskId, task.runId])).toEqual([[child, 1]]);
  await one.queue.reportFailed({ taskId: child, runId: '1' });

  const rerun = await wait(one, 'prov/children', 'w');
  await two.queue.rerunTask({ taskId: child });
  expect((await soon(rerun.reply)).tasks.map(task => task.runId)).toEqual([2]);

  const self = one.newId();
  await two.create({ taskQueueId: 'prov/scheduled', dependencies: [self] }, self);
  const scheduled = await wait(one, 'prov/scheduled', 'w');
  await two.queue.scheduleTask({ taskId: self });
  expect((await soon(scheduled.reply)).tasks.map(task => task.status.taskId)).toEqual([self]);
});

test('of many tasks and many workers at both, each gets one', async () => {
  const waiting = await Promise.all(Array.from({ length: 10 }, (_, i) => wait(i % 2 === 0 ? one : two, 'prov/many', `w${i}`)));
  const ids = await Promise.all(Array.from({ length: 10 }, () => two.create({ taskQueueId: 'prov/many' })));
  const claimed = (await soon(Promise.all(waiting.map(({ reply }) => reply)))).flatMap(({ tasks }) =>
    tasks.map(task => task.status.taskId),
  );
  expect(claimed.sort()).toEqual(ids.sort());
  expect(await findBreaches(one)).toEqual([]);
});

test('a quarantine at one holds at the other', async () => {
  const worker = { provisionerId: 'prov', workerType: 'quarantined', ...aWorker('bad') };
  const until_ = new Date(one.clock.nowMs() + 86_400_000).toISOString();
  await one.queue.declareWorker(worker, { expires: until_ });
  await one.queue.quarantineWorker(worker, { quarantineUntil: until_ });
  await until(() => two.ctx.seen.isQuarantined('prov/quarantined', 'wg1', 'bad'));
  const { reply } = await wait(two, 'prov/quarantined', 'bad');
  const taskId = await one.create({ taskQueueId: 'prov/quarantined' });
  const good = two.queue.claimWork({ taskQueueId: 'prov/quarantined' }, { ...aWorker('good'), tasks: 1 });
  expect((await soon(good)).tasks.map(task => task.status.taskId)).toEqual([taskId]);
  await one.clock.tick({ seconds: 20 });
  expect(await reply).toEqual({ tasks: [] });
});

test('a large fan-out at one is worked off by the loop of the other', async () => {
  const server = await withQueue({ db: one.db, clock: one.clock, alone: false, loops: true });
  const parent = await one.create({ taskQueueId: 'prov/fan' });
  expect(await one.claim(1, 'prov/fan')).toEqual([parent]);
  const children: string[] = [];
  for (let i = 0; i < 600; i += 50) {
    children.push(
      ...(await Promise.all(Array.from({ length: 50 }, () => two.create({ taskQueueId: 'prov/leaves', dependencies: [parent] })))),
    );
  }
  await one.queue.reportCompleted({ taskId: parent, runId: '0' });
  await until(async () => {
    const [row] = await one.db<{ count: number }>`select count(*) as count from queue.pending where task_queue_id = 'prov/leaves'`;
    return row?.count === children.length;
  });
  await server.close();
  expect(await findBreaches(one)).toEqual([]);
});
