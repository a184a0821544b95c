/**
 * kill -9 of every part of an installation, at random moments, while some two hundred tasks are in flight. Afterwards every task has the state it
 * should have, no run was held by two workers, and every change of state was announced: none lost, none without cause.
 *
 * `KILL_POINTS=20` kills that often per part (default: 3), `KILL_SEED=N` repeats the choices of an earlier run.
 */
import { queueApi } from '@tscluster/api/queue/api.ts';
import { createClient } from '@tscluster/client/client.ts';
import { beforeAll, describe, expect, test } from 'vitest';
import { type Accounts, audit } from './support/audit.ts';
import { type DeliveredEvent, subscribeToEverything } from './support/events.ts';
import { type Installation, startInstallation } from './support/installation.ts';
import { FAKE_QUEUES, LOCAL_QUEUE, type PlannedTask, planLoad } from './support/load.ts';
import { findProcesses, killNow, waitFor } from './support/processes.ts';
import { type Choices, seeded } from './support/random.ts';
import { runRound } from './support/round.ts';
import { aScript, aTask, newId } from './support/tasks.ts';

const POINTS = Number(process.env['KILL_POINTS'] ?? 3);
const SEED = Number(process.env['KILL_SEED'] ?? Math.floor(Math.random() * 1_000_000));
const POINT_MS = 240_000;

let installation: Installation;

beforeAll(async () => {
  console.log(`KILL_SEED=${SEED}`);
  installation = await startInstallation();
  await subscribeToEverything(installation);
  await installation.restart();
});

const points = Array.from({ length: POINTS }, (_, index) => index + 1);
const choicesOf = (part: string, point: number): Choices => seeded(SEED * 1_000 + point * 10 + part.length);
const sleep = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms));

/** Steps of the creators and the fake workers in one load, roughly: what happens meanwhile happens at one of them. */
const STEPS = 500;

/** The protocol counts a run that was given back as claimed until its claim would have ended. */
const retriedRuns = new Map<string, number>();

const expectAllIsWell = async (accounts: Accounts): Promise<void> => {
  for (const { plan, status } of accounts.tasks) {
    const { taskQueueId } = plan.definition;
    retriedRuns.set(taskQueueId, (retriedRuns.get(taskQueueId) ?? 0) + Math.max(0, status.runs.length - 1));
  }
  expect(audit(accounts), `seed ${SEED}`).toEqual([]);
  expect(accounts.tasks.length).toBeGreaterThanOrEqual(180);
  expect(accounts.events.length).toBeGreaterThan(accounts.tasks.length * 3);
  const queue = createClient(queueApi, { rootUrl: installation.rootUrl, credentials: installation.credentials });
  for (const taskQueueId of [...FAKE_QUEUES, LOCAL_QUEUE]) {
    const { pendingTasks, claimedTasks } = await queue.taskQueueCounts({ taskQueueId });
    expect({ taskQueueId, pendingTasks }).toEqual({ taskQueueId, pendingTasks: 0 });
    expect(claimedTasks, taskQueueId).toBeLessThanOrEqual(retriedRuns.get(taskQueueId) ?? 0);
  }
};

test(
  'without a kill, all accounts agree',
  async () => {
    await expectAllIsWell(await runRound(installation, planLoad(choicesOf('calm', 0)), async () => undefined));
  },
  POINT_MS,
);

describe('killing', () => {
  test.each(points)(
    'the server: point %i',
    async point => {
      const choices = choicesOf('server', point);
      const accounts = await runRound(installation, planLoad(choices), async ({ ledger }) => {
        await ledger.reached(choices.integer(10, STEPS));
        await sleep(choices.integer(0, 30));
        await installation.kill('server');
        await installation.restart();
      });
      await expectAllIsWell(accounts);
    },
    POINT_MS,
  );

  test.each(points)(
    'Postgres: point %i',
    async point => {
      const choices = choicesOf('postgres', point);
      const before = await installation.pid('postgres');
      const accounts = await runRound(installation, planLoad(choices), async ({ ledger }) => {
        await ledger.reached(choices.integer(10, STEPS));
        await sleep(choices.integer(0, 30));
        await installation.kill('postgres');
      });
      expect(await installation.pid('postgres')).not.toBe(before);
      await expectAllIsWell(accounts);
    },
    POINT_MS,
  );

  test.each(points)(
    'the worker: point %i',
    async point => {
      const choices = choicesOf('worker', point);
      const accounts = await runRound(installation, planLoad(choices), async ({ ledger }) => {
        await ledger.reached(choices.integer(30, STEPS / 2));
        await sleep(choices.integer(0, 3_000));
        await installation.kill('worker');
      });
      await expectAllIsWell(accounts);
    },
    POINT_MS,
  );

  test.each(points)(
    'all processes of tasks: point %i',
    async point => {
      const choices = choicesOf('tasks', point);
      const forest = [aForest(choices), aForest(choices)];
      const accounts = await runRound(installation, [...forest.map(task => [task]), ...planLoad(choices)], async () => {
        await Promise.all(forest.map(task => killForest(task, choices.integer(0, 300))));
      });
      await expectAllIsWell(accounts);
      for (const { taskId } of forest) {
        expect(await findProcesses(taskId)).toEqual([]);
      }
    },
    POINT_MS,
  );
});

/** A task that starts processes in every way a task can, some of which try to get away; it goes on until it is killed. */
const aForest = (choices: Choices): PlannedTask => {
  const [taskId, taskGroupId] = [newId(), newId()];
  const trees = ['sleep 3600 &', '(sleep 3600 & sleep 3600) &', 'setsid sleep 3600 &', 'nohup sh -c "sleep 3600; true" > /dev/null &'];
  const script = `${Array.from({ length: 6 }, () => choices.pick(trees)).join(' ')} sleep 3600; true`;
  const definition = aTask({ taskGroupId, schedulerId: 'e2e', retries: 20, payload: { ...aScript(script), maxRunTime: 3_000 } });
  return { taskId, taskGroupId, dependencies: [], outcomes: ['failed'], isLocal: true, definition };
};

/** Waits until a task's processes are there, and then a moment longer, and kills them all. */
const killForest = async ({ taskId }: PlannedTask, afterMs: number): Promise<void> => {
  const isSleeping = ({ command }: { command: string }): boolean => command.startsWith('sleep 3600');
  await waitFor(`the processes of ${taskId}`, 60_000, async () => (await findProcesses(taskId)).filter(isSleeping).length >= 3);
  await sleep(afterMs);
  for (let left = await findProcesses(taskId); left.some(isSleeping); left = await findProcesses(taskId)) {
    left.forEach(({ pid }) => killNow(pid));
  }
};

describe('the audit', () => {
  // every so many rows of the outbox never come to be, as if somebody had announced a change outside its transaction and died in between
  const SWALLOW = `
    create schema e2e;
    create table e2e.swallowed (id bigint, msg text);
    create function e2e.swallow() returns trigger language plpgsql as $$ begin
      if new.id % 25 = 0 then
        insert into e2e.swallowed values (new.id, new.msg);
        return null;
      end if;
      return new;
    end $$;
    create trigger swallow before insert on platform.outbox for each row execute function e2e.swallow()`;

  test(
    'misses every event that is swallowed',
    async () => {
      const database = await installation.connectDatabase();
      try {
        await database.query(SWALLOW);
        const accounts = await runRound(installation, planLoad(choicesOf('swallow', 0)), async () => undefined);
        await database.query('drop trigger swallow on platform.outbox');
        const { rows } = await database.query<{ msg: string }>('select msg from e2e.swallowed order by id');
        const swallowed = rows.flatMap(({ msg }) => JSON.parse(`[${msg}]`) as { exchange: string; payload: DeliveredEvent['payload'] }[]);
        const missed = swallowed
          // an artifact's event is sent once more when the artifact is changed
          .filter(({ exchange, payload }) => payload.status && !exchange.endsWith('/artifact-created'))
          .map(({ exchange, payload }) => {
            const key = [exchange.split('/').at(-1), payload.runId ?? '_', ...(payload.artifact ? [payload.artifact.name] : [])].join(' ');
            return `${payload.status?.taskId}: lost: ${key}`;
          });
        expect(missed.length).toBeGreaterThan(0);
        const lost = audit(accounts).filter(problem => problem.includes(': lost: task-'));
        expect(lost.sort()).toEqual(missed.sort());
      } finally {
        await database.query('drop schema if exists e2e cascade');
        await database.end();
      }
    },
    POINT_MS,
  );

  test(
    'notices what comes twice, without cause, out of order, and claims held by two',
    async () => {
      const good = await runRound(installation, planLoad(choicesOf('doctored', 0)), async () => undefined);
      expect(audit(good)).toEqual([]);
      const handOut = good.ledger.handOuts.at(-1);
      const completed = good.events.findLast(({ exchange }) => exchange === 'task-completed');
      const pending = good.events.findIndex(({ exchange }) => exchange === 'task-pending');
      if (!handOut || !completed) {
        throw new Error('The load has nothing to doctor');
      }
      const taskId = completed.payload.status?.taskId;
      const withEvents = (events: readonly DeliveredEvent[]): string[] => audit({ ...good, events });
      const withHandOut = (worker: string): string[] =>
        audit({ ...good, ledger: { ...good.ledger, handOuts: [...good.ledger.handOuts, { ...handOut, worker }] } });
      const again = { ...completed, seq: 1e9, eventId: 'again' };
      expect(withEvents([...good.events, completed])).toContain(`delivered twice: event ${completed.eventId}`);
      expect(withEvents([...good.events, ...Array.from({ length: 20 }, (_, i) => ({ ...again, eventId: `again ${i}` }))])).toContainEqual(
        expect.stringContaining(`${taskId}: 21 times: task-completed`),
      );
      expect(withEvents([...good.events, { ...again, exchange: 'task-failed' }])).toContainEqual(
        expect.stringContaining(`${taskId}: without cause: task-failed`),
      );
      expect(
        withEvents([...good.events.slice(0, pending), ...good.events.slice(pending + 1), good.events[pending] as DeliveredEvent]),
      ).toContainEqual(expect.stringContaining('out of order'));
      expect(withEvents(good.events.filter(({ exchange }) => exchange !== 'task-group-resolved'))).toContainEqual(
        expect.stringContaining('lost: task-group-resolved'),
      );
      expect(withHandOut('e2e/somebody')).toContainEqual(
        `${handOut.taskId}/${handOut.runId}: handed to e2e/somebody, while ${handOut.worker} held it`,
      );
      expect(withHandOut(handOut.worker)).toEqual([]);
    },
    POINT_MS,
  );
});
