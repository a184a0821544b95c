/** What is measured, as the performance budget defines it. Each suite uses task queues of its own. */
import { Connection, type BenchCredentials } from './connection.ts';
import { type Measured, type Percentiles, inParallel, measure, percentiles } from './measure.ts';
import { aTask, slugid } from './tasks.ts';

export interface Target {
  readonly rootUrl: string;
  readonly credentials: BenchCredentials;
  readonly pids: { readonly server: number; readonly postgres: number };
}

interface Claim {
  readonly status: { readonly taskId: string };
  readonly runId: number;
  readonly credentials: BenchCredentials;
}

const QUEUE = '/api/queue/v1';
const worker = (i: number): object => ({ workerGroup: 'bench', workerId: `worker-${i}`, tasks: 1 });

const openAll = (target: Target, count: number): Promise<Connection[]> =>
  Promise.all(Array.from({ length: count }, () => Connection.open(target.rootUrl)));
export const withConnections = async <T>(target: Target, count: number, use: (connections: Connection[]) => Promise<T>): Promise<T> => {
  const connections = await openAll(target, count);
  try {
    return await use(connections);
  } finally {
    connections.forEach(connection => connection.close());
  }
};

export const create = (connection: Connection, target: Target, taskQueueId: string, more?: object, taskId = slugid()): Promise<unknown> =>
  connection.call('PUT', `${QUEUE}/task/${taskId}`, target.credentials, aTask(taskQueueId, more));
export const claimWork = async (connection: Connection, target: Target, taskQueueId: string, who: number): Promise<Claim | undefined> =>
  (await connection.call<{ tasks: Claim[] }>('POST', `${QUEUE}/claim-work/${taskQueueId}`, target.credentials, worker(who))).tasks[0];
export const complete = (connection: Connection, claim: Claim): Promise<unknown> =>
  connection.call('POST', `${QUEUE}/task/${claim.status.taskId}/runs/${claim.runId}/completed`, claim.credentials);

/** Single creates, `parallel` at once. */
export const creates = (target: Target, count: number, parallel = 16): Promise<Measured> =>
  withConnections(target, parallel, connections =>
    measure(target.pids, async () => {
      await inParallel(parallel, count, async w => {
        await create(connections[w] as Connection, target, `bench/create-${parallel}`);
      });
      return count;
    }),
  );

const ALL_DONE = new Error('All lifecycles have ended');

/** create → claim → complete, so many creators and as many workers at once. */
export const lifecycles = (target: Target, count: number, each = 8): Promise<Measured> =>
  withConnections(target, 2 * each, connections =>
    measure(target.pids, async () => {
      const taskQueueId = `bench/lifecycle-${each}`;
      let done = 0;
      const creating = inParallel(each, count, async w => {
        await create(connections[w] as Connection, target, taskQueueId);
      });
      const working = inParallel(each, Number.POSITIVE_INFINITY, async w => {
        const connection = connections[each + w] as Connection;
        const claim = await claimWork(connection, target, taskQueueId, w);
        if (claim) {
          await complete(connection, claim);
          done++;
        }
        if (done === count) {
          throw ALL_DONE; // the others may wait for work: they lose their connections
        }
      }).catch((error: unknown) => {
        if (error !== ALL_DONE) {
          throw error;
        }
      });
      await Promise.all([creating, working]);
      return count;
    }),
  );

/** From sending a create to an idle worker's claim being answered. */
export const handOffs = (target: Target, count: number): Promise<Percentiles> =>
  withConnections(target, 2, async ([creator, claimer]) => {
    const times: number[] = [];
    for (let i = 0; i < count; i++) {
      const claiming = claimWork(claimer as Connection, target, 'bench/hand-off', 0);
      await new Promise(resolve => setTimeout(resolve, 20));
      const startedMs = performance.now();
      const [claim] = await Promise.all([
        claiming.then(got => ({ got, atMs: performance.now() })),
        create(creator as Connection, target, 'bench/hand-off'),
      ]);
      times.push(claim.atMs - startedMs);
      await complete(claimer as Connection, claim.got as Claim);
    }
    return percentiles(times);
  });

/** One dependency edge: from sending the report of a task to its dependent being in an idle worker's hands. */
export const chainHops = (target: Target, count: number): Promise<Percentiles> =>
  withConnections(target, 2, async ([creator, claimer]) => {
    const times: number[] = [];
    const ids = Array.from({ length: count + 1 }, slugid);
    const taskGroupId = slugid();
    for (let i = 0; i < ids.length; i++) {
      await create(creator as Connection, target, 'bench/chain', { taskGroupId, dependencies: i === 0 ? [] : [ids[i - 1]] }, ids[i]);
    }
    let claim = (await claimWork(claimer as Connection, target, 'bench/chain', 0)) as Claim;
    for (let i = 0; i < count; i++) {
      const next = claimWork(claimer as Connection, target, 'bench/chain', 0);
      const startedMs = performance.now();
      const [got] = await Promise.all([
        next.then(c => ({ claim: c as Claim, atMs: performance.now() })),
        complete(creator as Connection, claim),
      ]);
      times.push(got.atMs - startedMs);
      claim = got.claim;
    }
    await complete(creator as Connection, claim);
    return percentiles(times);
  });

/** A read of one task, 16 at once. */
export const reads = (target: Target, count: number, what: 'status' | 'task'): Promise<Measured> =>
  withConnections(target, 16, async connections => {
    const ids = Array.from({ length: 64 }, slugid);
    for (const id of ids) {
      await create(connections[0] as Connection, target, 'bench/reads', {}, id);
    }
    return measure(target.pids, async () => {
      await inParallel(16, count, async (w, i) => {
        const reply = await (connections[w] as Connection).send(
          'GET',
          `${QUEUE}/task/${ids[i % ids.length]}${what === 'status' ? '/status' : ''}`,
          target.credentials,
        );
        if (reply.status !== 200) {
          throw new Error(reply.body);
        }
      });
      return count;
    });
  });

/** A read of one of some secrets, 16 at once. */
export const secretReads = (target: Target, count: number): Promise<Measured> =>
  withConnections(target, 16, async connections => {
    const path = (i: number): string => `/api/secrets/v1/secret/bench/${i % 64}`;
    const expires = new Date(Date.now() + 86_400_000).toISOString();
    for (let i = 0; i < 64; i++) {
      await (connections[0] as Connection).call('PUT', path(i), target.credentials, { secret: { token: 'x'.repeat(200), i }, expires });
    }
    return measure(target.pids, async () => {
      await inParallel(16, count, async (w, i) => {
        const reply = await (connections[w] as Connection).send('GET', path(i), target.credentials);
        if (reply.status !== 200) {
          throw new Error(reply.body);
        }
      });
      return count;
    });
  });

/** Listing a group of 2,000 tasks, both pages; milliseconds. */
export const groupLists = (target: Target, count: number): Promise<Percentiles> =>
  withConnections(target, 16, async connections => {
    const taskGroupId = slugid();
    await inParallel(16, 2_000, async w => {
      await create(connections[w] as Connection, target, 'bench/group', { taskGroupId });
    });
    const times: number[] = [];
    for (let i = 0; i < count; i++) {
      const startedMs = performance.now();
      let tasks = 0;
      let token: string | undefined;
      do {
        const page: { tasks: unknown[]; continuationToken?: string } = await (connections[0] as Connection).call(
          'GET',
          `${QUEUE}/task-group/${taskGroupId}/list${token ? `?continuationToken=${encodeURIComponent(token)}` : ''}`,
          target.credentials,
        );
        tasks += page.tasks.length;
        token = page.continuationToken;
      } while (token);
      if (tasks !== 2_000) {
        throw new Error(`The group lists ${tasks} tasks`);
      }
      times.push(performance.now() - startedMs);
    }
    return percentiles(times);
  });

const GRAPH_TASKS = 10_000;
const EDGES_PER_TASK = 3;

/** Graphs of 10,000 tasks and 30,000 edges, each in one call. The request's text is made beforehand. */
export const graphs = (target: Target, count: number): Promise<Percentiles> =>
  withConnections(target, 1, async ([connection]) => {
    const times: number[] = [];
    for (let i = 0; i < count; i++) {
      const taskGroupId = slugid();
      const ids = Array.from({ length: GRAPH_TASKS }, slugid);
      const tasks = ids.map((taskId, at) => ({
        taskId,
        task: aTask('bench/graph', {
          taskGroupId,
          dependencies:
            at <= EDGES_PER_TASK
              ? []
              : [1, 2, 3].map(step => ids[Math.floor(at / step) - 1] as string).filter((id, n, all) => all.indexOf(id) === n),
        }),
      }));
      const body = JSON.stringify({ tasks });
      const startedMs = performance.now();
      const reply = await (connection as Connection).send('PUT', `/api/scheduler/v1/graph/${taskGroupId}`, target.credentials, body);
      times.push(performance.now() - startedMs);
      if (reply.status !== 200) {
        throw new Error(`The graph was refused: ${reply.body.slice(0, 500)}`);
      }
    }
    return percentiles(times);
  });

/** A signed call that does next to nothing, 16 at once. */
export const signedNoOps = (target: Target, count: number): Promise<Measured> =>
  withConnections(target, 16, connections =>
    measure(target.pids, async () => {
      await inParallel(16, count, async w => {
        await (connections[w] as Connection).call('GET', '/api/auth/v1/scopes/current', target.credentials);
      });
      return count;
    }),
  );

/** expandScopes with 1,000 roles, and creating the next role. */
export const manyRoles = (target: Target, count: number): Promise<{ expand: Measured; createRole: Percentiles }> =>
  withConnections(target, 16, async connections => {
    const role = (i: number): Promise<unknown> =>
      (connections[0] as Connection).call('PUT', `/api/auth/v1/roles/${encodeURIComponent(`bench:role-${i}`)}`, target.credentials, {
        description: 'for the bench',
        scopes: [`bench:scope-${i}:*`, ...(i % 10 === 0 ? [] : [`assume:bench:role-${i - (i % 10)}`])],
      });
    const times: number[] = [];
    for (let i = 0; i < 1_000; i++) {
      const startedMs = performance.now();
      await role(i);
      if (i >= 900) {
        times.push(performance.now() - startedMs);
      }
    }
    const expand = await measure(target.pids, async () => {
      await inParallel(16, count, async (w, i) => {
        await (connections[w] as Connection).call('POST', '/api/auth/v1/scopes/expand', target.credentials, {
          scopes: [`assume:bench:role-${i % 1_000}`, 'queue:create-task:x/y'],
        });
      });
      return count;
    });
    return { expand, createRole: percentiles(times) };
  });
