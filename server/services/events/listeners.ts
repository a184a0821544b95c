/** The connections of this process: how many there may be, and whether each may still be there. */
import { apiError } from '../../platform/errors.ts';
import type { Grantee } from './access.ts';
import type { Stream } from './stream.ts';

export interface Listener {
  readonly grantee: Grantee;
  /** For the limit: the client's id, or the address of who gave none. */
  readonly caller: string;
  stream: Stream | undefined;
}

export interface Listeners {
  /** Takes a place; throws `TooManyConnections` or `ServiceUnavailable` when there is none. Returns how to give it back. */
  enter(listener: Listener): () => void;
  readonly all: ReadonlySet<Listener>;
}

export const makeListeners = ({ maxConnections, maxPerCaller }: { maxConnections: number; maxPerCaller: number }): Listeners => {
  const all = new Set<Listener>();
  const counts = new Map<string, number>();
  return {
    all,
    enter: listener => {
      const { caller } = listener;
      const count = counts.get(caller) ?? 0;
      if (count >= maxPerCaller) {
        apiError(
          'TooManyConnections',
          `There are ${count} connections of ${caller}, and no caller may have more. Close some, or use one for several listeners.`,
        );
      }
      if (all.size >= maxConnections) {
        apiError('ServiceUnavailable', `There are ${all.size} listeners, and no process serves more. Try again later.`);
      }
      all.add(listener);
      counts.set(caller, count + 1);
      return () => {
        if (all.delete(listener)) {
          const left = (counts.get(caller) ?? 0) - 1;
          if (left > 0) {
            counts.set(caller, left);
          } else {
            counts.delete(caller);
          }
        }
      };
    },
  };
};
