/** The queue: tasks from their creation to their outcome. See README.md. */
import { queueApi } from '@tscluster/api/queue/api.ts';
import { schedulerApi } from '@tscluster/api/scheduler/api.ts';
import { integer } from '../../platform/config.ts';
import { EVENT_LOG } from '../../platform/event-log.ts';
import { run } from '../../platform/loop.ts';
import { type Handlers, type Platform, type RunningService, defineService, serve } from '../../platform/service.ts';
import { artifactExpiry } from './artifacts-expiry.ts';
import { artifactSettings, makeArtifactStorage } from './artifacts-storage.ts';
import type { Ctx, QueueConfig, Wake } from './ctx.ts';
import { makeDue } from './due.ts';
import { makePollRecorder } from './explain/polls.ts';
import { declareGauges } from './gauges.ts';
import { artifactHandlers } from './handlers/artifacts.ts';
import { claimHandlers } from './handlers/claims.ts';
import { countHandlers } from './handlers/counts.ts';
import { explainHandlers } from './handlers/explain.ts';
import { makeFollowers } from './graphs/followers.ts';
import { makeGroupLog } from './graphs/group-log.ts';
import { makeGroupWatches } from './graphs/group-watch.ts';
import { graphHandlers } from './handlers/graphs.ts';
import { groupHandlers } from './handlers/groups.ts';
import { taskQueueHandlers } from './handlers/task-queues.ts';
import { taskHandlers } from './handlers/tasks.ts';
import { workerHandlers } from './handlers/workers.ts';
import { makeHotPath } from './hot-path.ts';
import {
  claimExpiry,
  deadlines,
  dependencies,
  expireDependencies,
  expireGroups,
  expireHistory,
  expireTasks,
  newDeadlineCursor,
} from './loops.ts';
import { makeTaskReader } from './read-path.ts';
import { SATISFY_FUNCTION } from './resolve.db.ts';
import { makeUnanswered } from './unanswered.ts';
import { type Waiters, makeWaiters } from './waiters.ts';
import { workerRemoved } from './worker-removed.ts';
import { workerInfoExpiry } from './workers-expiry.ts';
import { makeWorkerRecorder } from './workers-seen.ts';

/** Waiting workers look by themselves now and then, should a wake-up have been lost. */
const SAFETY_NET_MS = 2_000;

const pendingIn = (taskQueueId: string): string => `queue/pending/${taskQueueId}`;
const FANOUTS = 'queue/fanouts';

/** What the running service is made of, for tests and measurements. */
export const contexts = new WeakMap<RunningService, Ctx>();

export const queueService = defineService({
  name: 'queue',
  settings: {
    ...artifactSettings,
    claimTimeoutSeconds: integer('TASK_CLAIM_TIMEOUT', 'seconds for which a claim lasts unless it is renewed', {
      fallback: 1200,
      min: 1,
      max: 86_400,
    }),
    maxDeadlineDays: integer('MAX_TASK_DEADLINE_DAYS', 'how many days ahead the deadline of a task may be', {
      fallback: 5,
      min: 1,
      max: 365,
    }),
    maxDependencies: integer('TASK_MAX_DEPENDENCIES', 'dependencies that one task may have', { fallback: 10_000, min: 0, max: 10_000 }),
    deadlineDelaySeconds: integer('QUEUE_DEADLINE_DELAY', 'seconds after its deadline when a task is given up', {
      fallback: 60,
      min: 1,
      max: 3600,
    }),
    expirationDelayMinutes: integer('QUEUE_EXPIRATION_DELAY', 'minutes after their expiry when tasks and groups are removed', {
      fallback: 30,
      min: 0,
      max: 1440,
    }),
    historyDays: integer('QUEUE_HISTORY_DAYS', 'days for which is remembered what explains past moments of tasks', {
      fallback: 30,
      min: 1,
      max: 3650,
    }),
  },
  start: async (platform, settings) => {
    const config: QueueConfig = {
      claimTimeoutMs: settings.claimTimeoutSeconds * 1000,
      maxDeadlineDays: settings.maxDeadlineDays,
      maxDependencies: settings.maxDependencies,
      deadlineDelayMs: settings.deadlineDelaySeconds * 1000,
      expirationDelayMs: settings.expirationDelayMinutes * 60_000,
      historyMs: settings.historyDays * 86_400_000,
    };
    const seen = makeWorkerRecorder(platform);
    await seen.start();
    declareGauges(platform);
    const { ctx, stop, onFanouts } = makeCtx(platform, config, {
      seen,
      polls: makePollRecorder(platform),
      artifacts: makeArtifactStorage(platform, settings),
    });
    const handlers: Handlers<typeof queueApi, Ctx> = {
      ...taskHandlers,
      ...claimHandlers,
      ...countHandlers,
      ...groupHandlers,
      ...artifactHandlers,
      ...workerHandlers,
      ...taskQueueHandlers,
      ...explainHandlers,
    };
    const running: RunningService = {
      apis: [serve(queueApi, handlers, ctx), serve(schedulerApi, graphHandlers, ctx)],
      loops: [
        run(claimExpiry, ctx, wake => ctx.claimsDue.onDue(wake)),
        run(deadlines, ctx, wake => ctx.deadlinesDue.onDue(wake)),
        run(dependencies, ctx, onFanouts),
        run(expireTasks, ctx),
        run(expireGroups, ctx),
        run(expireDependencies, ctx),
        run(artifactExpiry, ctx),
        run(workerInfoExpiry, ctx),
        run(expireHistory, ctx),
      ],
      subscriptions: [workerRemoved(ctx)],
      ready: async () => ctx.artifacts.prepare(),
      close: stop,
    };
    contexts.set(running, ctx);
    return running;
  },
});

const makeCtx = (
  platform: Platform,
  config: QueueConfig,
  { seen, polls, artifacts }: Pick<Ctx, 'seen' | 'polls' | 'artifacts'>,
): { ctx: Ctx; stop: () => Promise<void>; onFanouts: (wake: () => void) => void } => {
  const { clock } = platform;
  const claimsDue = makeDue(clock);
  const deadlinesDue = makeDue(clock);
  const unanswered = makeUnanswered({ db: platform.db, clock, claimTimeoutMs: config.claimTimeoutMs, alone: platform.alone });
  const listening = new Map<string, () => void>();
  const fanoutWakes: (() => void)[] = [];

  const wake: Wake = {
    pending: (taskQueueId, count) => {
      if (waiters.wake(taskQueueId, count) < count) {
        platform.notify(pendingIn(taskQueueId));
      }
    },
    claims: takenUntilMs => claimsDue.at(takenUntilMs),
    deadline: deadlineMs => deadlinesDue.at(deadlineMs + config.deadlineDelayMs),
    fanouts: () => platform.notify(FANOUTS),
  };
  const waiters: Waiters = makeWaiters({
    clock,
    ask: () => hot.ask(),
    isExcluded: ({ taskQueueId, workerGroup, workerId }) => seen.isQuarantined(taskQueueId, workerGroup, workerId),
    onQueue: (taskQueueId, waiting) => {
      if (waiting) {
        listening.set(
          taskQueueId,
          platform.onNotify(pendingIn(taskQueueId), () => void waiters.wake(taskQueueId)),
        );
      } else {
        listening.get(taskQueueId)?.();
        listening.delete(taskQueueId);
      }
    },
  });
  const hot = makeHotPath({
    lane: platform.openLane('queue', SATISFY_FUNCTION),
    clock,
    claimTimeoutMs: config.claimTimeoutMs,
    vacuum: platform.vacuum,
    waiters: () => waiters,
    wake,
    onDoubt: (worker, claims) => (claims ? unanswered.lost(worker, claims) : unanswered.suspect(worker)),
  });
  const reader = makeTaskReader(platform.openLane('queue reads'));

  const { db, log } = platform;
  const groupLog = makeGroupLog({ db, clock, log, onGrown: callback => platform.onNotify(EVENT_LOG, callback) });
  const groupWatches = makeGroupWatches({ db, clock, log, groupLog });

  const net = { timer: clock.setTimer(SAFETY_NET_MS, () => look(), { unref: true }) };
  const look = (): void => {
    waiters.wakeAll();
    net.timer = clock.setTimer(SAFETY_NET_MS, look, { unref: true });
  };

  return {
    ctx: {
      platform,
      config,
      seen,
      polls,
      artifacts,
      hot,
      reader,
      waiters,
      unanswered,
      wake,
      claimsDue,
      deadlinesDue,
      deadlines: newDeadlineCursor(),
      groupWatches,
      followers: makeFollowers(),
    },
    stop: async () => {
      net.timer.cancel();
      claimsDue.stop();
      deadlinesDue.stop();
      fanoutWakes.forEach(stopListening => stopListening());
      await groupWatches.close();
      await groupLog.close();
      await Promise.all([hot.drain(), reader.drain()]);
      await Promise.all([seen.close(), polls.close()]);
    },
    onFanouts: wakeLoop => {
      fanoutWakes.push(platform.onNotify(FANOUTS, wakeLoop));
    },
  };
};
