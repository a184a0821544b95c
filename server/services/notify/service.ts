/** The notify service: messages to people and programs, by whatever channel, recorded and tried until they get through. See README.md. */
import { notifyApi } from '@tscluster/api/notify/api.ts';
import type { NotificationType } from '@tscluster/api/notify/deliveries.ts';
import { queueApi } from '@tscluster/api/queue/api.ts';
import { integer, jsonSetting, type Settings, text } from '../../platform/config.ts';
import { run } from '../../platform/loop.ts';
import { openSandbox } from '../../platform/sandbox/sandbox.ts';
import { defineService, serve } from '../../platform/service.ts';
import { channels } from './channels/all.ts';
import type { NotifyCtx, OpenChannel } from './context.ts';
import { deliverLoop } from './deliver.ts';
import { purgeGroups, resolvedGroups, stalledGroups } from './groups.ts';
import { deliveryHandlers } from './handlers/deliveries.ts';
import { denylistHandlers } from './handlers/denylist.ts';
import { messageHandlers } from './handlers/messages.ts';
import { purgeDeliveries } from './loops.ts';
import { groupSubscription, taskSubscription } from './subscriptions.ts';

const NOTIFICATION = 'notify';
const GROUPS = 'notify-groups';

const checkList = (value: unknown): readonly string[] => {
  if (!Array.isArray(value) || !value.every(each => typeof each === 'string')) {
    throw new TypeError('must be a JSON array of texts');
  }
  return value;
};

const ownSettings = {
  blockedEmails: jsonSetting<readonly string[]>(
    'EMAIL_BLACKLIST',
    'addresses to which no email is sent, besides the denylist; a JSON array',
    { fallback: [] },
    checkList,
  ),
  emailCount: integer('NOTIFY_EMAIL_LIMIT', 'emails that one address may get within the time below', { fallback: 50, min: 1 }),
  emailSeconds: integer('NOTIFY_EMAIL_LIMIT_SECONDS', 'that time', { fallback: 600, min: 1 }),
  duplicateMinutes: integer(
    'NOTIFY_DUPLICATE_MINUTES',
    'for how long a message that was sent is not sent once more, word for word, to the same address',
    {
      fallback: 60,
    },
  ),
  retryHours: integer('NOTIFY_RETRY_HOURS', 'for how long a message that cannot be sent is tried again', { fallback: 24 }),
  routePrefix: text('NOTIFY_ROUTE_PREFIX', 'the first word of the routes that ask for notifications', { fallback: 'notify' }),
  ignoredReasons: jsonSetting<readonly string[]>(
    'NOTIFY_IGNORED_REASONS',
    'exceptions of tasks that nobody is told of, by reason; a JSON array',
    { fallback: ['canceled', 'deadline-exceeded'] },
    checkList,
  ),
  settleSeconds: integer(
    'NOTIFY_GROUP_SETTLE_SECONDS',
    'for how long a group must be quiet before it counts as ended, unless it is sealed',
    {
      fallback: 5,
      max: 3_600,
    },
  ),
  retentionDays: integer('NOTIFY_RETENTION_DAYS', 'days for which is recorded what was sent', { fallback: 30, min: 1, max: 36_500 }),
};

/** Settings of all channels beside the service's own; the names of the values are prefixed by the channel. */
const settings = Object.assign(
  { ...ownSettings },
  ...channels.map(channel => Object.fromEntries(Object.entries(channel.settings).map(([key, each]) => [`${channel.name}.${key}`, each]))),
) as typeof ownSettings & Settings;

export const notifyService = defineService({
  name: 'notify',
  settings,
  start: (platform, config) => {
    const { db, clock, random, log, rootUrl, metrics } = platform;
    const deliveries = metrics.counter('notify_deliveries_total', 'Notifications that were sent, skipped or given up', ['type', 'state']);
    const valuesOf = (name: string): Record<string, unknown> =>
      Object.fromEntries(
        Object.entries(config).flatMap(([key, value]) => (key.startsWith(`${name}.`) ? [[key.slice(name.length + 1), value]] : [])),
      );
    const opened: OpenChannel[] = channels.map(channel => ({
      channel,
      sender: channel.open({ clock, random, log, rootUrl }, valuesOf(channel.name)),
    }));
    const byType = new Map(opened.flatMap(each => each.channel.types.map(type => [type, each])));
    const ctx: NotifyCtx = {
      db,
      clock,
      random,
      log,
      rootUrl,
      queue: platform.client(queueApi, 'notify', { retries: 0 }),
      channels: opened,
      sandbox: openSandbox(),
      channelOf: (type: NotificationType) => byType.get(type) as OpenChannel,
      wake: () => platform.notify(NOTIFICATION),
      wakeGroups: () => platform.notify(GROUPS),
      counted: ({ type, state }) => deliveries.inc({ type, state }),
      blockedEmails: new Set(config.blockedEmails),
      emailLimit: { count: config.emailCount, seconds: config.emailSeconds },
      duplicateMs: config.duplicateMinutes * 60_000,
      retryMs: config.retryHours * 3_600_000,
      routePrefix: config.routePrefix,
      ignoredReasons: new Set(config.ignoredReasons),
      settleMs: config.settleSeconds * 1_000,
    };
    const stopListening: (() => void)[] = [];
    const wokenBy =
      (name: string) =>
      (wake: () => void): void =>
        void stopListening.push(platform.onNotify(name, wake));
    return {
      apis: [serve(notifyApi, { ...messageHandlers, ...denylistHandlers, ...deliveryHandlers }, ctx)],
      loops: [
        ...opened.map(each => run(deliverLoop(each.channel), ctx, wokenBy(NOTIFICATION))),
        run(resolvedGroups, ctx, wokenBy(GROUPS)),
        run(stalledGroups, ctx),
        run(purgeGroups, { db, clock }),
        run(purgeDeliveries, { db, clock, retentionMs: config.retentionDays * 24 * 3_600_000 }),
      ],
      subscriptions: [taskSubscription(ctx), groupSubscription(ctx)],
      close: async () => {
        stopListening.forEach(stop => stop());
        await Promise.all([ctx.sandbox.close(), ...opened.map(async each => each.sender?.close?.())]);
      },
    };
  },
});
