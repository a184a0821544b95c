/**
 * An engine runs what a task says, in a sandbox: as processes, in a container, in a virtual machine. A worker has exactly one.
 *
 * Order of calls, per task: `newSandbox` → the builder's `setEnv`, `putFile`, `fillFolder`, `attachFolder`, `attachProxy` in any order, one at a time →
 * `start` → `result` → the result's methods → the builder's `dispose`. Builders of different tasks live concurrently. `kill` may be called at any time
 * after `start`, any number of times, also when the sandbox has ended: `result` then yields success = false. `dispose` comes last, always, also when
 * nothing was started, and must end everything that the task left running; it may be repeated.
 *
 * Who cleans up: the engine removes what it made. A folder that was attached belongs to whoever attached it: the engine gives it back through its handle's
 * `release`, and forgets it when that is not called.
 *
 * Optional methods that are missing are not supported: a task that asks for them is malformed.
 */
import type { FileHandle } from 'node:fs/promises';
import type { RequestListener } from 'node:http';
import type { TaskContext, WorkerEnvironment } from '../context.ts';
import type { PayloadPart, TaskPayload } from '../payload.ts';

export interface EngineDefinition {
  readonly name: string;
  /** The engine's own part of the payload. */
  readonly payload: PayloadPart;
  /** Whether a container payload (one with `image`) can be run. */
  readonly runsContainers: boolean;
  /** Also ends what an earlier life of this worker left running, and removes what it left behind. */
  open(worker: WorkerEnvironment): Promise<Engine>;
}

export interface Engine {
  /** What an operator should know, such as a missing protection; said at start and in every task log. */
  readonly notices: readonly string[];
  newSandbox(task: TaskContext, payload: TaskPayload): Promise<SandboxBuilder>;
  dispose(): Promise<void>;
}

/** A folder that was put into a sandbox and is wanted back. */
export interface AttachedFolder {
  /** Moves it back to where it came from. @throws when that is impossible; the content is then lost */
  release(): Promise<void>;
}

export interface SandboxBuilder {
  /** @throws a malformed payload, when the name or value cannot be a variable's */
  setEnv(name: string, value: string): void;
  /** Puts a copy of a file at a path, relative to the task's folder. */
  putFile(at: string, source: string): Promise<void>;
  /** Makes a folder at a path and lets `fill` put content into it. */
  fillFolder(at: string, fill: (folder: string) => Promise<void>): Promise<void>;
  /** Puts an existing folder at a path; the sandbox may change it. */
  attachFolder(at: string, folder: string): Promise<AttachedFolder>;
  /** Serves HTTP that only the task's own processes can reach. Resolves to its URL, without a slash at the end. */
  attachProxy?(handler: RequestListener): Promise<string>;
  start(): Promise<Sandbox>;
  dispose(): Promise<void>;
}

export interface Sandbox {
  /** The same result on every call. Rejects for the engine's own faults only. */
  result(): Promise<SandboxResult>;
  /** Ends everything the task started. Resolves when it has ended. */
  kill(): Promise<void>;
}

export interface ExtractedFile {
  readonly handle: FileHandle;
  readonly sizeBytes: number;
}

export interface FolderEntry {
  /** Below the folder, with `/` between parts. */
  readonly path: string;
  /** @throws as `openFile` */
  open(): Promise<ExtractedFile>;
}

export interface SandboxResult {
  readonly success: boolean;
  /** Of the last command that ran; absent when it was killed or could not be told. */
  readonly exitCode: number | undefined;
  /** Why it did not succeed, in words for the task log. */
  readonly message?: string;
  /**
   * A plain file of the task. What the task could not have read, or what lies outside its folder, is refused, whatever links lead there.
   * @throws NotFound, NotReadable, WrongKind
   */
  openFile(path: string): Promise<ExtractedFile>;
  /** The files below a folder, in order of their paths. @throws NotFound, NotReadable, WrongKind */
  listFolder(path: string): Promise<readonly FolderEntry[]>;
}
