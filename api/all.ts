/** Every API and every set of exchanges. A service that is not in here is neither served, nor described, nor known to the command line. */
import type { Api, Exchanges } from './define.ts';
import type { NamedSchema } from './schema.ts';
import { authApi } from './auth/api.ts';
import { authEvents } from './auth/events.ts';
import { eventsApi } from './events/api.ts';
import { hooksApi } from './hooks/api.ts';
import { hooksEvents } from './hooks/events.ts';
import { indexApi } from './index/api.ts';
import { loginApi } from './login/api.ts';
import { notifyApi } from './notify/api.ts';
import { notifyEvents } from './notify/events.ts';
import { objectApi } from './object/api.ts';
import { pulseApi } from './pulse/api.ts';
import { purgeCacheApi } from './purge-cache/api.ts';
import { queueApi } from './queue/api.ts';
import { queueEvents } from './queue/events.ts';
import { schedulerApi } from './scheduler/api.ts';
import { secretsApi } from './secrets/api.ts';
import { genericWorkerPayload } from './worker/payload.ts';

export const apis: readonly Api[] = [
  authApi,
  queueApi,
  schedulerApi,
  objectApi,
  indexApi,
  purgeCacheApi,
  hooksApi,
  loginApi,
  notifyApi,
  secretsApi,
  eventsApi,
  pulseApi,
];
export const exchanges: readonly Exchanges[] = [authEvents, queueEvents, hooksEvents, notifyEvents];
/** Schemas that are published and belong to no API: what workers accept. */
export const payloadSchemas: readonly NamedSchema[] = [genericWorkerPayload];
