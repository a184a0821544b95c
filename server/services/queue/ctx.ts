/** What every handler and loop of the queue is given. */
import type { Platform } from '../../platform/service.ts';
import type { ArtifactStorage } from './artifacts-storage.ts';
import type { Due } from './due.ts';
import type { PollRecorder } from './explain/polls.ts';
import type { Followers } from './graphs/followers.ts';
import type { GroupWatches } from './graphs/group-watch.ts';
import type { HotPath } from './hot-path.ts';
import type { DeadlineCursor } from './loops.ts';
import type { TaskReader } from './read-path.ts';
import type { Unanswered } from './unanswered.ts';
import type { Waiters } from './waiters.ts';
import type { WorkerRecorder } from './workers-seen.ts';

export interface QueueConfig {
  readonly claimTimeoutMs: number;
  readonly maxDeadlineDays: number;
  readonly maxDependencies: number;
  /** How long after its deadline a task is given up. */
  readonly deadlineDelayMs: number;
  /** How long after their expiry tasks, groups and edges are removed. */
  readonly expirationDelayMs: number;
  /** How long is remembered what explains past moments. */
  readonly historyMs: number;
}

/** Who wants to know when there is work; called after the commit. */
export interface Wake {
  /** Runs became pending in a queue. */
  pending(taskQueueId: string, count: number): void;
  /** Claims were made or prolonged until then. */
  claims(takenUntilMs: number): void;
  /** A task with this deadline was created. */
  deadline(deadlineMs: number): void;
  /** A large fan-out waits to be worked off. */
  fanouts(): void;
}

export interface Ctx {
  readonly platform: Platform;
  readonly config: QueueConfig;
  readonly seen: WorkerRecorder;
  readonly polls: PollRecorder;
  readonly artifacts: ArtifactStorage;
  readonly hot: HotPath;
  readonly reader: TaskReader;
  readonly waiters: Waiters;
  readonly unanswered: Unanswered;
  readonly wake: Wake;
  /** When the next claim runs out, and the next deadline has to be looked at. */
  readonly claimsDue: Due;
  readonly deadlinesDue: Due;
  readonly deadlines: DeadlineCursor;
  /** Groups that somebody follows, and places for followers. */
  readonly groupWatches: GroupWatches;
  readonly followers: Followers;
}
