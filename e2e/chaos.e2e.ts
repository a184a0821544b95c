/**
 * Everything at once, for a while: many processes under load, and at seeded random moments one of them is killed, paused, resumed or restarted, the
 * database is killed, the message broker is killed or restarted. Afterwards every task's history is compared with every event that was received: none
 * lost, none without cause, no run held by two workers, nothing before what it waits for.
 *
 * CHAOS_SECONDS=600 lets it go on for longer (default 30), CHAOS_SEED=N repeats the choices of an earlier run, CHAOS_ROUNDS=10 does it so often, each with
 * the next seed, and CHAOS_DIARY=1 prints what was done. CHAOS_OUTAGE_SECONDS=60 is how long the broker is away in the last scenario (default 10).
 */
import { queueApi } from '@tscluster/api/queue/api.ts';
import { createClient } from '@tscluster/client/client.ts';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openDb } from '../server/db/sql.ts';
import { systemClock } from '../server/platform/clock.ts';
import { findBreaches } from '../server/services/queue/testing.ts';
import { describeWith } from '../server/testing/programs.ts';
import { type TestRabbitmq, startRabbitmq } from '../server/testing/rabbitmq.ts';
import { type AmqpEvents, collectAmqpEvents } from './support/amqp-events.ts';
import { type Accounts, audit } from './support/audit.ts';
import { type Cluster, type ServerProcess, pathsOf, startCluster } from './support/cluster.ts';
import { type EventSource, fromSubscription, subscribeToEverything } from './support/events.ts';
import { FAKE_QUEUES, type Structure, planFakeLoad } from './support/load.ts';
import { type Choices, seeded } from './support/random.ts';
import { type RoundAccounts, runRound } from './support/round.ts';

const SECONDS = Number(process.env['CHAOS_SECONDS'] ?? 30);
const SEED = Number(process.env['CHAOS_SEED'] ?? Math.floor(Math.random() * 1_000_000));
const ROUNDS = Number(process.env['CHAOS_ROUNDS'] ?? 1);
const OUTAGE_SECONDS = Number(process.env['CHAOS_OUTAGE_SECONDS'] ?? 10);
const ROUND_MS = SECONDS * 1_000 + 600_000;
/** Between two structures of one of the eight creators: enough to do at any moment, and not so much that nothing else runs on the machine. */
const PAUSE_MS = 200;

const sleep = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms));

/** Structures until a moment has come. */
function* until(isOver: () => boolean, structures: Iterable<Structure>): Generator<Structure> {
  for (const structure of structures) {
    if (isOver()) {
      return;
    }
    yield structure;
  }
}

const startProcesses = async (cluster: Cluster): Promise<void> => {
  const web = ['--loops', 'none', '--no-relay'];
  await cluster.start('auth-1', { args: ['--services', 'auth', ...web], paths: pathsOf('auth') });
  await Promise.all([
    cluster.start('auth-2', { args: ['--services', 'auth', ...web], paths: pathsOf('auth') }),
    ...[1, 2, 3].map(n => cluster.start(`queue-${n}`, { args: ['--services', 'queue', ...web], paths: pathsOf('queue') })),
    ...[1, 2].map(n => cluster.start(`background-${n}`, { args: ['--services', 'auth,queue,object'], paths: pathsOf('object') })),
  ]);
};

interface Chaos {
  /** What happened, for a run that fails. */
  readonly diary: string[];
  run(seconds: number): Promise<void>;
}

const makeChaos = (cluster: Cluster, choices: Choices, broker: TestRabbitmq | undefined): Chaos => {
  const diary: string[] = [];
  const startMs = performance.now();
  const note = (what: string): void => void diary.push(`${((performance.now() - startMs) / 1000).toFixed(1)} s: ${what}`);
  const busy = new Set<ServerProcess | 'postgres' | 'broker'>();

  const withProcess = async (how: (victim: ServerProcess) => Promise<void>): Promise<void> => {
    const victim = choices.pick(cluster.processes.filter(each => !busy.has(each)));
    busy.add(victim);
    try {
      await how(victim);
    } finally {
      busy.delete(victim);
    }
  };
  const once = async (name: 'postgres' | 'broker', how: () => Promise<void>): Promise<void> => {
    if (!busy.has(name)) {
      busy.add(name);
      try {
        await how();
      } finally {
        busy.delete(name);
      }
    }
  };

  /** As whoever looks after processes does: one that cannot start, because its database is away just then, is started again. */
  const start = async (victim: ServerProcess): Promise<void> => {
    for (let tries = 1; ; tries++) {
      try {
        await victim.start();
        note(`${victim.name} is back`);
        return;
      } catch (error) {
        note(`${victim.name} did not start`);
        if (tries >= 5) {
          throw error;
        }
      }
    }
  };
  const kill = (): Promise<void> =>
    withProcess(async victim => {
      const awayMs = choices.integer(0, 3_000);
      note(`kill -9 ${victim.name}, away for ${awayMs} ms`);
      await victim.kill();
      await sleep(awayMs);
      await start(victim);
    });
  const pause = (): Promise<void> =>
    withProcess(async victim => {
      const forMs = choices.integer(200, 20_000);
      note(`SIGSTOP ${victim.name} for ${forMs} ms`);
      victim.pause();
      await sleep(forMs);
      victim.resume();
      note(`SIGCONT ${victim.name}`);
    });
  const restart = (): Promise<void> =>
    withProcess(async victim => {
      note(`SIGTERM ${victim.name}`);
      await victim.stop();
      await start(victim);
    });
  const killPostgres = (): Promise<void> =>
    once('postgres', async () => {
      note('kill -9 Postgres');
      await cluster.killPostgres();
      await sleep(3_000);
    });
  const upsetBroker = (): Promise<void> =>
    once('broker', async () => {
      if (broker) {
        const isKilled = choices.float() < 0.5;
        const awayMs = choices.integer(0, 5_000);
        note(`the broker is ${isKilled ? 'killed' : 'stopped'}, away for ${awayMs} ms`);
        await (isKilled ? broker.kill() : broker.stop());
        await sleep(awayMs);
        await broker.start();
        note('the broker is back');
      }
    });
  const deeds = [kill, kill, kill, pause, pause, pause, restart, killPostgres, ...(broker ? [upsetBroker, upsetBroker] : [])];

  return {
    diary,
    run: async seconds => {
      const untilMs = performance.now() + seconds * 1_000;
      const underWay = new Set<Promise<void>>();
      const failures: unknown[] = [];
      while (performance.now() < untilMs) {
        await sleep(choices.integer(200, 2_500));
        if (underWay.size < 3) {
          const deed = choices
            .pick(deeds)()
            .catch((error: unknown) => void failures.push(error))
            .finally(() => underWay.delete(deed));
          underWay.add(deed);
        }
      }
      await Promise.all(underWay);
      note('all is quiet');
      if (failures.length > 0) {
        throw new AggregateError(failures, failures.map(failure => (failure as Error).message).join('\n'));
      }
    },
  };
};

const expectAllIsWell = async (cluster: Cluster, accounts: Accounts, about: string): Promise<void> => {
  expect(audit(accounts), about).toEqual([]);
  const queue = createClient(queueApi, cluster);
  for (const taskQueueId of FAKE_QUEUES) {
    expect((await queue.taskQueueCounts({ taskQueueId })).pendingTasks).toBe(0);
  }
  const db = openDb({ connection: cluster.postgres.connection });
  try {
    expect(await findBreaches({ db, clock: systemClock as never }), about).toEqual([]);
  } finally {
    await db.close();
  }
};

const report = (name: string, accounts: RoundAccounts, more = ''): void => {
  const { tasks, events, unanswered } = accounts;
  console.log(`${name}: ${tasks.length} tasks, ${events.length} events, ${unanswered.length} calls repeated${more}`);
};

const rounds = Array.from({ length: ROUNDS }, (_, index) => SEED + index);

const chaosRound = async (
  cluster: Cluster,
  seed: number,
  { source, broker, repeats }: { source: EventSource; broker?: TestRabbitmq; repeats?: () => number },
): Promise<void> => {
  const choices = seeded(seed);
  const chaos = makeChaos(cluster, seeded(seed + 1_000_000), broker);
  let isOver = false;
  const accounts = await runRound(
    cluster,
    until(() => isOver, planFakeLoad(choices)),
    () =>
      chaos.run(SECONDS).finally(() => {
        isOver = true;
      }),
    { source, pauseMs: PAUSE_MS },
  );
  report(`seed ${seed}`, accounts, repeats && `, ${repeats()} events repeated by the broker`);
  if (process.env['CHAOS_DIARY'] !== undefined) {
    console.log(chaos.diary.join('\n'));
  }
  await expectAllIsWell(cluster, accounts, `seed ${seed}\n${chaos.diary.join('\n')}`);
  expect(accounts.tasks.length).toBeGreaterThan(50);
};

describe('with the bus on Postgres', () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await startCluster();
    await startProcesses(cluster);
    await subscribeToEverything(cluster);
  }, 300_000);
  afterAll(() => cluster?.discard(), 120_000);

  test.each(rounds)('nothing is lost: seed %i', seed => chaosRound(cluster, seed, { source: fromSubscription }), ROUND_MS);
});

describeWith('rabbitmq-server', 'rabbitmq-server', 'with RabbitMQ', () => {
  let broker: TestRabbitmq;
  let cluster: Cluster;
  let events: AmqpEvents;
  beforeAll(async () => {
    broker = await startRabbitmq();
    const { url } = await broker.makeVhost();
    cluster = await startCluster({ env: { PULSE_URL: url } });
    await startProcesses(cluster);
    events = await collectAmqpEvents(url);
  }, 400_000);
  afterAll(async () => {
    await events?.close();
    await cluster?.discard();
    await broker?.close();
  }, 120_000);
  test.each(rounds)(
    'nothing is lost: seed %i',
    seed => chaosRound(cluster, seed, { source: events.source, broker, repeats: events.repeats }),
    ROUND_MS,
  );

  test(
    'while it is away for long, every create, claim and report succeeds; afterwards all events arrive',
    async () => {
      const choices = seeded(SEED);
      let isOver = false;
      let waiting = 0;
      const accounts = await runRound(
        cluster,
        until(() => isOver, planFakeLoad(choices)),
        async () => {
          await sleep(2_000);
          await broker.stop();
          await sleep(OUTAGE_SECONDS * 1_000);
          const database = await cluster.connectDatabase();
          waiting = Number((await database.query<{ count: string }>('select count(*) from platform.outbox')).rows[0]?.count);
          await database.end();
          isOver = true;
          await broker.start();
        },
        { source: events.source, pauseMs: PAUSE_MS },
      );
      report('broker away', accounts, `, ${waiting} transactions' events waited`);
      expect(accounts.unanswered).toEqual([]);
      expect(waiting).toBeGreaterThan(10);
      await expectAllIsWell(cluster, accounts, 'broker away');
    },
    ROUND_MS,
  );
});
