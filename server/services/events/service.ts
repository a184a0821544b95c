/** The events service: live events over server-sent events and WebSocket, from the event log. */
import { authApi } from '@tscluster/api/auth/api.ts';
import { eventsApi } from '@tscluster/api/events/api.ts';
import { integer } from '../../platform/config.ts';
import { EVENT_LOG } from '../../platform/event-log.ts';
import { defineService, serve } from '../../platform/service.ts';
import { connectHandlers } from './connect.ts';
import { makeHub } from './hub.ts';
import { makeListeners } from './listeners.ts';
import { startRechecks } from './rechecks.ts';
import { makeAccept } from './websocket.ts';

export const events = defineService({
  name: 'events',
  settings: {
    maxConnections: integer('EVENTS_MAX_CONNECTIONS', 'listeners that a process serves at once', { fallback: 5_000 }),
    maxPerCaller: integer('EVENTS_MAX_CONNECTIONS_PER_CALLER', 'of these, those of one client, or of one address without credentials', {
      fallback: 500,
    }),
    maxBindings: integer('EVENTS_MAX_BINDINGS', 'bindings of one listener', { fallback: 100 }),
    maxQueuedBytes: integer('EVENTS_MAX_QUEUED_BYTES', 'what may wait in memory for a listener that reads slowly', {
      fallback: 1_048_576,
      min: 4_096,
    }),
    maxStallSeconds: integer('EVENTS_MAX_STALL_SECONDS', 'a listener that for so long takes too little is disconnected', {
      fallback: 30,
      min: 1,
    }),
    maxLifeSeconds: integer('EVENTS_MAX_CONNECTION_SECONDS', 'how long a connection lasts; listeners connect again', {
      fallback: 6 * 3_600,
      min: 1,
    }),
    recheckSeconds: integer('EVENTS_RECHECK_SECONDS', 'how often it is checked whether listeners still have the right to listen', {
      fallback: 60,
      min: 1,
    }),
  },
  start: (platform, config) => {
    const { db, clock, random, log, metrics } = platform;
    const hub = makeHub({ db, clock, log, onGrown: callback => platform.onNotify(EVENT_LOG, callback) });
    const listeners = makeListeners(config);
    metrics.gauge('events_listeners', 'Connections that listen to events', [], gauge => gauge.set(listeners.all.size));
    const ended = metrics.counter('events_listeners_ended_total', 'Connections that have ended, and why', ['reason']);
    const rechecks = startRechecks({
      auth: platform.client(authApi, 'events', { retries: 0 }),
      clock,
      log,
      listeners,
      everyMs: config.recheckSeconds * 1000,
    });
    const limits = {
      maxBindings: config.maxBindings,
      maxQueuedBytes: config.maxQueuedBytes,
      maxStallMs: config.maxStallSeconds * 1000,
      maxLifeMs: config.maxLifeSeconds * 1000,
    };
    return {
      apis: [serve(eventsApi, connectHandlers, { db, clock, random, log, hub, listeners, accept: makeAccept(), ended, limits })],
      close: async () => {
        await rechecks.stop();
        await hub.close();
      },
    };
  },
});
