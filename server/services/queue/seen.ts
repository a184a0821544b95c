/**
 * What the queue remembers of workers and task queues because they showed themselves. The hot path tells, and goes on: recording is throttled and
 * batched elsewhere, and never costs a claim a round trip. Whoever reads worker information lets what was told be written first.
 */

export interface SeenRun {
  readonly taskId: string;
  readonly runId: number;
}

export interface SeenRecorder {
  /**
   * A worker asked for work or renewed a claim: it and its task queue live for a day more. Called once when it asks (nothing claimed), and again
   * with what it got.
   */
  worker(taskQueueId: string, workerGroup: string, workerId: string, claimed: readonly SeenRun[]): void;
  /** A task queue was used without a worker being recorded (`claimTask`): it is known until then. */
  taskQueue(taskQueueId: string, expiresMs: number): void;
  /** Whether a worker may get no work now. From memory: at once after a change in this process, within a second after one in another. */
  isQuarantined(taskQueueId: string, workerGroup: string, workerId: string): boolean;
}
