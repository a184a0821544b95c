/**
 * How a task ends is decided by the first error: an error carries the resolution it stands for (protocol: worker, "Resolution rules").
 * Declarative faults, which another run would repeat, are `malformed-payload`; what the task's own commands, mounts or missing artifacts cause is
 * `failed`; the worker's own faults are `internal-error`.
 */

export type ExceptionReason = 'worker-shutdown' | 'malformed-payload' | 'resource-unavailable' | 'internal-error' | 'intermittent-task';
export type Resolution = 'completed' | 'failed' | ExceptionReason;

/** Ends the task with a resolution other than `completed`. The message is for the task's author and goes into the task log. */
export class TaskError extends Error {
  readonly resolution: 'failed' | ExceptionReason;
  constructor(resolution: 'failed' | ExceptionReason, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'TaskError';
    this.resolution = resolution;
  }
}

export const malformedPayload = (message: string, options?: ErrorOptions): TaskError =>
  new TaskError('malformed-payload', message, options);
export const taskFailed = (message: string, options?: ErrorOptions): TaskError => new TaskError('failed', message, options);
export const resourceUnavailable = (message: string, options?: ErrorOptions): TaskError =>
  new TaskError('resource-unavailable', message, options);

/** A file or folder that the task named does not exist when it ended. */
export class NotFound extends Error {}
/** It exists, but the task could not have read it. */
export class NotReadable extends Error {}
/** It is a folder where a file is wanted, or the reverse, or lies outside what belongs to the task. */
export class WrongKind extends Error {}

export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** The system's error code (`ENOENT`), if there is one. */
export const codeOf = (error: unknown): string | undefined => {
  const code = (error as { code?: unknown } | undefined)?.code;
  return typeof code === 'string' ? code : undefined;
};
