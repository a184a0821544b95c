/** What is measured of the index: inserting and finding by single calls, and how it keeps up with tasks that index themselves. */
import { type Measured, inParallel, measure } from './measure.ts';
import { claimWork, complete, create, type Target, withConnections } from './suites.ts';
import { slugid } from './tasks.ts';

const INDEX = '/api/index/v1';
const expires = (): string => new Date(Date.now() + 86_400_000).toISOString();
/** As builds of a project are indexed: some paths always the same, most of them new. */
const pathOf = (i: number): string => `bench.v2.project-${i % 10}.revision.${i % 4 === 0 ? `latest-${i % 100}` : i}.build-linux`;

const insert = async (connection: Parameters<typeof create>[0], target: Target, path: string, rank: number): Promise<void> => {
  const body = { taskId: slugid(), rank, data: { version: '1.0', platform: 'linux64' }, expires: expires() };
  await connection.call('PUT', `${INDEX}/task/${path}`, target.credentials, body);
};

/** Single insertions, 16 at once. */
export const indexInserts = (target: Target, count: number): Promise<Measured> =>
  withConnections(target, 16, connections =>
    measure(target.pids, async () => {
      await inParallel(16, count, async (w, i) => insert(connections[w] as (typeof connections)[0], target, pathOf(i), i));
      return count;
    }),
  );

/** Single look-ups among 20,000 entries, 16 at once. */
export const indexFinds = (target: Target, count: number): Promise<Measured> =>
  withConnections(target, 16, async connections => {
    const entries = 20_000;
    await inParallel(16, entries, async (w, i) =>
      insert(connections[w] as (typeof connections)[0], target, `bench.finds.n${i % 20}.x${i}`, 0),
    );
    return measure(target.pids, async () => {
      await inParallel(16, count, async (w, i) => {
        const at = (i * 7_919) % entries;
        const reply = await (connections[w] as (typeof connections)[0]).send(
          'GET',
          `${INDEX}/task/bench.finds.n${at % 20}.x${at}`,
          target.credentials,
        );
        if (reply.status !== 200) {
          throw new Error(reply.body);
        }
      });
      return count;
    });
  });

/** Tasks with four routes into the index: how many the index takes in a second once they have completed, and how long after the last one is found. */
export const indexRoutes = (target: Target, count: number): Promise<Measured> =>
  withConnections(target, 16, async connections => {
    const taskQueueId = 'bench/index';
    await inParallel(16, count, async (w, i) => {
      const routes = ['revision', 'pushdate', 'nightly', 'latest'].map(
        kind => `index.bench.routes.${kind}.${kind === 'latest' ? 'x' : i}.build`,
      );
      await create(connections[w] as (typeof connections)[0], target, taskQueueId, { routes });
    });
    const isFound = async (i: number): Promise<boolean> =>
      (await (connections[0] as (typeof connections)[0]).send('GET', `${INDEX}/task/bench.routes.revision.${i}.build`, target.credentials))
        .status === 200;
    return measure(target.pids, async () => {
      await inParallel(16, count, async w => {
        const connection = connections[w] as (typeof connections)[0];
        const claim = await claimWork(connection, target, taskQueueId, w);
        if (claim) {
          await complete(connection, claim);
        }
      });
      for (let i = 0; i < count; i++) {
        while (!(await isFound(i))) {
          await new Promise(resolve => setTimeout(resolve, 1));
        }
      }
      return count;
    });
  });
