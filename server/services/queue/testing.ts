/** For tests of the queue: definitions to start from, a queue with its loops in hand, and the replay of recorded sequences. */
import type { MethodInput } from '@tscluster/api/define.ts';
import { queueApi } from '@tscluster/api/queue/api.ts';
import { type Client, ApiCallError } from '@tscluster/client/client.ts';
import { slugid } from '@tscluster/client/clock.ts';
import type { FakeClock } from '../../testing/clock.ts';
import { type TestServer, type WithServerOptions, seededRandom, withServer } from '../../testing/server.ts';
import { testDatabase } from '../../testing/template.ts';
import type { Clock } from '../../platform/clock.ts';
import type { Loop } from '../../platform/loop.ts';
import type { Service } from '../../platform/service.ts';
import type { Ctx } from './ctx.ts';
import { contexts, queueService } from './service.ts';

export type NewDefinition = MethodInput<(typeof queueApi)['methods']['createTask']>;
export type QueueClient = Client<typeof queueApi>;

export const TASK_QUEUE = 'prov/wt';
export const aWorker = (workerId = 'worker-a') => ({ workerGroup: 'wg1', workerId });

/** A definition that is valid now; the test says only what matters. */
export const aTask = (clock: Clock, fields: Partial<NewDefinition> = {}): NewDefinition => ({
  taskQueueId: TASK_QUEUE,
  created: new Date(clock.nowMs()).toISOString(),
  deadline: new Date(clock.nowMs() + 3_600_000).toISOString(),
  payload: {},
  metadata: { name: 'n', description: 'd', owner: 'o@example.com', source: 'https://src.example' },
  ...fields,
});

export interface QueueServer extends TestServer {
  readonly queue: QueueClient;
  readonly ctx: Ctx;
  /** Fresh task ids, the same in every run. */
  readonly newId: () => string;
  /** Runs a loop until it has nothing left that is due. */
  runLoop(loop: Loop<Ctx>): Promise<void>;
  /** Creates a task; answers with its id. */
  create(fields?: Partial<NewDefinition>, taskId?: string): Promise<string>;
  /** Claims for `worker-a`. */
  claim(tasks?: number, taskQueueId?: string): Promise<string[]>;
}

let seed = 100;

/** A queue, alone unless more services are given. */
export const withQueue = async (options: WithServerOptions & { more?: readonly Service[] } = {}): Promise<QueueServer> => {
  const server = await withServer([queueService, ...(options.more ?? [])], options);
  const running = server.server.services.get('queue');
  const ctx = running && contexts.get(running);
  if (!ctx) {
    throw new Error('The queue does not run');
  }
  const queue = server.client(queueApi);
  const random = seededRandom(seed++);
  const newId = (): string => slugid(random);
  return {
    ...server,
    queue,
    ctx,
    newId,
    runLoop: async loop => {
      while ((await loop.run(ctx, loop.batch)) > 0) {
        // until nothing is left
      }
    },
    create: async (fields = {}, taskId = newId()) => {
      await queue.createTask({ taskId }, aTask(server.clock, fields));
      return taskId;
    },
    claim: async (tasks = 1, taskQueueId = TASK_QUEUE) =>
      (await claimNow(ctx, server.clock, queue, taskQueueId, { ...aWorker(), tasks })).tasks.map(task => task.status.taskId),
  };
};

/** Two processes on one database, each with its own lane; the first delivers the events of both. */
export const withTwoQueues = async (): Promise<[QueueServer, QueueServer]> => {
  const { db } = await testDatabase();
  const one = await withQueue({ db, relay: true });
  return [one, await withQueue({ db, clock: one.clock })];
};

/** Empties the queue, and takes the events that are left. */
export const forgetTasks = async (server: QueueServer): Promise<void> => {
  await server.db`truncate queue.tasks, queue.pending, queue.claims, queue.deps, queue.groups, queue.fanouts, queue.progress`;
  await server.drain();
};

/** Turns of the event loop by which one of two calls is late: every interleaving has its chance. */
export const late = async (turns: number): Promise<void> => {
  for (let i = 0; i < turns; i++) {
    await new Promise<void>(resolve => {
      setImmediate(resolve);
    });
  }
};

type ClaimBody = MethodInput<(typeof queueApi)['methods']['claimWork']>;
type ClaimReply = Awaited<ReturnType<QueueClient['claimWork']>>;

/** `claimWork`; if nothing is there the clock is moved past the long poll. */
export const claimNow = async (
  ctx: Ctx,
  clock: FakeClock,
  queue: QueueClient,
  taskQueueId: string,
  body: ClaimBody,
): Promise<ClaimReply> => {
  const state = { settled: false };
  const reply = queue.claimWork({ taskQueueId }, body).finally(() => {
    state.settled = true;
  });
  reply.catch(() => undefined);
  while (!state.settled) {
    await new Promise<void>(resolve => {
      setTimeout(resolve, 2);
    });
    await ctx.hot.drain();
    if (!state.settled && ctx.waiters.size > 0 && ctx.waiters.asking === 0) {
      await clock.tick({ seconds: 20 });
    }
  }
  return reply;
};

/** What a call was refused with. */
export const refusal = async (call: Promise<unknown>): Promise<{ statusCode: number; code: string; message: string }> => {
  try {
    await call;
  } catch (error) {
    if (error instanceof ApiCallError) {
      return { statusCode: error.statusCode, code: error.code, message: error.message };
    }
    throw error;
  }
  throw new Error('The call was not refused');
};

/** What must hold between the tables whenever no transaction is under way. Answers with every breach, in words. */
export const findBreaches = async ({ db, clock }: Pick<QueueServer, 'db' | 'clock'>): Promise<string[]> => {
  const rows = await db<{ breach: string }>`
    select 'pending without a place in line: ' || t.task_id as breach from queue.tasks t
    where t.state = 'pending' and not t.held and t.deadline > ${clock.now()} and not exists (
      select from queue.pending p where p.task_queue_id = t.task_queue_id and p.priority = t.priority and p.seq = t.pending_seq
        and p.task_id = t.task_id and p.run_id = t.run_id)
    union all
    select 'in line without being pending: ' || p.task_id from queue.pending p
    left join queue.tasks t on t.task_id = p.task_id and t.state = 'pending' and t.run_id = p.run_id and t.pending_seq = p.seq
    where t.task_id is null
    union all
    select 'running without a claim: ' || t.task_id from queue.tasks t
    where t.state = 'running' and t.deadline > ${clock.now()} and not exists (
      select from queue.claims c where c.task_id = t.task_id and c.run_id = t.run_id and c.taken_until = t.taken_until)
    union all
    select 'two claims of one run: ' || task_id from queue.claims group by task_id, run_id having count(*) > 1
    union all
    select 'wrong count of unmet dependencies: ' || t.task_id from queue.tasks t
    left join (select dependent collate "C" as task_id, count(*) as unmet from queue.deps where not satisfied group by 1) d on d.task_id = t.task_id
    where t.unmet <> coalesce(d.unmet, 0)
    union all
    select 'held although nothing is unmet, or in the wrong state: ' || task_id from queue.tasks
    where held and ((unmet = 0 and deadline > ${clock.now()}) or state in ('unscheduled', 'running'))
    union all
    select 'held and in line: ' || t.task_id from queue.tasks t join queue.pending p on p.task_id = t.task_id where t.held
    union all
    select 'unscheduled although nothing is unmet: ' || task_id from queue.tasks where state = 'unscheduled' and unmet = 0 and deadline > ${clock.now()}
    union all
    select 'not satisfied by a resolved task: ' || d.required || ' → ' || d.dependent from queue.deps d join queue.tasks t on t.task_id = d.required
    join queue.tasks w on w.task_id = (d.dependent collate "C")
    where not d.satisfied and not t.held and w.deadline > ${clock.now()} and (t.state = 'completed' or (d.any_outcome and t.state in ('failed', 'exception')))
      and not exists (select from queue.fanouts f where f.task_id = d.required)
    union all
    select 'wrong count of unresolved tasks: ' || g.task_group_id from queue.groups g
    where g.unresolved <> (select count(*) from queue.tasks t where t.task_group_id = g.task_group_id and t.times_resolved = 0)
    union all
    select 'no group: ' || t.task_id from queue.tasks t where not exists (select from queue.groups g where g.task_group_id = t.task_group_id)
    union all
    select 'state and last run differ: ' || task_id from queue.tasks where (state = 'unscheduled') <> (run_id = -1)`;
  return rows.map(row => row.breach);
};
