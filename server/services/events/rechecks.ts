/** Asks auth now and then whether the listeners may still listen, and ends those that may not. While auth cannot be asked they stay. */
import type { Clock } from '../../platform/clock.ts';
import type { Log } from '../../platform/log.ts';
import { makeWaker } from '../../platform/waker.ts';
import { type Auth, type Grantee, whyRefused } from './access.ts';
import type { Listeners } from './listeners.ts';

export interface RecheckOptions {
  readonly auth: Auth;
  readonly clock: Clock;
  readonly log: Log;
  readonly listeners: Listeners;
  readonly everyMs: number;
}

/** Checks every listener once; one question per kind of credentials. */
export const recheck = async ({ auth, clock, log, listeners }: RecheckOptions): Promise<void> => {
  const grantees = new Map<string, Grantee>([...listeners.all].map(({ grantee }) => [grantee.key, grantee]));
  for (const grantee of grantees.values()) {
    try {
      const refused = await whyRefused(auth, clock, grantee);
      if (refused) {
        for (const listener of listeners.all) {
          if (listener.grantee.key === grantee.key) {
            listener.stream?.end(refused.reason, refused.message);
          }
        }
      }
    } catch (error) {
      log.warn({ err: error }, 'a listener’s scopes could not be checked');
    }
  }
};

export const startRechecks = (options: RecheckOptions): { stop(): Promise<void> } => {
  const stopping = new AbortController();
  const waker = makeWaker(options.clock, stopping.signal);
  const work = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      await waker.wait(options.everyMs);
      if (!stopping.signal.aborted) {
        await recheck(options);
      }
    }
  };
  const finished = work();
  return {
    stop: async () => {
      stopping.abort(new Error('The service is stopping'));
      await finished;
    },
  };
};
