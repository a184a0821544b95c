/** Every service; a whole installation runs them all. Auth stands first, because the others ask it who calls. */
import type { Service } from '../platform/service.ts';
import { auth } from './auth/service.ts';
import { builtInWorkers } from './built-in-workers/service.ts';
import { events } from './events/service.ts';
import { hooksService } from './hooks/service.ts';
import { indexService } from './index/service.ts';
import { login } from './login/service.ts';
import { notifyService } from './notify/service.ts';
import { objectService } from './object/service.ts';
import { pulseService } from './pulse/service.ts';
import { purgeCacheService } from './purge-cache/service.ts';
import { queueService } from './queue/service.ts';
import { secretsService } from './secrets/service.ts';

export const allServices: readonly Service[] = [
  auth,
  objectService,
  queueService,
  indexService,
  purgeCacheService,
  hooksService,
  builtInWorkers,
  login,
  notifyService,
  secretsService,
  events,
  pulseService,
];
