/** What the hooks service works with. */
import type { Counter } from 'prom-client';
import type { Platform } from '../../platform/service.ts';
import type { Sandbox } from '../../platform/sandbox/sandbox.ts';
import { slugid } from '../../platform/clock.ts';
import type { HookKey } from './hooks.db.ts';
import type { Schedules } from './schedule.ts';

export interface Ctx {
  readonly platform: Platform;
  /** Exchanges that no hook may be bound to: each pattern from the start of the name. */
  readonly deniedExchanges: readonly RegExp[];
  readonly eventsPerMinute: number;
  readonly maxWaitingEvents: number;
  readonly sandbox: Sandbox;
  readonly schedules: () => Promise<Schedules>;
  /** Fires are waiting. */
  readonly wakeFires: () => void;
  readonly fires: Counter<'firedBy' | 'result'>;
  readonly discards: Counter;
  /** Messages discarded since the start, by hook. */
  readonly discardCounts: Map<string, number>;
  readonly dropped: Counter;
}

export const hookName = ({ hookGroupId, hookId }: HookKey): string => `${hookGroupId}/${hookId}`;
/** The role whose scopes a hook's tasks are created with. */
export const roleOf = (hook: HookKey): string => `hook-id:${hookName(hook)}`;

export const tokenContext = (hook: HookKey): string => `hooks/trigger-token/${hookName(hook)}`;
export const taskContext = (hook: HookKey): string => `hooks/next-task/${hookName(hook)}`;

export const encryptToken = ({ platform }: Ctx, hook: HookKey, token: string): string =>
  platform.keyring.encrypt(token, tokenContext(hook));
export const decryptToken = ({ platform }: Ctx, hook: HookKey, stored: string): string =>
  platform.keyring.decrypt(stored, tokenContext(hook));

/** The id of a task that is to be created, as it is kept until then. */
export const newTaskId = ({ platform }: Ctx, hook: HookKey): string => platform.keyring.encrypt(slugid(platform.random), taskContext(hook));
export const decryptTaskId = ({ platform }: Ctx, hook: HookKey, stored: string): string =>
  platform.keyring.decrypt(stored, taskContext(hook));
