/**
 * One task's life, from its claim to its report: validate, prepare, build, run, publish, report, clean up. The first error decides how it is resolved.
 * `plugins/plugin.ts` tells the stages.
 */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ApiCallError, type Credentials } from '@tscluster/client/client.ts';
import { ClaimKeeper, ClaimLost } from './claim-keeper.ts';
import { taskQueueIdOf } from './config.ts';
import { runName, type TaskContext, type WorkerEnvironment } from './context.ts';
import type { Engine, EngineDefinition, Sandbox, SandboxBuilder, SandboxResult } from './engines/engine.ts';
import { malformedPayload, messageOf, TaskError, taskFailed, type ExceptionReason, type Resolution } from './errors.ts';
import { TaskLog } from './log.ts';
import type { PayloadVerdict, TaskPayload } from './payload.ts';
import type { Plugin, PluginDefinition, TaskPlugin } from './plugins/plugin.ts';
import type { ClaimedTask, QueueCalls } from './queue.ts';
import type { WorkerState } from './state.ts';

/** The worker stops and cannot wait for the task. */
export class WorkerStops extends TaskError {
  constructor() {
    super('worker-shutdown', 'The worker was stopped before the task could finish.');
  }
}

export interface OpenPlugin {
  readonly definition: PluginDefinition;
  readonly plugin: Plugin;
}

export interface RunEnvironment extends WorkerEnvironment {
  readonly engine: Engine;
  readonly engineDefinition: EngineDefinition;
  readonly plugins: readonly OpenPlugin[];
  readonly state: WorkerState;
  readonly validatePayload: (payload: unknown) => PayloadVerdict;
  readonly queueWith: (credentials: () => Credentials) => QueueCalls;
  /** Aborted when the worker stops at once. */
  readonly stopSignal: AbortSignal;
}

// what is left to do when the worker was told to stop may take this long
const LAST_WORDS_MS = 5_000;
const REPORT_RETRY_MS = 1_000;

/** Folder of the logs of tasks in progress. */
export const logsFolder = (dataDir: string): string => join(dataDir, 'logs');

export type RunOutcome = Resolution | 'lost';

/**
 * Runs a claimed task and reports it. Never rejects.
 * @param onReported is called when the slot is free: what remains is only cleaning up
 */
export const runTask = async (
  environment: RunEnvironment,
  claim: ClaimedTask,
  onReported: (outcome: RunOutcome) => void,
): Promise<void> => {
  const run = new TaskRun(environment, claim);
  let outcome: RunOutcome = 'internal-error';
  try {
    outcome = await run.live();
  } catch (error) {
    environment.monitor.error({ taskId: claim.status.taskId, runId: claim.runId }, 'task run failed unexpectedly', error);
  } finally {
    onReported(outcome);
    await run.dispose();
  }
};

class TaskRun {
  readonly #environment: RunEnvironment;
  readonly #claim: ClaimedTask;
  readonly #task: TaskContext;
  readonly #log: TaskLog;
  readonly #keeper: ClaimKeeper;
  readonly #abort = new AbortController();
  readonly #silence = new AbortController();
  readonly #startMs: number;
  #error: unknown;
  #hasFailed = false;
  #plugins: TaskPlugin[] = [];
  #builder: SandboxBuilder | undefined;
  #sandbox: Sandbox | undefined;
  readonly #onStop = (): void => this.#abort.abort(new WorkerStops());

  constructor(environment: RunEnvironment, claim: ClaimedTask) {
    const { clock, random, monitor, config, state, queueWith, stopSignal } = environment;
    this.#environment = environment;
    this.#claim = claim;
    const { taskId } = claim.status;
    const { runId } = claim;
    this.#startMs = clock.monotonicMs();
    this.#log = new TaskLog({
      path: join(logsFolder(config.dataDir), `${runName({ taskId, runId })}.log`),
      clock,
      maxBytes: config.maxLogBytes,
    });
    this.#keeper = new ClaimKeeper({
      claim,
      clock,
      random,
      monitor,
      queueWith,
      onLost: reason => {
        this.#abort.abort(reason);
        this.#silence.abort(reason);
      },
      onRenewed: (credentials, takenUntil) => {
        monitor.info({ taskId, runId, takenUntil: takenUntil.toISOString() }, 'claim renewed');
        state.add({ taskId, runId, credentials, takenUntil: takenUntil.toISOString() });
      },
    });
    if (stopSignal.aborted) {
      this.#onStop();
    }
    stopSignal.addEventListener('abort', this.#onStop, { once: true });
    this.#task = {
      taskId,
      runId,
      definition: claim.task,
      log: this.#log,
      signal: this.#abort.signal,
      lostSignal: this.#silence.signal,
      queue: this.#keeper.queue,
      credentials: () => this.#keeper.credentials,
      fail: error => this.#fail(error),
    };
  }

  async live(): Promise<RunOutcome> {
    const { monitor, state } = this.#environment;
    const { taskId, runId } = this.#task;
    monitor.info({ taskId, runId }, 'task started');
    const { takenUntil, credentials } = this.#claim;
    state.add({ taskId, runId, takenUntil, credentials });
    const result = await this.#execute();
    if (!this.#abort.signal.aborted) {
      await this.#walkDown(result);
    }
    const { reason } = this.#abort.signal;
    if (reason instanceof ClaimLost) {
      this.#keeper.stop();
      await this.#sandbox?.kill();
      monitor.info({ taskId, runId, reason: reason.message }, 'task abandoned');
      state.remove(this.#task);
      return 'lost';
    }
    if (this.#abort.signal.aborted) {
      return this.#reportAndFinish();
    }
    const resolution = this.#resolution();
    await this.#finish(resolution);
    return this.#report(resolution);
  }

  /** Frees what the task held. */
  async dispose(): Promise<void> {
    this.#environment.stopSignal.removeEventListener('abort', this.#onStop);
    this.#keeper.stop();
    const release = async (what: (() => Promise<void>) | undefined): Promise<void> => {
      try {
        await what?.();
      } catch (error) {
        this.#environment.monitor.error({ taskId: this.#task.taskId, runId: this.#task.runId }, 'cleaning up after a task failed', error);
      }
    };
    await release(async () => this.#sandbox?.kill());
    for (const plugin of this.#plugins.toReversed()) {
      await release(plugin.dispose?.bind(plugin));
    }
    await release(async () => this.#builder?.dispose());
    await release(() => this.#log.close());
    await release(() => rm(this.#log.path, { force: true }));
  }

  #fail(error: unknown): void {
    if (!this.#hasFailed) {
      this.#hasFailed = true;
      this.#error = error;
    }
  }

  #resolution(): Resolution {
    if (!this.#hasFailed) {
      return 'completed';
    }
    return this.#error instanceof TaskError ? this.#error.resolution : 'internal-error';
  }

  /** The way up. Resolves to what the sandbox gave, or to nothing when it did not get that far. */
  async #execute(): Promise<SandboxResult | undefined> {
    this.#writeHeader();
    const { engine, plugins } = this.#environment;
    try {
      const verdict = this.#validate();
      const payload = this.#claim.task.payload as unknown as TaskPayload;
      this.#plugins = plugins
        .filter(({ definition }) => verdict === undefined || definition.evenIfMalformed)
        .flatMap(({ plugin }) => plugin.newTask(this.#task, payload) ?? []);
      if (verdict) {
        throw verdict;
      }
      const making = engine.newSandbox(this.#task, payload).then(builder => {
        this.#builder = builder;
        return builder;
      });
      const prepared = await Promise.allSettled([making, ...this.#plugins.map(plugin => plugin.prepare?.())]);
      for (const outcome of prepared) {
        if (outcome.status === 'rejected') {
          throw outcome.reason;
        }
      }
      const builder = await making;
      for (const plugin of this.#plugins) {
        await plugin.build?.(builder);
        this.#abort.signal.throwIfAborted();
      }
      const sandbox = await builder.start();
      this.#sandbox = sandbox;
      for (const plugin of this.#plugins) {
        await plugin.started?.(sandbox);
      }
      const result = await this.#resultOf(sandbox);
      for (const plugin of this.#plugins) {
        try {
          plugin.judge?.(result);
        } catch (error) {
          this.#fail(error);
        }
      }
      if (!result.success) {
        this.#fail(taskFailed(result.message ?? 'The task was ended before it could finish.'));
      }
      return result;
    } catch (error) {
      this.#fail(error);
      return undefined;
    }
  }

  async #resultOf(sandbox: Sandbox): Promise<SandboxResult> {
    const { signal } = this.#abort;
    const kill = (): void => void sandbox.kill();
    if (signal.aborted) {
      kill();
    }
    signal.addEventListener('abort', kill, { once: true });
    try {
      return await sandbox.result();
    } finally {
      signal.removeEventListener('abort', kill);
    }
  }

  /** The way down, as far as it belongs to the task: artifacts, then caches. */
  async #walkDown(result: SandboxResult | undefined): Promise<void> {
    for (const plugin of this.#plugins.toReversed()) {
      try {
        await plugin.stopped?.(result);
      } catch (error) {
        this.#fail(error);
      }
      if (this.#abort.signal.aborted) {
        return;
      }
    }
  }

  async #finish(resolution: Resolution): Promise<void> {
    const { clock } = this.#environment;
    this.#log.info(`=== Task Finished ===\nTask Duration: ${((clock.monotonicMs() - this.#startMs) / 1000).toFixed(3)}s`);
    if (this.#hasFailed) {
      const prefix = resolution === 'failed' ? '' : `${resolution}: `;
      this.#log.fail(prefix + messageOf(this.#error));
      if (resolution === 'internal-error') {
        this.#environment.monitor.error({ taskId: this.#task.taskId, runId: this.#task.runId }, 'internal error of a task', this.#error);
      }
    }
    const outcomes = await Promise.allSettled(this.#plugins.map(async plugin => plugin.finished?.(resolution)));
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') {
        // nothing of this decides the resolution: it is known
        this.#environment.monitor.warn(
          { taskId: this.#task.taskId, runId: this.#task.runId, error: messageOf(outcome.reason) },
          'a log was not published',
        );
      }
    }
  }

  /** The worker stops: the queue learns first, so that the next worker can begin. */
  async #reportAndFinish(): Promise<RunOutcome> {
    this.#hasFailed = true;
    this.#error = new WorkerStops();
    await this.#sandbox?.kill();
    const outcome = await this.#report('worker-shutdown');
    if (outcome !== 'lost') {
      const limit = this.#environment.clock.setTimer(LAST_WORDS_MS, () => this.#silence.abort(new WorkerStops()));
      await this.#finish('worker-shutdown');
      limit.cancel();
    }
    return outcome;
  }

  /** Tells the queue, again and again until the claim ends. When the worker stops it tries for some seconds: its next life tries again. */
  async #report(resolution: Resolution): Promise<RunOutcome> {
    const { clock, monitor, state, stopSignal } = this.#environment;
    const { taskId, runId, queue } = this.#task;
    const params = { taskId, runId: String(runId) };
    const giveUp = new AbortController();
    const limit = (): void => {
      const timer = clock.setTimer(LAST_WORDS_MS, () => giveUp.abort());
      giveUp.signal.addEventListener('abort', () => timer.cancel());
    };
    if (stopSignal.aborted) {
      limit();
    }
    stopSignal.addEventListener('abort', limit, { once: true });
    let outcome: RunOutcome = 'lost';
    while (!this.#silence.signal.aborted && !giveUp.signal.aborted) {
      try {
        await unlessAborted(giveUp.signal, reportTo(queue, params, resolution));
        outcome = resolution;
        break;
      } catch (error) {
        const isFinal = error instanceof ApiCallError && error.statusCode < 500;
        monitor.warn({ taskId, runId, resolution, error: messageOf(error) }, isFinal ? 'report refused' : 'report not delivered yet');
        if (isFinal || clock.nowMs() + REPORT_RETRY_MS >= this.#keeper.takenUntil.getTime()) {
          break;
        }
        await clock.sleep(REPORT_RETRY_MS, giveUp.signal).catch(() => {});
      }
    }
    stopSignal.removeEventListener('abort', limit);
    this.#keeper.stop();
    monitor.info({ taskId, runId, resolution: outcome }, 'task resolved');
    if (!giveUp.signal.aborted) {
      giveUp.abort();
      state.remove(this.#task);
    }
    return outcome;
  }

  #validate(): TaskError | undefined {
    const { validatePayload, engineDefinition, config } = this.#environment;
    const verdict = validatePayload(this.#claim.task.payload);
    if (!verdict.valid) {
      return malformedPayload(
        `The payload does not match the schema of this worker:\n${verdict.problems.map(problem => `  ${problem}`).join('\n')}`,
      );
    }
    if (verdict.form === 'container' && !engineDefinition.runsContainers) {
      return malformedPayload(
        `The payload names a container image, but the workers of ${taskQueueIdOf(config)} have the engine "${engineDefinition.name}", which runs commands without containers.`,
      );
    }
    return undefined;
  }

  #writeHeader(): void {
    const { config, engine } = this.#environment;
    const { taskId, runId } = this.#task;
    this.#log.info(`Worker Type (${taskQueueIdOf(config)}) settings:\n${JSON.stringify(config.metadata, undefined, 2)}`);
    this.#log.info(`Task ID: ${taskId}\nRun ID: ${runId}\nWorker: ${config.workerGroup}/${config.workerId}`);
    for (const notice of engine.notices) {
      this.#log.warn(notice);
    }
    this.#log.info('=== Task Starting ===');
  }
}

/** What the promise gives, unless the signal comes first. */
const unlessAborted = <T>(signal: AbortSignal, promise: Promise<T>): Promise<T> =>
  new Promise((resolve, reject) => {
    signal.addEventListener('abort', () => reject(new Error('given up')), { once: true });
    promise.then(resolve, reject);
  });

const reportTo = async (queue: QueueCalls, params: { taskId: string; runId: string }, resolution: Resolution): Promise<void> => {
  if (resolution === 'completed') {
    await queue.reportCompleted(params);
  } else if (resolution === 'failed') {
    await queue.reportFailed(params);
  } else {
    await queue.reportException(params, { reason: resolution satisfies ExceptionReason });
  }
};

/** Makes the folder of logs, empty. */
export const makeLogsFolder = async (dataDir: string): Promise<void> => {
  await mkdir(logsFolder(dataDir), { recursive: true, mode: 0o700 });
};
