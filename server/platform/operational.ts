/** What every service answers about itself: the same bodies at the host's root and as API methods. */
import type { Clock } from './clock.ts';
import { apiError } from './errors.ts';
import type { ServedApi } from './service.ts';

export interface Version {
  readonly version: string;
  readonly commit: string;
  readonly source: string;
  readonly build: string;
}

/** What load balancers are told by a process that takes its leave: it still answers, but wants no more requests. */
export const LEAVING = 'This process is shutting down; send requests elsewhere.';

/** Adds the handlers of `ping`, `version`, `heartbeat` and `lbheartbeat`. */
export const withOperationalMethods = (served: ServedApi, version: Version, clock: Clock, isLeaving: () => boolean): ServedApi => {
  const startedMs = clock.monotonicMs();
  return {
    ...served,
    handlers: {
      ...served.handlers,
      ping: () => Promise.resolve({ alive: true, uptime: (clock.monotonicMs() - startedMs) / 1000 }),
      version: () => Promise.resolve({ ...version }),
      heartbeat: () => Promise.resolve({}),
      lbheartbeat: async () => (isLeaving() ? apiError('ServiceUnavailable', LEAVING) : {}),
    } as unknown as ServedApi['handlers'],
  };
};
