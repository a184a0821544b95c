/** What the core gives to engines and plugins: the worker they live in, and the task they work for. */
import type { Credentials } from '@tscluster/client/client.ts';
import type { Clock, Random } from '@tscluster/client/clock.ts';
import type { WorkerConfig } from './config.ts';
import type { TaskLog } from './log.ts';
import type { Monitor } from './monitor.ts';
import type { ClaimedTask, QueueCalls } from './queue.ts';

export interface WorkerEnvironment {
  readonly config: WorkerConfig;
  readonly clock: Clock;
  readonly random: Random;
  readonly monitor: Monitor;
  /** For all requests. */
  readonly fetch: typeof fetch;
  /** A word that stands in the environment of everything this worker starts, in this life and in earlier ones. */
  readonly marker: string;
}

export interface TaskContext {
  readonly taskId: string;
  readonly runId: number;
  readonly definition: ClaimedTask['task'];
  readonly log: TaskLog;
  /** Aborted when the task must stop: its claim is lost, or the worker stops. */
  readonly signal: AbortSignal;
  /** Aborted when nothing may be published any more: the claim is lost, or the worker's last seconds are over. */
  readonly lostSignal: AbortSignal;
  /** Calls with the task's newest credentials. */
  readonly queue: QueueCalls;
  credentials(): Credentials;
  /** Decides the resolution, unless an earlier error did. */
  fail(error: unknown): void;
}

/** The name a file or folder of this run carries. */
export const runName = (task: Pick<TaskContext, 'taskId' | 'runId'>): string => `task_${task.taskId.slice(0, 10)}_${task.runId}`;
