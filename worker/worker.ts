/** A worker: one engine, all plugins, the claim loop, and an orderly beginning and end. */
import { mkdir } from 'node:fs/promises';
import { systemClock, systemRandom, type Clock, type Random } from '@tscluster/client/clock.ts';
import { ClaimLoop } from './claim.ts';
import { credentialsOf, taskQueueIdOf, type WorkerConfig } from './config.ts';
import type { WorkerEnvironment } from './context.ts';
import { hasFreeSpace } from './disk-space.ts';
import type { EngineDefinition } from './engines/engine.ts';
import { engines } from './engines/all.ts';
import { giveBackRuns } from './leftovers.ts';
import type { Monitor } from './monitor.ts';
import { payloadValidator } from './payload.ts';
import { plugins as allPlugins } from './plugins/all.ts';
import type { PluginDefinition } from './plugins/plugin.ts';
import { createQueueClient } from './queue.ts';
import { makeLogsFolder, runTask, type OpenPlugin, type RunEnvironment, type RunOutcome } from './run.ts';
import { WorkerState } from './state.ts';

export interface WorkerOptions {
  readonly config: WorkerConfig;
  readonly monitor: Monitor;
  readonly clock?: Clock;
  readonly random?: Random;
  readonly fetch?: typeof fetch;
  /** Default: all there are. */
  readonly engines?: readonly EngineDefinition[];
  readonly plugins?: readonly PluginDefinition[];
  readonly onResolved?: (run: { taskId: string; runId: number; outcome: RunOutcome }) => void;
}

export interface Worker {
  /**
   * Claims no more. With `finishTasks` the running tasks go on to their end, otherwise they are ended and resolved as `worker-shutdown`; a second call may
   * turn the one into the other. Resolves when nothing is left.
   */
  stop(options: { readonly finishTasks: boolean }): Promise<void>;
}

/** @throws when the configuration names no engine, or the machine cannot run it */
export const startWorker = async (options: WorkerOptions): Promise<Worker> => {
  const { config, monitor, clock = systemClock, random = systemRandom } = options;
  const definition = (options.engines ?? engines).find(({ name }) => name === config.engine);
  if (!definition) {
    throw new Error(
      `There is no engine "${config.engine}"; there are: ${(options.engines ?? engines).map(({ name }) => name).join(', ')}.`,
    );
  }
  await mkdir(config.dataDir, { recursive: true, mode: 0o700 });
  const state = await WorkerState.open(config.dataDir, random);
  const worker: WorkerEnvironment = { config, clock, random, monitor, fetch: options.fetch ?? fetch, marker: state.marker };
  const queueWith: RunEnvironment['queueWith'] = credentials =>
    createQueueClient({ rootUrl: config.rootUrl, credentials, fetch: worker.fetch });
  await makeLogsFolder(config.dataDir);
  // what an earlier life left running is ended first, and then given back
  const engine = await definition.open(worker);
  await giveBackRuns({ worker, state, queueWith });
  const pluginDefinitions = options.plugins ?? allPlugins;
  const plugins: OpenPlugin[] = await Promise.all(
    pluginDefinitions.map(async pluginDefinition => ({ definition: pluginDefinition, plugin: await pluginDefinition.open(worker) })),
  );
  const stopNow = new AbortController();
  const environment: RunEnvironment = {
    ...worker,
    engine,
    engineDefinition: definition,
    plugins,
    state,
    queueWith,
    validatePayload: payloadValidator([definition.payload, ...pluginDefinitions.map(({ payload }) => payload)]),
    stopSignal: stopNow.signal,
  };
  const stopClaiming = new AbortController();
  const claims = new ClaimLoop({
    // waiting at the queue for work ends when the worker stops
    queue: createQueueClient({
      rootUrl: config.rootUrl,
      credentials: credentialsOf(config),
      fetch: worker.fetch,
      retries: 0,
      timeoutMs: 60_000,
      signal: stopClaiming.signal,
    }),
    taskQueueId: taskQueueIdOf(config),
    workerGroup: config.workerGroup,
    workerId: config.workerId,
    capacity: config.capacity,
    clock,
    random,
    monitor,
    makeRoom: () => makeRoom(environment),
    run: (claim, free) =>
      runTask(environment, claim, outcome => {
        free();
        options.onResolved?.({ taskId: claim.status.taskId, runId: claim.runId, outcome });
      }),
  });
  for (const notice of engine.notices) {
    monitor.warn({}, notice);
  }
  monitor.info({ taskQueueId: taskQueueIdOf(config), engine: definition.name, capacity: config.capacity }, 'worker started');
  claims.start();
  let ending: Promise<void> | undefined;
  const end = async (): Promise<void> => {
    await claims.ended();
    for (const { plugin } of plugins) {
      await plugin.dispose?.();
    }
    await engine.dispose();
    monitor.info({}, 'worker stopped');
  };
  return {
    stop: async ({ finishTasks }) => {
      claims.stop();
      stopClaiming.abort();
      if (!finishTasks) {
        stopNow.abort();
      }
      ending ??= end();
      await ending;
    },
  };
};

/** Lets plugins give up what they keep for later until there is space for a task. */
const makeRoom = async ({ config, plugins }: RunEnvironment): Promise<boolean> => {
  const isEnough = (): Promise<boolean> => hasFreeSpace(config.tasksDir, config.requiredDiskSpaceMegabytes);
  if (await isEnough()) {
    return true;
  }
  for (const { plugin } of plugins) {
    await plugin.freeDiskSpace?.(isEnough);
  }
  return isEnough();
};
