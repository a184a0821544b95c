/** The pulse service: namespaces and accounts on the message broker. See README.md. */
import { pulseApi } from '@tscluster/api/pulse/api.ts';
import { loop, run } from '../../platform/loop.ts';
import { defineService, serve } from '../../platform/service.ts';
import { remove, rotate } from './accounts.ts';
import type { PulseCtx } from './ctx.ts';
import { pulseHandlers } from './handlers.ts';
import { BrokerError, openManagement } from './management.ts';
import { checkConnections, checkQueues, tellContacts } from './monitor.ts';
import { type NamespaceRow, listDue, listEnded } from './namespaces.db.ts';
import { brokerAddress, pulseSettings } from './settings.ts';

/** One after another; what fails for one does not keep the others, unless it is the broker that is away. Answers with how many were done. */
const forEachNamespace = async (
  { platform }: PulseCtx,
  rows: readonly NamespaceRow[],
  work: (row: NamespaceRow) => Promise<void>,
): Promise<number> => {
  let done = 0;
  for (const row of rows) {
    try {
      await work(row);
      done += 1;
    } catch (error) {
      if (error instanceof BrokerError) {
        throw error;
      }
      platform.log.error({ err: error, namespace: row.namespace }, 'namespace could not be kept in order');
    }
  }
  return done;
};

export const rotation = loop<PulseCtx>({
  name: 'pulse/rotate',
  everyMs: 30_000,
  batch: 50,
  run: async (ctx, limit) => {
    const { db, clock } = ctx.platform;
    return ctx.broker ? forEachNamespace(ctx, await listDue(db, clock.now(), limit), row => rotate(ctx, row)) : 0;
  },
});

export const expiry = loop<PulseCtx>({
  name: 'pulse/expire',
  everyMs: 60_000,
  batch: 20,
  run: async (ctx, limit) => {
    const { db, clock } = ctx.platform;
    return ctx.broker ? forEachNamespace(ctx, await listEnded(db, clock.now(), limit), row => remove(ctx, row.namespace)) : 0;
  },
});

export const monitor = loop<PulseCtx>({
  name: 'pulse/monitor',
  everyMs: 60_000,
  batch: 100,
  run: async (ctx, limit) => {
    if (ctx.broker) {
      await checkConnections(ctx, ctx.broker);
      await checkQueues(ctx, ctx.broker);
      await tellContacts(ctx, limit);
    }
    return 0;
  },
});

const contexts = new WeakMap<object, PulseCtx>();
/** The context of a running service, for tests that call its loops. */
export const contextOf = (running: object): PulseCtx => {
  const ctx = contexts.get(running);
  if (!ctx) {
    throw new Error('Not a running pulse service');
  }
  return ctx;
};

const MINUTE_MS = 60_000;

export const pulseService = defineService({
  name: 'pulse',
  settings: pulseSettings,
  start: (platform, settings) => {
    const address = brokerAddress(settings);
    const ctx: PulseCtx = {
      platform,
      broker: address && { ...address, management: openManagement(address.managementUrl, address.vhost, platform.clock) },
      namespacePrefix: settings.namespacePrefix,
      rotationMs: settings.rotationMinutes * MINUTE_MS,
      connectionMs: settings.connectionMinutes * MINUTE_MS,
      alertMessages: settings.alertMessages,
      deleteMessages: settings.deleteMessages,
    };
    const running = {
      apis: [serve(pulseApi, pulseHandlers, ctx)],
      loops: [run(rotation, ctx), run(expiry, ctx), run(monitor, ctx)],
    };
    contexts.set(running, ctx);
    return running;
  },
});
