/** Paths of the index, without I/O. */
import { INDEX_PATH } from '@tscluster/api/index/api.ts';

export interface Place {
  /** Empty at the root. */
  readonly namespace: string;
  readonly name: string;
}

export const isPath = (text: string): boolean => INDEX_PATH.test(text);

/** `a.b.c` is `c` in `a.b`. */
export const placeOf = (path: string): Place => {
  const dot = path.lastIndexOf('.');
  return dot === -1 ? { namespace: '', name: path } : { namespace: path.slice(0, dot), name: path.slice(dot + 1) };
};

export const pathOf = ({ namespace, name }: Place): string => (namespace === '' ? name : `${namespace}.${name}`);

const ROUTE = 'route.index.';

/** The paths among the further routing keys of an event about a task; routes that are no paths lead nowhere. */
export const pathsOfRoutes = (routingKeys: readonly string[]): string[] => [
  ...new Set(
    routingKeys
      .filter(key => key.startsWith(ROUTE))
      .map(key => key.slice(ROUTE.length))
      .filter(isPath),
  ),
];
