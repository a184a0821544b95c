/** Hooks: templates of tasks, and what makes tasks of them. See README.md. */
import { hooksApi } from '@tscluster/api/hooks/api.ts';
import { integer, jsonSetting } from '../../platform/config.ts';
import { run } from '../../platform/loop.ts';
import { openSandbox } from '../../platform/sandbox/sandbox.ts';
import { type RunningService, defineService, serve } from '../../platform/service.ts';
import { makeSubscription, rebindAll } from './bindings.ts';
import { type Ctx, taskContext, tokenContext } from './ctx.ts';
import { fire } from './fire-loop.ts';
import { fireHandlers } from './handlers/fires.ts';
import { hookHandlers } from './handlers/hooks.ts';
import { statusHandlers } from './handlers/status.ts';
import type { HookKey } from './hooks.db.ts';
import { sendMails } from './mail.ts';
import { schedule } from './schedule-loop.ts';
import { type Schedules, loadSchedules } from './schedule.ts';
import { expireLastFires, forgetEvents } from './upkeep.ts';

/** A hook on these would be fired by its own task, or by its own change. */
const DENIED_EXCHANGES = [
  'exchange/taskcluster-queue/v1/task-created',
  'exchange/taskcluster-queue/v1/task-defined',
  'exchange/taskcluster-queue/v1/task-pending',
  'exchange/taskcluster-hooks/.*',
];

const checkPatterns = (value: unknown): string[] => {
  if (!Array.isArray(value) || !value.every(pattern => typeof pattern === 'string')) {
    throw new Error('must be a list of regular expressions');
  }
  value.forEach(pattern => new RegExp(`^${pattern}`));
  return value;
};

const hookOf = ({ hookGroupId = '', hookId = '' }: Readonly<Record<string, string>>): HookKey => ({ hookGroupId, hookId });

/** What the running service is made of, for tests. */
export const contexts = new WeakMap<RunningService, Ctx>();

export const hooksService = defineService({
  name: 'hooks',
  encrypted: [
    { table: 'hooks.hooks', column: 'trigger_token', key: ['hook_group_id', 'hook_id'], context: row => tokenContext(hookOf(row)) },
    { table: 'hooks.fires', column: 'task_id', key: ['id'], also: ['hook_group_id', 'hook_id'], context: row => taskContext(hookOf(row)) },
  ],
  settings: {
    deniedExchanges: jsonSetting(
      'HOOKS_BINDING_DENYLIST',
      'exchanges that hooks may not be bound to: regular expressions from the start of the name, as a JSON list',
      { fallback: DENIED_EXCHANGES },
      checkPatterns,
    ),
    eventsPerMinute: integer('HOOKS_EVENTS_PER_MINUTE', 'how often messages may fire one hook within a minute; further ones wait', {
      fallback: 600,
      min: 1,
      max: 10_000,
    }),
    templateSeconds: integer('HOOKS_TEMPLATE_SECONDS', 'seconds that a template or a schema of a hook may take', {
      fallback: 5,
      min: 1,
      max: 30,
    }),
    maxWaitingEvents: integer('HOOKS_MAX_WAITING_EVENTS', 'messages that may wait for one hook; the oldest beyond are dropped', {
      fallback: 1_000,
      min: 1,
      max: 100_000,
    }),
  },
  start: (platform, config) => {
    const { db, metrics } = platform;
    const wakes: (() => void)[] = [];
    let schedules: Promise<Schedules> | undefined;
    const ctx: Ctx = {
      platform,
      deniedExchanges: config.deniedExchanges.map(pattern => new RegExp(`^${pattern}`)),
      eventsPerMinute: config.eventsPerMinute,
      maxWaitingEvents: config.maxWaitingEvents,
      sandbox: openSandbox({ limitMs: config.templateSeconds * 1000 }),
      schedules: () => (schedules ??= loadSchedules()),
      wakeFires: () => wakes.forEach(wake => wake()),
      fires: metrics.counter('hooks_fires_total', 'Attempts to create a task from a hook', ['firedBy', 'result']),
      discards: metrics.counter('hooks_messages_discarded_total', 'Messages that do not match the triggerSchema of their hook', []),
      discardCounts: new Map(),
      dropped: metrics.counter('hooks_messages_dropped_total', 'Messages dropped because too many were waiting for a hook', []),
    };
    const running: RunningService = {
      apis: [serve(hooksApi, { ...hookHandlers, ...fireHandlers, ...statusHandlers }, ctx)],
      loops: [
        run(schedule, ctx),
        run(fire, ctx, wake => wakes.push(wake)),
        run(sendMails, ctx),
        run(forgetEvents, ctx),
        run(expireLastFires, ctx),
      ],
      subscriptions: [makeSubscription(ctx)],
      // should they have been forgotten, because no process served them for long
      ready: () => db.tx(tx => rebindAll(ctx, tx)),
      close: () => ctx.sandbox.close(),
    };
    contexts.set(running, ctx);
    return running;
  },
});
