/**
 * A plugin adds one ability to every engine. Plugins are opened once per worker; each task then gets its own task plugins.
 *
 * The stages of a task's life. In the order of `all.ts`: `prepare` (all plugins at once), `build` (one after another), the engine starts, `started`.
 * When the commands have ended: `judge`; then, in reverse order, `stopped`; then, once the resolution is known, `finished` (all at once); then the
 * report to the queue; then `dispose`. Hooks of one task never overlap, but for `prepare` and `finished`.
 *
 * A hook that throws decides the task's resolution if nothing did before; what comes after `build` in the way up is then skipped, and the way down is
 * walked all the same, with no result if the sandbox never ran. After the claim was lost (cancelled, deadline, taken away) only `dispose` is called:
 * nothing may be uploaded any more. When the worker stops, the report goes out first and `finished` follows while there is time.
 */
import type { TaskContext, WorkerEnvironment } from '../context.ts';
import type { Sandbox, SandboxBuilder, SandboxResult } from '../engines/engine.ts';
import type { Resolution } from '../errors.ts';
import type { PayloadPart, TaskPayload } from '../payload.ts';

export interface PluginDefinition {
  readonly name: string;
  /** The plugin's part of the payload, merged with the engine's and the other plugins'; no property may be declared twice. */
  readonly payload: PayloadPart;
  /** Called for a task with an invalid payload, too: its log must be published. */
  readonly evenIfMalformed?: true;
  open(worker: WorkerEnvironment): Promise<Plugin> | Plugin;
}

export interface Plugin {
  /** Nothing when the task does not ask for what the plugin does. */
  newTask(task: TaskContext, payload: TaskPayload): TaskPlugin | undefined;
  /** Before each claim: makes room if it can. */
  freeDiskSpace?(isEnough: () => Promise<boolean>): Promise<void>;
  dispose?(): Promise<void>;
}

export interface TaskPlugin {
  /** Cheap checks first, then what can be fetched while others prepare. */
  prepare?(): Promise<void>;
  build?(builder: SandboxBuilder): Promise<void>;
  started?(sandbox: Sandbox): Promise<void> | void;
  /** Throws when the way in which the commands ended means something else than the engine's verdict. */
  judge?(result: SandboxResult): void;
  stopped?(result: SandboxResult | undefined): Promise<void>;
  finished?(resolution: Resolution): Promise<void>;
  dispose?(): Promise<void>;
}

export const definePlugin = (plugin: PluginDefinition): PluginDefinition => plugin;
